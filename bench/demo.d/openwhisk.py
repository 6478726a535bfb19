"""What OpenWhisk's controller and invokers put on Kafka, and where its classic balancer runs an action.

Field by field as CT/loadBalancer/ShardingContainerPoolBalancer and CS/core/connector/Message of OpenWhisk have it:
records without key and headers, compact JSON. The API key is made up; it is here because real messages carry one.
"""
import json
import math
import os
import random
import string
import subprocess
import threading
import time
import uuid

API_KEY = "23bc46b1-71f6-4ed5-8c54-816aa4f8c502:" + "A" * 64
NAMESPACE = "guest"
CONTROLLER = "0"
PING_INTERVAL_S = 1.0
PRODUCER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "producer.py")
USER_MEMORY = "2147483648 B"


# -- placement --------------------------------------------------------------------------------------------------

def java_hash(text):
    """String.hashCode(), for ASCII."""
    value = 0
    for char in text:
        value = (31 * value + ord(char)) & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def pairwise_coprime(size):
    kept = []
    for candidate in range(1, size + 1):
        if math.gcd(candidate, size) == 1 and all(math.gcd(candidate, other) == 1 for other in kept):
            kept.append(candidate)
    return kept


def probe_order(namespace, action, invokers, managed_fraction=0.9):
    """Invoker ids in the order in which the balancer tries them; action is PATH/NAME without a leading slash."""
    pool = max(1, math.ceil(invokers * managed_fraction))
    value = abs(java_hash(namespace) ^ java_hash(action))
    steps = pairwise_coprime(pool)
    step = steps[value % len(steps)]
    return [(value + i * step) % pool for i in range(pool)]


def home(action, invokers):
    return probe_order(NAMESPACE, action, invokers)[0]


# -- messages ---------------------------------------------------------------------------------------------------

def new_id():
    return uuid.uuid4().hex


def now_ms():
    return int(time.time() * 1000)


def transaction_id():
    return "".join(random.choices(string.ascii_letters + string.digits, k=32))


def identity(namespace):
    return {"subject": namespace, "namespace": {"name": namespace, "uuid": API_KEY.partition(":")[0]},
            "authkey": {"api_key": API_KEY}, "rights": ["READ", "PUT", "DELETE", "ACTIVATE"], "limits": {}}


def invoker_id(invoker):
    return {"instance": invoker, "userMemory": USER_MEMORY, "instanceType": "invoker", "tags": [],
            "dedicatedNamespaces": [], "uniqueName": str(invoker)}


def ping(invoker):
    return {"name": invoker_id(invoker), "isEnabled": True}


def activation(action, content, cause, root):
    """One component of a sequence: action is PATH/NAME, root the transaction of the request."""
    path, _, name = action.rpartition("/")
    return {"transid": [transaction_id(), now_ms(), root],
            "action": {"path": path, "name": name, "version": "0.0.1"},
            "revision": "1-" + uuid.uuid5(uuid.NAMESPACE_URL, action).hex,
            "user": identity(NAMESPACE), "activationId": new_id(),
            "rootControllerIndex": {"asString": CONTROLLER, "instanceType": "controller"}, "blocking": True,
            "content": content, "initArgs": [], "lockedArgs": {}, "cause": cause}


def health_test():
    """What a controller sends to an invoker that it has just heard of."""
    return {"transid": ["sid_invokerHealth", now_ms()],
            "action": {"path": "whisk.system", "name": f"invokerHealthTestAction{CONTROLLER}", "version": "0.0.1"},
            "revision": None, "user": {**identity("whisk.system"), "rights": []}, "activationId": new_id(),
            "rootControllerIndex": {"asString": CONTROLLER, "instanceType": "controller"}, "blocking": False,
            "initArgs": [], "lockedArgs": {}}


def result(message, answer, start_ms, end_ms):
    action = message["action"]
    limits = {"timeout": 300000, "memory": 512, "logs": 10, "concurrency": 1}
    record = {"namespace": NAMESPACE, "name": action["name"], "subject": NAMESPACE,
              "activationId": message["activationId"], "start": start_ms, "end": end_ms, "cause": message["cause"],
              "response": {"statusCode": 0, "result": answer, "size": len(json.dumps(answer))}, "logs": [],
              "version": action["version"], "publish": False, "duration": end_ms - start_ms,
              "annotations": [{"key": "limits", "value": limits},
                              {"key": "path", "value": f"{action['path']}/{action['name']}"},
                              {"key": "kind", "value": "python:3.11"}, {"key": "timeout", "value": False},
                              {"key": "causedBy", "value": "sequence"},
                              {"key": "waitTime", "value": max(0, start_ms - message["transid"][1])}]}
    return {"transid": message["transid"], "response": record}


def completion(message, invoker):
    return {"transid": message["transid"], "activationId": message["activationId"], "isSystemError": False,
            "instance": invoker_id(invoker)}


def container_creation(action):
    """What the newer scheduler sends to the invoker that is to start, or resume, a container."""
    path, _, name = action.rpartition("/")
    limits = {"timeout": 300000, "memory": 512, "logs": 10, "concurrency": 1}
    return {"transid": ["sid_containerCreation", now_ms()], "invocationNamespace": NAMESPACE,
            "action": {"path": path, "name": name, "version": "0.0.1"},
            "revision": "1-" + uuid.uuid5(uuid.NAMESPACE_URL, action).hex,
            "whiskActionMetaData": {"namespace": path, "name": name, "exec": {"kind": "python:3.11", "binary": False},
                                    "parameters": [], "limits": limits, "version": "0.0.1", "publish": False,
                                    "annotations": [{"key": "exec", "value": "python:3.11"}], "updated": now_ms()},
            "rootSchedulerIndex": {"asString": "0"}, "schedulerHost": "10.77.0.250", "rpcPort": 13001, "retryCount": 0,
            "creationId": new_id()}


# -- Kafka ------------------------------------------------------------------------------------------------------

class Topics:
    """Publishes through one process on the broker's host (producer.py), in order, each message at once.
    Context manager; publish() may be called from several threads."""

    def __init__(self, node, broker, python):
        self.producer = node.popen([python, "-B", PRODUCER, broker], stdin=subprocess.PIPE)
        self.lock = threading.Lock()

    def publish(self, topic, message):
        line = json.dumps([topic, json.dumps(message, separators=(",", ":"))]).encode() + b"\n"
        with self.lock:
            self.producer.stdin.write(line)
            self.producer.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.producer.stdin.close()
            self.producer.wait(timeout=10)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.producer.kill()
            self.producer.wait()


class Invokers:
    """Plays what invokers do all the time: a ping each second. Context manager."""

    def __init__(self, topics, count):
        self.topics = topics
        self.count = count
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._ping, name="pings")

    def __enter__(self):
        for invoker in range(self.count):
            self.topics.publish("health", ping(invoker))
            message = health_test()
            self.topics.publish(f"invoker{invoker}", message)
            self.topics.publish(f"completed{CONTROLLER}", completion(message, invoker))
        self.thread.start()
        return self

    def _ping(self):
        while not self.ended.wait(PING_INTERVAL_S):
            for invoker in range(self.count):
                self.topics.publish("health", ping(invoker))

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
