"""What a platform sees of a target."""

from typing import Any, Literal

from autonomic.seams.word import Word

Role = Literal["champion", "canary", "backup"]
RunStatus = Literal["pending", "running", "succeeded", "failed", "stopped"]
FINISHED: frozenset[str] = frozenset({"succeeded", "failed", "stopped"})


class RoleState(Word):
    """One model of a service: its resolved version (`models:/mnist/3`), and replicas wanted and ready.

    `surplus` counts those that are ready beside, which nobody declared, as after a scaling by hand. `why` are the platform's own words
    where fewer are ready than wanted, or more; "" where it has none.
    """

    model: str
    wanted: int
    ready: int
    surplus: int = 0
    why: str = ""


class ServiceState(Word):
    """An online service. `weights` are the shares of traffic by role, in percent; `min`/`max` bound the champion."""

    roles: dict[str, RoleState]
    weights: dict[str, int]
    min_replicas: int
    max_replicas: int
    queued: int = 0
    in_flight: int = 0


class StepState(Word):
    """A step of a run. Times are seconds since the epoch, None while it has not come so far.

    `failures` say why attempts failed, the newest last; of many only the newest are kept.
    """

    name: str
    status: RunStatus = "pending"
    attempt: int = 0
    outputs: dict[str, Any] = {}
    detail: str = ""
    failures: tuple[str, ...] = ()
    started_at: float | None = None
    finished_at: float | None = None


class RunState(Word):
    """A run of a batch workflow."""

    id: str
    workflow: str
    status: RunStatus
    parameters: dict[str, Any] = {}
    steps: dict[str, StepState] = {}
    outputs: dict[str, Any] = {}
    detail: str = ""
    tracking_run: str = ""
    cause: str = ""
    started_at: float | None = None
    finished_at: float | None = None


class ModelVersion(Word):
    """A version in the model registry with its tags as they stand, and the metrics of the run that logged it."""

    version: str
    tags: dict[str, str] = {}
    metrics: dict[str, float] = {}


class State(Word):
    """A target as it is now. `revision` grows with every write of ours; it is what `Change.expect` compares.

    `package` is the digest of the code that an online workflow was deployed with, "" where it has none.
    """

    target: str
    kind: Literal["batch", "online", "absent"]
    revision: int = 0
    spec: dict[str, Any] = {}
    package: str = ""
    service: ServiceState | None = None
    runs: tuple[RunState, ...] = ()
    # how what runs differs from what is declared, and why
    differs: tuple[str, ...] = ()
    # what of it fails by itself though it runs as declared, such as a drift detector that raises: no deploy would mend it
    faults: tuple[str, ...] = ()
    # of the registered model named in the spec: alias -> version
    aliases: dict[str, ModelVersion] = {}
