"""What programs do while their volume's daemon is killed and restarted: survive.sh runs it.

    survive.py work KIND DIRECTORY BEGUN STOP
                                             makes the file BEGUN after the first step, goes on until the file STOP is there;
                                             then one line of JSON: what was done, the longest pause, and what went wrong
                                             ("error": null)
    survive.py restart HOST SIGNAL TIMES PAUSE_S
                                             ends the daemon of HOST and starts it at once, TIMES times, about PAUSE_S apart
    survive.py prepare DIRECTORY             what the operations need
    survive.py do OPERATION DIRECTORY        one operation, and whether its result is right
    survive.py check OPERATION DIRECTORY     whether it was done once
"""
import fcntl
import json
import mmap
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import time

sys.dont_write_bytecode = True
MIB = 1 << 20


def pattern(size, seed):
    return random.Random(seed).randbytes(size)


class Pauses:
    """The longest time between two steps."""

    def __init__(self):
        self.steps = 0
        self.longest = 0.0
        self.last = time.monotonic()

    def step(self):
        now = time.monotonic()
        self.longest = max(self.longest, now - self.last)
        self.last = now
        self.steps += 1


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def write_file(path, data):
    with open(path, "wb") as file:
        file.write(data)


# ---- work: each is a generator that yields after every step ----

def read(directory):
    """Descriptors that stay open: a large file, which is passed through, and a small one, which is not."""
    large, small = pattern(3 * MIB, 1), pattern(3000, 2)
    write_file(f"{directory}/large", large)
    write_file(f"{directory}/small", small)
    fds = [(os.open(f"{directory}/large", os.O_RDONLY), large), (os.open(f"{directory}/small", os.O_RDONLY), small)]
    mapped = mmap.mmap(fds[0][0], len(large), prot=mmap.PROT_READ)
    while True:
        for fd, data in fds:
            at = random.randrange(len(data) - 100)
            expect(os.pread(fd, 100, at) == data[at:at + 100], "other bytes than were written")
            expect(mapped[at:at + 100] == large[at:at + 100], "other bytes in the map")
        with open(f"{directory}/small", "rb") as file:
            expect(file.read() == small, "other bytes in a file that was opened anew")
        yield


