"""`go build`, with a word now and then on how far it is."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from autonomic.seams.errors import Permanent

TOLD_EVERY_SECONDS = 15.0
_TAIL_LINES = 15
_KNOWN_FROM = 0.05


class Progress:
    """What has been compiled of the packages that have to be, and how long the rest may take."""

    def __init__(self, packages: set[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._left = set(packages)
        self._all = len(packages)
        self._clock = clock
        self._began = clock()
        self._told = self._began
        self.said: list[str] = []
        """What is not progress, such as the errors of a compiler."""

    def read(self, line: str) -> str:
        """How far it is after this line of `go build -v`, "" where it is not time to report it."""
        line = line.rstrip()
        if line in self._left:
            self._left.remove(line)
        elif not line.startswith("go: downloading"):
            self.said.append(line)
            return ""
        now = self._clock()
        if self._left and now - self._told < TOLD_EVERY_SECONDS:
            return ""
        self._told = now
        return self._words(now - self._began)

    def _words(self, seconds: float) -> str:
        done = self._all - len(self._left)
        if not self._left:
            return f"all {self._all} packages are compiled after {seconds:.0f} s, now linking"
        if not done:
            return f"fetching modules for {seconds:.0f} s"
        far = f"{done} of {self._all} packages after {seconds:.0f} s"
        # the first ones also wait for the modules that are fetched
        if done < _KNOWN_FROM * self._all:
            return far
        left = seconds / done * len(self._left)
        return f"{far}, about {left:.0f} s left" if left < 90 else f"{far}, about {left / 60:.0f} minutes left"


def compile_programs(
    flags: Sequence[str], packages: Sequence[str], target: Path, folder: Path, environment: Mapping[str, str], report: Callable[[str], None]
) -> None:
    """Builds `packages` of the module in `folder` into `target`, and reports how far it is.

    Raises:
        Permanent: it fails; quotes the end of what Go said.
    """
    report("looking for what is compiled already")
    stale = ["go", "list", *flags, "-deps", "-f", "{{if .Stale}}{{.ImportPath}}{{end}}", *packages]
    listed = subprocess.run(stale, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if listed.returncode:
        raise Permanent(f"listing the packages ended with code {listed.returncode}:\n{_tail(listed.stderr.splitlines())}")
    progress = Progress({line for line in listed.stdout.splitlines() if line})
    if not listed.stdout.strip():
        report("everything is compiled already, now linking")
    command = ["go", "build", "-v", *flags, "-o", str(target), *packages]
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as building:
        assert building.stderr is not None
        for line in building.stderr:
            if words := progress.read(line):
                report(words)
    if building.returncode:
        raise Permanent(f"ended with code {building.returncode}:\n{_tail(progress.said)}")


def _tail(lines: Sequence[str]) -> str:
    return "\n".join([line for line in lines if not line.startswith("go: downloading")][-_TAIL_LINES:])
