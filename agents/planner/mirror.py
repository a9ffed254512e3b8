"""Keeps a copy of the platform's runs and notices in the journal, so that they outlive the platform's and our own restarts."""

import threading
from typing import Any, Protocol

from autonomic.agents.logs import logger
from autonomic.agents.planner.inbox import EVENT
from autonomic.seams.clock import Clock
from autonomic.seams.errors import AutonomicError
from autonomic.seams.event import part_restarted
from autonomic.seams.journal import Journal, Record
from autonomic.seams.platform import PART_RESTARTED, Notice
from autonomic.seams.state import FINISHED, RunState

RUN = "run"
NOTICE = "notice"
_RUN = "run/"
_CURSOR = "mirror-cursor"
_ROUNDS_BETWEEN_RUNS = 5
_log = logger(__name__)


class Watched(Protocol):
    """The part of a platform that is copied."""

    def runs(self) -> Any: ...

    def watch(self, cursor: int) -> list[Notice]: ...


class RunMirror:
    """Copies the platform's runs every `interval_seconds`; while the platform is away, every 2 s at last.

    State `run/ID` is the newest that is known of a run; records of kind "run" tell each change, those of kind
    "notice" what the platform reported, and a part that was started again is an event as well. Runs that ended longer ago than
    `keep_seconds` are not copied.
    """

    def __init__(
        self, journal: Journal, clock: Clock, platform: Watched, keep_seconds: float = float("inf"), interval_seconds: float = 1.0
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._platform = platform
        self._keep_seconds = keep_seconds
        self._interval_seconds = interval_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="run-mirror", daemon=True)
        self._rounds = 0
        self._unfinished = True
        self.missing = "nothing was heard of the platform yet"

    def start(self) -> None:
        """Begins to copy."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after what is being copied."""
        self._stop.set()
        self._thread.join(10)

    def copy(self) -> None:
        """Copies what is new once.

        Raises:
            Retryable: the platform cannot be reached.
        """
        cursor = self._journal.states(_CURSOR).get(_CURSOR, 0)
        notices = self._platform.watch(cursor)
        self._rounds += 1
        # runs are many and change seldom: they are asked for when something moves, and now and then in case a notice was lost
        if not notices and not self._unfinished and self._rounds % _ROUNDS_BETWEEN_RUNS:
            return
        known = self._journal.states(_RUN)
        since = self._clock.now() - self._keep_seconds
        runs = {run.id: run.model_dump(mode="json") for run in self._platform.runs() if not _ended_before(run, since)}
        changed = {identifier: run for identifier, run in runs.items() if known.get(_RUN + identifier) != run}
        self._unfinished = any(run["status"] not in FINISHED for run in runs.values())
        # a run that ended stays as it ended, whatever a platform that was set up anew says or forgets
        changed = {identifier: run for identifier, run in changed.items() if not self._is_settled(known.get(_RUN + identifier), run)}
        if not changed and not notices:
            return
        with self._journal.transaction() as transaction:
            for identifier, run in changed.items():
                transaction.put_state(_RUN + identifier, run)
                transaction.append(Record(time=self._clock.now(), kind=RUN, subject=identifier, data=run))
            for notice in notices:
                transaction.append(Record(time=notice.time, kind=NOTICE, subject=notice.target, data=notice.model_dump(mode="json")))
                if notice.kind == PART_RESTARTED:
                    event = part_restarted(notice.target, notice.data.get("why", ""), notice.time, "host")
                    document = event.model_dump(mode="json", exclude_none=True)
                    transaction.append(Record(time=notice.time, kind=EVENT, subject=notice.target, data=document))
            if notices:
                transaction.put_state(_CURSOR, notices[-1].cursor)

    @staticmethod
    def _is_settled(known: dict[str, Any] | None, run: dict[str, Any]) -> bool:
        return known is not None and known["status"] in FINISHED and run["status"] not in FINISHED

    def _run(self) -> None:
        wait = self._interval_seconds
        while not self._stop.is_set():
            try:
                self.copy()
                wait, self.missing = self._interval_seconds, ""
            except AutonomicError as away:
                if not self.missing:
                    _log.warning("the platform cannot be watched", extra={"detail": str(away)})
                wait, self.missing = min(2.0, wait * 2), str(away)
            except Exception as wrong:  # noqa: BLE001 the boundary of this thread: a copy that fails is tried again
                _log.exception("copying runs failed")
                wait, self.missing = 5.0, f"{type(wrong).__name__}: {wrong}"
            self._stop.wait(wait)


def forget(journal: Journal, before: float) -> None:
    """Forgets the runs that ended before then (seconds since the epoch)."""
    with journal.transaction() as transaction:
        for old in runs(journal):
            if _ended_before(old, before):
                transaction.delete_state(_RUN + old.id)


def _ended_before(run: RunState, time: float) -> bool:
    return run.finished_at is not None and run.finished_at < time


def runs(journal: Journal) -> list[RunState]:
    """All runs that are known, the newest first."""
    found = [RunState.model_validate(value) for value in journal.states(_RUN).values()]
    return sorted(found, key=lambda run: (run.started_at or float("inf"), run.id), reverse=True)


def run(journal: Journal, identifier: str) -> RunState | None:
    """One run, None where it is unknown."""
    value = journal.states(_RUN + identifier).get(_RUN + identifier)
    return None if value is None else RunState.model_validate(value)
