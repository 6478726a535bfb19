"""Namespaces by system call: making them, entering them, and mounting inside.

Python has os.setns() and os.unshare() from 3.12 on only; Debian 12 brings 3.11.
"""
import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000

KINDS = {"net": CLONE_NEWNET, "mnt": CLONE_NEWNS, "uts": CLONE_NEWUTS, "pid": CLONE_NEWPID}

_libc = ctypes.CDLL(None, use_errno=True)


def _call(what, *args):
    if getattr(_libc, what)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags):
    _call("unshare", flags)


def mount(source, target, fstype=None, flags=0, data=None):
    def text(value):
        return None if value is None else os.fsencode(value)
    try:
        _call("mount", text(source), text(target), text(fstype), ctypes.c_ulong(flags), text(data))
    except OSError as error:
        raise OSError(error.errno, f"cannot mount {source} at {target}: {error.strerror}") from None


def enter(pid, kinds=("net", "mnt", "uts", "pid")):
    """Moves this process into the namespaces of pid; for 'pid' that counts for its children only."""
    fds = [(os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC), KINDS[kind]) for kind in kinds]
    for fd, flag in fds:
        _call("setns", fd, flag)
        os.close(fd)
