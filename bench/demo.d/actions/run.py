"""run.py ACTION DIRECTORY: one activation. Its parameters are JSON on standard input, its answer on standard output."""
import importlib
import json
import os
import sys
import time

from volume import Volume


def main():
    name, directory = sys.argv[1:]
    answer_to = os.dup(1)
    os.dup2(2, 1)  # libraries that print must not spoil the answer
    volume = Volume(directory)
    began = time.perf_counter()
    result = importlib.import_module(name).main(json.load(sys.stdin), volume)
    answer = {"result": result, "seconds": time.perf_counter() - began, "io_seconds": volume.seconds,
              "bytes_read": volume.bytes_read, "bytes_written": volume.bytes_written}
    os.write(answer_to, json.dumps(answer).encode())


main()
