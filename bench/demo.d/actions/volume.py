"""All that the actions know about storage: a directory. The same in every mode; times what it does there."""
import os
import time

CHUNK = 1 << 20


class Volume:
    def __init__(self, directory):
        self.directory = directory
        self.seconds = 0.0
        self.bytes_read = 0
        self.bytes_written = 0

    def path(self, name):
        return os.path.join(self.directory, name)

    def read(self, name):
        """The whole file as a bytearray."""
        began = time.perf_counter()
        with open(self.path(name), "rb", buffering=0) as file:
            data = bytearray(os.fstat(file.fileno()).st_size)
            view, at = memoryview(data), 0
            while at < len(data):
                got = file.readinto(view[at:at + CHUNK])
                if not got:
                    raise OSError(f"{name}: {at} bytes instead of {len(data)}")
                at += got
        self.seconds += time.perf_counter() - began
        self.bytes_read += at
        return data

    def write(self, name, data):
        began = time.perf_counter()
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        view, at = memoryview(data).cast("B"), 0
        with open(path, "wb", buffering=0) as file:
            while at < len(view):
                at += file.write(view[at:at + CHUNK])
        self.seconds += time.perf_counter() - began
        self.bytes_written += at
