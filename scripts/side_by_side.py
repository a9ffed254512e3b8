"""Runs the tests that need no cluster, some groups at a time: most tests wait for something most of the time.

`side_by_side.py units` runs the groups alone whose name has this word.

Tests that share something dear to start are in one group, so that it starts once. What a group printed is shown when the
group has ended. Ends with 0 where every group passed, else with 1.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parent.parent
WORKERS = 3
TOLD_EVERY_SECONDS = 60
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# the longest first; a folder or file that is named nowhere belongs to the group without names
GROUPS: dict[str, list[str]] = {
    "a whole system": ["integration/system"],
    "services on Ray": ["contract", "chaos/test_host_kills.py", "integration/platforms"],
    "steps on Ray and MLflow": ["integration/runs", "integration/mnist", "integration/monitor", "integration/registry"],
    "agents and servers": [],
    "units that simulate": ["unit/simulation", "unit/planner", "unit/platforms", "unit/apps", "unit/serving"],
    "other units": ["unit"],
    "journals and plans": [f"contract/test_{name}_contract.py" for name in ("journal", "lease", "plan_runner")],
}


def selected(tests: Path = ROOT / "tests") -> dict[str, list[str]]:
    """What each group runs: its paths, and those that belong to other groups as `--ignore=…`; together every test once."""
    named = [path for paths in GROUPS.values() for path in paths]
    chosen: dict[str, list[str]] = {}
    for name, paths in GROUPS.items():
        inner = {other for other in named if any(other.startswith(f"{path}/") for path in paths)} if paths else set(named)
        chosen[name] = [str(tests / path) for path in paths or ["."]] + [f"--ignore={tests / path}" for path in sorted(inner)]
    return chosen


class Group:
    """A group that runs."""

    def __init__(self, name: str, arguments: list[str]) -> None:
        self.name = name
        self.began = time.monotonic()
        self.output: IO[Any] = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - it is open as long as the group runs
        command = [sys.executable, "-m", "pytest", "-q", "-m", "not kubernetes", "--durations=5", *arguments]
        # Ctrl-C reaches it through us, and none of the processes that it starts
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=self.output, stderr=subprocess.STDOUT, start_new_session=True)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def show(self) -> None:
        self.output.seek(0)
        sys.stdout.buffer.write(f"\n==> {self.name}: {self.seconds:.0f} s, exit code {self.process.returncode}\n".encode())
        sys.stdout.buffer.write(self.output.read())
        sys.stdout.buffer.flush()

    def interrupt(self) -> None:
        """Tells it to end what it has started, and then itself."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGINT)


def main() -> int:
    """Runs the groups; returns the exit code."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    waiting = [(name, arguments) for name, arguments in selected().items() if word in name]
    running: list[Group] = []
    failed: list[str] = []
    for number in INTERRUPTS:
        signal.signal(number, signal.default_int_handler)
    told = time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < WORKERS:
                running.append(Group(*waiting.pop(0)))
                print(f"test: {running[-1].name} …", flush=True)
            for group in [group for group in running if group.process.poll() is not None]:
                running.remove(group)
                group.show()
                if group.process.returncode:
                    failed.append(group.name)
            if time.monotonic() - told > TOLD_EVERY_SECONDS:
                told = time.monotonic()
                print(f"test: {', '.join(f'{group.name} since {group.seconds:.0f} s' for group in running)} …", flush=True)
            time.sleep(0.2)
    except KeyboardInterrupt:
        # whoever is impatient may not leave half of it running
        for number in INTERRUPTS:
            signal.signal(number, signal.SIG_IGN)
        print("\ntest: interrupted; what was started is ended, which takes up to a minute …", flush=True)
        for group in running:
            group.interrupt()
        for group in running:
            group.process.wait()
            group.show()
        return 130
    print(f"\ntest: failed: {', '.join(failed)}" if failed else "\ntest: everything passed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
