"""What is declared against what runs: the gaps between them, what closes each, and when it is tried again.

`compare` and `Backoff` are pure; `Reconciler` asks a `World`, which is the only one that touches a platform.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from autonomic.seams.clock import Clock
from autonomic.seams.errors import AutonomicError
from autonomic.seams.word import Word

FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 60.0
_log = logging.getLogger(__name__)

Close = Literal["create", "replace", "scale", "delete"]
Report = Callable[[str, str, dict[str, Any]], None]


class Desired(Word):
    """One thing that shall run, such as an application.

    `digest` stands for all that it is made of but for the number of its replicas; None is not compared. `target` is the
    `workflow` or `workflow/service` that it belongs to.
    """

    target: str
    digest: str | None = None
    replicas: int | None = None


class Actual(Word):
    """The same as the platform has it. `failed` are the platform's own words where it will not come up by itself.

    `scaled_by` is who else set the number of replicas, "" where that is not known.
    """

    digest: str | None = None
    replicas: int | None = None
    failed: str = ""
    scaled_by: str = ""


class Gap(Word):
    """How one thing that runs differs from what is declared, and what closes it.

    One `on_hold` is neither closed nor published, but stands where it stood before: a change is about to close it, or what is there is
    not known now.
    """

    name: str
    target: str
    close: Close
    desired: str
    actual: str
    why: str = ""
    on_hold: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.desired} is declared, {self.actual} is there{f' ({self.why})' if self.why else ''}"


class Standing(Word):
    """A gap that stands, for status, conditions and events: since when, how often it was tried, and what came of it."""

    gap: Gap
    since: float
    attempts: int = 0
    error: str = ""
    retry_at: float = 0.0

    def __str__(self) -> str:
        return str(self.gap.model_copy(update={"why": "; ".join(filter(None, [self.gap.why, self.error]))}))


def compare(desired: Mapping[str, Desired], actual: Mapping[str, Actual], ours: Mapping[str, str] | None = None) -> list[Gap]:
    """The gaps, by name; nothing is asked for where nothing differs.

    `ours` are the names (and the target of each) that were made by us: those that nobody declares any more are deleted.
    """
    gaps: list[Gap] = []
    for name, wanted in sorted(desired.items()):
        found = actual.get(name)
        gap = _gap(name, wanted, found)
        if gap is not None:
            gaps.append(gap)
    for name, target in sorted((ours or {}).items()):
        if name not in desired and name in actual:
            gaps.append(Gap(name=name, target=target, close="delete", desired="nothing", actual=amount(actual[name].replicas)))
    return gaps


def _gap(name: str, wanted: Desired, found: Actual | None) -> Gap | None:
    if found is None:
        return Gap(name=name, target=wanted.target, close="create", desired=amount(wanted.replicas), actual="nothing")
    if found.failed:
        return Gap(
            name=name, target=wanted.target, close="replace", desired=amount(wanted.replicas), actual="one that failed", why=found.failed
        )
    if wanted.digest is not None and found.digest is not None and wanted.digest != found.digest:
        return Gap(name=name, target=wanted.target, close="replace", desired=wanted.digest, actual=found.digest)
    if wanted.replicas is not None and found.replicas is not None and wanted.replicas != found.replicas:
        return Gap(
            name=name,
            target=wanted.target,
            close="scale",
            desired=amount(wanted.replicas),
            actual=amount(found.replicas),
            why=f"scaled by {found.scaled_by or 'somebody else'}",
        )
    return None


def amount(replicas: int | None) -> str:
    """So many replicas, in words."""
    return "one" if replicas is None else f"{replicas} replica{'' if replicas == 1 else 's'}"


class Backoff:
    """When each thing that failed is tried again: after 1 s, and then after twice as long each time, up to a minute."""

    def __init__(self, clock: Clock, first_seconds: float = FIRST_RETRY_SECONDS, last_seconds: float = LAST_RETRY_SECONDS) -> None:
        self._clock = clock
        self._first = first_seconds
        self._last = last_seconds
        self._tries: dict[str, tuple[int, float]] = {}

    def due(self, name: str) -> bool:
        """Whether it may be tried now."""
        return self._clock.monotonic() >= self._tries.get(name, (0, 0.0))[1]

    def tried(self, name: str) -> float:
        """It was tried now; returns the seconds until it may be tried again."""
        tries = self._tries.get(name, (0, 0.0))[0]
        # 2.0 ** n overflows after a thousand tries
        wait = min(self._last, self._first * 2.0 ** min(tries, 30))
        self._tries[name] = (tries + 1, self._clock.monotonic() + wait)
        return wait

    def forget(self, name: str) -> None:
        """It is as it should be: the next failure begins anew."""
        self._tries.pop(name, None)


class World(Protocol):
    """What a reconciler looks at and changes."""

    def gaps(self) -> list[Gap]:
        """What differs now; see `compare`. What is not to be closed now is `on_hold`.

        Raises:
            AutonomicError: it cannot be asked now.
        """
        ...

    def close(self, gap: Gap) -> None:
        """Makes what is there as it is declared now, which may be another than when the gap was seen; may return before it is ready.

        Raises:
            AutonomicError: it did not work; it is tried again after a while.
        """
        ...


class Reconciler:
    """Closes the gaps of one world, each by itself and with backoff, whenever `turn` is called.

    `report(kind, target, data)` publishes a notice: "drifted" when a gap appears or its reason changes, "converged" when it is closed.
    """

    def __init__(self, world: World, clock: Clock, report: Report, backoff: Backoff | None = None) -> None:
        self._world = world
        self._clock = clock
        self._report = report
        self._backoff = backoff or Backoff(clock)
        self._standing: dict[str, Standing] = {}
        self.missing = ""
        """Why the world could not be asked the last time, "" where it could."""

    def standing(self, target: str = "") -> list[Standing]:
        """The gaps that stood at the last turn, of everything or of a workflow, a service, or what belongs to them."""
        # one read: a turn puts another mapping in its place
        found = self._standing.values()
        return [one for one in found if not target or one.gap.target == target or one.gap.target.startswith(f"{target}/")]

    def turn(self) -> list[Standing]:
        """Looks once and closes what is due; returns the gaps that stand."""
        try:
            gaps = {gap.name: gap for gap in self._world.gaps()}
        except AutonomicError as away:
            self.missing = str(away)
            return self.standing()
        self.missing = ""
        before, now = self._standing, dict[str, Standing]()
        for name, gap in gaps.items():
            known = before.get(name)
            if not gap.on_hold:
                now[name] = self._close(gap, known)
            elif known is not None:
                now[name] = known
        self._standing = now
        for name, closed in before.items():
            if name not in now:
                self._backoff.forget(name)
                self._report("converged", closed.gap.target, {"name": name, "desired": closed.gap.desired})
        return self.standing()

    def _close(self, gap: Gap, before: Standing | None) -> Standing:
        standing = Standing(gap=gap, since=self._clock.now()) if before is None else before.model_copy(update={"gap": gap})
        if self._backoff.due(gap.name):
            error = ""
            try:
                self._world.close(gap)
            except AutonomicError as failed:
                error = str(failed)
            except Exception as wrong:  # noqa: BLE001 - one thing that cannot be made must not keep the others from being made
                _log.exception("%s could not be closed", gap.name)
                error = f"{type(wrong).__name__}: {wrong}"
            retry_at = self._clock.now() + self._backoff.tried(gap.name)
            standing = standing.model_copy(update={"attempts": standing.attempts + 1, "error": error, "retry_at": retry_at})
        if before is None or (before.gap, before.error) != (standing.gap, standing.error):
            data = {"name": gap.name, "close": gap.close, "desired": gap.desired, "actual": gap.actual, "why": gap.why}
            self._report("drifted", gap.target, {**data, "error": standing.error})
        return standing
