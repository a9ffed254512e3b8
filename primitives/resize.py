"""resize: changes what each replica of a service, or the next attempts of a step, get of a node."""

from typing import Any, ClassVar

from pydantic import Field, model_validator

from autonomic.primitives.base import Context, Layer, Primitive, Refused, TargetKind, Unneeded, put_back
from autonomic.seams.plan import Change, Irreversible, Outcome
from autonomic.seams.state import State
from autonomic.seams.word import Word
from autonomic.workflows.spec.workflow import Resources, Size, StepResources


class Factors(Word):
    """By how much each resource is multiplied."""

    cpu: float | None = Field(None, gt=0)
    memory: float | None = Field(None, gt=0)
    gpu: float | None = Field(None, gt=0)


class ResizeArguments(Size):
    """Changes what each replica of a service, or the next attempts of a step, get: amounts, or `times` what they have now.

    What is planned stays within the `min` and `max` of the resources declared.
    """

    times: Factors | None = None

    @model_validator(mode="after")
    def _once(self) -> "ResizeArguments":
        amounts = self.model_dump(exclude={"times"}, exclude_none=True).keys()
        factors = self.times.model_dump(exclude_none=True).keys() if self.times else set[str]()
        if not amounts and not factors:
            raise ValueError("resize needs at least one of cpu, memory, gpu, times")
        if twice := sorted(amounts & factors):
            raise ValueError(f"resize got both an amount and a factor for {', '.join(twice)}")
        return self


class Resize(Primitive[ResizeArguments]):
    """Change.to: {resources: {cpu, memory (bytes), gpu}}. It stays within the bounds that are declared; capacity never falls meanwhile."""

    name: ClassVar[str] = "resize"
    arguments: ClassVar[type[Word]] = ResizeArguments
    target: ClassVar[TargetKind] = "part"
    layer: ClassVar[Layer] = "both"
    adopted: ClassVar[bool] = True

    def plan(self, args: ResizeArguments, state: State, context: Context) -> tuple[Change, ...]:
        resources = _resources(state, context)
        now = resources.size
        wanted = {name: self._wanted(name, args, resources, state.target) for name in now}
        if wanted == now:
            told = ", ".join(f"{name} {value:g}" for name, value in now.items() if value)
            raise Unneeded(f"resize: {state.target} has {told or 'nothing'} already, or this is its bound")
        to = {"resources": wanted}
        return (Change(key=context.key(), primitive=self.name, target=state.target, to=to, expect=state.revision),)

    def _wanted(self, name: str, args: ResizeArguments, resources: Resources, target: str) -> Any:
        now, amount = getattr(resources, name), getattr(args, name)
        factor = getattr(args.times, name) if args.times else None
        if amount is None and factor is None:
            return now
        if now is None:
            raise Refused(f"resize: {target} declares no {name}, so that there is nothing to resize")
        asked = now * factor if amount is None else amount
        low, high = resources.bounds(name)
        kept = min(max(asked, asked if low is None else low), asked if high is None else high)
        return int(kept) if name == "memory" else float(kept)

    def revert(self, outcome: Outcome) -> Change | Irreversible:
        return put_back(outcome)

    def describe(self, change: Change) -> str:
        size = change.to["resources"]
        told = [f"{size['cpu']:g} CPU"] if size.get("cpu") else []
        told += [f"{size['memory'] / 2**20:g} MiB"] if size.get("memory") else []
        told += [f"{size['gpu']:g} GPU"] if size.get("gpu") else []
        return f"resize {change.target} to {', '.join(told) or 'nothing that is reserved'}"

    def cuts_capacity(self, change: Change, state: State | None) -> bool:
        now: dict[str, float | None] = {}
        if state is not None:
            now = state.spec.get("resources", now)
        return any((value or 0) < (now.get(name) or 0) for name, value in change.to["resources"].items())


def _resources(state: State, context: Context) -> Resources:
    if state.kind == "absent":
        raise Refused(f"resize: {state.target} is not deployed, and no run of it is known")
    workflow, _, step = state.target.partition("/")
    if state.kind == "batch" and step:
        steps = context.workflows.get(workflow, {}).get("spec", {}).get("steps", ())
        declared = next((one["resources"] for one in steps if one["name"] == step), None)
        if declared is not None:
            resources = StepResources.model_validate(declared)
            return resources.resized(state.spec["resources"]) if "resources" in state.spec else resources
    if state.service is None:
        raise Refused(
            f"resize: {state.target} is neither a service nor a step that was applied; it acts on workflow/service or workflow/step"
        )
    return Resources.model_validate(state.spec.get("resources", {}))
