"""What a strategy or a person may give each primitive; the declaration is the parser and the schema."""

from typing import Any

from pydantic import Field, model_validator

from autonomic.seams.state import Role
from autonomic.seams.word import Word
from autonomic.workflows.spec.placement_override import PlacementOverride
from autonomic.workflows.spec.units import Percent
from autonomic.workflows.spec.workflow import ModelUri, Size


class RunArguments(Word):
    """Runs a batch workflow."""

    parameters: dict[str, Any] = {}


class StopArguments(Word):
    """Stops the runs of a workflow: the one named, else all that are active."""

    run: str | None = None


class DeployArguments(Word):
    """Deploys an online workflow as it was applied."""


class DeleteArguments(Word):
    """Takes an online workflow out of service."""


class UpgradeArguments(Word):
    """Puts other model versions behind roles of a service."""

    champion: ModelUri | None = None
    canary: ModelUri | None = None
    backup: ModelUri | None = None

    @model_validator(mode="after")
    def _something(self) -> "UpgradeArguments":
        if self.champion is None and self.canary is None and self.backup is None:
            raise ValueError("upgrade needs at least one of champion, canary, backup")
        return self


class Requirement(Word):
    """As many replicas as the reading needs at `per_replica` each."""

    reading: str
    per_replica: float = Field(gt=0)


class RescaleArguments(Word):
    """Changes the number of replicas of a role: `by` some, `to` a number, or by a requirement (`require`).

    What is planned stays within the service's min and max.
    """

    by: int | None = None
    to: int | None = Field(None, ge=0)
    require: Requirement | None = None
    role: Role = "champion"

    @model_validator(mode="after")
    def _one(self) -> "RescaleArguments":
        if sum(value is not None for value in (self.by, self.to, self.require)) != 1:
            raise ValueError("rescale takes exactly one of by, to, require")
        return self


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


class RescheduleArguments(PlacementOverride):
    """Moves the replicas of a service, or the next attempts of steps, to where this lets them run.

    It takes the place of what an earlier `reschedule` said; without arguments only what was declared counts.
    """


class RetargetArguments(Word):
    """Changes the value at which the HPA or the ScaledObject of an adopted workload keeps a metric: `to` a value, or `times` what it is.

    `metric` is its name there (of a trigger of KEDA its name, else its type), needed where there are several. The value has the unit
    that the metric's target has there: percent of what is requested, or an amount. It stays within `min` and `max`.
    """

    metric: str | None = None
    to: float | None = Field(None, gt=0)
    times: float | None = Field(None, gt=0)
    min: float | None = Field(None, gt=0)
    max: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _one(self) -> "RetargetArguments":
        if (self.to is None) == (self.times is None):
            raise ValueError("retarget takes exactly one of to, times")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("retarget's min is greater than its max")
        return self


class RerouteArguments(Word):
    """Sets the shares of traffic; what is not named keeps its part of the rest, the champion takes what is left."""

    canary: Percent | None = None
    backup: Percent | None = None
    champion: Percent | None = None


class RetrainArguments(Word):
    """Runs a batch workflow from the production model with the labelled points of a service.

    The workflow gets them as its parameters `base_model` (the version that `from` names now) and `points` (the
    prediction log of `points`, a target `workflow/service`). A run that is still in flight is not doubled.
    """

    from_: ModelUri = Field(alias="from")
    points: str | None = None
    parameters: dict[str, Any] = {}


class PromoteGuard(Word):
    """What else must hold of a version that is promoted: of a `metric` or of a `tag`.

    A `metric` is above or below a bound, or may be worse than the champion's by `tolerance` at most. A `tag` is the text `is`. The
    champion's value is that of its own metric, or of the version's metric `against`, where both were judged on the same data.
    `reason` names a tag that explains a failure. What is `optional` passes where the metric or the tag is not there.
    """

    metric: str | None = Field(None, min_length=1)
    higher_is_better: bool = True
    against: str | None = Field(None, min_length=1)
    tolerance: float | None = Field(None, ge=0)
    above: float | None = None
    below: float | None = None
    tag: str | None = Field(None, min_length=1)
    is_: str | None = Field(None, alias="is")
    reason: str | None = None
    optional: bool = False

    @model_validator(mode="after")
    def _one(self) -> "PromoteGuard":
        if (self.metric is None) == (self.tag is None):
            raise ValueError("a guard of promote takes exactly one of metric, tag")
        if self.tag is not None and self.is_ is None:
            raise ValueError("a guard on a tag needs `is`, the text that the tag must have")
        if self.metric is not None and self.tolerance is None and self.above is None and self.below is None:
            raise ValueError("a guard on a metric needs at least one of tolerance, above, below")
        return self


class PromoteArguments(Word):
    """Makes the version under the alias `from` the champion, if it is better; the old champion becomes the backup.

    It is better where its `metric` is higher (or lower, where not `higher_is_better`) than the champion's, by at least `margin`, and
    every guard passes. A metric is one of the run that logged the version, or a tag of the version. `against` names the version's
    metric that holds the champion's value, where both were judged on the same data. A version that loses is quarantined: its
    tag `quarantined` says why. One of which a value is missing is only not promoted.
    """

    from_: str = Field("candidate", alias="from")
    metric: str = Field(min_length=1)
    higher_is_better: bool = True
    against: str | None = Field(None, min_length=1)
    margin: float = Field(0.0, ge=0)
    guards: tuple[PromoteGuard, ...] = ()


class RollbackArguments(Word):
    """Makes the backup the champion again and quarantines the champion."""


class TuneArguments(Word):
    """Hands a search over a batch workflow's parameters to the tuner.

    `space` maps a parameter to `{choice: [...]}`, `{uniform: [low, high]}`, `{loguniform: [low, high]}` or
    `{integer: [low, high]}`.
    """

    metric: str
    mode: str = Field("max", pattern="^(max|min)$")
    space: dict[str, dict[str, list[Any]]]
    trials: int = Field(10, ge=1, le=10_000)
    parallel: int = Field(1, ge=1, le=1000)
    parameters: dict[str, Any] = {}


class CallArguments(Word):
    """Sends a CloudEvent to another agent or any HTTP endpoint."""

    to: str
    type: str
    data: dict[str, Any] = {}


class NotifyArguments(Word):
    """A message to people: into the journal, and to `webhook` where one is given."""

    message: str
    webhook: str | None = None


ARGUMENTS: dict[str, type[Word]] = {
    "call": CallArguments,
    "delete": DeleteArguments,
    "deploy": DeployArguments,
    "notify": NotifyArguments,
    "promote": PromoteArguments,
    "reroute": RerouteArguments,
    "rescale": RescaleArguments,
    "reschedule": RescheduleArguments,
    "resize": ResizeArguments,
    "retarget": RetargetArguments,
    "retrain": RetrainArguments,
    "rollback": RollbackArguments,
    "run": RunArguments,
    "stop": StopArguments,
    "tune": TuneArguments,
    "upgrade": UpgradeArguments,
}

IRREVERSIBLE = frozenset({"call", "delete", "notify"})
"""What cannot be taken back once it was done."""
ADOPTED = frozenset({"rescale", "resize", "retarget"})
"""What may be done to a workload that somebody else made, beside adopting and releasing it."""
NEVER_AUTO = frozenset({"delete"})
"""Irreversible, and harmful where it was a mistake: a person has to say yes."""
