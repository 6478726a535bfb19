"""Certificates of a cluster's hosts: one CA for each cluster, made by 'whiskfs pki'."""
import os
import shutil
import subprocess

from errors import ClusterError


def make(cluster):
    """DIRECTORY/pki holds the CA; each host gets ca.pem, host.pem and host.key in its own directory."""
    directory = os.path.join(cluster.directory, "pki")
    whiskfs = os.path.join(cluster.settings["build"], "client", "whiskfs")
    nodes = [cluster.node(name) for name in cluster.settings["nodes"] if name != "kafka"]
    if not os.access(whiskfs, os.X_OK):
        raise ClusterError(f"there is no {whiskfs}: build it, or set WHISKFS_BUILD to a build directory")
    run([whiskfs, "pki", "init", directory])
    for node in nodes:
        run([whiskfs, "pki", "host", directory, node.name, "--address", node.address])
        hand_out(directory, node)


def hand_out(directory, node):
    for made, wanted in (("ca.pem", "ca.pem"), (f"{node.name}.pem", "host.pem"), (f"{node.name}.key", "host.key")):
        shutil.copyfile(os.path.join(directory, made), node.file(wanted))
    os.chmod(node.file("host.key"), 0o600)


def run(argv):
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ClusterError(f"{' '.join(argv)}: {result.stderr.strip()}")
