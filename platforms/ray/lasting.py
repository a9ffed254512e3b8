"""What a Ray cluster's own store holds of runs, searches and code, kept in the home too, so that it outlives the cluster.

A cluster's store is what actors on every node read and write; it ends with the cluster. The host copies it into its own
store as it changes, and puts it into the next cluster before anybody asks.
"""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from autonomic.platforms.ray.packages import has_package, put_package
from autonomic.seams.clock import Clock
from autonomic.seams.state import FINISHED
from autonomic.workflows.runs.packages import digest_of
from autonomic.workflows.runs.run_records import Documents

_SETTLING_SECONDS = 660.0
"""So long after its end what is kept of a run may change: its driver waits for an MLflow that is away."""
_SELDOM_SECONDS = 60.0


class Lasting:
    """The subjects (runs or searches) of a cluster, kept under `name` in `durable`.

    `ids` finds the subjects among the keys of the cluster's store; `keys` are those of one subject, or with a slash at the end
    what several begin with. The first of them is the one that it began with, the second holds its state.
    """

    def __init__(
        self,
        cluster: Documents,
        durable: Documents,
        name: str,
        clock: Clock,
        ids: Callable[[Documents], Iterable[str]],
        keys: Callable[[str], tuple[str, ...]],
    ) -> None:
        self._cluster = cluster
        self._durable = durable
        self._prefix = f"{name}/"
        self._clock = clock
        self._ids = ids
        self._keys = keys
        self._lock = threading.Lock()
        self._known: set[str] = set()
        # when each subject is looked at again, and when for the last time
        self._looks: dict[str, tuple[float, float]] = {}

    def restore(self) -> None:
        """Puts what an earlier cluster held, and this one has not, into this one."""
        for key in self._durable.keys(self._prefix):
            self._cluster.put_new(key.removeprefix(self._prefix), self._durable.get(key))

    def keep(self, subject: str) -> None:
        """Keeps one subject as it is now."""
        with self._lock:
            for key in self._keys_of(subject):
                value = self._cluster.get(key)
                if value is not None and value != self._durable.get(self._prefix + key):
                    self._durable.put(self._prefix + key, value)

    def keep_changes(self) -> None:
        """Keeps every subject that may have changed, and forgets those that the cluster has forgotten."""
        ids, now = set(self._ids(self._cluster)), self._clock.monotonic()
        for subject in ids - self._known:
            self._looks[subject] = (now, float("inf"))
        for subject, (at, last) in list(self._looks.items()):
            if subject not in ids or at > now:
                continue
            self.keep(subject)
            state = self._cluster.get(self._keys(subject)[1])
            if state is None or state["status"] not in FINISHED:
                continue
            last = min(last, now + _SETTLING_SECONDS)
            self._looks[subject] = (now + _SELDOM_SECONDS, last)
            if now >= last:
                del self._looks[subject]
        for subject in self._known - ids:
            self._looks.pop(subject, None)
            self._forget(subject)
        self._known = ids

    def _forget(self, subject: str) -> None:
        with self._lock:
            for key in self._keys(subject):
                for each in self._durable.keys(self._prefix + key) if key.endswith("/") else (self._prefix + key,):
                    self._durable.delete(each)

    def _keys_of(self, subject: str) -> list[str]:
        return [each for key in self._keys(subject) for each in (self._cluster.keys(key) if key.endswith("/") else (key,))]


def lasting_runs(cluster: Documents, durable: Documents, clock: Clock) -> Lasting:
    """The runs of a cluster; see `run_records.RunRecords` for their keys."""
    return Lasting(
        cluster,
        durable,
        "run",
        clock,
        lambda store: [key.removeprefix("request/") for key in store.keys("request/")],
        lambda run: (f"request/{run}", f"state/{run}", f"tracking/{run}", f"place/{run}/"),
    )


def lasting_searches(cluster: Documents, durable: Documents, clock: Clock) -> Lasting:
    """The searches of a cluster; see `search_records.SearchRecords` for their keys."""
    return Lasting(
        cluster,
        durable,
        "tuning",
        clock,
        lambda store: [key.split("/")[1] for key in store.keys("search/") if key.endswith("/request")],
        lambda search: tuple(f"search/{search}/{part}" for part in ("request", "state", "stop")),
    )


class LastingWords:
    """What drift detectors said last, kept, so that those of the next cluster go on where they were."""

    def __init__(self, cluster: Documents, durable: Documents) -> None:
        self._cluster = cluster
        self._durable = durable

    def restore(self, key: str) -> None:
        """Gives a detector what it said last, where the cluster does not know it."""
        words = self._durable.get(key)
        if words is not None:
            self._cluster.put_new(key, words)

    def keep(self, key: str) -> None:
        """Keeps what a detector said last."""
        words = self._cluster.get(key)
        if words is not None and words != self._durable.get(key):
            self._durable.put(key, words)


def restore_packages(folder: Path) -> None:
    """Puts the code that is kept in `folder` into the cluster's store, where that has it not."""
    for file in folder.glob("*.zip"):
        if not has_package(file.stem):
            content = file.read_bytes()
            if digest_of(content) == file.stem:
                put_package(content)


def keep_package(content: bytes, folder: Path) -> str:
    """Puts code into the cluster's store and keeps it in `folder`; returns its digest.

    Raises:
        Permanent: see `packages.check_package`.
    """
    digest = put_package(content)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{digest}.zip"
    if not file.exists():
        partial = file.with_suffix(".part")
        partial.write_bytes(content)
        partial.replace(file)
    return digest
