"""What the planner does when it is asked to."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field, ValidationError

from autonomic.agents.auth import ACT, ADMIN, READ
from autonomic.agents.planner import specs as documents
from autonomic.agents.planner.service import Planner
from autonomic.agents.problems import ProblemError, not_found
from autonomic.agents.strict_json import StrictRoute
from autonomic.primitives.arguments import ARGUMENTS
from autonomic.seams.decision import Action, DecisionRecord, Verdict
from autonomic.seams.errors import Permanent
from autonomic.seams.runner import ENDED, PlanStatus
from autonomic.seams.target import Target
from autonomic.seams.word import Word

MAX_PACKAGE_BYTES = 256 * 1024 * 1024
_ADMIN_PRIMITIVES = frozenset({"delete"})


class PrimitiveRequest(Word):
    """A primitive by hand; its arguments are those that a strategy gives it."""

    target: str = Field(min_length=1, max_length=120)
    args: dict[str, Any] = {}
    dry_run: bool = False


class Approval(Word):
    """A plan that was approved."""

    plan: str
    decision: str
    verdict: Verdict


class ApplyRequest(Word):
    """Documents to put in force. `packages` are digests by workflow (`POST /v1/packages`); `prune` removes what is not given."""

    documents: list[dict[str, Any]] = Field(max_length=10_000)
    packages: dict[str, Annotated[str, Field(pattern=r"^[A-Za-z0-9:_-]{0,128}$")]] = {}
    prune: bool = False
    dry_run: bool = False


class ApplyAnswer(Word):
    """What changed (with `dry_run`: what would), and the decisions on what follows from it."""

    dry_run: bool
    changes: list[documents.Difference]
    decisions: list[DecisionRecord] = []


def _told(planner: Planner, record: DecisionRecord) -> dict[str, Any]:
    return {
        "decision": record.id,
        "plan": record.plan,
        "verdict": record.verdict.outcome if record.verdict else None,
        "why": record.verdict.why if record.verdict else record.decision.why,
        "changes": [change.model_dump(mode="json") for change in record.changes],
        "explanation": planner.story(record),
    }


def router(planner: Planner) -> APIRouter:
    """The endpoints that act."""
    api = APIRouter()
    api.include_router(_plans(planner))
    api.include_router(_documents(planner))
    return api


def _plans(planner: Planner) -> APIRouter:
    api = APIRouter(tags=["actions"], dependencies=[ACT], route_class=StrictRoute)

    def known(plan_id: str) -> PlanStatus:
        status = planner.plan(plan_id)
        if status is None:
            raise not_found("plan", plan_id, "GET /v1/plans")
        return status

    @api.post("/v1/plans/{plan_id}:approve")
    def approve(plan_id: str) -> Approval:
        """Lets a plan that waits for a person begin, if the gate still lets it pass: 409 with its reasons where it does not."""
        status = known(plan_id)
        if status.phase != "waiting":
            raise ProblemError(409, f"plan {plan_id} does not wait for a person: it is {status.phase}")
        try:
            verdict = planner.approve(plan_id)
        except Permanent as over:
            # it was approved or taken back already, and its first effect is still under way
            raise ProblemError(409, str(over)) from None
        if verdict.outcome != "go":
            raise ProblemError(409, f"the gate says {verdict.outcome}: {verdict.why}", verdict=verdict.model_dump(mode="json"))
        return Approval(plan=plan_id, decision=status.plan.decision, verdict=verdict)

    @api.post("/v1/plans/{plan_id}:cancel", status_code=202)
    def cancel(plan_id: str) -> PlanStatus:
        """Stops a plan before its next effect; what was done stays."""
        before = known(plan_id)
        if not planner.cancel(plan_id):
            raise ProblemError(409, f"plan {plan_id} has ended ({known(plan_id).phase}); it can only be reverted")
        return planner.plan(plan_id) or before.model_copy(update={"phase": "cancelled", "detail": "it was taken back before it began"})

    @api.post("/v1/plans/{plan_id}:revert", status_code=202)
    def revert(plan_id: str) -> dict[str, Any]:
        """Takes back what an ended plan did, by a plan of its own that passes the gate."""
        status = known(plan_id)
        if status.phase not in ENDED:
            raise ProblemError(409, f"plan {plan_id} is {status.phase}; cancel it first")
        try:
            return _told(planner, planner.revert(plan_id))
        except Permanent as impossible:
            raise ProblemError(409, str(impossible)) from None

    @api.post("/v1/strategies/{name}:reinstate", status_code=204)
    def reinstate(name: str) -> None:
        """Lets a strategy that demoted itself act again."""
        if name not in planner.specs.strategies:
            raise not_found("strategy", name, "GET /v1/strategies")
        planner.reinstate(name)

    @api.post("/v1/primitives/{name}")
    def primitive(name: str, request: PrimitiveRequest, http: Request) -> dict[str, Any]:
        """A primitive by hand, through the same gate and plans; with `dry_run` nothing is done. `delete` needs the scope admin."""
        arguments = ARGUMENTS.get(name)
        if arguments is None:
            raise ProblemError(404, f"there is no primitive {name!r}; there are {', '.join(ARGUMENTS)}")
        if name in _ADMIN_PRIMITIVES and not request.dry_run and _scope(http) != "admin":
            raise ProblemError(403, f"{name} needs scope admin")
        try:
            target = Target.parse(request.target)
        except ValueError as wrong:
            raise ProblemError(422, str(wrong)) from None
        if target.workflow not in planner.specs.workflows:
            raise not_found("workflow", target.workflow, "GET /v1/workflows")
        try:
            arguments.model_validate(request.args)
        except ValidationError as invalid:
            errors = [{"at": ".".join(map(str, ("args", *error["loc"]))), "message": error["msg"]} for error in invalid.errors()]
            raise ProblemError(422, f"{name}: {errors[0]['at']}: {errors[0]['message']}", errors=errors) from None
        action = Action(primitive=name, target=request.target, args=request.args)
        return _told(planner, planner.by_hand(action, dry_run=request.dry_run))

    return api


def _documents(planner: Planner) -> APIRouter:
    api = APIRouter(tags=["documents"], route_class=StrictRoute)

    def compare(request: ApplyRequest) -> tuple[list[Any], list[documents.Difference]]:
        now = planner.specs
        models = documents.parse(request.documents, now, request.prune, planner.platform_kind)
        unknown = sorted(request.packages.keys() - now.workflows.keys() - {model.name for model in models if model.kind == "Workflow"})
        if unknown:
            raise ProblemError(422, f"packages are given for workflows that are not: {', '.join(unknown)}")
        then = documents.merge(now, models, request.packages, request.prune)
        changes = [difference for difference in documents.differences(now, then) if difference.change != "unchanged"]
        return models, [*changes, *planner.not_running(models, request.packages)]

    @api.post("/v1/diff", dependencies=[READ])
    def diff(request: ApplyRequest) -> ApplyAnswer:
        """What applying would change; nothing is changed."""
        return ApplyAnswer(dry_run=True, changes=compare(request)[1])

    @api.post("/v1/apply", dependencies=[ADMIN])
    def apply(request: ApplyRequest) -> ApplyAnswer:
        """Validates every document, then puts all in force at once and deploys the online workflows that changed."""
        models, changes = compare(request)
        if request.dry_run:
            return ApplyAnswer(dry_run=True, changes=changes)
        changed, decisions = planner.apply(models, request.packages, prune=request.prune)
        return ApplyAnswer(dry_run=False, changes=changed, decisions=decisions)

    @api.post("/v1/packages", status_code=201, dependencies=[ADMIN])
    async def packages(request: Request) -> dict[str, str]:
        """Packed user code (a zip file as the body), passed on to the platform's host; answers with its digest."""
        content = await request.body()
        if not content.startswith(b"PK"):
            raise ProblemError(422, "the body is no zip file")
        return {"digest": await run_in_threadpool(planner.platform.add_package, content)}

    return api


def _scope(http: Request) -> str | None:
    return http.app.state.tokens.scope(http.headers.get("authorization", "").partition(" ")[2].strip())
