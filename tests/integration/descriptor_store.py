"""What systemd is to whiskfs-mountd: runs it, keeps the descriptors it hands over, gives them to the next process.

    descriptor_store.py NOTIFY_SOCKET PROGRAM [ARGUMENT…]

SIGHUP restarts the program (RestartKillSignal=SIGHUP), SIGTERM stops it.
"""
import os
import select
import signal
import socket
import sys


def fields(text):
    return dict(line.split("=", 1) for line in text.decode().splitlines() if "=" in line)


class Store:
    def __init__(self, path, argv):
        self.argv = argv
        self.fds = []  # (name, descriptor)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(path)
        self.environment = {**os.environ, "NOTIFY_SOCKET": path}
        self.pid = 0

    def start(self):
        self.pid = os.fork()
        if self.pid == 0:
            high = [os.dup2(fd, 100 + i) for i, (_, fd) in enumerate(self.fds)]
            for i, fd in enumerate(high):
                os.dup2(fd, 3 + i)
            if high:
                self.environment.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)),
                                        LISTEN_FDNAMES=":".join(name for name, _ in self.fds))
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            os.execve(self.argv[0], self.argv, self.environment)

    def receive(self):
        text, fds, _, _ = socket.recv_fds(self.notify, 4096, 16)
        said = fields(text)
        if said.get("FDSTORE") == "1":
            self.fds += [(said["FDNAME"], fd) for fd in fds]
        elif said.get("FDSTOREREMOVE") == "1":
            for name, fd in self.fds:
                if name == said["FDNAME"]:
                    os.close(fd)
            self.fds = [(name, fd) for name, fd in self.fds if name != said["FDNAME"]]

    def run(self):
        wake, write_end = os.pipe2(os.O_NONBLOCK)
        signal.set_wakeup_fd(write_end)
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self.start()
        stopping = False
        while True:
            ready, _, _ = select.select([self.notify, wake], [], [])
            if self.notify in ready:
                self.receive()
                continue
            for number in os.read(wake, 64):
                if number == signal.SIGCHLD:
                    _, status = os.waitpid(self.pid, 0)
                    if stopping:
                        return os.waitstatus_to_exitcode(status)
                    self.start()
                else:
                    stopping = stopping or number == signal.SIGTERM
                    os.kill(self.pid, number)


if __name__ == "__main__":
    sys.exit(Store(sys.argv[1], sys.argv[2:]).run())
