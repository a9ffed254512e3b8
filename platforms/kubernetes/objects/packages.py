"""User code on its way to pods: the zip is cut into ConfigMaps, which pods mount."""

import base64
import os
import threading
from collections.abc import Collection
from pathlib import Path

from autonomic.platforms.kubernetes.objects import names
from autonomic.platforms.kubernetes.objects.api import CONFIG_MAPS, Api
from autonomic.platforms.kubernetes.objects.manifests import package_part
from autonomic.platforms.kubernetes.objects.store import ConfigMapStore
from autonomic.seams.errors import Permanent
from autonomic.workflows.runs.packages import check_package, digest_of, unpack

# a ConfigMap holds at most 1 MiB
_PART_BYTES = 700 * 1024


class Packages:
    """The code packages of one installation. Those in use are kept in `folder` as well: what is deleted of them is made again."""

    def __init__(self, api: Api, store: ConfigMapStore, installation: str, folder: Path) -> None:
        self._folder = folder
        self._api = api
        self._store = store
        self._installation = installation

    def add(self, package: bytes) -> str:
        """Keeps a package and returns its digest.

        Raises:
            Permanent: see `check_package`.
        """
        check_package(package)
        digest = digest_of(package)
        self._keep(digest, package)
        if self._store.get(f"package/{digest}") is None:
            self._write(digest, package)
        return digest

    def _write(self, digest: str, package: bytes) -> int:
        parts = _cut(package)
        for number, part in enumerate(parts):
            self._api.apply(CONFIG_MAPS, self._part(digest, number, part))
        # written last: a package of which this is not there was not kept whole
        self._store.put(f"package/{digest}", {"parts": len(parts)})
        return len(parts)

    def heal(self, present: Collection[str], used: Collection[str]) -> list[str]:
        """Makes parts of the `used` packages that are not among the `present` ConfigMaps; returns the packages that cannot be made whole.

        Raises:
            Retryable: the API server does not answer.
        """
        broken: list[str] = []
        for digest in used:
            if self._store.get(f"package/{digest}") is None:
                continue
            names_of = [package_part(self._installation, digest, number) for number in range(self.parts(digest))]
            missing = [number for number, name in enumerate(names_of) if name not in present]
            try:
                parts = _cut(self._content(digest))
            except Permanent:
                broken.append(digest)
                continue
            for number in missing:
                self._api.apply(CONFIG_MAPS, self._part(digest, number, parts[number]))
        return broken

    def _content(self, digest: str) -> bytes:
        """A package as it was given.

        Raises:
            Permanent: a part of it is gone, and it was never kept here.
        """
        kept = self._folder / f"{digest}.zip"
        if not kept.exists():
            data = b""
            for number in range(self.parts(digest)):
                item = self._api.get(CONFIG_MAPS, package_part(self._installation, digest, number))
                if item is None:
                    raise Permanent(f"a part of the code package {digest} is not there any more; apply the workflow again")
                data += base64.b64decode(item["binaryData"]["part"])
            self._keep(digest, data)
        return kept.read_bytes()

    def _keep(self, digest: str, package: bytes) -> None:
        kept = self._folder / f"{digest}.zip"
        if kept.exists():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = kept.with_name(f".{digest}-{os.getpid()}-{threading.get_ident()}")
        partial.write_bytes(package)
        partial.replace(kept)

    def parts(self, digest: str) -> int:
        """In how many parts a package is kept. One that the cluster has lost, as while nobody looked, is written again.

        Raises:
            Permanent: there is no such package.
        """
        kept = self._store.get(f"package/{digest}")
        if kept is not None:
            return int(kept["parts"])
        here = self._folder / f"{digest}.zip"
        if not here.exists():
            raise Permanent(f"neither the cluster nor the host has the code package {digest}; apply the workflow again")
        return self._write(digest, here.read_bytes())

    def folder(self, digest: str, cache: Path) -> Path:
        """The folder of a package on this machine.

        Raises:
            Permanent: there is no such package.
        """
        folder = cache / digest
        if not folder.is_dir():
            unpack(self._content(digest), folder)
        return folder

    def _part(self, digest: str, number: int, part: bytes) -> dict[str, object]:
        meta = {
            "name": package_part(self._installation, digest, number),
            "labels": names.own_labels(self._installation, "package", package=names.digest(digest, 20)),
        }
        encoded = base64.b64encode(part).decode()
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "immutable": True, "binaryData": {"part": encoded}}


def _cut(package: bytes) -> list[bytes]:
    return [package[start : start + _PART_BYTES] for start in range(0, len(package), _PART_BYTES)]
