"""The loop: what is due is read, evaluated and committed, with the events in the outbox, in one transaction."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from autonomic.agents.journal import SqlJournal, SqlTransaction
from autonomic.agents.logs import logger
from autonomic.agents.monitor.alarms import Alarms
from autonomic.agents.monitor.metrics import MonitorMetrics
from autonomic.agents.monitor.reader import Reader
from autonomic.agents.monitor.schedule import subject_of
from autonomic.agents.monitor.watched import Memory, Watched, Work
from autonomic.seams.clock import Clock
from autonomic.seams.event import FIRED, CloudEvent, Event
from autonomic.seams.ids import Ids
from autonomic.seams.journal import Record
from autonomic.seams.signal import Answer
from autonomic.strategies.evaluator import evaluate, is_unclear
from autonomic.strategies.readings import Read
from autonomic.strategies.spec.strategy import Strategy
from autonomic.strategies.triggers import Trigger, comes_again

PLANNER = "planner"
EVENT = "event"
MEMORY = "strategy/"
DUE = "due/"
CHUNK = 500
"""How many strategies one job reads and commits together."""
FAST_SECONDS = 5.0
"""Strategies that are looked at more often are read apart for each target: one that hangs does not slow the others."""
LOOK_AGAIN_SECONDS = 2.0
"""What fires only once and cannot be judged yet is looked at again after so long, until it expires."""
SAVE_LAST_SECONDS = 10.0
"""The last good readings alone are saved so often."""
_log = logger(__name__)


class InlineExecutor(Executor):
    """Runs at once in the caller's thread, for simulation."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as failure:  # noqa: BLE001 as every executor, it keeps the exception in the future
            future.set_exception(failure)
        return future


