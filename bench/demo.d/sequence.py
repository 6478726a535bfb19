"""The driver: plays the controller and the invokers of OpenWhisk for one sequence, and measures each step."""
import dataclasses
import json
import os
import subprocess
import sys
import time

import openwhisk

HERE = os.path.dirname(os.path.abspath(__file__))
ACTIONS = os.path.join(HERE, "actions")
sys.path.append(ACTIONS)
import inputs  # noqa: E402

INVOKERS = 3
# Names whose homes, among three invokers, are three different ones.
PACKAGE = "guest/manual"
NAMES = ("split", "infer", "merge")
VOLUME = {"name": "pages", "scope": "sequence"}  # a default parameter of all three actions
ACTION_TIMEOUT_S = 600
# The models' buffers come and go by hundreds of megabytes; without this the kernel hands out and clears the same memory
# again and again, for as long as the computing itself takes.
MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(4 << 30), "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
          "MALLOC_TOP_PAD_": str(256 << 20)}


@dataclasses.dataclass
class Step:
    name: str
    invoker: int
    host: str
    moving_s: float = 0.0
    processing_s: float = 0.0
    bytes_moved: int = 0
    bytes_ahead: int = 0
    io_s: float = 0.0

    def as_json(self):
        return {"name": self.name, "host": self.host, "moving_s": round(self.moving_s, 3),
                "processing_s": round(self.processing_s, 3), "bytes_moved": self.bytes_moved,
                "bytes_ahead": self.bytes_ahead, "io_s": round(self.io_s, 3)}


class ActionFailed(Exception):
    pass


class Sequence:
    """guest/manual = split, infer, merge."""

    def __init__(self, cluster, topics, python):
        self.cluster = cluster
        self.topics = topics
        self.python = python

    def run(self, mode, document, params):
        """One invocation: returns the steps, the seconds from the first message to the last, and the answer."""
        cause, root = openwhisk.new_id(), [openwhisk.transaction_id(), openwhisk.now_ms()]
        invokers = [openwhisk.home(f"{PACKAGE}/{name}", INVOKERS) for name in NAMES]
        if not mode.spreads:
            invokers = invokers[:1] * len(NAMES)
        steps = [Step(name, invoker, f"h{invoker + 1}") for name, invoker in zip(NAMES, invokers)]
        mode.begin(cause, document, steps[0].host)
        began = time.monotonic()
        content = params
        for step in steps:
            content = self.activate(mode, step, {"__ow_volume": VOLUME, **content}, cause, root)
        total = time.monotonic() - began
        mode.end()
        return steps, total, content

    def activate(self, mode, step, content, cause, root):
        message = openwhisk.activation(f"{PACKAGE}/{step.name}", content, cause, root)
        self.topics.publish(f"invoker{step.invoker}", message)
        start_ms = openwhisk.now_ms()

        mode.before(step)
        began = time.monotonic()
        directory, moved = mode.arrive(step, getattr(inputs, step.name)(content))
        arrived = time.monotonic()
        answer = self.act(step, directory, content)
        acted = time.monotonic()
        moved += mode.leave(step)
        left = time.monotonic()
        waited_s, drawn, step.bytes_ahead = mode.waited(step)
        # Requests wait beside each other (the kernel reads ahead), the action does one thing at a time.
        waited_s = min(waited_s, answer["io_seconds"])

        step.moving_s = arrived - began + left - acted + waited_s
        step.processing_s = acted - arrived - waited_s
        step.bytes_moved = moved + drawn
        step.io_s = answer["io_seconds"]
        self.topics.publish(f"completed{openwhisk.CONTROLLER}",
                            openwhisk.result(message, answer["result"], start_ms, openwhisk.now_ms()))
        self.topics.publish(f"completed{openwhisk.CONTROLLER}", openwhisk.completion(message, step.invoker))
        return answer["result"]

    def act(self, step, directory, content):
        """The action's own process, on the host that the balancer chose."""
        argv = ["env", *(f"{key}={value}" for key, value in MEMORY.items()),
                self.python, "-B", os.path.join(ACTIONS, "run.py"), step.name, directory]
        with self.cluster.node(step.host).popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                                stderr=subprocess.PIPE, text=True) as process:
            try:
                out, err = process.communicate(json.dumps(content), timeout=ACTION_TIMEOUT_S)
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            sys.stderr.write(err)
            raise ActionFailed(f"{step.name} on {step.host} ended with {process.returncode}")
        return json.loads(out)
