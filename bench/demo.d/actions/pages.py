"""A page as raw pixels with a short head (binary PPM): 25 MB for a letter page at 300 dpi, nothing compressed."""
import numpy as np


def decode(data):
    """PPM -> array of height x width x 3, without copying."""
    fields, at = [], 0
    while len(fields) < 4:
        end = at
        while data[end] not in b" \n\t\r":
            end += 1
        fields.append(bytes(data[at:end]))
        at = end + 1
    if fields[0] != b"P6" or fields[3] != b"255":
        raise ValueError("not a binary PPM with 8 bits")
    width, height = int(fields[1]), int(fields[2])
    return np.frombuffer(data, np.uint8, width * height * 3, at).reshape(height, width, 3)


def encode(pixels):
    height, width, _ = pixels.shape
    return b"P6\n%d %d\n255\n" % (width, height) + np.ascontiguousarray(pixels).tobytes()
