import io
import os
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest

from autonomic.seams.errors import Permanent
from autonomic.workflows.runs import packages
from autonomic.workflows.runs.packages import check_package, digest_of, pack, unpack


def zipped(*names: str, link: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (stat.S_IFLNK | 0o777 if link else 0o644) << 16
            archive.writestr(entry, "/etc/passwd")
    return buffer.getvalue()


def test_a_folder_travels_whole_without_what_is_no_code(tmp_path: Path) -> None:
    code = tmp_path / "code"
    (code / "sub" / "__pycache__").mkdir(parents=True)
    (code / ".git").mkdir()
    (code / "env").mkdir()
    (code / "env" / "pyvenv.cfg").touch()
    (code / "env" / "big.py").write_text("no")
    (code / "a.py").write_text("A")
    (code / "sub" / "b.py").write_text("B")
    (code / "sub" / "__pycache__" / "b.pyc").write_text("no")
    (code / ".git" / "secret").write_text("no")
    (code / ".env").write_text("PASSWORD=no")
    for name in ("a.py~", "#a.py#", ".a.py.swp", "run.log", "sub/old.orig"):
        (code / name).write_text("no")
    (code / "reports").mkdir()
    (code / "reports" / "r.html").write_text("no")
    unpack(pack(code), tmp_path / "out")
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == {"a.py", "sub/b.py"}
    assert (tmp_path / "out" / "sub" / "b.py").read_text() == "B"


def test_the_digest_depends_on_the_content_only(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text("same")
    assert digest_of(pack(tmp_path / "one")) == digest_of(pack(tmp_path / "two"))
    (tmp_path / "two" / "a.py").write_text("other")
    assert digest_of(pack(tmp_path / "one")) != digest_of(pack(tmp_path / "two"))


def test_the_commit_travels_with_the_code(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        return subprocess.run(["git", *identity, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "a.py").write_text("A")
    git("add", "a.py")
    git("commit", "-qm", "first")
    with zipfile.ZipFile(io.BytesIO(pack(tmp_path))) as archive:
        about = archive.read(".autonomic-package.json").decode()
    assert about == f'{{"git_changed": false, "git_commit": "{git("rev-parse", "HEAD")}"}}'


def test_the_digest_is_of_the_files_and_not_of_the_commit(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments], cwd=tmp_path, check=True)

    (tmp_path / "a.py").write_text("A")
    before = digest_of(pack(tmp_path, {"a.py": tmp_path / "a.py"}))
    git("init", "-q")
    (tmp_path / "other.txt").write_text("a report")
    git("add", ".")
    git("commit", "-qm", "first")
    assert digest_of(pack(tmp_path, {"a.py": tmp_path / "a.py"})) == before
    (tmp_path / "a.py").chmod(0o755)
    assert digest_of(pack(tmp_path, {"a.py": tmp_path / "a.py"})) != before


def test_links_names_with_a_colon_and_executable_bits_arrive(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (tmp_path / "shared.sh").write_text("#!/bin/sh\n")
    (tmp_path / "shared.sh").chmod(0o755)
    (code / "run.sh").symlink_to("../shared.sh")
    (code / "at_12:00:00.txt").write_text("noon")
    (code / "again").symlink_to(code)
    unpack(pack(code), tmp_path / "out")
    assert os.access(tmp_path / "out" / "run.sh", os.X_OK)
    assert (tmp_path / "out" / "at_12:00:00.txt").read_text() == "noon"
    assert not os.access(tmp_path / "out" / "at_12:00:00.txt", os.X_OK)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["at_12:00:00.txt", "run.sh"]


@pytest.mark.parametrize("name", ["../out.py", "a/../../out.py", "/abs.py", "a\\..\\b.py", "C:/x.py", ""])
def test_a_name_that_leads_out_of_the_folder_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(Permanent, match="leads out of its folder"):
        unpack(zipped("fine.py", name), tmp_path / "in" / "out")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert not (tmp_path / "in" / "out").exists()


def test_links_too_many_files_and_what_is_no_zip_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "MAX_FILES", 5)
    with pytest.raises(Permanent, match="links are not taken"):
        check_package(zipped("a", link=True))
    with pytest.raises(Permanent, match="unpacks to more than"):
        check_package(zipped(*(f"f{number}" for number in range(7))))
    with pytest.raises(Permanent, match="not a zip file"):
        check_package(b"PK nonsense")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "MAX_UNPACKED_BYTES", 4 * 2**20)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("bomb", "w") as entry:
        for _ in range(5):
            entry.write(bytes(2**20))
    assert len(buffer.getvalue()) < 2**20
    with pytest.raises(Permanent, match="unpacks to more than"):
        unpack(buffer.getvalue(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_too_much_to_be_code_is_not_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "MAX_FILES", 5)
    for number in range(6):
        (tmp_path / f"f{number}").touch()
    with pytest.raises(Permanent, match="6 files are too many to send as code; at most 5 are"):
        pack(tmp_path)
