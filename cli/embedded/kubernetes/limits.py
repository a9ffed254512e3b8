"""Limits of the machine that a cluster can meet beside others."""

import ctypes
import errno
import os
from pathlib import Path

from autonomic.seams.errors import Permanent

_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
# counted: API server, controller manager and metrics-server 12; kubelet, containerd and kube-proxy 9 a node
_OF_CLUSTER, _OF_NODE = 14, 10


def check_inotify(nodes: int) -> None:
    """Raises Permanent where this user has too few inotify instances left: a kubelet without one only says that files are too many."""
    needed = _OF_CLUSTER + _OF_NODE * nodes
    free = _free_inotify(needed)
    if free < needed:
        limit = int(_LIMIT.read_text())
        raise Permanent(
            f"a cluster of {nodes} nodes needs {needed} inotify instances, and {free} of this user's {limit} are free; stop another one, "
            f"or allow more until the next start of the machine: sysctl -w fs.inotify.max_user_instances={4 * limit}"
        )


def _free_inotify(at_most: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    opened: list[int] = []
    try:
        while len(opened) < at_most:
            descriptor = libc.inotify_init1(os.O_CLOEXEC)
            if descriptor < 0:
                if ctypes.get_errno() != errno.EMFILE:
                    raise Permanent(f"inotify cannot be used here: {os.strerror(ctypes.get_errno())}")
                break
            opened.append(descriptor)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return len(opened)
