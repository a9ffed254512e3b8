"""`autonomic up` is killed with SIGKILL: the next one in its home cleans up and works."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from autonomic.workflows.embedded.leftovers import find_leftovers


def test_the_next_up_ends_what_a_killed_one_left(run_in: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    home = tmp_path / "home"
    with (tmp_path / "up.log").open("wb") as log:
        command = [sys.executable, "-m", "autonomic.cli.main", "up", "--home", str(home)]
        first = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 120
        while not (home / "up.json").exists():
            assert first.poll() is None, (tmp_path / "up.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        first.send_signal(signal.SIGKILL)
        first.wait()
    left = set(find_leftovers(home))
    assert len(left) >= 5, "three agents, Prometheus, MLflow and what Ray is made of"
    try:
        second = run_in(home, "up", "--detach")
        assert second.returncode == 0, second.stdout + second.stderr
        assert not left & set(find_leftovers(home))
        assert json.loads(run_in(home, "status", "--output", "json").stdout)
    finally:
        down = run_in(home, "down")
    assert down.returncode == 0, down.stdout + down.stderr
    deadline = time.monotonic() + 15
    while find_leftovers(home) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not find_leftovers(home)
