"""What the planner shows."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse

from autonomic.agents.auth import READ
from autonomic.agents.pagination import Cursor, Limit, Page, number_of, page_after, page_of
from autonomic.agents.planner import mirror
from autonomic.agents.planner import specs as documents
from autonomic.agents.planner.effectors import NOTIFICATION
from autonomic.agents.planner.engine import DECISION
from autonomic.agents.planner.inbox import EVENT, EVENT_FAILED
from autonomic.agents.planner.service import Planner
from autonomic.agents.problems import not_found
from autonomic.seams.decision import DecisionRecord
from autonomic.seams.errors import AutonomicError
from autonomic.seams.journal import Record
from autonomic.seams.runner import PlanPhase, PlanStatus
from autonomic.seams.state import RunState, RunStatus, State
from autonomic.workflows.spec.workflow import Workflow

Strategy = Annotated[str | None, Query(max_length=100, description="Only this strategy's; empty for what was done by hand.")]
Tail = Annotated[int | None, Query(ge=1, le=1_000_000, description="Only the last lines.")]
Seen = tuple[Mapping[str, State], Mapping[str, str]]
"""States by target, and why some are not known."""
Attempt = Annotated[int | None, Query(ge=1, le=1000, description="Only this attempt's.")]


def router(planner: Planner) -> APIRouter:
    """The endpoints that change nothing."""
    api = APIRouter(dependencies=[READ])
    for part in (_decisions(planner), _workflows(planner), _runs(planner), _events(planner)):
        api.include_router(part)
    return api


def _newest(planner: Planner, kinds: Sequence[str], subject: str | None, limit: int, cursor: str) -> tuple[list[Record], str]:
    before = number_of(cursor)
    records = planner.journal.latest(kinds=kinds, subject=subject, limit=limit + 1, before=before)
    return records[:limit], str(records[limit - 1].cursor) if len(records) > limit else ""


def _decisions(planner: Planner) -> APIRouter:
    api = APIRouter(tags=["decisions"])

    @api.get("/v1/strategies")
    def strategies(limit: Limit = 100, cursor: Cursor = "") -> Page[dict[str, Any]]:
        """The strategies in force, by name."""
        return page_of([planner.told_of_strategy(name) for name in planner.specs.strategies], lambda item: str(item["name"]), cursor, limit)

    @api.get("/v1/strategies/{name}")
    def strategy(name: str) -> dict[str, Any]:
        """A strategy in force."""
        if name not in planner.specs.strategies:
            raise not_found("strategy", name, "GET /v1/strategies")
        return planner.told_of_strategy(name)

    @api.get("/v1/decisions")
    def decisions(
        limit: Limit = 100,
        cursor: Cursor = "",
        strategy: Annotated[str | None, Query(max_length=100, description="Only this strategy's.")] = None,
    ) -> Page[DecisionRecord]:
        """Decisions, the newest first."""
        found: list[DecisionRecord] = []
        while True:
            records, cursor = _newest(planner, [DECISION], None, limit, cursor)
            pairs = [(record, DecisionRecord.model_validate(record.data)) for record in records]
            fitting = [(record.cursor, one) for record, one in pairs if strategy in (None, one.decision.strategy)]
            room = limit - len(found)
            found += [one for _, one in fitting[:room]]
            if len(fitting) > room:
                return Page(items=found, next=str(fitting[room - 1][0]))
            if not cursor or len(found) == limit:
                return Page(items=found, next=cursor)

    @api.get("/v1/decisions/{decision_id}")
    def decision(decision_id: str) -> dict[str, Any]:
        """A decision, its plan, and its explanation as words and JSON."""
        record = planner.decision(decision_id)
        if record is None:
            raise not_found("decision", decision_id, "GET /v1/decisions")
        plan = planner.plan(record.plan) if record.plan else None
        return {
            "decision": record.model_dump(mode="json", by_alias=True),
            "plan": plan.model_dump(mode="json", by_alias=True) if plan else None,
            "explanation": planner.story(record),
        }

    @api.get("/v1/plans")
    def plans(limit: Limit = 100, cursor: Cursor = "", phase: PlanPhase | None = None) -> Page[PlanStatus]:
        """Plans, the newest first."""
        return page_after(planner.plans(), lambda status: status.plan.id, cursor, limit, lambda status: phase in (None, status.phase))

    @api.get("/v1/plans/{plan_id}")
    def plan(plan_id: str) -> PlanStatus:
        """How far a plan is."""
        status = planner.plan(plan_id)
        if status is None:
            raise not_found("plan", plan_id, "GET /v1/plans")
        return status

    return api


def _workflows(planner: Planner) -> APIRouter:
    api = APIRouter(tags=["workflows"])

    def view(name: str, seen: Seen | None = None) -> dict[str, Any]:
        workflow = planner.specs.workflows[name]
        answer: dict[str, Any] = {
            "name": name,
            "type": workflow.spec.type,
            "spec": documents.dump(workflow),
            "package": planner.specs.packages.get(name, ""),
            "state": None,
            "services": {},
            "detail": "",
            "differs": [],
            "faults": [],
        }
        if seen is not None:
            states, unknown = seen
            parts = [f"{name}/{part}" for part in _parts(workflow)]
            answer["differs"] = planner.differs(name)
            answer["detail"] = "; ".join(dict.fromkeys(unknown[target] for target in (name, *parts) if target in unknown))
            answer["services"] = {target: states[target].model_dump(mode="json") for target in parts if target in states}
            if name in states:
                answer["state"] = states[name].model_dump(mode="json")
                answer["differs"] += states[name].differs
                answer["faults"] = list(states[name].faults)
        return answer

    def seen(names: Sequence[str]) -> Seen:
        """The states of workflows and of their parts, asked for at once."""
        targets = [f"{name}{part}" for name in names for part in ("", *(f"/{one}" for one in _parts(planner.specs.workflows[name])))]
        try:
            return planner.platform.observe_all(targets)
        except AutonomicError as away:
            return {}, dict.fromkeys(targets, str(away))

    @api.get("/v1/workflows")
    def workflows(limit: Limit = 100, cursor: Cursor = "", observe: bool = False) -> Page[dict[str, Any]]:
        """The workflows in force, by name; with `observe` the platform is asked for the state of each."""
        page = page_of(list(planner.specs.workflows), str, cursor, limit)
        states = seen(page.items) if observe else None
        return Page(items=[view(name, states) for name in page.items], next=page.next)

    @api.get("/v1/workflows/{name}")
    def workflow(name: str, observe: bool = True) -> dict[str, Any]:
        """A workflow: its document, its code's digest, and its state as the platform sees it now (null where it cannot be asked)."""
        if name not in planner.specs.workflows:
            raise not_found("workflow", name, "GET /v1/workflows")
        return view(name, seen([name]) if observe else None)

    return api


