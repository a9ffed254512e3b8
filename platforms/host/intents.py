"""How a change is carried out once, whatever dies in between.

Per target one change at a time: is its key known → is its fence high enough → is the target as the plan expected →
write the intent → effect → write the outcome. Effects are absolute and take the ids of what they create from the
change's key, so an intent that was left open is settled by doing its effect again.
"""

import threading
from collections.abc import Callable
from typing import Any, Protocol

from autonomic.platforms.host.store import Store
from autonomic.seams.clock import Clock
from autonomic.seams.errors import Permanent, Retryable
from autonomic.seams.plan import Change, Outcome
from autonomic.seams.word import Word

KEEP_SECONDS = 7 * 86400.0
"""Outcomes are remembered so long: a planner that was away for longer is told that nothing is known of its change."""
_FORGET_EVERY_SECONDS = 3600.0
_FORGOTTEN_TOGETHER = 200


class Refused(Exception):
    """The change can never be carried out as it stands; nothing was touched."""


class Prepared(Word):
    """A change that was looked at: `to` with every name resolved, what stood `before`, and whose revision moves."""

    to: dict[str, Any]
    before: dict[str, Any]
    unchanged: bool = False
    moves: tuple[str, ...]


class Effects(Protocol):
    """What changes do to the world."""

    def prepare(self, change: Change) -> Prepared:
        """Looks at a change and touches nothing.

        Raises:
            Refused: it cannot be done, and why.
            Retryable: what it needs cannot be asked now.
        """
        ...

    def perform(self, change: Change, before: dict[str, Any]) -> dict[str, Any]:
        """Makes the world as `change.to` says, from whatever it is now, and returns what is there afterwards.

        Raises:
            Permanent: it was tried and did not work; what was made half is taken back.
            Retryable: it may work when it is done again.
        """
        ...


class Intent(Word):
    """A change that was begun. It is removed when its outcome stands."""

    change: Change
    fence: int
    epoch: int
    before: dict[str, Any]
    revisions: dict[str, int]
    started_at: float


def scope_of(target: str) -> str:
    """What is serialised together: the workflow and all of its steps."""
    return target.partition("/")[0]


