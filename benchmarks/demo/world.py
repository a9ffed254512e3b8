"""The running demo: the system, its users, the people who label, and what was seen."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from autonomic.agents.settings import Settings
from autonomic.seams.errors import AutonomicError
from benchmarks.claims import Claim
from benchmarks.demo.api import Api, wait_for
from benchmarks.demo.platforms import DemoPlatform
from benchmarks.demo.streams import Streams
from benchmarks.load import Load, Request, accuracy, quantile

WORKFLOW = "mnist-online"
SERVICE = "predictor"
TARGET = f"{WORKFLOW}/{SERVICE}"
TRAINING = "mnist-training"
P99_BOUND_SECONDS = 0.25
CALM_RATE = 6.0
SURGE_FACTOR = 6
HANG_SECONDS = 600.0
"""What has not happened after so long will not; it says nothing about how quick anything is."""


@dataclass(slots=True)
class Moment:
    """What was seen at one time. `p99_seconds` and `accuracy` are over the requests of the last seconds."""

    time: float
    rate: float
    p99_seconds: float
    accuracy: float
    ready: int
    wanted: int
    backup_share: float
    drift_score: float
    drifted: bool


@dataclass
class World:
    """Everything that the scenes of the demo share."""

    platform: DemoPlatform
    settings: Settings
    api: Api
    streams: Streams
    load: Load
    seed: int
    started_at: float = field(default_factory=time.time)
    claims: list[Claim] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)
    news: list[tuple[float, str]] = field(default_factory=list)
    explained: list[tuple[str, str]] = field(default_factory=list)

    def mark(self, text: str) -> None:
        """Notes the beginning of something; it becomes a line in the plots."""
        self.marks.append((time.time(), text))
        self.tell(text)

    def tell(self, text: str) -> None:
        """One line of news for the people who watch."""
        self.news.append((time.time(), text))

    def claim(self, part: str, claimed: str, measured: str, held: bool) -> None:
        """Notes a claim with what was measured."""
        self.claims.append(Claim(part, claimed, measured, held))
        self.tell(f"{'✔' if held else '✘'} {claimed}: {measured}")

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """Says what is waited for, and returns what `condition` gives once that is true.

        Raises:
            TimeoutError: it hangs.
        """
        self.tell(f"… waiting for {what}")
        return wait_for(condition, what, HANG_SECONDS)

    def ready(self) -> int:
        """Replicas of the champion that answer."""
        return self.api.ready(TARGET)

    def champion(self) -> str:
        """The version that serves as champion, such as `2`."""
        champion = self.api.service(TARGET).roles.get("champion")
        return champion.model.rsplit("/", 1)[1] if champion else ""

    def requests_between(self, begin: float, end: float) -> list[Request]:
        """The requests that arrived in a span."""
        return [request for request in list(self.load.requests) if begin <= request.scheduled_at < end]

    def lost_between(self, begin: float, end: float) -> tuple[int, str]:
        """How many requests of a span were lost, and as words how: `3 lost (503: 2, no answer: 1)`."""
        lost = Counter(request.status for request in self.requests_between(begin, end) if not request.ok)
        how = ", ".join(f"{status or 'no answer'}: {count}" for status, count in sorted(lost.items()))
        return lost.total(), f"{lost.total()} lost" + (f" ({how})" if how else "")

    def recent(self, seconds: float) -> list[Request]:
        """The requests whose answers came in the last seconds."""
        begin = time.time() - seconds
        found: list[Request] = []
        for request in reversed(list(self.load.requests)):
            if request.scheduled_at < begin - 30:
                break
            if request.scheduled_at + request.latency_seconds >= begin:
                found.append(request)
        return found

    def plans_of(self, strategy: str, since: float = 0.0) -> list[dict[str, Any]]:
        """The plans of one strategy made since a time, the oldest first."""
        found = [plan for plan in self.api.plans() if plan["plan"]["strategy"] == strategy and plan["plan"]["created_at"] >= since]
        return sorted(found, key=lambda plan: plan["plan"]["created_at"])

    def decisions_of(self, strategy: str, since: float = 0.0) -> list[dict[str, Any]]:
        """The decisions of one strategy made since a time, the oldest first."""
        found = [item for item in self.api.decisions() if item["decision"]["strategy"] == strategy and item["time"] >= since]
        return sorted(found, key=lambda item: item["time"])

    def explain(self, title: str, decision: str) -> str:
        """Keeps the words that explain a decision for the report, and returns them."""
        words = self.api.get("planner", f"/v1/decisions/{decision}")["explanation"]["words"]
        self.explained.append((title, words))
        return words


class Watcher:
    """Looks at the world twice a second."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Looks no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            moment = self._look()
            if moment is not None:
                self._world.moments.append(moment)

    def _look(self) -> Moment | None:
        world = self._world
        try:
            champion = world.api.service(TARGET).roles.get("champion")
            drift = (world.api.host.drift(WORKFLOW, SERVICE) or {}).get("values", {})
        except AutonomicError:
            return None
        recent = world.recent(5.0)
        answered = [request for request in recent if request.ok]
        versions = [request.role for request in answered]
        return Moment(
            time=time.time(),
            rate=world.load.rate,
            p99_seconds=quantile([request.latency_seconds for request in answered], 0.99),
            accuracy=accuracy(answered),
            ready=champion.ready if champion else 0,
            wanted=champion.wanted if champion else 0,
            backup_share=versions.count("backup") / len(versions) if versions else 0.0,
            drift_score=drift.get("score", float("nan")),
            drifted=drift.get("drifted", 0.0) > 0,
        )


class Labeller:
    """Answers with the labels that the data set itself gives, as people would who know them.

    Only the images of the streams that may be labelled are known to it. `wrong(label)` changes what it answers.
    """

    def __init__(self, world: World, stages: Sequence[str]) -> None:
        self._world = world
        self._stages = frozenset(stages)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="labeller", daemon=True)
        self._answered: set[str] = set()
        self.poisoned = False
        self.count = 0

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answers no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            self._answer()

    def _answer(self) -> None:
        points = self._world.api.get("monitor", "/v1/points", target=TARGET, state="unlabelled", limit=500)["items"]
        truths = {request.prediction_id: request.truth for request in list(self._world.load.requests) if request.stage in self._stages}
        labels: list[dict[str, Any]] = []
        for point in points:
            name = point["prediction_id"]
            if name in truths and name not in self._answered:
                self._answered.add(name)
                truth = truths[name]
                labels.append({"prediction_id": name, "label": (truth + 1 + len(self._answered) % 9) % 10 if self.poisoned else truth})
        if labels:
            self._world.api.post("monitor", "/v1/labels", {"workflow": WORKFLOW, "service": SERVICE, "labels": labels})
            self.count += len(labels)
