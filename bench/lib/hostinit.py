"""Process 1 of one host of a cluster: sets up its mounts, starts and watches its services, reaps what is left.

    hostinit.py DIRECTORY NAME

Runs in fresh network, mount, pid and host-name namespaces. It is all that holds them: when it is killed, the kernel
ends every process of the host, and the mounts and interfaces go with the last one. It takes requests, one JSON object
per packet, on DIRECTORY/init.sock:

    {"op": "start", "service": S, "argv": […], "env": {…}, "log": FILE}   -> {"pid": N}
    {"op": "signal", "service": S, "signal": N}                          -> {}
    {"op": "state"}                                   -> {"services": {S: {"pid", "running", "status"}}}

A request that cannot be served is answered with {"error": TEXT}.
"""
import json
import os
import select
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import namespaces as ns  # noqa: E402

PACKET_MAX = 256 * 1024


def mount_all(directory):
    """What differs between hosts: /proc, /run/whiskfs (control socket), /mnt/ow (volumes), /etc/hosts."""
    ns.mount("none", "/", flags=ns.MS_REC | ns.MS_PRIVATE)
    ns.mount("proc", "/proc", "proc")
    ns.mount("tmpfs", "/run", "tmpfs", data="mode=755")
    os.mkdir("/run/whiskfs")
    ns.mount(f"{directory}/run", "/run/whiskfs", flags=ns.MS_BIND)
    if not os.path.isdir("/mnt/ow"):
        ns.mount("tmpfs", "/mnt", "tmpfs", data="mode=755")
        os.mkdir("/mnt/ow")
    ns.mount(f"{directory}/ow", "/mnt/ow", flags=ns.MS_BIND)
    ns.mount(os.path.join(os.path.dirname(directory), "hosts"), "/etc/hosts", flags=ns.MS_BIND)


class Init:
    def __init__(self, directory):
        self.services = {}  # name -> {"pid", "running", "status"}
        path = f"{directory}/init.sock"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind(path + ".new")
        self.socket.listen(16)
        os.rename(path + ".new", path)  # whoever sees the socket can connect

    def start(self, request):
        name = request["service"]
        if self.services.get(name, {}).get("running"):
            raise ValueError(f"{name} is already running")
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        pid = os.fork()
        if pid == 0:
            self.become(request, log)
        os.close(log)
        self.services[name] = {"pid": pid, "running": True, "status": None}
        return {"pid": pid}

    @staticmethod
    def become(request, log):
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.execvpe(request["argv"][0], request["argv"], request["env"])
        except OSError as error:
            os.write(2, f"cannot run {request['argv'][0]}: {error.strerror}\n".encode())
        finally:
            os._exit(127)

    def signal(self, request):
        service = self.services.get(request["service"])
        if not service or not service["running"]:
            raise ValueError(f"{request['service']} is not running")
        os.kill(service["pid"], request["signal"])
        return {}

    def state(self, _request):
        return {"services": self.services}

    def reap(self):
        """Everybody's children, also those that were left to process 1."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for service in self.services.values():
                if service["pid"] == pid and service["running"]:
                    service["running"] = False
                    service["status"] = os.waitstatus_to_exitcode(status)

    def answer(self, connection):
        connection.settimeout(5)
        request = json.loads(connection.recv(PACKET_MAX))
        handlers = {"start": self.start, "signal": self.signal, "state": self.state}
        try:
            reply = handlers[request["op"]](request)
        except (OSError, ValueError, KeyError) as error:
            reply = {"error": str(error)}
        connection.send(json.dumps(reply).encode())

    def serve(self):
        wake_in, wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_out)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            self.reap()
            ready, _, _ = select.select([wake_in, self.socket], [], [])
            if wake_in in ready:
                os.read(wake_in, 512)
            self.reap()
            if self.socket in ready:
                connection, _ = self.socket.accept()
                with connection:
                    try:
                        self.answer(connection)
                    except (OSError, ValueError):
                        pass  # the asker went away or spoke nonsense; it sees the closed connection


def main():
    directory, name = sys.argv[1:]
    mount_all(directory)
    socket.sethostname(name)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    Init(directory).serve()


if __name__ == "__main__":
    main()