class Intents:
    """Carries out changes, each once, one at a time per workflow."""

    def __init__(self, store: Store, effects: Effects, clock: Clock) -> None:
        self._store = store
        self._effects = effects
        self._clock = clock
        self._locks: dict[str, threading.Lock] = {}
        self._forget_at = clock.now()
        self.epoch = self._take_epoch()

    def _take_epoch(self) -> int:
        # the keys sort as numbers, and only one process can write each
        epoch = 1 + max((int(key.rpartition("/")[2]) for key in self._store.keys("epoch/")), default=0)
        while not self._store.put_new(f"epoch/{epoch:012d}", self._clock.now()):
            epoch += 1
        return epoch

    def lookup(self, key: str) -> Outcome | None:
        """The outcome of a change that was carried out."""
        record = self._store.get(f"outcome/{key}")
        return None if record is None else Outcome.model_validate(record["outcome"])

    def revision(self, target: str) -> int:
        """How often this target was written."""
        return int(self._store.get(f"revision/{target}") or 0)

    def apply(self, change: Change, fence: int) -> Outcome:
        """Carries out `change`, or says why not; see `seams.platform.EffectorPort.apply`."""
        known = self.lookup(change.key)
        if known:
            return known
        scope = scope_of(change.target)
        with self._lock(scope):
            self._settle(scope)
            known = self.lookup(change.key)
            if known:
                return known
            return self._begin(change, fence, scope)

    def recover(self) -> list[Outcome]:
        """Settles what an earlier process left open. What cannot be settled now is tried before the next change."""
        settled: list[Outcome] = []
        for scope in sorted({key.split("/")[1] for key in self._store.keys("intent/")}):
            with self._lock(scope):
                try:
                    settled += self._settle(scope)
                except Retryable:
                    continue
        return settled

    def beside(self, target: str, do: Callable[[], None]) -> bool:
        """Does what restores a workflow, between two of its changes; False where one is under way, which does what is needed itself.

        Raises:
            Retryable: what an earlier change left open cannot be settled now, or another host has taken over.
        """
        scope = scope_of(target)
        lock = self._lock(scope)
        if not lock.acquire(blocking=False):
            return False
        try:
            self._settle(scope)
            self._still_ours()
            do()
        finally:
            lock.release()
        return True

    def under_way(self, target: str) -> bool:
        """Whether a change of the workflow is being carried out."""
        return self._lock(scope_of(target)).locked()

    def forget_old(self) -> None:
        """Forgets outcomes older than `KEEP_SECONDS`, some of them once an hour or until none is left; may be called at any time.

        Raises:
            Retryable: the store is away, or another host has taken over.
        """
        now = self._clock.now()
        if now < self._forget_at:
            return
        self._forget_at = now + _FORGET_EVERY_SECONDS
        self._still_ours()
        old = [key for key in self._store.keys("outcome/") if self._ended_at(key) < now - KEEP_SECONDS]
        for key in old[:_FORGOTTEN_TOGETHER]:
            self._store.delete(key)
        if len(old) > _FORGOTTEN_TOGETHER:
            self._forget_at = now

    def _ended_at(self, key: str) -> float:
        return float(self._store.get(key)["outcome"]["finished_at"])

    def _lock(self, scope: str) -> threading.Lock:
        return self._locks.setdefault(scope, threading.Lock())

    def _begin(self, change: Change, fence: int, scope: str) -> Outcome:
        started_at = self._clock.now()
        highest = int(self._store.get(f"fence/{change.target}") or 0)
        if fence < highest:
            return self._refusal(
                change,
                f"fence {fence} is lower than {highest}, the highest seen for {change.target}; another writer has taken over",
                started_at,
            )
        if fence > highest:
            self._store.put(f"fence/{change.target}", fence)
        revision = self.revision(change.target)
        if change.expect is not None and change.expect != revision:
            return self._refusal(
                change, f"{change.target} is at revision {revision}, the change was planned at {change.expect}; plan it again", started_at
            )
        try:
            prepared = self._effects.prepare(change)
        except Refused as refused:
            return self._refusal(change, str(refused), started_at)
        resolved = change.model_copy(update={"to": prepared.to})
        if prepared.unchanged:
            outcome = self._outcome(resolved, "unchanged", started_at, before=prepared.before, after=prepared.to)
            self._remember(resolved, fence, outcome)
            return outcome
        intent = Intent(
            change=resolved,
            fence=fence,
            epoch=self.epoch,
            before=prepared.before,
            revisions={target: self.revision(target) + 1 for target in prepared.moves},
            started_at=started_at,
        )
        self._still_ours()
        self._store.put(f"intent/{scope}/{change.key}", intent.model_dump(mode="json"))
        return self._carry_out(intent, scope)

    def _settle(self, scope: str) -> list[Outcome]:
        settled: list[Outcome] = []
        for key in self._store.keys(f"intent/{scope}/"):
            intent = Intent.model_validate(self._store.get(key))
            known = self.lookup(intent.change.key)
            if known:
                self._store.delete(key)
            else:
                self._still_ours()
                settled.append(self._carry_out(intent, scope))
        return settled

    def _carry_out(self, intent: Intent, scope: str) -> Outcome:
        change = intent.change
        try:
            after = self._effects.perform(change, intent.before)
            outcome = self._outcome(change, "done", intent.started_at, before=intent.before, after=after)
        except Permanent as failure:
            outcome = self._outcome(change, "failed", intent.started_at, detail=str(failure), before=intent.before)
        for target, revision in intent.revisions.items():
            self._store.put(f"revision/{target}", revision)
        self._remember(change, intent.fence, outcome)
        self._store.delete(f"intent/{scope}/{change.key}")
        return outcome

    def _still_ours(self) -> None:
        if self._store.get(f"epoch/{self.epoch + 1:012d}") is not None:
            raise Retryable(f"Another host has taken over (epoch {self.epoch} is over); ask it")

    def _remember(self, change: Change, fence: int, outcome: Outcome) -> None:
        record = {"change": change.model_dump(mode="json"), "fence": fence, "epoch": self.epoch, "outcome": outcome.model_dump(mode="json")}
        self._store.put(f"outcome/{change.key}", record)

    def _refusal(self, change: Change, why: str, started_at: float) -> Outcome:
        # not remembered: nothing happened, and the same change may come again from the one who may make it
        return self._outcome(change, "refused", started_at, detail=why)

    def _outcome(
        self,
        change: Change,
        status: Any,
        started_at: float,
        detail: str = "",
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
    ) -> Outcome:
        return Outcome(
            key=change.key,
            primitive=change.primitive,
            target=change.target,
            status=status,
            detail=detail,
            before=before or {},
            after=after or {},
            started_at=started_at,
            finished_at=self._clock.now(),
        )
