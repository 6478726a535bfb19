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
        return fallback(directory, nodes)
    run([whiskfs, "pki", "init", directory])
    for node in nodes:
        run([whiskfs, "pki", "host", directory, node.name, "--address", node.address])
        hand_out(directory, node)


def hand_out(directory, node):
    for made, wanted in (("ca.pem", "ca.pem"), (f"{node.name}.pem", "host.pem"), (f"{node.name}.key", "host.key")):
        shutil.copyfile(os.path.join(directory, made), node.file(wanted))
    os.chmod(node.file("host.key"), 0o600)


def fallback(directory, nodes):
    os.mkdir(directory)
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
         "-subj", "/CN=whiskfs", "-keyout", f"{directory}/ca.key", "-out", f"{directory}/ca.pem"])
    for node in nodes:
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
             "-subj", f"/CN={node.name}", "-addext", f"subjectAltName=DNS:{node.name},IP:{node.address}",
             "-CA", f"{directory}/ca.pem", "-CAkey", f"{directory}/ca.key",
             "-keyout", f"{directory}/{node.name}.key", "-out", f"{directory}/{node.name}.pem"])
        hand_out(directory, node)


def run(argv):
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ClusterError(f"{' '.join(argv)}: {result.stderr.strip()}")
