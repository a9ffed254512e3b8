"""Finds parts that live and do not answer any more, such as frozen ones, and publishes what was started again, and why."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from autonomic.agents.bus import BATCH_TYPE
from autonomic.agents.logs import logger
from autonomic.platforms.host import restarts
from autonomic.platforms.host.restarts import Restart
from autonomic.seams.event import CloudEvent, part_restarted

LOOK_SECONDS = 5.0
ASK_SECONDS = 10.0
FROZEN_SECONDS = 30.0
_FEWEST_MISSES = 3
_log = logger(__name__)


class Looked(NamedTuple):
    """A part that is looked at: `pid` is its process, 0 where only its answers name it; `end` kills a process of it."""

    part: str
    url: str
    pid: int
    end: Callable[[int], None]


class Patience:
    """Which process has been silent for so long that it counts as frozen. Pure but for the times that it is given.

    A process that has never answered is being started, which may take long. A few misses at least are needed, so that a machine that
    was asleep, or so busy that nobody asked, freezes nobody.
    """

    def __init__(self, seconds: float = FROZEN_SECONDS) -> None:
        self._seconds = seconds
        self._heard: dict[str, tuple[int, float, int]] = {}

    def answered(self, part: str, pid: int, now: float) -> None:
        """The process of a part answered."""
        self._heard[part] = (pid, now, 0)

    def pid(self, part: str) -> int:
        """The process of a part that answered last, 0 where none has."""
        return self._heard.get(part, (0, 0.0, 0))[0]

    def missed(self, part: str, pid: int, now: float) -> float:
        """The process of a part did not answer; how many seconds it has been silent where it counts as frozen, else 0."""
        known, since, misses = self._heard.get(part, (0, now, 0))
        if known != pid or not known:
            return 0.0
        self._heard[part] = (known, since, misses + 1)
        return now - since if misses + 1 >= _FEWEST_MISSES and now - since >= self._seconds else 0.0

    def forget(self, part: str) -> None:
        """The process of a part was ended."""
        self._heard.pop(part, None)


class Liveness:
    """Looks at the `parts` every few seconds in a thread of its own; ends those that are frozen, so that whoever watches starts them again.

    `report(part, why)` is called before a part is ended, and for one without a `pid` of ours that was started again by somebody else:
    its health names a higher `epoch` than before. `then` is called after each look.
    """

    def __init__(
        self,
        parts: Callable[[], Iterable[Looked]],
        report: Callable[[str, str], None],
        then: Callable[[], None] = lambda: None,
        frozen_seconds: float = FROZEN_SECONDS,
    ) -> None:
        self._parts = parts
        self._report = report
        self._then = then
        self._patience = Patience(frozen_seconds)
        self._epochs: dict[str, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="liveness", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; what is being asked is not waited for."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(1)

    def look(self) -> None:
        """Asks every part once, all at the same time."""
        parts = list(self._parts())
        if not parts:
            return
        with ThreadPoolExecutor(len(parts)) as pool:
            answers = list(pool.map(lambda one: ask(one.url), parts))
        now = time.monotonic()
        for one, answer in zip(parts, answers, strict=True):
            if self._stopping.is_set():
                return
            if answer is not None:
                self._answered(one, answer, now)
                continue
            pid = one.pid or self._patience.pid(one.part)
            if not Path(f"/proc/{pid}").exists():
                # it has ended, which is no freeze
                continue
            if silent := self._patience.missed(one.part, pid, now):
                self._patience.forget(one.part)
                self._report(one.part, f"process {pid} did not answer for {silent:.0f} s and was killed")
                one.end(pid)
                self._epochs.pop(one.part, None)

    def _answered(self, one: Looked, answer: dict[str, Any], now: float) -> None:
        epoch, before = answer.get("epoch", 0), self._epochs.get(one.part)
        if before is not None and epoch > before and not one.pid:
            self._report(one.part, "its process ended")
        self._epochs[one.part] = epoch
        self._patience.answered(one.part, one.pid or int(answer.get("pid", 0)), now)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self.look()
                self._then()
            except Exception:  # noqa: BLE001 the boundary of this thread: the next look comes all the same
                _log.exception("looking at the parts failed")


class Published:
    """Records restarts in the home, and publishes each as an event to the agents at `urls`, which may be away for a while."""

    def __init__(self, home: Path, urls: Callable[[], Iterable[str]], token: Callable[[], str]) -> None:
        self._home = home
        self._urls = urls
        self._token = token
        self._lock = threading.Lock()
        self._waiting: dict[str, list[CloudEvent]] = {}

    def record(self, part: str, why: str) -> None:
        """A part was started again."""
        now = time.time()
        try:
            restarts.record(self._home, Restart(time=now, part=part, why=why))
        except OSError as full:
            _log.warning("a restart cannot be recorded", extra={"part": part, "detail": str(full)})
        event = part_restarted(part, why, now, "up")
        with self._lock:
            for url in self._urls():
                self._waiting.setdefault(url, []).append(event)

    def publish(self) -> None:
        """Sends what waits; what an agent does not take waits on."""
        with self._lock:
            waiting = dict(self._waiting)
        for url, events in waiting.items():
            sent = list(events)
            if sent and _send(url, self._token(), sent):
                with self._lock:
                    del self._waiting[url][: len(sent)]


def ask(url: str) -> dict[str, Any] | None:
    """What a health endpoint answers, None where it does not answer; what is no JSON object is an empty one."""
    try:
        found = httpx.get(url, timeout=ASK_SECONDS, trust_env=False).json()
    except httpx.HTTPError:
        return None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def end_group(pid: int) -> None:
    """Kills a process that leads a group, and the group."""
    _kill(os.killpg, pid)


def end_process(pid: int) -> None:
    """Kills one process."""
    _kill(os.kill, pid)


def _kill(how: Callable[[int, int], None], pid: int) -> None:
    try:
        how(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        _log.warning("a process that does not answer could not be ended", extra={"pid": pid})


def _send(url: str, token: str, events: list[CloudEvent]) -> bool:
    documents = [event.model_dump(mode="json", exclude_none=True) for event in events]
    headers = {"Content-Type": BATCH_TYPE, "Authorization": f"Bearer {token}"}
    try:
        answer = httpx.post(f"{url}/v1/events", json=documents, headers=headers, timeout=ASK_SECONDS, trust_env=False)
    except httpx.HTTPError:
        return False
    # what is refused for what it is would be refused again
    return answer.is_success or answer.status_code in (400, 413, 415, 422)
