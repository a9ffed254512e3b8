"""The documents in force against what the platform has of them: what never came to be is deployed again by itself.

The platform's host makes what runs as its own records say; here those records are made as the documents say. Both use
`platforms.host.reconcile`.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from autonomic.agents.logs import logger
from autonomic.agents.planner import specs as documents
from autonomic.agents.planner.specs import Specs
from autonomic.platforms.host.reconcile import Backoff, Gap, Reconciler, Report, Standing, World
from autonomic.seams.clock import Clock
from autonomic.seams.decision import DecisionRecord
from autonomic.seams.errors import AutonomicError, Permanent
from autonomic.seams.runner import ENDED, PlanStatus
from autonomic.seams.state import State
from autonomic.workflows.spec.workflow import OnlineSpec, Workflow

ACTOR = "the reconciler"
FIRST_RETRY_SECONDS = 5.0
LAST_RETRY_SECONDS = 600.0
LOOK_SECONDS = 2.0
ObserveAll = Callable[[Sequence[str]], tuple[Mapping[str, State], Mapping[str, str]]]
"""The states of several targets at once, and why some are not known."""
_UNDONE = frozenset({"failed", "refused"})
_log = logger(__name__)


class DeclaredWorld:
    """See `reconcile.World`: the online workflows in force. `plans` are all plans, the newest first; `deploy` decides on a deploy.

    `decided` says whether what follows from the document of a workflow is being decided on already.
    """

    def __init__(
        self,
        specs: Callable[[], Specs],
        observe: Callable[[str], State],
        observe_all: ObserveAll,
        plans: Callable[[], Sequence[PlanStatus]],
        deploy: Callable[[str], DecisionRecord],
        decided: Callable[[str], bool],
    ) -> None:
        self._specs = specs
        self._decided = decided
        self._observe = observe
        self._observe_all = observe_all
        self._plans = plans
        self._deploy = deploy

    def gaps(self) -> list[Gap]:
        specs = self._specs()
        names = [name for name, workflow in specs.workflows.items() if is_deployed(workflow)]
        states, unknown = self._observe_all(names)
        differing = {name: difference(specs.workflows[name], specs.packages.get(name, ""), state) for name, state in states.items()}
        found = {name: gap for name, gap in differing.items() if gap is not None}
        plans = self._plans() if found else ()
        # of one that cannot be asked now nothing is concluded, and the others are looked at all the same
        gaps = [
            Gap(name=name, target=name, close="replace", desired="its document", actual="not known", why=why, on_hold=True)
            for name, why in unknown.items()
        ]
        for name, gap in found.items():
            choice = chosen(name, documents.dump(specs.workflows[name]), plans)
            if choice != "leave":
                why = "; ".join(filter(None, [gap.why, last_failure(name, plans)]))
                gaps.append(gap.model_copy(update={"why": why, "on_hold": choice == "wait" or self._decided(name)}))
        return gaps

    def lacking(self, name: str) -> str:
        """What of a workflow in force does not run as its document says, "" where nothing is lacking.

        Raises:
            Retryable: the platform cannot be asked now.
        """
        specs = self._specs()
        workflow = specs.workflows[name]
        if not is_deployed(workflow):
            return ""
        state = self._observe(name)
        gap = difference(workflow, specs.packages.get(name, ""), state)
        if gap is not None:
            return gap.why or f"{gap.desired} is declared, and {gap.actual} is there"
        parts = [self._observe(f"{name}/{part}") for part in getattr(workflow.spec, "parts", ())]
        return "; ".join([*state.differs, *(words for part in parts for words in _missing_replicas(part))])

    def faults(self, names: Sequence[str]) -> list[str]:
        """What fails by itself in workflows in force, though they run as their documents say.

        Raises:
            Retryable: the platform cannot be asked now.
        """
        workflows = self._specs().workflows
        states, unknown = self._observe_all([name for name in names if is_deployed(workflows[name])])
        return [*(fault for state in states.values() for fault in state.faults), *(f"{name}: {why}" for name, why in unknown.items())]

    def close(self, gap: Gap) -> None:
        record = self._deploy(gap.name)
        if record.verdict is None or record.verdict.outcome != "go":
            why = record.verdict.why if record.verdict else record.decision.why
            raise Permanent(f"the gate does not let it be deployed: {why} (autonomic explain {record.id})")


def is_deployed(workflow: Workflow) -> bool:
    """Whether a workflow in force has to be deployed: it is online, and not somebody else's."""
    return isinstance(workflow.spec, OnlineSpec) and workflow.spec.adopt is None


def difference(workflow: Workflow, package: str, state: State) -> Gap | None:
    """How what a platform has of an online workflow differs from its document. Pure."""
    name = workflow.name
    if state.kind == "absent":
        return Gap(name=name, target=name, close="create", desired="its document", actual="nothing", why="it is not deployed")
    if state.spec != documents.dump(workflow):
        return Gap(name=name, target=name, close="replace", desired="its document", actual="another one", why="another version is deployed")
    if state.package != package:
        return Gap(
            name=name, target=name, close="replace", desired=f"the code {package or 'none'}", actual=f"the code {state.package or 'none'}"
        )
    return None


def _missing_replicas(state: State) -> list[str]:
    if state.service is None:
        return [f"{state.target} is not there"]
    return [
        f"{state.target}: {one.ready} of {one.wanted} replicas of {role} are ready{f' ({one.why})' if one.why else ''}"
        for role, one in state.service.roles.items()
        if one.ready < one.wanted
    ]


def chosen(name: str, document: dict[str, object], plans: Sequence[PlanStatus]) -> Literal["close", "wait", "leave"]:
    """What its newest deploy or delete (`plans`: the newest first) says of a workflow that is not as its document. Pure.

    What was deleted, or brought back to another version, by a plan that worked is left so until somebody applies or deploys it. What is
    under way is waited for.
    """
    for status in plans:
        changes = [one for one in status.plan.changes if one.target == name and one.primitive in ("deploy", "delete")]
        if not changes:
            continue
        if status.phase not in ENDED:
            return "wait"
        newest = changes[-1]
        is_ours = status.phase in _UNDONE or (newest.primitive == "deploy" and newest.to.get("spec") == document)
        return "close" if is_ours else "leave"
    return "close"


def last_failure(name: str, plans: Sequence[PlanStatus]) -> str:
    """What kept the newest deploy of a workflow that has ended (`plans`: the newest first) from working, "" where nothing did. Pure."""
    for status in plans:
        if status.phase in ENDED and any(one.target == name and one.primitive == "deploy" for one in status.plan.changes):
            return status.detail if status.phase in _UNDONE else ""
    return ""


class DeclaredLoop:
    """Closes the gaps of a world every `seconds` while this planner `leads`, each with backoff up to ten minutes."""

    def __init__(self, world: World, clock: Clock, report: Report, leads: Callable[[], bool], seconds: float = LOOK_SECONDS) -> None:
        self._reconciler = Reconciler(world, clock, report, Backoff(clock, FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS))
        self._leads = leads
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="declared", daemon=True)

    def standing(self, target: str) -> list[Standing]:
        """The gaps that stand; see `Reconciler.standing`."""
        return self._reconciler.standing(target)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after what is being looked at."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            if not self._leads():
                continue
            try:
                self._reconciler.turn()
            except AutonomicError as away:
                _log.warning("what is declared cannot be compared with what runs", extra={"detail": str(away)})
            except Exception:  # noqa: BLE001 the boundary of this thread: the next look comes all the same
                _log.exception("comparing what is declared with what runs failed")
