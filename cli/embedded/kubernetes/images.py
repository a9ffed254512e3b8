"""Container images without a registry: OCI archives of one layer that containerd imports."""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

PAUSE = "autonomic.local/pause:1"
BUSYBOX = "autonomic.local/busybox:1"
HOST = "autonomic.local/host:1"
COREDNS = "autonomic.local/coredns:1"

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_BUSYBOX_COMMANDS = (
    *("sh", "ash", "cat", "ls", "echo", "env", "sleep", "true", "false", "test", "head", "tail", "grep", "sed", "awk", "cut", "tr", "wc"),
    *("cp", "mv", "rm", "mkdir", "touch", "ln", "chmod", "date", "hostname", "id", "ps", "kill", "top", "free", "df", "du", "dd", "find"),
    *("wget", "nc", "nslookup", "ping", "ip", "httpd", "timeout", "seq", "stat", "sync", "yes"),
)
# where a pod of the `host` image mounts the folders of the machine whose Python it runs
_MOUNT_POINTS = (
    *("usr", "lib", "lib64", "bin", "sbin", "etc", "proc", "sys", "dev", "run", "tmp", "var/tmp"),
    *("root", "home", "opt", "srv", "mnt", "data", "work"),
)


@dataclass(frozen=True)
class Image:
    """What an image holds: `files` and `links` by the path inside, `folders` that are empty."""

    name: str
    files: Mapping[str, Path] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    folders: Sequence[str] = ()
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)


def builtin(binaries: Path) -> dict[str, Image]:
    """The images that every node has, by the name of their archive, made of the files in `binaries`."""
    busybox = binaries / "busybox"
    return {
        "pause": Image(PAUSE, files={"pause": binaries / "pause"}, entrypoint=["/pause"]),
        "busybox": Image(
            BUSYBOX,
            files={"bin/busybox": busybox},
            links={f"bin/{name}": "busybox" for name in _BUSYBOX_COMMANDS},
            folders=("tmp", "etc", "proc", "sys", "dev"),
            command=["/bin/sh"],
            env={"PATH": "/bin"},
        ),
        "host": Image(
            HOST,
            files={"busybox/busybox": busybox},
            links={f"busybox/{name}": "busybox" for name in _BUSYBOX_COMMANDS},
            folders=_MOUNT_POINTS,
            command=["/busybox/sh"],
            env={"PATH": "/usr/local/bin:/usr/bin:/bin:/busybox", "LANG": "C.UTF-8"},
        ),
        "coredns": Image(COREDNS, files={"coredns": binaries / "coredns"}, folders=("etc/coredns",), entrypoint=["/coredns"]),
    }


def write_archive(image: Image, archive: Path) -> None:
    """Writes `image` as an OCI archive that `ctr images import` takes."""
    layer = _layer(image)
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    settings = {
        "Env": [f"{name}={value}" for name, value in image.env.items()],
        **({"Entrypoint": list(image.entrypoint)} if image.entrypoint else {}),
        **({"Cmd": list(image.command)} if image.command else {}),
    }
    config = _json(
        {
            "architecture": architecture,
            "os": "linux",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    kind = "application/vnd.oci.image"
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": _descriptor(f"{kind}.config.v1+json", config),
            "layers": [_descriptor(f"{kind}.layer.v1.tar", layer)],
        }
    )
    entry = {
        **_descriptor(f"{kind}.manifest.v1+json", manifest),
        "platform": {"architecture": architecture, "os": "linux"},
        "annotations": {"io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": image.name.rpartition(":")[2]},
    }
    index = _json({"schemaVersion": 2, "mediaType": f"{kind}.index.v1+json", "manifests": [entry]})
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w") as tar:
        _add_file(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}), 0o644)
        _add_file(tar, "index.json", index, 0o644)
        for blob in (layer, config, manifest):
            _add_file(tar, f"blobs/sha256/{_digest(blob).partition(':')[2]}", blob, 0o644)


def _layer(image: Image) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        made: set[str] = set()
        for folder in (*image.folders, *(str(PurePosixPath(path).parent) for path in (*image.files, *image.links))):
            _add_folders(tar, folder, made)
        for path, source in image.files.items():
            _add_file(tar, path, source.read_bytes(), 0o755)
        for path, target in image.links.items():
            info = tarfile.TarInfo(path)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return buffer.getvalue()


def _add_folders(tar: tarfile.TarFile, folder: str, made: set[str]) -> None:
    for path in (*reversed(PurePosixPath(folder).parents), PurePosixPath(folder)):
        name = str(path)
        if name == "." or name in made:
            continue
        made.add(name)
        info = tarfile.TarInfo(name)
        info.type, info.mode = tarfile.DIRTYPE, 0o1777 if path.name == "tmp" else 0o755
        tar.addfile(info)


def _add_file(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    tar.addfile(info, io.BytesIO(content))


def _json(data: object) -> bytes:
    return json.dumps(data).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}
