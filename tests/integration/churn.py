#!/usr/bin/env python3
"""churn.py DIRECTORY NAME THREADS ROUNDS: threads that create, use and remove names in one directory, some of them shared
with everybody else who does so. Prints the slowest call in seconds; exits 1 when a call fails that must not."""
import errno
import os
import sys
import threading
import time


class Churn:
    def __init__(self, directory, name, thread, rounds):
        self.directory, self.name, self.rounds = directory, f"{name}-{thread}", rounds
        self.slowest = (0.0, "none")
        self.failure = None

    def timed(self, what, call, *args, may_fail=()):
        began = time.monotonic()
        try:
            return call(*args)
        except OSError as error:
            if error.errno not in may_fail:
                raise AssertionError(f"{what}{args}: {error.strerror}") from None
            return None
        finally:
            self.slowest = max(self.slowest, (time.monotonic() - began, what))

    def run(self):
        try:
            for i in range(self.rounds):
                self.round(i)
        except AssertionError as error:
            self.failure = f"{self.name}: {error}"

    def round(self, i):
        path = os.path.join(self.directory, f"{self.name}-{i}")
        data = path.encode() * 10
        fd = self.timed("create", os.open, path, os.O_CREAT | os.O_EXCL | os.O_RDWR)
        assert self.timed("write", os.write, fd, data) == len(data), "short write"
        self.timed("close", os.close, fd)
        assert self.timed("stat", os.stat, path).st_size == len(data), f"size of {path}"
        renamed = path + ".moved"
        self.timed("rename", os.rename, path, renamed)
        fd = self.timed("open", os.open, renamed, os.O_RDONLY)
        assert self.timed("read", os.read, fd, 1 << 16) == data, f"content of {renamed}"
        self.timed("close", os.close, fd)
        contended = os.path.join(self.directory, f"contended-{i % 3}")
        self.timed("mkdir", os.mkdir, contended, may_fail=(errno.EEXIST,))
        self.timed("rmdir", os.rmdir, contended, may_fail=(errno.ENOENT,))
        self.timed("unlink", os.unlink, renamed)
        assert self.timed("gone", os.path.lexists, renamed) is False, f"{renamed} is still there"


def main():
    directory, name = sys.argv[1:3]
    threads, rounds = map(int, sys.argv[3:5])
    churns = [Churn(directory, name, i, rounds) for i in range(threads)]
    running = [threading.Thread(target=churn.run) for churn in churns]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    failures = [churn.failure for churn in churns if churn.failure]
    if failures:
        sys.exit("\n".join(failures))
    seconds, what = max(churn.slowest for churn in churns)
    print(f"{seconds:.3f} {what}")


main()
