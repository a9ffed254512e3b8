"""What people do to plans, strategies and freezes; each with the name of their token, and with a reason."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from pydantic import Field

from autonomic.agents.auth import ACT, READ, holder_of
from autonomic.agents.planner.service import Planner
from autonomic.agents.problems import ProblemError, not_found
from autonomic.agents.strict_json import StrictRoute
from autonomic.primitives.people import Freeze, moment
from autonomic.seams.decision import Verdict
from autonomic.seams.errors import Permanent
from autonomic.seams.runner import ENDED, PlanStatus
from autonomic.seams.target import Target
from autonomic.seams.word import Word

_LONGEST_REASON = 1000


class Reason(Word):
    """Why a person does it."""

    why: str = Field("", max_length=_LONGEST_REASON)


class Rejection(Word):
    """Why a person turns a plan down."""

    why: str = Field(min_length=1, max_length=_LONGEST_REASON)


class FreezeRequest(Word):
    """Nothing may start on `target` ("" is everything) until `until` (seconds since the epoch), or until it is lifted."""

    target: str = Field("", max_length=120)
    why: str = Field(min_length=1, max_length=_LONGEST_REASON)
    until: float | None = None


class LiftRequest(Word):
    """The target whose freeze is lifted, and why."""

    target: str = Field("", max_length=120)
    why: str = Field("", max_length=_LONGEST_REASON)


class Approval(Word):
    """A plan that was approved."""

    plan: str
    decision: str
    verdict: Verdict


class Frozen(Word):
    """A freeze that is in force from now on, and the plans that it stopped."""

    freeze: Freeze
    stopped: list[str]


MaybeReason = Annotated[Reason | None, Body()]


def router(planner: Planner) -> APIRouter:
    """The endpoints for people."""
    api = APIRouter()
    api.include_router(_plans(planner))
    api.include_router(_freezes(planner))
    return api


def _plans(planner: Planner) -> APIRouter:
    api = APIRouter(tags=["actions"], dependencies=[ACT], route_class=StrictRoute)

    def known(plan_id: str) -> PlanStatus:
        status = planner.plan(plan_id)
        if status is None:
            raise not_found("plan", plan_id, "GET /v1/plans")
        return status

    def waiting(plan_id: str) -> PlanStatus:
        status = known(plan_id)
        if status.phase != "waiting":
            raise ProblemError(409, f"plan {plan_id} does not wait for a person: it is {status.phase}")
        return status

    @api.post("/v1/plans/{plan_id}:approve")
    def approve(plan_id: str, http: Request, reason: MaybeReason = None) -> Approval:
        """Lets a plan that waits for a person begin, if the gate still lets it pass: 409 with its reasons where it does not."""
        status = waiting(plan_id)
        try:
            verdict = planner.approve(plan_id, holder_of(http).name, _why(reason))
        except Permanent as over:
            # it was approved or turned down already, and its first effect is still under way
            raise ProblemError(409, str(over)) from None
        if verdict.outcome != "go":
            raise ProblemError(409, f"the gate says {verdict.outcome}: {verdict.why}", verdict=verdict.model_dump(mode="json"))
        return Approval(plan=plan_id, decision=status.plan.decision, verdict=verdict)

    @api.post("/v1/plans/{plan_id}:reject")
    def reject(plan_id: str, rejection: Rejection, http: Request) -> PlanStatus:
        """Turns down a plan that waits for a person; the same is not proposed again before its evidence changes."""
        waiting(plan_id)
        try:
            planner.reject(plan_id, holder_of(http).name, rejection.why)
        except Permanent as over:
            raise ProblemError(409, str(over)) from None
        return known(plan_id)

    @api.post("/v1/plans/{plan_id}:cancel", status_code=202)
    def cancel(plan_id: str, http: Request, reason: MaybeReason = None) -> PlanStatus:
        """Stops a plan before its next effect; what was done stays."""
        known(plan_id)
        if not planner.cancel(plan_id, holder_of(http).name, _why(reason)):
            raise ProblemError(409, f"plan {plan_id} has ended ({known(plan_id).phase}); it can only be reverted")
        return known(plan_id)

    @api.post("/v1/plans/{plan_id}:revert", status_code=202)
    def revert(plan_id: str, http: Request, reason: MaybeReason = None) -> dict[str, Any]:
        """Reverts what an ended plan did, by a plan of its own that passes the gate; its strategy does not propose the same again
        before its evidence changes."""
        status = known(plan_id)
        if status.phase not in ENDED:
            raise ProblemError(409, f"plan {plan_id} is {status.phase}; cancel it first")
        try:
            return planner.brief(planner.revert(plan_id, holder_of(http).name, _why(reason)))
        except Permanent as impossible:
            raise ProblemError(409, str(impossible)) from None

    @api.post("/v1/strategies/{name}:reinstate", status_code=204)
    def reinstate(name: str, http: Request, reason: MaybeReason = None) -> None:
        """Lets a strategy that demoted itself act again."""
        if name not in planner.specs.strategies:
            raise not_found("strategy", name, "GET /v1/strategies")
        if not planner.reinstate(name, holder_of(http).name, _why(reason)):
            raise ProblemError(409, f"strategy {name} did not demote itself; there is nothing to reinstate")

    return api


def _freezes(planner: Planner) -> APIRouter:
    api = APIRouter(tags=["freezes"], route_class=StrictRoute)

    @api.get("/v1/freezes", dependencies=[READ])
    def freezes() -> list[Freeze]:
        """The freezes in force, by target."""
        return list(planner.engine.freezes())

    @api.post("/v1/freezes", status_code=201, dependencies=[ACT])
    def freeze(request: FreezeRequest, http: Request) -> Frozen:
        """Freezes a workflow, a part of one, or everything: nothing starts on it, by whomever it is asked for, and plans that run
        stop before their next effect. It survives restarts."""
        now = planner.clock.now()
        if request.until is not None and request.until <= now:
            raise ProblemError(422, f"until is {moment(request.until)}, which is over; it is {moment(now)}")
        if request.target:
            _must_exist(planner, request.target)
        made = Freeze(target=request.target, why=request.why, by=holder_of(http).name, since=now, until=request.until)
        return Frozen(freeze=made, stopped=planner.freeze(made))

    @api.post("/v1/freezes:lift", dependencies=[ACT])
    def lift(request: LiftRequest, http: Request) -> Freeze:
        """Lifts the freeze of a target, and answers with it."""
        found = planner.unfreeze(request.target, holder_of(http).name, request.why)
        if found is None:
            raise not_found("freeze of", request.target or "everything", "GET /v1/freezes")
        return found

    return api


def _must_exist(planner: Planner, text: str) -> None:
    try:
        target = Target.parse(text)
    except ValueError as wrong:
        raise ProblemError(422, str(wrong)) from None
    workflow = planner.specs.workflows.get(target.workflow)
    if workflow is None:
        raise not_found("workflow", target.workflow, "GET /v1/workflows")
    if "/" in text:
        spec = workflow.spec
        parts = list(getattr(spec, "parts", ())) or [step.name for step in getattr(spec, "steps", ())]
        if text.partition("/")[2] not in parts:
            raise ProblemError(404, f"{target.workflow} has no part {text.partition('/')[2]!r}; it has {', '.join(parts)}")


def _why(reason: Reason | None) -> str:
    return reason.why if reason is not None else ""