def _parts(workflow: Workflow) -> Sequence[str]:
    return getattr(workflow.spec, "parts", ())


def _runs(planner: Planner) -> APIRouter:
    api = APIRouter(tags=["runs"])

    @api.get("/v1/runs")
    def runs(limit: Limit = 100, cursor: Cursor = "", workflow: str | None = None, status: RunStatus | None = None) -> Page[RunState]:
        """Runs, the newest first, as they were last reported: also while the platform is away."""

        def wanted(run: RunState) -> bool:
            return workflow in (None, run.workflow) and status in (None, run.status)

        return page_after(mirror.runs(planner.journal), lambda run: run.id, cursor, limit, wanted)

    @api.get("/v1/runs/{run_id}")
    def run(run_id: str) -> RunState:
        """A run with its steps, as the platform reports it now, where it answers."""
        found = planner.run(run_id)
        if found is None:
            raise not_found("run", run_id, "GET /v1/runs")
        return found

    @api.get("/v1/runs/{run_id}/steps/{step}/log", response_class=PlainTextResponse)
    def log(run_id: str, step: str, tail: Tail = None, attempt: Attempt = None) -> Response:
        """What a step printed: each attempt, or one."""
        if planner.run(run_id) is None:
            raise not_found("run", run_id, "GET /v1/runs")
        text = planner.platform.log(run_id, step, tail, attempt)
        if text is None:
            raise not_found(f"log of run {run_id} for {f'attempt {attempt} of ' if attempt else ''}the step", step)
        return PlainTextResponse(text)

    return api


def _events(planner: Planner) -> APIRouter:
    api = APIRouter(tags=["events"])

    @api.get("/v1/events")
    def events(limit: Limit = 100, cursor: Cursor = "") -> Page[Record]:
        """Events that came in, those that failed, and messages to people; the newest first."""
        records, following = _newest(planner, [EVENT, EVENT_FAILED, NOTIFICATION], None, limit, cursor)
        return Page(items=records, next=following)

    return api
