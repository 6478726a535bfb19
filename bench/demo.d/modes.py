"""The four ways the same sequence gets its data from step to step.

A mode makes the directory that an action works in (arrive), and does what has to be done after it (leave); the driver
times both as 'moving'. What an action waited for while it ran comes on top (waited).

    local        every step on the same host, in one directory of its disk: nothing moves
    blob         each step downloads its inputs from an HTTP store and uploads what it wrote
    noprefetch   whiskfs: a step's host attaches the volume and draws what is read, when it is read
    whiskfs      the same with prefetch: data comes while the step before is still computing
"""
import json
import os
import shutil
import signal
import subprocess
import urllib.parse

from cluster import METRICS_PORT, wait_for
from errors import ClusterError

BLOB = "blob"
START_TIMEOUT_S = 20

# How whiskfsd calls what is measured (daemon/metrics.def).
WAITED = "whiskfs_wait_seconds_total"
RECEIVED = "whiskfs_peer_received_bytes_total"
AHEAD = 'class="prefetch"'
HOSTS_KNOWN = "whiskfs_hosts_known"
INVOKERS_UP = "whiskfs_openwhisk_invokers_up"


class Local:
    """The lower bound."""
    name = "local"
    spreads = False  # all steps on one host

    def __init__(self, cluster):
        self.cluster = cluster

    def start(self):
        pass

    def begin(self, cause, document, first_host):
        self.directory = self.cluster.node(first_host).file("scratch", cause)
        os.makedirs(self.directory)
        shutil.copyfile(document, os.path.join(self.directory, "manual.pdf"))

    def before(self, step):
        """Not timed."""

    def arrive(self, step, inputs):
        """Returns where the action works, and the bytes moved for it; inputs are the names that it will read."""
        del step, inputs
        return self.directory, 0

    def leave(self, step):
        """After the action; returns the bytes that were moved."""
        del step
        return 0

    def waited(self, step):
        """Seconds that the action waited for data while it ran, bytes drawn for it, and how many of them ahead."""
        del step
        return 0.0, 0, 0

    def end(self):
        shutil.rmtree(self.directory)

    def stop(self):
        pass


class Blob(Local):
    """An HTTP store on a host of its own; files go by curl, one connection for each batch."""
    name = "blob"
    spreads = True

    def start(self):
        node = self.cluster.node(BLOB)
        os.makedirs(node.file("objects"), exist_ok=True)
        template = os.path.join(os.path.dirname(os.path.abspath(__file__)), "nginx.conf.in")
        with open(template, encoding="utf-8") as file:
            text = file.read()
        for key, value in (("DIRECTORY", node.directory), ("ADDRESS", node.address), ("NAME", BLOB)):
            text = text.replace(f"@{key}@", value)
        with open(node.file("nginx.conf"), "w", encoding="utf-8") as file:
            file.write(text)
        node.start_service("nginx", ["nginx", "-e", "stderr", "-c", node.file("nginx.conf")], "log")
        if not wait_for(lambda: self._answers(node), START_TIMEOUT_S):
            raise ClusterError(f"the blob store does not answer\n{node.log_tail()}")

    @staticmethod
    def _answers(node):
        if not node.service("nginx")["running"]:
            raise ClusterError(f"the blob store ended\n{node.log_tail()}")
        probe = ["curl", "-s", "-o", "/dev/null", "--cacert", node.file("ca.pem"), f"https://{BLOB}/"]
        return node.popen(probe).wait() == 0

    def begin(self, cause, document, first_host):
        """The caller has uploaded the document before it invokes the sequence."""
        self.prefix = cause
        objects = self.cluster.node(BLOB).file("objects", cause)
        os.mkdir(objects)
        shutil.copyfile(document, os.path.join(objects, "manual.pdf"))

    def arrive(self, step, inputs):
        self.directory = self.cluster.node(step.host).file("scratch", self.prefix)
        os.makedirs(self.directory)
        self.inputs = set(inputs)
        batch = [f'url = "{self._url(name)}"\noutput = "{os.path.join(self.directory, name)}"\n'
                 for name in sorted(self.inputs)]
        return self.directory, self._transfer(step, "".join(batch), "%{size_download}\n")

    def leave(self, step):
        names = []
        for top, _, files in os.walk(self.directory):
            names += [os.path.relpath(os.path.join(top, file), self.directory) for file in files]
        batch = [f'url = "{self._url(name)}"\nupload-file = "{os.path.join(self.directory, name)}"\n'
                 for name in sorted(set(names) - self.inputs)]
        moved = self._transfer(step, "".join(batch), "%{size_upload}\n")
        shutil.rmtree(self.directory)
        return moved

    def _url(self, name):
        return f"https://{BLOB}/{self.prefix}/{urllib.parse.quote(name)}"

    def _transfer(self, step, batch, report):
        node = self.cluster.node(step.host)
        argv = ["curl", "-sS", "--fail-early", "--fail", "--tlsv1.3", "--cacert", node.file("ca.pem"), "--create-dirs",
                "-H", "Expect:", "-w", report, "-K", "-"]
        with node.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            out, _ = process.communicate(batch)
        if process.returncode != 0:
            raise ClusterError(f"{step.host}: curl ended with {process.returncode}")
        return sum(int(line) for line in out.split() if line.isdigit())

    def end(self):
        shutil.rmtree(self.cluster.node(BLOB).file("objects", self.prefix))

    def stop(self):
        self.cluster.node(BLOB).signal("nginx", signal.SIGTERM)