class MonitorLoop:
    """Looks at strategies when they are due.

    A strategy that is due while its last evaluation is under way is not looked at a second time; that is counted as a
    missed cycle. Strategies that read the same signals share a job, so that a signal that hangs holds up only those that
    need it.

    Args:
        inline: everything runs in `tick`, in the caller's thread (simulation); otherwise `start` has its own threads.
    """

    def __init__(
        self, clock: Clock, ids: Ids, journal: SqlJournal, reader: Reader, metrics: MonitorMetrics | None = None, inline: bool = False
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._journal = journal
        self._reader = reader
        self._metrics = metrics or MonitorMetrics()
        self._inline = InlineExecutor() if inline else None
        self._pools: dict[frozenset[str], ThreadPoolExecutor] = {}
        self._watched: dict[str, Watched] = {}
        self._alarms = Alarms(clock, self._metrics.missed.inc)
        self._keys: set[str] = set()
        self._put_off_jobs: list[tuple[Watched, Work]] = []
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._stopping = False
        self._thread: threading.Thread | None = None

    # -- the set of strategies

    def replace(self, strategies: Sequence[Strategy]) -> None:
        """Watches these strategies from now on; what is known of those that did not change is kept."""
        saved = self._journal.states(MEMORY)
        set_dates: dict[str, Any] = {}
        with self._wake:
            before = self._watched
            self._watched = {}
            fresh: list[Watched] = []
            for strategy in strategies:
                known = before.get(strategy.name)
                if known is not None and known.strategy == strategy:
                    self._watched[strategy.name] = known
                    continue
                kept = known.memory.to_json(known.fingerprint) if known is not None else saved.get(MEMORY + strategy.name)
                watched = self._watched[strategy.name] = Watched(strategy, kept)
                fresh.append(watched)
            self._alarms.keep(lambda watched: self._watched.get(watched.name) is watched)
            for watched in fresh:
                marks = [self._alarms.set_first(watched, trigger) for trigger in watched.triggers]
                if any(marks):
                    set_dates[MEMORY + watched.name] = watched.memory.to_json(watched.fingerprint)
            self._metrics.strategies.set(len(self._watched))
            self._wake.notify()
        gone = [name for name in before if name not in self._watched]
        if gone or set_dates:
            with self._journal.transaction() as transaction:
                transaction.put_states(set_dates)
                for name in gone:
                    transaction.delete_state(MEMORY + name)
        self._resume()

    def all(self) -> list[Watched]:
        """All strategies, by name."""
        watched = self._watched
        return [watched[name] for name in sorted(watched)]

    def get(self, name: str) -> Watched | None:
        return self._watched.get(name)

    def listening(self, event_type: str) -> list[tuple[Watched, Trigger]]:
        """The triggers that wait for events of this type."""
        return [(watched, trigger) for watched in self.all() for trigger in watched.triggers if trigger.on.event == event_type]

    def next_times(self) -> dict[tuple[str, str], float]:
        """When each timed trigger is looked at next, by strategy and trigger."""
        with self._lock:
            return self._alarms.next_times()

    # -- time

    def start(self) -> None:
        """Runs until `stop`."""
        self._thread = threading.Thread(target=self._run, name="monitor-loop", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends after the evaluations that are under way."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
        for pool in self._pools.values():
            pool.shutdown(wait=True, cancel_futures=True)

    def _run(self) -> None:
        while True:
            self.tick()
            with self._wake:
                if self._stopping:
                    return
                delay = self._alarms.idle_seconds()
                if delay is None or delay > 0:
                    self._wake.wait(delay)

    def tick(self) -> float | None:
        """Starts what is due; returns how long nothing will be, None for ever."""
        due: list[tuple[Watched, Work]] = []
        with self._lock:
            for watched, trigger in self._alarms.due():
                if watched.busy:
                    self._metrics.missed.inc()
                else:
                    watched.busy = True
                    since = 0.0 if comes_again(watched.strategy, trigger.on) else self._clock.now()
                    due.append((watched, Work(trigger.name, since=since)))
        self._submit_together(due)
        with self._lock:
            return self._alarms.idle_seconds()

    # -- evaluations that are asked for

    def ask(self, watched: Watched, work: Work) -> Future[Sequence[Event]]:
        """Looks at a strategy out of turn, after what is under way for it."""
        work.done = Future()
        with self._lock:
            if work.key and work.key in self._keys:
                work.done.set_result(())
                return work.done
            self._keys.add(work.key)
            if watched.busy:
                watched.waiting.append(work)
                return work.done
            watched.busy = True
        self._submit(_lane(watched), [(watched, work)])
        return work.done

    def _resume(self) -> None:
        """Looks again at events from outside that were committed and not looked at before the last stop."""
        for key, value in self._journal.states(DUE).items():
            watched = self.get(value["strategy"])
            if watched is None:
                with self._journal.transaction() as transaction:
                    transaction.delete_state(key)
            else:
                self.ask(watched, Work(value["trigger"], value["data"], key, value["time"]))

    def _submit_together(self, due: Sequence[tuple[Watched, Work]]) -> None:
        for lane, jobs in _lanes(due).items():
            for start in range(0, len(jobs), CHUNK):
                self._submit(lane, jobs[start : start + CHUNK])

    def _submit(self, lane: tuple[frozenset[str], str], jobs: Sequence[tuple[Watched, Work]]) -> None:
        if self._inline is not None:
            self._inline.submit(self._do, jobs)
            return
        with self._lock:
            if self._stopping:
                return
            pool = self._pools.get(lane[0])
            if pool is None:
                pool = self._pools[lane[0]] = ThreadPoolExecutor(8, "monitor-" + "-".join(sorted(lane[0])))
            pool.submit(self._do, jobs)

    def _do(self, jobs: Sequence[tuple[Watched, Work]]) -> None:
        events: dict[str, Sequence[Event]] = {}
        failed: Exception | None = None
        try:
            events = self._evaluate(jobs)
        except Exception as failure:  # noqa: BLE001 the loop goes on whatever one evaluation meets; nothing was committed
            failed = failure
            for watched, work in jobs:
                work.waits = _has_time(watched, work, self._clock.now())
            _log.error("evaluation failed", exc_info=failure, extra={"strategies": [watched.name for watched, _ in jobs][:5]})
        again: list[tuple[Watched, Work]] = []
        with self._lock:
            for watched, work in jobs:
                if not work.waits:
                    self._keys.discard(work.key)
                if watched.waiting:
                    again.append((watched, watched.waiting.popleft()))
                else:
                    watched.busy = False
        for watched, work in jobs:
            if work.done is not None and failed is not None:
                work.done.set_exception(failed)
            elif work.done is not None:
                work.done.set_result(events.get(watched.name, ()))
        for watched, work in again:
            self._submit(_lane(watched), [(watched, work)])
        self._put_off([(watched, work) for watched, work in jobs if work.waits])
        if any(work.key and not work.waits and self.get(watched.name) is not watched for watched, work in jobs):
            # its successor asked for the event while this evaluation still held it
            self._resume()

    # -- sense and evaluate

    def read(self, jobs: Iterable[Watched], again: bool = False) -> tuple[list[dict[str, Answer]], float]:
        """Reads now what strategies ask for, and when it was."""
        asked = [watched.asked(again) for watched in jobs]
        answers = iter(self._reader.read([query for queries in asked for query in queries], self._clock.now()))
        found = [{query.name: next(answers) for query in queries} for queries in asked]
        return found, self._clock.now()

    def _evaluate(self, jobs: Sequence[tuple[Watched, Work]]) -> dict[str, Sequence[Event]]:
        began = self._clock.monotonic()
        found, now = self.read(watched for watched, _ in jobs)
        fired: dict[str, Sequence[Event]] = {}
        memories: dict[str, Memory] = {}
        changed: dict[str, Any] = {}
        for (watched, work), readings in zip(jobs, found, strict=True):
            before = watched.memory
            state, events = evaluate(watched.strategy, before.state, readings, now, self._ids, work.trigger, work.data)
            work.waits = not events and _waits(watched, work, readings, now)
            memory = Memory(state, self._cursors(watched, events), _made(watched, work))
            memories[watched.name] = memory
            if _worth_saving(watched, memory, now):
                changed[MEMORY + watched.name] = memory.to_json(watched.fingerprint)
            if events:
                fired[watched.name] = events
        # what was replaced meanwhile is not heard any more: its successor looks for itself
        for name in [watched.name for watched, _ in jobs if self.get(watched.name) is not watched]:
            fired.pop(name, None)
            changed.pop(MEMORY + name, None)
        done = [work.key for watched, work in jobs if work.key and not work.waits and self.get(watched.name) is watched]
        if changed or fired or done:
            with self._journal.transaction() as transaction:
                transaction.put_states(changed)
                _send(transaction, [event for events in fired.values() for event in events])
                for key in done:
                    transaction.delete_state(key)
        for (watched, _), readings in zip(jobs, found, strict=True):
            watched.memory, watched.latest, watched.evaluated_at = memories[watched.name], readings, now
            if MEMORY + watched.name in changed:
                watched.saved_at = now
        self._metrics.observe(found, now)
        self._metrics.evaluations.inc(len(jobs))
        self._metrics.seconds.observe(self._clock.monotonic() - began)
        self._metrics.events.labels(FIRED).inc(sum(map(len, fired.values())))
        return fired

    def _put_off(self, waiting: Sequence[tuple[Watched, Work]]) -> None:
        with self._lock:
            idle = not self._put_off_jobs
            self._put_off_jobs += waiting
        if idle and waiting:
            # one alarm for all: each is a thread
            self._clock.call_at(self._clock.now() + LOOK_AGAIN_SECONDS, self._look_again)

    def _look_again(self) -> None:
        with self._lock:
            waiting, self._put_off_jobs = self._put_off_jobs, []
            if self._stopping:
                return
            due: list[tuple[Watched, Work]] = []
            for before, work in waiting:
                watched = self._watched.get(before.name)
                # an event is left to the strategy that was applied meanwhile, which has dates of its own
                if watched is None or not (watched is before or work.key):
                    self._keys.discard(work.key)
                    continue
                again = replace(work, waits=False, done=None)
                if watched.busy:
                    watched.waiting.append(again)
                else:
                    watched.busy = True
                    due.append((watched, again))
        self._submit_together(due)

    def _cursors(self, watched: Watched, events: Sequence[Event]) -> dict[str, dict[str, Any]]:
        """What is counted after these events: what the readings counted that fired them."""
        if not events:
            return watched.memory.cursors
        cursors = dict(watched.memory.cursors)
        for query in watched.asked():
            after = getattr(self._reader.signals.get(query.signal), "cursor_after", None)
            cursor = after(query) if after is not None else None
            if cursor is not None:
                cursors[query.name] = {"before": cursors.get(query.name, {}).get("now"), "now": cursor}
        return cursors


def _lane(watched: Watched) -> tuple[frozenset[str], str]:
    intervals = [trigger.on.every for trigger in watched.triggers if trigger.on.every is not None]
    return watched.signals, watched.strategy.spec.target if intervals and min(intervals) < FAST_SECONDS else ""


def _lanes(due: Iterable[tuple[Watched, Work]]) -> dict[tuple[frozenset[str], str], list[tuple[Watched, Work]]]:
    lanes: dict[tuple[frozenset[str], str], list[tuple[Watched, Work]]] = {}
    for watched, work in due:
        lanes.setdefault(_lane(watched), []).append((watched, work))
    return lanes


def _made(watched: Watched, work: Work) -> tuple[str, ...]:
    """Which dates came, so that a restart does not repeat one."""
    made = watched.memory.made
    dates = {trigger.name for trigger in watched.triggers if trigger.on.at is not None}
    came = work.trigger in dates and work.trigger not in made and not work.waits
    return (*made, work.trigger) if came else made


def _waits(watched: Watched, work: Work, readings: Read, now: float) -> bool:
    """Whether nothing can be said yet of what fires only once, as a reading is missing, and there is time to look again."""
    strategy = watched.strategy
    if not work.since or not is_unclear(strategy, watched.memory.state, readings, now):
        return False
    if _has_time(watched, work, now):
        return True
    told = {"strategy": watched.name, "trigger": work.trigger, "seconds": strategy.spec.expires}
    _log.warning("an event is given up: its condition could not be judged before it expired", extra=told)
    return False


def _has_time(watched: Watched, work: Work, now: float) -> bool:
    """Whether what fires only once has not expired yet."""
    return bool(work.since) and now - work.since < watched.strategy.spec.expires


def _worth_saving(watched: Watched, memory: Memory, now: float) -> bool:
    before = watched.memory
    if memory.state.breaches != before.state.breaches or memory.cursors != before.cursors or memory.made != before.made:
        return True
    return memory.state.last != before.state.last and now - watched.saved_at >= SAVE_LAST_SECONDS


def _send(transaction: SqlTransaction, events: Sequence[Event]) -> None:
    told = [event.model_dump(mode="json") for event in events]
    records = [
        Record(time=event.observed_at, kind=EVENT, subject=event.strategy, data=data) for event, data in zip(events, told, strict=True)
    ]
    transaction.append_many(records)
    transaction.send_many(PLANNER, [cloud_event(event, data) for event, data in zip(events, told, strict=True)])


def cloud_event(event: Event, data: Mapping[str, Any]) -> CloudEvent:
    """A fired trigger in its envelope."""
    time = datetime.fromtimestamp(event.observed_at, UTC).isoformat()
    return CloudEvent(
        id=event.id,
        source="/autonomic/monitor",
        type=event.type,
        subject=subject_of(event),
        time=time,
        datacontenttype="application/json",
        data=dict(data),
    )
