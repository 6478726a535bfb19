#!/usr/bin/env python3
"""whisk.py ping INVOKER | activation ACTION CAUSE CONTENT | creation ACTION | completion INVOKER | home ACTION INVOKERS:
one message, or one answer, on standard output, as OpenWhisk's controller, schedulers and invokers make them (the
demonstration's module). A completion is that of the activation on standard input."""
import json
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench", "demo.d"))
import openwhisk  # noqa: E402


def main():
    kind, *args = sys.argv[1:]
    if kind == "ping":
        print(json.dumps(openwhisk.ping(int(args[0]))))
    elif kind == "activation":
        action, cause, content = args
        root = [openwhisk.transaction_id(), openwhisk.now_ms()]
        print(json.dumps(openwhisk.activation(action, json.loads(content), cause, root)))
    elif kind == "creation":
        print(json.dumps(openwhisk.container_creation(args[0])))
    elif kind == "completion":
        print(json.dumps(openwhisk.completion(json.load(sys.stdin), int(args[0]))))
    elif kind == "home":
        print(openwhisk.home(args[0], int(args[1])))
    else:
        sys.exit(__doc__)


main()
