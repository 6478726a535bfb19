"""ownerwatch.py OWNER_PID CLUSTER: takes a cluster down when the process that it was made for ends."""
import os
import select
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster as c  # noqa: E402


def main():
    owner, name = int(sys.argv[1]), sys.argv[2]
    try:
        fd = os.pidfd_open(owner)
    except ProcessLookupError:
        fd = None
    directory = c.directory_of(name)
    inode = os.stat(directory).st_ino
    while fd is not None and not select.select([fd], [], [], 1)[0]:
        if not is_same(directory, inode):
            return
    if is_same(directory, inode):
        c.Cluster.load(name).down()


def is_same(directory, inode):
    try:
        return os.stat(directory).st_ino == inode
    except FileNotFoundError:
        return False


main()
