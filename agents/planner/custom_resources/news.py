"""What the planner knows about documents that their objects are told: states, and what was done since."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from autonomic.agents.planner import mirror
from autonomic.agents.planner.custom_resources import telling
from autonomic.agents.planner.custom_resources.choosing import Key
from autonomic.agents.planner.custom_resources.telling import Action, Facts, Ready
from autonomic.agents.planner.engine import DECISION
from autonomic.agents.planner.plan_store import PLAN_RECORD
from autonomic.seams.decision import DecisionRecord
from autonomic.seams.errors import AutonomicError
from autonomic.seams.journal import Record
from autonomic.seams.runner import ENDED
from autonomic.workflows.spec.workflow import OnlineSpec

if TYPE_CHECKING:
    from autonomic.agents.planner.service import Planner

_CURSOR = "custom-resource-cursor"
_PAGE = 500


class News:
    """Follows the journal with a cursor of its own, so that each action is told once, also after a restart."""

    def __init__(self, planner: "Planner") -> None:
        self._planner = planner
        known = planner.journal.states(_CURSOR).get(_CURSOR)
        self._cursor: int = planner.journal.last_cursor() if known is None else known
        self._saved = known
        self._last: dict[Key, Action] = {}
        self._facts: dict[str, Facts] = {}
        self._dirty: set[str] = set()
        self.looked_at: list[str] = []
        """The online workflows whose services the last `refresh` asked for."""
        self.commit()

    def take(self) -> list[Action]:
        """What was done since the last time, in its order."""
        found: list[Action] = []
        while True:
            records = self._planner.journal.read(self._cursor, kinds=[DECISION, PLAN_RECORD, mirror.RUN, mirror.NOTICE], limit=_PAGE)
            for record in records:
                found += self._of(record)
            if not records:
                break
            self._cursor = records[-1].cursor
        actions: list[Action] = []
        for action in found:
            keys = (("Workflow", action.target.partition("/")[0]), ("Strategy", action.strategy))
            # a plan that waits for a person is decided on again and again
            if all((last := self._last.get(key)) and last.key == action.key for key in keys):
                continue
            self._last |= dict.fromkeys(keys, action)
            actions.append(action)
        return actions

    def commit(self) -> None:
        """Remembers that everything taken was told."""
        if self._saved != self._cursor:
            with self._planner.journal.transaction() as transaction:
                transaction.put_state(_CURSOR, self._cursor)
            self._saved = self._cursor

    def last_action(self, key: Key) -> Action | None:
        """The last action that was heard of since the start, None where there was none."""
        return self._last.get(key)

    def refresh(self, workflows: Iterable[str], dirty: Iterable[str]) -> str:
        """Asks for the states of workflows of which something may have changed; returns why some could not be asked for."""
        self._dirty |= set(dirty)
        self.looked_at = []
        runs: dict[str, str] | None = None
        for name in workflows:
            document = self._planner.specs.workflows.get(name)
            if document is None:
                self._facts.pop(name, None)
                continue
            if name in self._facts and name not in self._dirty:
                continue
            if not isinstance(document.spec, OnlineSpec):
                if runs is None:
                    # the newest comes first, and stays
                    runs = {run.workflow: run.status for run in reversed(mirror.runs(self._planner.journal))}
                self._facts[name] = Facts(runs.get(name, "idle"), Ready("True", "InForce", "it runs when it is asked to"))
                continue
            try:
                states = {part: self._planner.platform.observe(f"{name}/{part}") for part in document.spec.parts}
            except AutonomicError as away:
                self._facts[name] = Facts("unknown", Ready("Unknown", "PlatformAway", str(away)))
                continue
            self._facts[name] = telling.of_service(states)
            self.looked_at.append(name)
        unknown = {name: fact.ready.message for name, fact in self._facts.items() if fact.ready.status == "Unknown"}
        self._dirty = set(unknown)
        return next(iter(unknown.values()), "")

    def facts(self, key: Key, is_in_force: bool, generation: int | None) -> Facts:
        """What the status of an object says beside Accepted; `generation` is the one that is in force."""
        kind, name = key
        version = {"version": str(generation)} if generation else {}
        if not is_in_force:
            return Facts("refused", Ready("False", "NotInForce", "no version of this document is in force"))
        if kind == "Workflow":
            facts = self._facts.get(name, Facts("unknown", Ready("Unknown", "NotObserved", "it was not looked at yet")))
            return facts._replace(more={**version, **facts.more})
        told = self._planner.told_of_strategy(name)
        more = {**version, "autonomy": told["autonomy"]}
        if told["demoted"]:
            return Facts("demoted", Ready("False", "Demoted", told["demoted"]), more)
        return Facts("active", Ready("True", "InForce", "the monitor looks at it"), more)

    def _of(self, record: Record) -> list[Action]:
        if record.kind == mirror.RUN:
            self._dirty.add(record.data["workflow"])
            return []
        if record.kind == mirror.NOTICE:
            self._dirty.add(record.subject.partition("/")[0])
            return []
        if record.kind == DECISION:
            return _asked(DecisionRecord.model_validate(record.data))
        self._dirty.add(record.data["target"].partition("/")[0])
        status = self._planner.plan(record.subject) if record.data["phase"] in ENDED else None
        if status is None:
            return []
        decision = self._planner.decision(status.plan.decision)
        why = decision.decision.why if decision else ""
        return [telling.action_of(outcome, status.plan.strategy, why) for outcome in (*status.outcomes, *status.reverts)]


def _asked(record: DecisionRecord) -> list[Action]:
    """What a decision leaves to people, or what the gate refused of what a person or an object asked for."""
    if record.verdict is None or record.verdict.outcome not in ("ask", "refuse"):
        return []
    asks = record.verdict.outcome == "ask"
    # a strategy that is refused is so again and again, and `autonomic decisions` has it all
    if not asks and record.decision.strategy:
        return []
    result = f"waits for autonomic approve {record.plan}" if asks else f"refused: {record.verdict.why}"
    key = record.plan if asks else record.id
    return [
        Action(
            f"{key}/{action.primitive}",
            action.primitive,
            action.target,
            record.decision.strategy,
            result,
            record.decision.why,
            record.time,
            asks,
        )
        for action in record.decision.actions
    ]