def write(directory):
    """Writes, checks, renames, links, removes; a file that stays open, one that is mapped, one without a name."""
    kept = os.open(f"{directory}/kept", os.O_RDWR | os.O_CREAT, 0o644)
    appended = os.open(f"{directory}/appended", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    unlinked = os.open(f"{directory}/unlinked", os.O_RDWR | os.O_CREAT, 0o600)
    os.unlink(f"{directory}/unlinked")
    os.ftruncate(kept, MIB)
    mapped = mmap.mmap(kept, MIB)
    fcntl.flock(kept, fcntl.LOCK_EX)
    for i in range(1 << 30):
        data = pattern(i % 5000 + 1, i)
        name = f"{directory}/file-{i}"
        write_file(name, data)
        os.rename(name, name + ".new")
        os.link(name + ".new", name)
        expect(os.stat(name).st_nlink == 2, "a link was counted wrong")
        with open(name, "rb") as file:
            expect(file.read() == data, f"other bytes in {name}")
        os.unlink(name + ".new")
        os.chmod(name, 0o600)
        os.mkdir(name + ".d")
        os.rmdir(name + ".d")
        at = i * 4096 % (MIB - 4096)
        os.pwrite(kept, data, at)
        expect(mapped[at:at + len(data)] == data, "the map shows other bytes than were written")
        os.pwrite(unlinked, data, 0)
        expect(os.pread(unlinked, len(data), 0) == data, "other bytes in the file without a name")
        os.write(appended, b"%09d\n" % i)
        expect(os.fstat(appended).st_size == 10 * (i + 1), "an append was lost or done twice")
        if i % 20 == 0:
            os.fsync(kept)
        if i >= 200:
            os.unlink(f"{directory}/file-{i - 200}")
        yield


def lock(directory):
    """Somebody else holds it, all the time."""
    fd = os.open(f"{directory}/locked", os.O_RDWR | os.O_CREAT, 0o644)
    other = os.open(f"{directory}/locked", os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX)
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield
        else:
            raise AssertionError("a lock that was held was given away")
        time.sleep(0.01)


def look(directory):
    """A directory is read entry by entry; every one of them, once."""
    os.mkdir(f"{directory}/many")
    for i in range(1000):
        os.mknod(f"{directory}/many/{i}", stat.S_IFREG | 0o644)
    while True:
        seen = []
        with os.scandir(f"{directory}/many") as entries:
            for entry in entries:
                seen.append(int(entry.name))
                if len(seen) % 100 == 0:
                    entry.stat()
                    time.sleep(0.02)
                    yield
        expect(sorted(seen) == list(range(1000)), "entries of a directory were left out or shown twice")


def build(directory):
    """Compiles a small program of many files, runs it, cleans up."""
    for i in range(8):
        write_file(f"{directory}/part{i}.c", b"int part%d(int x); int part%d(int x) { return x + %d; }\n" % (i, i, i))
    calls = "".join(f"int part{i}(int x); " for i in range(8))
    total = "x = " + "".join(f"part{i}(" for i in range(8)) + "0" + ")" * 8
    write_file(f"{directory}/main.c", f"{calls}\nint main(void) {{ int x; {total}; return x; }}\n".encode())
    while True:
        for i in range(8):
            subprocess.run(["cc", "-c", f"part{i}.c"], cwd=directory, check=True)
            yield
        subprocess.run("cc -o sum main.c part*.o", shell=True, cwd=directory, check=True)
        expect(subprocess.run(["./sum"], cwd=directory, check=False).returncode == sum(range(8)), "a wrong program")
        subprocess.run("rm -f sum *.o", shell=True, cwd=directory, check=True)
        yield


def insert(directory):
    """Rows, one transaction each; every one is there."""
    with sqlite3.connect(f"{directory}/rows.db", timeout=30) as database:
        database.execute("create table t (n integer primary key, text)")
        for i in range(1 << 30):
            database.execute("insert into t values (?, ?)", (i, "x" * 200))
            database.commit()
            if i % 20 == 0:
                expect(database.execute("select count(*) from t").fetchone()[0] == i + 1, "rows are missing")
                expect(database.execute("pragma integrity_check").fetchone()[0] == "ok", "the database is damaged")
            yield


KINDS = {f.__name__: f for f in (read, write, lock, look, build, insert)}


def work(kind, directory, begun, stop):
    pauses = Pauses()
    error = None
    try:
        directory = f"{directory}/{kind}"
        os.mkdir(directory)
        for _ in KINDS[kind](directory):
            pauses.step()
            if pauses.steps == 1:
                pauses.longest = 0.0
                write_file(begun, b"")
            if os.path.exists(stop):
                break
    except (OSError, AssertionError, sqlite3.Error, subprocess.SubprocessError) as trouble:
        error = f"{type(trouble).__name__}: {trouble} {getattr(trouble, 'sqlite_errorname', '')}"
    print(json.dumps({"kind": kind, "steps": pauses.steps, "pause_s": round(pauses.longest, 3), "error": error}))
    return 0 if error is None else 1


# ---- restarting ----

def restart(host, name, times, pause_s):
    repository = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    sys.path.insert(0, f"{repository}/bench/lib")
    from cluster import DAEMON, Cluster
    cluster = Cluster.load(os.environ["WHISKFS_CLUSTER"])
    node = cluster.host(host)
    argv = [cluster.program("whiskfsd"), "--config", node.file("whiskfsd.conf")]
    for _ in range(int(times)):
        time.sleep(random.uniform(0.5, 1.5) * float(pause_s))
        node.signal(DAEMON, getattr(signal, name))
        expect(node.wait_ended(DAEMON, 30), "the daemon does not end")
        node.start_service(DAEMON, argv, "log")
    cluster._wait_answers(node)
    return 0


# ---- one operation, and whether it was done once ----

def prepare(d):
    """What the operations need; before the daemon that will be killed is started."""
    for name in ("old", "linked", "removed", "attributes", "valued", "opened", "truncated", "appended", "source",
                 "copied", "allocated", "synced", "closed"):
        write_file(f"{d}/{name}", b"before")
    os.setxattr(f"{d}/valued", "user.gone", b"x")
    os.mkdir(f"{d}/empty")


def do_make(d):
    os.mkdir(f"{d}/made")


def do_symlink(d):
    os.symlink("target", f"{d}/symbolic")


def do_mknod(d):
    os.mknod(f"{d}/node", stat.S_IFREG | 0o640)


def do_create(d):
    fd = os.open(f"{d}/created", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
    expect(os.write(fd, b"created") == 7 and os.pread(fd, 9, 0) == b"created", "a new file is not what was written")
    os.close(fd)


def do_tmpfile(d):
    fd = os.open(d, os.O_RDWR | os.O_TMPFILE, 0o640)
    os.write(fd, b"nameless")
    links = os.open("/proc/self/fd", os.O_RDONLY)
    os.link(str(fd), f"{d}/named", src_dir_fd=links, follow_symlinks=True)
    os.close(links)
    os.close(fd)


def do_link(d):
    os.link(f"{d}/linked", f"{d}/second")


def do_unlink(d):
    os.unlink(f"{d}/removed")


def do_unlink_open(d):
    with open(f"{d}/removed", "r+b") as file:
        os.unlink(f"{d}/removed")
        file.write(b"after!")
        file.seek(0)
        expect(file.read() == b"after!" and os.fstat(file.fileno()).st_nlink == 0, "an open file ended with its name")


def do_rmdir(d):
    os.rmdir(f"{d}/empty")


def do_rename(d):
    os.rename(f"{d}/old", f"{d}/new")


def do_setattr(d):
    os.chmod(f"{d}/attributes", 0o4711)


def do_setxattr(d):
    os.setxattr(f"{d}/valued", "user.new", b"value", os.XATTR_CREATE)


def do_removexattr(d):
    os.removexattr(f"{d}/valued", "user.gone")


def do_open_write(d):
    fd = os.open(f"{d}/opened", os.O_WRONLY)
    os.write(fd, b"after!")
    os.close(fd)


def do_truncate(d):
    os.truncate(f"{d}/truncated", 3)


def do_open_truncate(d):
    fd = os.open(f"{d}/truncated", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"bef")
    os.close(fd)


def do_append(d):
    fd = os.open(f"{d}/appended", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"+")
    os.fsync(fd)
    os.write(fd, b"+")
    os.close(fd)


def do_allocate(d):
    fd = os.open(f"{d}/allocated", os.O_WRONLY)
    os.posix_fallocate(fd, 0, 9000)
    os.close(fd)


def do_copy(d):
    source, copy = os.open(f"{d}/source", os.O_RDONLY), os.open(f"{d}/copied", os.O_WRONLY)
    expect(os.copy_file_range(source, copy, 6, 0, 6) == 6, "a copy was cut short")
    os.close(copy)
    os.close(source)


def do_fsync(d):
    fd = os.open(f"{d}/synced", os.O_WRONLY)
    os.write(fd, b"after!")
    os.fsync(fd)
    os.close(fd)


def content(path):
    with open(path, "rb") as file:
        return file.read()


def missing(path):
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    return False


# operation -> what must hold after it, and after nothing else
OPERATIONS = {
    "make": (do_make, lambda d: os.stat(f"{d}/made").st_nlink == 2 and os.stat(d).st_nlink == 4),
    "symlink": (do_symlink, lambda d: os.readlink(f"{d}/symbolic") == "target"),
    "mknod": (do_mknod, lambda d: os.stat(f"{d}/node").st_mode == stat.S_IFREG | 0o640),
    "create": (do_create, lambda d: content(f"{d}/created") == b"created"),
    "tmpfile": (do_tmpfile, lambda d: content(f"{d}/named") == b"nameless"),
    "link": (do_link, lambda d: os.stat(f"{d}/linked").st_nlink == 2),
    "unlink": (do_unlink, lambda d: missing(f"{d}/removed")),
    "unlink_open": (do_unlink_open, lambda d: missing(f"{d}/removed")),
    "rmdir": (do_rmdir, lambda d: missing(f"{d}/empty") and os.stat(d).st_nlink == 2),
    "rename": (do_rename, lambda d: missing(f"{d}/old") and content(f"{d}/new") == b"before"),
    "setattr": (do_setattr, lambda d: os.stat(f"{d}/attributes").st_mode & 0o7777 == 0o4711),
    "setxattr": (do_setxattr, lambda d: os.getxattr(f"{d}/valued", "user.new") == b"value"),
    "removexattr": (do_removexattr, lambda d: "user.gone" not in os.listxattr(f"{d}/valued")),
    "open_write": (do_open_write, lambda d: content(f"{d}/opened") == b"after!"),
    "truncate": (do_truncate, lambda d: content(f"{d}/truncated") == b"bef"),
    "open_truncate": (do_open_truncate, lambda d: content(f"{d}/truncated") == b"bef"),
    "append": (do_append, lambda d: content(f"{d}/appended") == b"before++"),
    "allocate": (do_allocate, lambda d: content(f"{d}/allocated") == b"before" + bytes(8994)),
    "copy": (do_copy, lambda d: content(f"{d}/copied") == b"beforebefore"),
    "fsync": (do_fsync, lambda d: content(f"{d}/synced") == b"after!"),
}


def main(argv):
    if argv[0] == "work":
        return work(*argv[1:])
    if argv[0] == "restart":
        return restart(*argv[1:])
    if argv[0] == "prepare":
        return prepare(argv[1])
    operation, directory = argv[1:]
    if argv[0] == "do":
        OPERATIONS[operation][0](directory)
    else:
        expect(OPERATIONS[operation][1](directory), f"{operation} was not done once")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
