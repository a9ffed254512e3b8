"""Where a pod of ours has its code and its working folder; what every pod needs, and light to import."""

from pathlib import Path

from autonomic.workflows.runs.packages import unpack

REGISTRY_URL = "AUTONOMIC_REGISTRY_URL"
"""The variable of the environment in which a pod finds the address of MLflow, "" where there is none."""
WORK = "/autonomic/work"
"""A folder of the pod's own, empty when it starts."""
PACKAGE = "/autonomic/package"
"""Where the parts of the workflow's code package stand, where it has one."""


def unpack_parts(mounted: Path, folder: Path) -> Path:
    """Puts the parts of a package, mounted in `mounted`, together in `folder`, and returns it."""
    unpack(b"".join(part.read_bytes() for part in sorted(mounted.iterdir()) if part.is_file()), folder)
    return folder