class Whiskfs(Local):
    """One instance volume for each run; the last host's answer is read through its mount like everything else."""
    name = "whiskfs"
    spreads = True
    prefetch = True

    def start(self):
        self.cluster.settings["overrides"] = [*self.cluster.settings["overrides"],
                                              f"prefetch.enabled={'true' if self.prefetch else 'false'}"]
        for name in self.cluster.host_names():
            self.cluster.write_config(name)
        self.cluster.start_daemons()
        for name in self.cluster.host_names():
            if not wait_for(lambda host=name: self._is_ready(host), START_TIMEOUT_S, 0.1):
                raise ClusterError(f"{name} does not see all hosts and invokers\n{self.cluster.node(name).log_tail()}")

    def _is_ready(self, host):
        count = len(self.cluster.host_names())
        return self._metric(host, HOSTS_KNOWN) == count - 1 and self._metric(host, INVOKERS_UP) == count

    def begin(self, cause, document, first_host):
        self.volume = f"pages--guest--{cause}"
        self.first_host = first_host
        self.directory = f"/mnt/ow/{self.volume}"
        node = self.cluster.node(first_host)
        node.output(["whiskfs", "volume", "create", self.volume])
        node.output(["whiskfs", "attach", self.volume])
        node.output(["cp", document, f"{self.directory}/manual.pdf"])
        self.drawn_before = {host: self._drawn(host) for host in self.cluster.host_names()}

    def before(self, step):
        self.waited_before = self._metric(step.host, WAITED)

    def arrive(self, step, inputs):
        self.cluster.node(step.host).output(["whiskfs", "attach", self.volume])
        return self.directory, 0

    def waited(self, step):
        """Each step has a host of its own, so all that its host drew since the run began was drawn for it."""
        waited = self._metric(step.host, WAITED) - self.waited_before
        drawn, ahead = (now - then for now, then in zip(self._drawn(step.host), self.drawn_before[step.host]))
        return waited, drawn, ahead

    def _drawn(self, host):
        """Bytes that a host has received from all others, and how many of them before they were asked for."""
        return int(self._metric(host, RECEIVED)), int(self._metric(host, RECEIVED, AHEAD))

    def _metric(self, host, name, label=""):
        """The sum of a metric's series with that label, from the daemon's metrics page."""
        url = f"http://127.0.0.1:{METRICS_PORT}/metrics"
        text = self.cluster.node(host).output(["curl", "-sS", "--fail", "--max-time", "5", url])
        if f"# TYPE {name} " not in text:
            raise ClusterError(f"{host}: whiskfsd has no metric {name}")
        series = (line.rpartition(" ") for line in text.splitlines() if line.startswith((name + "{", name + " ")))
        return sum(float(value) for labels, _, value in series if label in labels)

    def _home(self):
        """Where the volume has moved with the work."""
        shown = self.cluster.node(self.first_host).output(["whiskfs", "--json", "volume", "show", self.volume])
        return json.loads(shown)["home"]

    def end(self):
        home = self._home()
        for host in self.cluster.host_names():
            if host != home:
                self.cluster.node(host).output(["whiskfs", "detach", self.volume], check=False)
        self.cluster.node(home).output(["whiskfs", "volume", "remove", "--force", self.volume])

    def stop(self):
        for name in self.cluster.host_names():
            self.cluster.stop(name)


class NoPrefetch(Whiskfs):
    name = "noprefetch"
    prefetch = False


ALL = (Local, Blob, NoPrefetch, Whiskfs)
