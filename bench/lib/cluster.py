"""Hosts made of namespaces, for people, tests and benchmarks. bench/cluster is the command line of this.

    switch   holds the bridge: one network namespace of its own, so that nothing shows outside and
             every cluster can use the same addresses
    h1..hN   invoker hosts: whiskfs-mountd, whiskfsd, /mnt/ow, /run/whiskfs, a certificate, 10.77.0.1..N
    kafka    the broker, 10.77.0.250
    NAME     bare hosts (--extra), 10.77.0.200 and up: a blob store, a client

Each of them is one process (hostinit.py) that holds its namespaces. All state lives below one directory on the real
disk. down() kills the processes and removes the directory; there is nothing else.
"""
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

import broker
import certificates
import namespaces as ns
from errors import ClusterError

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.dirname(os.path.dirname(HERE))
SUBNET = "10.77.0."
PEER_PORT = 7433
METRICS_PORT = 9433
DAEMON = "whiskfsd"
MOUNTD = "whiskfs-mountd"
KAFKA = "kafka"
SWITCH = "switch"
FIRST_EXTRA = 200
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HOSTS_MAX = 99

START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 10
# Long enough that 1 Gbit/s is reached with 64 KiB packets, short enough that a queue adds little delay.
TBF_BURST = "256kb"
TBF_LATENCY = "20ms"


def directory_of(name):
    root = os.environ.get("WHISKFS_CLUSTERS", "/var/tmp")
    return os.path.join(root, f"whiskfs-cluster-{name}")


def wait_for(condition, timeout_s, interval_s=0.02):
    """Polls condition() until it is true; False when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval_s)
    return True


def start_time(pid):
    """When a process began, in clock ticks: with the pid a name that is never used twice. None: there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


