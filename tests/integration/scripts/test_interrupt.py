"""Tests that are interrupted end what they have started."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TESTS = """
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def system():
    yield
    (HERE / "ending").touch()
    while not (HERE / "go").exists():
        time.sleep(0.01)
    (HERE / "ended").touch()


def test_that_hangs(system):
    (HERE / "started").touch()
    time.sleep(600)
"""
MAIN = """
import sys
from pathlib import Path

sys.path.insert(0, "{scripts}")
import side_by_side

side_by_side.GROUPS = {{"one": ["one"], "other": []}}
selected = side_by_side.selected
side_by_side.selected = lambda: selected(Path("{tests}"))
sys.exit(side_by_side.main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_interrupts_the_groups_twice_leaves_nothing_that_they_have_started(tmp_path: Path, number: signal.Signals) -> None:
    folders = [tmp_path / "tests" / name for name in ("one", "other")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "test_hanging.py").write_text(TESTS)
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests")
    (tmp_path / "tests" / "pytest.ini").write_text("[pytest]\n")
    code = MAIN.format(scripts=ROOT / "scripts", tests=tmp_path / "tests")
    running = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    try:
        wait_for([folder / "started" for folder in folders])
        running.send_signal(number)
        wait_for([folder / "ending" for folder in folders])
        # by hand, and to everything
        for pid in (running.pid, *children(running.pid)):
            os.kill(pid, number)
        for folder in folders:
            (folder / "go").touch()
        said, _ = running.communicate(timeout=120)
        assert running.returncode == 130, said.decode()
        assert all((folder / "ended").exists() for folder in folders), said.decode()
    finally:
        running.kill()
        running.communicate()


def wait_for(files: list[Path]) -> None:
    deadline = time.monotonic() + 120
    while not all(file.exists() for file in files):
        assert time.monotonic() < deadline, f"no {', '.join(str(file) for file in files if not file.exists())}"
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
