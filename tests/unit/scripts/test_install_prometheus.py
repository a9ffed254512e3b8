"""Where the set-up takes Prometheus from, in which order, and what it says of it; the sources are stand-ins on a PATH of their own."""

import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "install-prometheus"
TOOLS = (
    "bash",
    "env",
    "dirname",
    "mkdir",
    "mktemp",
    "rm",
    "uname",
    "install",
    "tar",
    "gzip",
    "grep",
    "sha256sum",
    "cp",
    "awk",
    "chmod",
)
BINARY = "#!/bin/sh\necho prometheus, version 3\n"
Install = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder of programs that is all of a PATH: the plain tools, and nothing that has a Prometheus."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    return folder


@pytest.fixture
def put(machine: Path) -> Callable[[str, str], None]:
    """Puts a shell script on the PATH."""

    def write(name: str, script: str) -> None:
        (machine / name).write_text(f"#!/bin/sh\n{script}\n")
        (machine / name).chmod(0o755)

    return write


@pytest.fixture
def install(machine: Path, tmp_path: Path) -> Install:
    def run(**environment: str) -> subprocess.CompletedProcess[str]:
        given = {"PATH": str(machine), "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path), **environment}
        return subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True, env=given, check=False)

    return run


def cached(tmp_path: Path) -> Path:
    return tmp_path / "home" / ".cache" / "autonomic" / "bin" / "prometheus"


def release(tmp_path: Path, put: Callable[[str, str], None], digest: str = "") -> None:
    """A stand-in for curl with a release of our own."""
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    version = next(line for line in SCRIPT.read_text().splitlines() if line.startswith("version=")).partition("=")[2]
    name = f"prometheus-{version}.linux-{arch}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "prometheus").write_text(BINARY)
    with tarfile.open(tmp_path / "made.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / name, name)
    digest = digest or hashlib.sha256((tmp_path / "made.tar.gz").read_bytes()).hexdigest()
    (tmp_path / "sums").write_text(f"{digest}  {name}.tar.gz\n")
    put("curl", f"cp {tmp_path}/made.tar.gz {name}.tar.gz; cp {tmp_path}/sums sha256sums.txt")


def test_one_that_is_named_or_on_the_path_is_taken_as_it_is(install: Install, put: Callable[[str, str], None], tmp_path: Path) -> None:
    assert "as AUTONOMIC_PROMETHEUS says" in install(AUTONOMIC_PROMETHEUS="/opt/prometheus").stdout
    put("prometheus", "echo yes")
    assert f"{tmp_path / 'bin' / 'prometheus'}, found on PATH" in install().stdout
    assert not cached(tmp_path).exists()


def test_the_package_of_debian_comes_first_where_one_is_root(install: Install, put: Callable[[str, str], None], tmp_path: Path) -> None:
    put("id", "echo 0")
    put("apt-get", 'case "$*" in *download*) echo > prometheus_1_amd64.deb ;; esac')
    put("dpkg-deb", "mkdir -p package/usr/bin; printf '#!/bin/sh\\necho 3\\n' > package/usr/bin/prometheus")
    first = install()
    assert first.returncode == 0, first.stderr
    assert f"{cached(tmp_path)}, taken from Debian's package" in first.stdout
    assert "put there by an earlier set-up" in install().stdout


def test_the_release_is_taken_with_its_checksum(install: Install, put: Callable[[str, str], None], tmp_path: Path) -> None:
    put("id", "echo 1000")
    release(tmp_path, put)
    taken = install()
    assert taken.returncode == 0, taken.stderr
    assert "with its checksum verified" in taken.stdout
    assert cached(tmp_path).read_text() == BINARY


def test_a_release_with_another_checksum_is_not_used_and_go_builds_one(
    install: Install, put: Callable[[str, str], None], tmp_path: Path
) -> None:
    put("id", "echo 1000")
    release(tmp_path, put, digest="0" * 64)
    put("go", 'echo "$@" > "$HOME/asked"; printf "built" > "$GOBIN/prometheus"')
    built = install()
    assert built.returncode == 0, built.stderr
    assert "built from its Go module" in built.stdout
    assert "about 5 minutes on two cores" in built.stdout
    assert "github.com/prometheus/prometheus/cmd/prometheus@v0.313.5" in (tmp_path / "home" / "asked").read_text()
    assert cached(tmp_path).read_text() == "built"


def test_where_none_can_be_had_it_says_what_to_do(install: Install, put: Callable[[str, str], None], tmp_path: Path) -> None:
    put("id", "echo 1000")
    failed = install()
    assert failed.returncode == 1
    assert "Put a prometheus binary on PATH, or install Go, and try again" in failed.stderr
    assert not cached(tmp_path).exists()
