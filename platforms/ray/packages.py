"""Code packages in the cluster's key-value store, and unpacked once per node."""

from pathlib import Path

from autonomic.platforms.ray.cluster_store import ClusterStore
from autonomic.seams.errors import Permanent
from autonomic.workflows.runs.packages import check_package, digest_of, unpack

_STORE = "autonomic-packages"


def put_package(package: bytes) -> str:
    """Keeps a package in the cluster, and returns its digest.

    Raises:
        Permanent: it is no zip, it is too large, or a name in it leads out of its folder.
    """
    check_package(package)
    digest = digest_of(package)
    ClusterStore(_STORE).put_bytes(digest, package)
    return digest


def has_package(digest: str) -> bool:
    """Whether the cluster keeps a package."""
    return bool(ClusterStore(_STORE).keys(digest))


def package_folder(digest: str, cache: Path) -> Path:
    """The folder of a package on this node.

    Raises:
        Permanent: the cluster has no such package.
    """
    folder = cache / digest
    if not folder.is_dir():
        package = ClusterStore(_STORE).get_bytes(digest)
        if package is None:
            raise Permanent(f"the cluster has no code package {digest}; apply the workflow again")
        unpack(package, folder)
    return folder
