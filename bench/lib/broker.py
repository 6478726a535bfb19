"""A real Kafka broker (KRaft, one node) on a node of a cluster.

The jars are those that tests/setup put below the cache directory. A formatted, empty data directory is kept there too,
since formatting costs a start of the JVM.
"""
import glob
import os
import shutil
import signal
import subprocess

import cluster as c
from errors import ClusterError

PORT = 9092
SERVICE = "kafka"
CLUSTER_ID = "d2hpc2tmcy1jbHVzdGVyMQ"  # any 16 bytes in base64url
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30
JVM = ["-Xms64m", "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
       "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]


def cache():
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "whiskfs", "kafka")


def jars():
    directory = os.path.join(cache(), "lib")
    if not glob.glob(os.path.join(directory, "kafka_2*.jar")):
        raise ClusterError(f"there are no Kafka jars in {directory}: run tests/setup")
    return directory


def java(*arguments):
    return ["java", *JVM, "-cp", f"{jars()}/*", *arguments]


def write_properties(path, address, data):
    template = os.path.join(c.REPOSITORY, "tests", "lib", "kafka", "server.properties.in")
    with open(template, encoding="utf-8") as file:
        text = file.read().replace("@ADDRESS@", address).replace("@DATA@", data)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def format_data(node):
    """An empty data directory for this broker, copied from the cache or made there first."""
    version = os.path.basename(glob.glob(os.path.join(jars(), "kafka_2*.jar"))[0])
    formatted = os.path.join(cache(), f"formatted-{version}")
    data = node.file("data")
    if not os.path.isdir(formatted):
        argv = java("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", node.file("server.properties"))
        result = subprocess.run(argv, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise ClusterError(f"cannot format Kafka's data directory: {result.stdout}{result.stderr}")
        private = f"{formatted}.{os.getpid()}"
        shutil.copytree(data, private)
        try:
            os.rename(private, formatted)
        except OSError:  # another cluster was faster
            shutil.rmtree(private)
        return
    shutil.copytree(formatted, data)


def start(node):
    if not os.path.isdir(node.file("data")):
        write_properties(node.file("server.properties"), node.address, node.file("data"))
        format_data(node)
    node.start_service(SERVICE, java("kafka.Kafka", node.file("server.properties")), "log")
    wait_ready(node)


def wait_ready(node):
    def ready():
        if not node.service(SERVICE)["running"]:
            raise ClusterError(f"the broker ended\n{node.log_tail()}")
        with node.popen(["kcat", "-b", f"{node.address}:{PORT}", "-L", "-m", "2"],
                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            return process.wait() == 0
    if not c.wait_for(ready, START_TIMEOUT_S, 0.1):
        raise ClusterError(f"the broker did not answer within {START_TIMEOUT_S} s\n{node.log_tail()}")


def stop(node):
    node.signal(SERVICE, signal.SIGTERM)
    if not node.wait_ended(SERVICE, STOP_TIMEOUT_S):
        raise ClusterError(f"the broker did not stop within {STOP_TIMEOUT_S} s\n{node.log_tail()}")
