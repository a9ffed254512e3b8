"""One running system for all tests of this folder, and the command line as a user types it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

AUTONOMIC = [sys.executable, "-m", "autonomic.cli.main"]
Done = subprocess.CompletedProcess[str]
_TOLD = 8
"""So many of the newest decisions are explained where a test fails."""


def processes_that_name(folder: Path) -> list[str]:
    """The command lines of the processes that hold the folder's name."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if str(folder) in line:
                found.append(line)
    return found


def run(home: Path, *arguments: str) -> Done:
    """`autonomic` with arguments."""
    environment = {**os.environ, "AUTONOMIC_HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run([*AUTONOMIC, *arguments], capture_output=True, text=True, env=environment, timeout=280, check=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows what the system says of itself, for it is gone when the failure is read."""
    report = yield
    fixtures = getattr(item, "funcargs", {})
    if report.when == "call" and report.failed and "home" in fixtures:
        report.sections.append(("decisions and plans", _told_by_system(fixtures["home"])))
        if "light" in fixtures:
            report.sections.append(("the cluster", _told_by_cluster(fixtures["light"])))
    return report


def _told_by_system(home: Path) -> str:
    newest = run(home, "decisions", "--output", "json").stdout
    try:
        decisions = json.loads(newest)[:_TOLD]
    except ValueError:
        return newest
    return "\n".join([run(home, "explain", decision["id"]).stdout for decision in decisions] + [run(home, "plans").stdout])


def _told_by_cluster(light: Any) -> str:
    asked = (("pods", "-o", "wide"), ("deployments", "-o", "wide"), ("nodes",), ("events", "--sort-by=.lastTimestamp"))
    try:
        return "\n".join(light.kubectl("get", *what) for what in asked)
    except AssertionError as failed:
        return str(failed)


@pytest.fixture(scope="session")
def typed() -> Callable[..., Done]:
    """Types `autonomic` in a home with these arguments."""
    return run


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose system is up; afterwards nothing of it is left running."""
    folder = tmp_path_factory.mktemp("home")
    try:
        up = run(folder, "up", "--detach", "--cpus", "8")
        assert up.returncode == 0, f"{up.stdout}\n{up.stderr}"
        yield folder
    finally:
        down = run(folder, "down")
    assert down.returncode == 0, f"{down.stdout}\n{down.stderr}"
    # the process that supervised the others ends last, a moment after it has said that all is down
    deadline = time.monotonic() + 60
    while processes_that_name(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not processes_that_name(folder)


@pytest.fixture
def run_in() -> Callable[..., Done]:
    """Types `autonomic` with these arguments for a home of one's own."""
    return run


@pytest.fixture
def command(home: Path) -> Callable[..., Done]:
    """Types `autonomic` with these arguments."""
    return lambda *arguments: run(home, *arguments)


@pytest.fixture
def succeeds(command: Callable[..., Done]) -> Callable[..., str]:
    """Types `autonomic` with these arguments, which must end with 0, and gives what it printed."""

    def typed(*arguments: str) -> str:
        done = command(*arguments)
        assert done.returncode == 0, f"autonomic {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return typed


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Waits until a condition gives something true, and gives it."""

    def wait(condition: Callable[[], Any], what: str, within_seconds: float = 180.0) -> Any:
        deadline = time.monotonic() + within_seconds
        while time.monotonic() < deadline:
            found = condition()
            if found:
                return found
            time.sleep(0.2)
        raise AssertionError(f"not within {within_seconds:g} s: {what}")

    return wait
