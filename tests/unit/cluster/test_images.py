import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from autonomic.cli.embedded.kubernetes import images


@pytest.fixture
def binaries(tmp_path: Path) -> Path:
    for name in ("pause", "busybox", "coredns"):
        (tmp_path / name).write_text(f"#!{name}")
    return tmp_path


def test_an_archive_names_its_image_and_every_blob_is_what_its_digest_says(binaries: Path, tmp_path: Path) -> None:
    blobs, manifest, config = _read(images.builtin(binaries)["host"], tmp_path / "host.tar")
    assert {name.rpartition("/")[2]: hashlib.sha256(content).hexdigest() for name, content in blobs.items() if "/" in name} == {
        name.rpartition("/")[2]: name.rpartition("/")[2] for name in blobs if "/" in name
    }
    entry = json.loads(blobs["index.json"])["manifests"][0]
    assert entry["annotations"]["io.containerd.image.name"] == "autonomic.local/host:1"
    (layer,) = manifest["layers"]
    assert config["rootfs"]["diff_ids"] == [layer["digest"]]


def test_the_host_image_has_a_shell_and_places_to_mount_the_machines_python(binaries: Path, tmp_path: Path) -> None:
    blobs, manifest, config = _read(images.builtin(binaries)["host"], tmp_path / "host.tar")
    with tarfile.open(fileobj=io.BytesIO(_blob(blobs, manifest["layers"][0]["digest"]))) as layer:
        members = {member.name: member for member in layer}
    assert {"usr", "lib", "lib64", "bin", "root", "work", "tmp", "var/tmp"} <= {name for name, found in members.items() if found.isdir()}
    assert members["busybox/sh"].linkname == "busybox"
    assert members["busybox/busybox"].mode == 0o755
    assert members["tmp"].mode == 0o1777
    assert config["config"]["Cmd"] == ["/busybox/sh"]
    assert "PATH=/usr/local/bin:/usr/bin:/bin:/busybox" in config["config"]["Env"]


def test_parents_are_made_before_what_is_in_them(binaries: Path, tmp_path: Path) -> None:
    blobs, manifest, _ = _read(images.builtin(binaries)["busybox"], tmp_path / "busybox.tar")
    seen: set[str] = set()
    with tarfile.open(fileobj=io.BytesIO(_blob(blobs, manifest["layers"][0]["digest"]))) as layer:
        for member in layer:
            parent = member.name.rpartition("/")[0]
            assert not parent or parent in seen
            assert member.name not in seen
            seen.add(member.name)


def _read(image: images.Image, archive: Path) -> tuple[dict[str, bytes], dict, dict]:
    images.write_archive(image, archive)
    with tarfile.open(archive) as tar:
        blobs = {member.name: found.read() for member in tar if (found := tar.extractfile(member))}
    manifest = json.loads(_blob(blobs, json.loads(blobs["index.json"])["manifests"][0]["digest"]))
    return blobs, manifest, json.loads(_blob(blobs, manifest["config"]["digest"]))


def _blob(blobs: dict[str, bytes], digest: str) -> bytes:
    return blobs[f"blobs/sha256/{digest.removeprefix('sha256:')}"]