@contextlib.contextmanager
def uninterrupted():
    """Signals that end this program wait until the block is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Node:
    """One host, broker or switch: a directory and the process that holds its namespaces."""

    def __init__(self, cluster, name):
        self.cluster = cluster
        self.name = name
        self.directory = os.path.join(cluster.directory, name)

    @property
    def address(self):
        return self.cluster.settings["nodes"][self.name]

    def file(self, *parts):
        return os.path.join(self.directory, *parts)

    def pid(self):
        """The process that holds the namespaces, or None."""
        try:
            with open(self.file("pid"), encoding="ascii") as file:
                pid, began = map(int, file.read().split())
        except (OSError, ValueError):
            return None
        return pid if start_time(pid) == began else None

    def living_pid(self):
        pid = self.pid()
        if pid is None:
            raise ClusterError(f"{self.name} is not there any more: its process 1 has ended ({self.file('init.log')})")
        return pid

    def create(self):
        for part in ("run", "ow", "state"):
            os.makedirs(self.file(part))
        with uninterrupted():  # no process without a note of it
            self._create_noted()

    def _create_noted(self):
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            self._become_parent_of_init(write_end)
        os.close(write_end)
        os.waitpid(child, 0)
        with open(read_end, encoding="ascii") as file:
            pid = file.read()
        if not pid:
            raise ClusterError(f"cannot make namespaces for {self.name}: are you root?")
        with open(self.file("pid.new"), "w", encoding="ascii") as file:
            file.write(f"{pid} {start_time(int(pid))}\n")
        os.rename(self.file("pid.new"), self.file("pid"))

    def _become_parent_of_init(self, report):
        try:
            os.setsid()
            ns.unshare(ns.CLONE_NEWNET | ns.CLONE_NEWNS | ns.CLONE_NEWPID | ns.CLONE_NEWUTS)
            pid = os.fork()
            if pid == 0:
                log = os.open(self.file("init.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
                os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
                os.dup2(log, 1)
                os.dup2(log, 2)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
                os.execv(sys.executable, [sys.executable, "-B", "-E", "-S", os.path.join(HERE, "hostinit.py"),
                                          self.directory, self.name])
            os.write(report, str(pid).encode())
        except OSError as error:
            print(f"cluster: {self.name}: {error}", file=sys.stderr)
            sys.stderr.flush()
        finally:
            os._exit(0)

    def wait_created(self):
        def ready():
            if self.pid() is None:
                with open(self.file("init.log"), encoding="utf-8", errors="replace") as log:
                    raise ClusterError(f"cannot set up {self.name}: {log.read().strip().splitlines()[-1:]}")
            return os.path.exists(self.file("init.sock"))
        if not wait_for(ready, START_TIMEOUT_S):
            raise ClusterError(f"{self.name} did not come up within {START_TIMEOUT_S} s")

    def ask(self, **request):
        """One request to process 1."""
        self.living_pid()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(10)
            try:
                connection.connect(self.file("init.sock"))
                connection.send(json.dumps(request).encode())
                reply = json.loads(connection.recv(256 * 1024) or b"{}")
            except OSError as error:
                raise ClusterError(f"{self.name} does not answer: {error}") from None
        if "error" in reply:
            raise ClusterError(f"{self.name}: {reply['error']}")
        return reply

    def environment(self):
        client = os.path.join(self.cluster.settings["build"], "client")
        return {**os.environ, "PATH": f"{client}:{os.environ.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}",
                "WHISKFS_HOST": self.name}

    def start_service(self, service, argv, log):
        return self.ask(op="start", service=service, argv=argv, env=self.environment(), log=self.file(log))["pid"]

    def service(self, service):
        """{"pid", "running", "status"}; the pid is the one seen on that host."""
        return self.ask(op="state")["services"].get(service, {"pid": None, "running": False, "status": None})

    def signal(self, service, number):
        self.ask(op="signal", service=service, signal=int(number))

    def wait_ended(self, service, timeout_s):
        return wait_for(lambda: not self.service(service)["running"], timeout_s)

    def command(self, argv, directory="/"):
        """The command that runs argv on this host; what it starts there ends when it is killed."""
        return ["nsenter", "-t", str(self.living_pid()), "-n", "-m", "-u", "-p", "--", "setpriv", "--pdeathsig", "KILL",
                "--", "env", "-C", directory, *argv]

    def popen(self, argv, **options):
        """A child of the caller that runs on this host."""
        return subprocess.Popen(self.command(argv), env=self.environment(), **options)

    def output(self, argv, timeout_s=60, check=True):
        """What argv writes when it runs here."""
        with self.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                out, err = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                raise ClusterError(f"{self.name}: {' '.join(argv)}: not done after {timeout_s} s") from None
        if check and process.returncode != 0:
            raise ClusterError(f"{self.name}: {' '.join(argv)}: {err.strip() or f'exit {process.returncode}'}")
        return out

    def network(self, argv, text=None):
        """Runs an administrative command in this node's network namespace only."""
        pid = self.living_pid()
        result = subprocess.run(argv, input=text, text=True, capture_output=True, check=False,
                                preexec_fn=lambda: ns.enter(pid, ("net",)))
        if result.returncode != 0:
            raise ClusterError(f"{' '.join(argv)}: {result.stderr.strip() or result.stdout.strip()}")

    def log_tail(self, lines=30):
        try:
            with open(self.file("log"), encoding="utf-8", errors="replace") as log:
                return "".join(log.readlines()[-lines:])
        except OSError:
            return ""


