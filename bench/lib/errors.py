"""The one exception of these tools."""


class ClusterError(Exception):
    """What the user of a cluster did or has to know, in one sentence."""
