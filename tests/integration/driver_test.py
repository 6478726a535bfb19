#!/usr/bin/env python3
"""The demonstration's driver against what a running OpenWhisk did: the balancer's choices, the fields of messages."""
import json
import os
import sys
import unittest

sys.dont_write_bytecode = True
REPOSITORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(REPOSITORY, "bench", "demo.d"))
import openwhisk  # noqa: E402

CAPTURED = os.path.join(REPOSITORY, "tests", "data", "openwhisk", "classic")


def captured(topic):
    with open(os.path.join(CAPTURED, f"{topic}.jsonl"), encoding="utf-8") as file:
        return [json.loads(json.loads(line)["payload"]) for line in file]


def shape(value, depth):
    """Names of fields, nested; lists and leaves are left out."""
    if not isinstance(value, dict) or depth == 0:
        return None
    return {key: shape(inner, depth - 1) for key, inner in value.items()}


class Placement(unittest.TestCase):
    def test_worked_examples(self):
        self.assertEqual(openwhisk.probe_order("guest", "guest/hello", 10), [1, 8, 6, 4, 2, 0, 7, 5, 3])
        self.assertEqual(openwhisk.probe_order("guest", "guest/pipeline/resize", 5), [1, 3, 0, 2, 4])
        self.assertEqual(openwhisk.probe_order("guest", "whisk.system/utils/echo", 10), [2, 4, 6, 8, 1, 3, 5, 7, 0])
        self.assertEqual([openwhisk.home(f"guest/{name}", 4) for name in ("split", "infer", "merge")], [3, 3, 1])

    def test_captured_choices(self):
        seen = 0
        for invoker in (1, 2, 3):
            for message in captured(f"invoker{invoker}"):
                action = message["action"]
                if action["path"] == "guest" and message["user"]["namespace"]["name"] == "guest":
                    self.assertEqual(openwhisk.home(f"guest/{action['name']}", 4), invoker)
                    seen += 1
        self.assertGreater(seen, 20)


class Messages(unittest.TestCase):
    def test_activation(self):
        mine = openwhisk.activation("guest/split", {}, openwhisk.new_id(), ["root", 1])
        theirs = next(m for m in captured("invoker3") if "cause" in m and m["action"]["path"] == "guest")
        theirs["content"] = {}
        theirs["action"].pop("binding", None)
        self.assertEqual(shape(mine, 2), shape(theirs, 2))
        self.assertEqual(len(mine["transid"]), len(theirs["transid"]))

    def test_ping(self):
        self.assertEqual(shape(openwhisk.ping(1), 2), shape(captured("health")[0], 2))

    def test_acknowledgements(self):
        message = openwhisk.activation("guest/split", {}, openwhisk.new_id(), ["root", 1])
        results = [m for m in captured("completed0") if "instance" not in m and m["response"].get("cause")]
        mine = openwhisk.result(message, {"n": 1}, 1, 2)
        theirs = results[0]
        theirs["response"]["response"]["result"] = mine["response"]["response"]["result"] = {}
        self.assertEqual(shape(mine, 3), shape(theirs, 3))
        completions = [m for m in captured("completed0") if "activationId" in m]
        self.assertEqual(shape(openwhisk.completion(message, 1), 2), shape(completions[0], 2))


if __name__ == "__main__":
    unittest.main()