class Cluster:
    """A set of nodes. Changes are made by one command at a time (a lock file)."""

    def __init__(self, name):
        if not name or len(name) > 40 or not all(c.isalnum() or c in "._-" for c in name):
            raise ClusterError(f"'{name}' cannot be a cluster's name: use up to 40 letters, digits, '.', '_', '-'")
        self.name = name
        self.directory = directory_of(name)
        self.settings = None

    # -- what is there --------------------------------------------------------------------------------------

    @classmethod
    def load(cls, name):
        cluster = cls(name)
        try:
            with open(os.path.join(cluster.directory, "cluster.json"), encoding="utf-8") as file:
                cluster.settings = json.load(file)
        except OSError:
            raise ClusterError(f"there is no cluster '{name}': 'bench/cluster up N --name {name}' makes it") from None
        return cluster

    def save(self):
        path = os.path.join(self.directory, "cluster.json")
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(self.settings, file, indent=1)
        os.rename(path + ".new", path)

    @contextlib.contextmanager
    def locked(self):
        with open(os.path.join(self.directory, "lock"), "w", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def node(self, name):
        if name not in self.settings["nodes"]:
            raise ClusterError(f"cluster '{self.name}' has no '{name}'; it has {', '.join(self.settings['nodes'])}")
        return Node(self, name)

    def host(self, name):
        """A host that runs whiskfsd."""
        if name not in self.host_names():
            raise ClusterError(f"'{name}' runs no daemon; the hosts are {', '.join(self.host_names())}")
        return self.node(name)

    def host_names(self):
        return self.settings["hosts"]

    # -- up and down ----------------------------------------------------------------------------------------

    def up(self, count, rate=None, kafka=True, overrides=(), extras=(), daemons=True, owner=None, build=None,
           mountd=()):
        """Makes everything, or leaves nothing."""
        if not 1 <= count <= HOSTS_MAX:
            raise ClusterError(f"a cluster has 1 to {HOSTS_MAX} hosts")
        try:
            os.mkdir(self.directory, 0o755)
        except FileExistsError:
            raise ClusterError(f"cluster '{self.name}' exists already: down --name {self.name} ends it") from None
        try:
            self._make(count, rate, kafka, overrides, extras, owner, build, mountd)
            if kafka:
                broker.start(self.node(KAFKA))
            if daemons:
                self.start_daemons()
        except BaseException:
            self.down()
            raise

    def _make(self, count, rate, kafka, overrides, extras, owner, build, mountd):
        hosts = [f"h{i + 1}" for i in range(count)]
        nodes = {name: f"{SUBNET}{i + 1}" for i, name in enumerate(hosts)}
        nodes |= {name: f"{SUBNET}{FIRST_EXTRA + i}" for i, name in enumerate(extras)}
        if kafka:
            nodes[KAFKA] = f"{SUBNET}250"
        build = build or os.environ.get("WHISKFS_BUILD") or os.path.join(REPOSITORY, "build", "dev")
        self.settings = {"name": self.name, "rate": rate, "kafka": kafka, "overrides": list(overrides),
                         "build": os.path.abspath(build), "hosts": hosts, "nodes": nodes, "mountd": mountd}
        self.save()
        if owner:
            self._watch_owner(owner)
        with open(os.path.join(self.directory, "hosts"), "w", encoding="ascii") as file:
            file.write("127.0.0.1 localhost\n" + "".join(f"{a} {n}\n" for n, a in nodes.items()))
        everyone = [Node(self, name) for name in (SWITCH, *nodes)]
        for node in everyone:
            node.create()
        for node in everyone:
            node.wait_created()
        self._wire(everyone[1:])
        certificates.make(self)
        for name in hosts:
            self.write_config(name)

    def _wire(self, nodes):
        """A bridge in the switch, and a cable from each node to it; only the hosts' and the extras' are shaped."""
        switch = Node(self, SWITCH)
        switch.network(["ip", "link", "add", "br0", "type", "bridge"])
        batch = ["link set br0 up"]
        for node in nodes:
            batch += [f"link add {port(node.name)} type veth peer name eth0 netns {node.living_pid()}",
                      f"link set {port(node.name)} master br0 up"]
        switch.network(["ip", "-batch", "-"], "\n".join(batch) + "\n")
        for node in nodes:
            node.network(["ip", "-batch", "-"], f"addr add {node.address}/24 dev eth0\nlink set eth0 up\n")
        rate = self.settings["rate"]
        for node in nodes:
            if rate and node.name != KAFKA:
                shape = ["root", "tbf", "rate", rate, "burst", TBF_BURST, "latency", TBF_LATENCY]
                node.network(["tc", "qdisc", "add", "dev", "eth0", *shape])
                switch.network(["tc", "qdisc", "add", "dev", port(node.name), *shape])

    def _watch_owner(self, owner):
        """Takes the cluster down when process owner ends, however it ends."""
        subprocess.Popen([sys.executable, "-B", "-E", "-S", os.path.join(HERE, "ownerwatch.py"), str(owner), self.name],
                         start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)

    def down(self):
        """Ends everything and removes the directory. Returns what was wrong with how daemons ended, sentences."""
        with uninterrupted():
            return self._down()

    def _down(self):
        complaints = self._stop_kindly(DAEMON) + self._stop_kindly(MOUNTD)
        names = os.listdir(self.directory) if os.path.isdir(self.directory) else []
        pids = [pid for pid in (Node(self, name).pid() for name in names) if pid]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in pids:
            wait_gone(pid, STOP_TIMEOUT_S)
        shutil.rmtree(self.directory, ignore_errors=True)
        if os.path.isdir(self.directory):  # a process was just writing its last file
            shutil.rmtree(self.directory)
        return complaints

    def _stop_kindly(self, service):
        asked = []
        for name in (self.settings or {}).get("hosts", []):
            with contextlib.suppress(ClusterError):
                node = self.node(name)
                if node.pid() and node.service(service)["running"]:
                    node.signal(service, signal.SIGCONT)
                    node.signal(service, signal.SIGTERM)
                    asked.append(node)
        complaints = []
        for node in asked:
            with contextlib.suppress(ClusterError):
                if not node.wait_ended(service, STOP_TIMEOUT_S):
                    complaints.append(f"{node.name}: {service} did not stop and was killed\n{node.log_tail()}")
                elif node.service(service)["status"] != 0:
                    status = node.service(service)["status"]
                    complaints.append(f"{node.name}: {service} ended with status {status}\n{node.log_tail()}")
        return complaints

    # -- daemons --------------------------------------------------------------------------------------------

    def sections(self, name):
        """The configuration of one host, as CONFIG's sections; overrides are [HOST:]SECTION.KEY=VALUE."""
        node = self.node(name)
        number = self.host_names().index(name)
        sections = {
            "host": {"name": name, "state": node.file("state"), "mount": "/mnt/ow",
                     "mountd": "off" if self.settings["mountd"] is None else "/run/whiskfs/mountd.sock",
                     "control": "/run/whiskfs/control.sock", "listen": f"{node.address}:{PEER_PORT}",
                     "metrics": f"127.0.0.1:{METRICS_PORT}"},
            "tls": {"ca": node.file("ca.pem"), "cert": node.file("host.pem"), "key": node.file("host.key")},
        }
        if self.settings["kafka"]:
            sections["kafka"] = {"bootstrap.servers": f"{self.settings['nodes'][KAFKA]}:{broker.PORT}"}
            sections["openwhisk"] = {"enabled": "true", "invoker": str(number)}
        else:
            sections["peers"] = {other: f"{self.settings['nodes'][other]}:{PEER_PORT}"
                                 for other in self.host_names() if other != name}
        for override in self.settings["overrides"]:
            target, _, rest = override.rpartition(":") if override.split("=")[0].count(":") else ("", "", override)
            key, equals, value = rest.partition("=")
            section, dot, key = key.partition(".")
            if not equals or not dot:
                raise ClusterError(f"'{override}' is not [HOST:]SECTION.KEY=VALUE")
            if target in ("", name):
                sections.setdefault(section, {})[key] = value
        return sections

    def write_config(self, name):
        with open(self.node(name).file("whiskfsd.conf"), "w", encoding="utf-8") as file:
            for section, pairs in self.sections(name).items():
                file.write(f"[{section}]\n" + "".join(f"{k} = {v}\n" for k, v in pairs.items()))

    def program(self, *parts):
        path = os.path.join(self.settings["build"], "daemon", *parts)
        if not os.access(path, os.X_OK):
            raise ClusterError(f"there is no {path}: build it, or set WHISKFS_BUILD to a build directory")
        return path

    def start_mountd(self, names=None):
        """What keeps the mounts while a daemon is away; None: without it. Its log is mountd.log."""
        if self.settings["mountd"] is None:
            return
        argv = [self.program("mountd", MOUNTD), *self.settings["mountd"]]
        nodes = [self.host(name) for name in names or self.host_names()]
        nodes = [node for node in nodes if not node.service(MOUNTD)["running"]]
        for node in nodes:
            node.start_service(MOUNTD, argv, "mountd.log")
        for node in nodes:
            if not wait_for(lambda node=node: os.path.exists(node.file("run", "mountd.sock")), START_TIMEOUT_S):
                raise ClusterError(f"{node.name}: {MOUNTD} does not listen: see {node.file('mountd.log')}")

    def start_daemons(self, names=None):
        nodes = [self.host(name) for name in names or self.host_names()]
        daemon = self.program("whiskfsd")
        self.start_mountd(names)
        for node in nodes:
            node.start_service(DAEMON, [daemon, "--config", node.file("whiskfsd.conf")], "log")
        for node in nodes:
            self._wait_answers(node)

    def _wait_answers(self, node):
        def answers():
            service = node.service(DAEMON)
            if not service["running"]:
                raise ClusterError(f"{node.name}: whiskfsd ended with status {service['status']}\n{node.log_tail()}")
            if not os.path.exists(node.file("run", "control.sock")):
                return False
            with node.popen(["whiskfs", "status"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                try:
                    return process.wait(timeout=5) == 0
                except subprocess.TimeoutExpired:
                    process.kill()
                    return False
        if not wait_for(answers, START_TIMEOUT_S):
            raise ClusterError(f"{node.name}: whiskfsd did not answer within {START_TIMEOUT_S} s\n{node.log_tail()}")

    def kill(self, name, service=DAEMON):
        node = self.host(name)
        node.signal(service, signal.SIGKILL)
        if not node.wait_ended(service, STOP_TIMEOUT_S):
            raise ClusterError(f"{name}: {service} survives SIGKILL")

    def stop(self, name, service=DAEMON, timeout_s=STOP_TIMEOUT_S):
        node = self.host(name)
        node.signal(service, signal.SIGTERM)
        if not node.wait_ended(service, timeout_s):
            raise ClusterError(f"{name}: {service} did not stop within {timeout_s} s\n{node.log_tail()}")
        status = node.service(service)["status"]
        if status != 0:
            raise ClusterError(f"{name}: {service} ended with status {status}\n{node.log_tail()}")

    # -- network --------------------------------------------------------------------------------------------

    def partition(self, one, other):
        """Drops every packet between two nodes, both ways, silently."""
        a, b = self.node(one).address, self.node(other).address
        Node(self, SWITCH).network(["nft", "-f", "-"], (
            "add table bridge partition\n"
            "add chain bridge partition forward { type filter hook forward priority 0; }\n"
            f"add rule bridge partition forward ip saddr {a} ip daddr {b} drop\n"
            f"add rule bridge partition forward ip saddr {b} ip daddr {a} drop\n"))
        self.settings.setdefault("partitions", []).append([one, other])
        self.save()

    def heal(self):
        Node(self, SWITCH).network(["nft", "-f", "-"], "add table bridge partition\ndelete table bridge partition\n")
        self.settings["partitions"] = []
        self.save()


def port(name):
    """The switch's end of a node's cable; interface names have 15 characters at most."""
    return f"p-{name}"[:15]


def wait_gone(pid, timeout_s):
    """Waits until a process and, for a process 1, all of its namespace have ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not select.select([fd], [], [], timeout_s)[0]:
            raise ClusterError(f"process {pid} does not end")
    finally:
        os.close(fd)
