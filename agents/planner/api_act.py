"""What the planner does when it is asked to."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field, ValidationError

from autonomic.agents.auth import ACT, ADMIN, READ, holder_of
from autonomic.agents.planner import specs as documents
from autonomic.agents.planner.service import Planner
from autonomic.agents.problems import ProblemError, not_found
from autonomic.agents.strict_json import StrictRoute
from autonomic.primitives.table import PRIMITIVES
from autonomic.seams.decision import Action, DecisionRecord
from autonomic.seams.target import Target
from autonomic.seams.word import Word
from autonomic.strategies.spec.strategy import Strategy

MAX_PACKAGE_BYTES = 256 * 1024 * 1024


class PrimitiveRequest(Word):
    """A primitive by hand; its arguments are those that a strategy gives it."""

    target: str = Field(min_length=1, max_length=120)
    args: dict[str, Any] = {}
    dry_run: bool = False
    why: str = Field("", max_length=1000)


class ApplyRequest(Word):
    """Documents to put in force. `packages` are digests by workflow (`POST /v1/packages`); `prune` removes what is not given."""

    documents: list[dict[str, Any]] = Field(max_length=10_000)
    packages: dict[str, Annotated[str, Field(pattern=r"^[A-Za-z0-9:_-]{0,128}$")]] = {}
    prune: bool = False
    dry_run: bool = False


class DeleteRequest(Word):
    """Why a workflow is deleted, and whether the strategies that aim at it go with it."""

    why: str = Field("", max_length=1000)
    with_strategies: bool = False


class ApplyAnswer(Word):
    """What changed (with `dry_run`: what would), and the decisions on what follows from it.

    `faults` say what fails by itself in workflows that run as their documents say, such as a drift detector; applying mends none of it.
    """

    dry_run: bool
    changes: list[documents.Difference]
    decisions: list[DecisionRecord] = []
    faults: list[str] = []


def router(planner: Planner) -> APIRouter:
    """The endpoints that act."""
    api = APIRouter()
    api.include_router(_primitives(planner))
    api.include_router(_documents(planner))
    return api


def _primitives(planner: Planner) -> APIRouter:
    api = APIRouter(tags=["actions"], dependencies=[ACT], route_class=StrictRoute)

    @api.post("/v1/primitives/{name}")
    def primitive(name: str, request: PrimitiveRequest, http: Request) -> dict[str, Any]:
        """A primitive by hand, through the same gate and plans; with `dry_run` nothing is done. `delete` needs the scope admin."""
        known = PRIMITIVES.get(name)
        if known is None:
            raise ProblemError(404, f"there is no primitive {name!r}; there are {', '.join(PRIMITIVES)}")
        if known.admin and not request.dry_run and holder_of(http).scope != "admin":
            raise ProblemError(403, f"{name} needs scope admin")
        try:
            target = Target.parse(request.target)
        except ValueError as wrong:
            raise ProblemError(422, str(wrong)) from None
        if target.workflow not in planner.specs.workflows:
            raise not_found("workflow", target.workflow, "GET /v1/workflows")
        try:
            known.arguments.model_validate(request.args)
        except ValidationError as invalid:
            errors = [{"at": ".".join(map(str, ("args", *error["loc"]))), "message": error["msg"]} for error in invalid.errors()]
            raise ProblemError(422, f"{name}: {errors[0]['at']}: {errors[0]['message']}", errors=errors) from None
        action = Action(primitive=name, target=request.target, args=request.args)
        return planner.brief(planner.by_hand(action, dry_run=request.dry_run, actor=holder_of(http).name, why=request.why))

    return api


def _documents(planner: Planner) -> APIRouter:
    api = APIRouter(tags=["documents"], route_class=StrictRoute)

    def compare(request: ApplyRequest) -> tuple[list[Any], list[documents.Difference]]:
        now = planner.specs
        models = documents.parse(request.documents, now, planner.platforms, request.prune)
        unknown = sorted(request.packages.keys() - now.workflows.keys() - {model.name for model in models if model.kind == "Workflow"})
        if unknown:
            raise ProblemError(422, f"packages are given for workflows that are not: {', '.join(unknown)}")
        then = documents.merge(now, models, request.packages, request.prune)
        changes = [difference for difference in documents.differences(now, then) if difference.change != "unchanged"]
        return models, [*changes, *planner.not_running(models, request.packages)]

    @api.post("/v1/diff", dependencies=[READ])
    def diff(request: ApplyRequest) -> ApplyAnswer:
        """What applying would change; nothing is changed."""
        models, changes = compare(request)
        return ApplyAnswer(dry_run=True, changes=changes, faults=planner.faults(models))

    @api.post("/v1/apply", dependencies=[ADMIN])
    def apply(request: ApplyRequest, http: Request) -> ApplyAnswer:
        """Validates every document, then puts all in force at once and deploys the online workflows that changed."""
        models, changes = compare(request)
        faults = planner.faults(models)
        if request.dry_run:
            return ApplyAnswer(dry_run=True, changes=changes, faults=faults)
        changed, decisions = planner.apply(models, request.packages, prune=request.prune, actor=holder_of(http).name)
        return ApplyAnswer(dry_run=False, changes=changed, decisions=decisions, faults=faults)

    @api.post("/v1/workflows/{name}:delete", dependencies=[ADMIN])
    def delete(name: str, request: DeleteRequest, http: Request) -> ApplyAnswer:
        """Takes a workflow out of force, and an online one out of service: 409 where strategies aim at it that stay."""
        if name not in planner.specs.workflows:
            raise not_found("workflow", name, "GET /v1/workflows")
        aiming = sorted(one for one, strategy in planner.specs.strategies.items() if name in _workflows_of(strategy))
        if aiming and not request.with_strategies:
            raise ProblemError(409, f"strategies aim at {name}: {', '.join(aiming)}; delete it with its strategies", strategies=aiming)
        if frozen := next((one for one in planner.engine.freezes() if one.covers(name)), None):
            raise ProblemError(409, frozen.words())
        removed = [("Workflow", name), *(("Strategy", one) for one in aiming)]
        changed, decisions = planner.delete(removed, holder_of(http).name, request.why)
        return ApplyAnswer(dry_run=False, changes=changed, decisions=decisions)

    @api.post("/v1/packages", status_code=201, dependencies=[ADMIN])
    async def packages(request: Request) -> dict[str, str]:
        """Packed user code (a zip file as the body), passed on to the platform's host; answers with its digest."""
        content = await request.body()
        if not content.startswith(b"PK"):
            raise ProblemError(422, "the body is no zip file")
        return {"digest": await run_in_threadpool(planner.platform.add_package, content)}

    return api


def _workflows_of(strategy: Strategy) -> set[str]:
    targets = [strategy.spec.target, *(action.target for action in strategy.spec.do if action.target)]
    return {target.partition("/")[0] for target in targets}
