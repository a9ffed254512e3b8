"""The document `kind: Workflow`."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from autonomic.seams.word import Word
from autonomic.workflows.spec.name import HostName, LabelValue, Name, ObjectName
from autonomic.workflows.spec.placement import Folder, Placement, Volume
from autonomic.workflows.spec.units import Bytes, Cpu, Duration, Percent, format_amount

API_VERSION = "autonomic.dev/v1alpha1"

Function = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
"""`package.module:function`."""
ModelUri = Annotated[str, StringConstraints(pattern=r"^(models:/[^/@\s]+(@[^/\s]+|/\d+)|(s3|file)://\S+)$")]
"""`models:/name@alias`, `models:/name/version`, or an `s3://` or `file://` folder."""


TEAM_LABEL = "autonomic.dev/team"


class Metadata(Word):
    """How a document is found. `name` is unique for its kind.

    The team may stand in the label `autonomic.dev/team` instead, as it has to on Kubernetes, whose metadata has no such key.
    """

    name: Name
    team: str = ""
    labels: dict[str, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _team_of_label(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        labels = data.get("labels")
        if isinstance(labels, dict) and TEAM_LABEL in labels and not data.get("team"):
            return {**data, "team": labels[TEAM_LABEL]}
        return data


class Size(Word):
    """An amount of some resources; what is not named is left open."""

    cpu: Cpu | None = None
    memory: Bytes | None = None
    gpu: Cpu | None = None


class Resources(Word):
    """What a step or one replica needs. `resize` stays between `min` and `max`; a bound that is not given is what is declared.

    `accelerator` is the type of its GPUs, such as `NVIDIA-L4`; without it any will do.
    """

    cpu: Cpu = 1.0
    memory: Bytes | None = None
    gpu: Cpu = 0.0
    accelerator: LabelValue | None = None
    min: Size = Size()
    max: Size = Size()

    @model_validator(mode="after")
    def _within(self) -> Self:
        for name in Size.model_fields:
            declared, low, high = (getattr(part, name) for part in (self, self.min, self.max))
            if declared is None and (low is not None or high is not None):
                raise ValueError(f"resources has bounds of {name} and no {name}; say how much it begins with")
            if declared is None:
                continue
            if (low is not None and low > declared) or (high is not None and high < declared):
                raise ValueError(f"resources.{name} {format_amount(name, declared)} is not between resources.min and resources.max")
        return self

    @model_validator(mode="after")
    def _of_gpus(self) -> Self:
        if self.accelerator is not None and not self.bounds("gpu")[1]:
            raise ValueError("accelerator: is the type of the GPUs, of which gpu: asks for none")
        return self

    def bounds(self, name: str) -> tuple[float | None, float | None]:
        """The least and the most that `resize` may make of a resource; None where none of it is declared."""
        low, high, declared = (getattr(part, name) for part in (self.min, self.max, self))
        return declared if low is None else low, declared if high is None else high

    @property
    def size(self) -> dict[str, Any]:
        """The amounts alone, as JSON."""
        return {name: getattr(self, name) for name in Size.model_fields}

    def resized(self, size: dict[str, Any]) -> Self:
        """The same bounds around another size."""
        low, high = ({name: self.bounds(name)[end] for name in Size.model_fields} for end in (0, 1))
        return self.model_validate({**self.model_dump(), **size, "min": low, "max": high})


class StepResources(Resources):
    """What a step needs. Where no such GPU could be had for `cpu_after`, it runs without one; without it, it waits."""

    cpu_after: Duration | None = None

    @model_validator(mode="after")
    def _instead_of_gpus(self) -> Self:
        if self.cpu_after is not None and not self.bounds("gpu")[1]:
            raise ValueError("cpu_after: says when CPU is enough instead of GPUs, of which gpu: asks for none")
        return self


class Retries(Word):
    """How often a failed step is tried again, and how long is waited first; the wait doubles with each retry."""

    limit: int = Field(default=0, ge=0, le=100)
    backoff: Duration = 5.0


class Step(Word):
    """One step of a batch workflow: a Python function (`run`) or a command.

    `with` are the keyword arguments; a command gets them as `--name value` after its own arguments and as
    environment variables `AUTONOMIC_WITH_NAME`, and writes its outputs as JSON to the file `AUTONOMIC_OUTPUTS`.

    `queue` is the queue of a batch scheduler (Kueue) that it waits in.
    """

    name: Name
    needs: tuple[Name, ...] = ()
    run: Function | None = None
    command: tuple[str, ...] | None = None
    with_: dict[str, Any] = Field(default={}, alias="with")
    env: dict[str, str] = {}
    outputs: tuple[str, ...] | None = None
    resources: StepResources = StepResources()
    retries: Retries = Retries()
    timeout: Duration | None = None
    placement: Placement = Placement()
    volumes: tuple[Volume, ...] = ()
    queue: Name | None = None

    @model_validator(mode="after")
    def _one_body(self) -> "Step":
        if (self.run is None) == (self.command is None):
            raise ValueError("a step has either run: (a Python function) or command: (a list), not both and not none")
        return self


class Replicas(Word):
    """How many replicas of the champion may run; `standby` are kept warm beside those that are needed."""

    min: int = Field(default=1, ge=0)
    max: int = Field(default=1, ge=1)
    standby: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> "Replicas":
        if self.min > self.max:
            raise ValueError(f"replicas.min {self.min} is greater than replicas.max {self.max}")
        return self


CHUNK_ROWS = 256


def chunk_rows(max_batch_size: int) -> int:
    """How many rows of one request go through the model together; where requests are not put together, it is CHUNK_ROWS."""
    return max_batch_size if max_batch_size > 1 else CHUNK_ROWS


class Batching(Word):
    """How requests are put together before the model sees them; a batch waits at most `max_wait`.

    One request is a batch already: its rows go through the model in chunks of `max_batch_size`, and of 256 where that is 1.
    """

    max_batch_size: int = Field(default=1, ge=1, le=4096)
    max_wait: Duration = 0.0

    @property
    def chunk_rows(self) -> int:
        """How many rows of one request go through the model together."""
        return chunk_rows(self.max_batch_size)


class Traffic(Word):
    """The first split of the traffic."""

    canary: Percent = 0.0


class Drift(Word):
    """Where drift is looked for without labels.

    `detector` is a class `(champion_dir, reference_dir, **with)` with `update(rows) -> dict[str, float]`, and `pick(rows, limit)`
    if it likes; it runs on the platform over the prediction log, every `every`. `reference` is the model whose folder is
    compared with; without it the champion's own.
    """

    detector: Function
    reference: ModelUri | None = None
    every: Duration = 1.0
    with_: dict[str, Any] = Field(default={}, alias="with")


class Tls(Word):
    """Where the certificate (with its chain) and its key come from: a Secret of the type `kubernetes.io/tls`, or PEM files.

    Files are on the machine of the front. Both are read again while they are in use, so that a renewed one takes over.
    """

    secret: ObjectName | None = None
    certificate: Folder | None = None
    key: Folder | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "Tls":
        if (self.certificate is None) != (self.key is None) or (self.secret is None) == (self.key is None):
            raise ValueError("tls: takes either secret: or both of certificate: and key:")
        return self


class Route(Word):
    """Traffic by the Gateway API of Kubernetes: the Gateway (and its listener, `section`) that a service's HTTPRoute is for.

    `namespace` is that of the Gateway, by default the service's; without `hostnames` all of the listener's are taken.
    """

    gateway: ObjectName
    namespace: ObjectName | None = None
    section: ObjectName | None = None
    hostnames: tuple[HostName, ...] = ()


def _of_batches(service: dict[str, Any]) -> int:
    batching = service.get("batching")
    return batching.max_batch_size if isinstance(batching, Batching) else 1


class Service(Word):
    """One service of an online workflow.

    `max_in_flight` is how many requests one replica may hold; the others wait in the front. By default it is `max_batch_size`: a batch
    is never put together of more. A request of more than `max_rows` rows gets 413. `device_time` is spent asleep per batch and stands
    for an accelerator where there is none (0: nothing is pretended). `token` asks callers for a bearer token. `expose` gives it a
    Service of this type on the cluster, at whose root it answers; with `tls` it answers nothing but TLS. `route` has a Gateway split
    its traffic as well, straight to the replicas. `log` keeps predictions (with their inputs) for drift detection and labels.
    """

    name: Name
    model: ModelUri
    backup: ModelUri | None = None
    canary: ModelUri | None = None
    replicas: Replicas = Replicas()
    resources: Resources = Resources(cpu=0.0)
    batching: Batching = Batching()
    max_in_flight: int = Field(default_factory=_of_batches, ge=1, le=10_000)
    max_rows: int = Field(default=10_000, ge=1, le=1_000_000)
    device_time: Duration = 0.0
    traffic: Traffic = Traffic()
    timeout: Duration = 10.0
    token: bool = False
    expose: Literal["ClusterIP", "NodePort", "LoadBalancer"] | None = None
    tls: Tls | None = None
    route: Route | None = None
    log: bool = True
    drift: Drift | None = None
    placement: Placement = Placement()
    volumes: tuple[Volume, ...] = ()


class ContainerSize(Word):
    """An amount of what a container may be resized in; what is not named is left open."""

    cpu: Cpu | None = None
    memory: Bytes | None = None


class ContainerBounds(Word):
    """The least and the most that `resize` may make of what a container has; a bound that is not given is what it has."""

    min: ContainerSize = ContainerSize()
    max: ContainerSize = ContainerSize()

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name in ContainerSize.model_fields:
            low, high = getattr(self.min, name), getattr(self.max, name)
            if low is not None and high is not None and low > high:
                least, most = format_amount(name, low), format_amount(name, high)
                raise ValueError(f"resources.min.{name} {least} is greater than resources.max.{name} {most}")
        return self


class Adopt(Word):
    """A workload on Kubernetes that somebody else made, by its name: a target `workflow/NAME` of which only what is changed is written.

    `replicas` bound what `rescale` may make of it (`standby` does not count), and `resources` what `resize` may make of its
    `container` (without a word the first).
    """

    deployment: ObjectName | None = None
    statefulset: ObjectName | None = None
    job: ObjectName | None = None
    replicas: Replicas = Replicas()
    container: ObjectName | None = None
    resources: ContainerBounds = ContainerBounds()

    @model_validator(mode="after")
    def _one_workload(self) -> "Adopt":
        if sum(value is not None for value in (self.deployment, self.statefulset, self.job)) != 1:
            raise ValueError("adopt takes exactly one of deployment, statefulset, job")
        return self

    @property
    def kind(self) -> str:
        """Which of the three it is."""
        return "deployment" if self.deployment else "statefulset" if self.statefulset else "job"

    @property
    def name(self) -> str:
        """The name of the workload."""
        return self.deployment or self.statefulset or self.job or ""


class BatchSpec(Word):
    """Steps that run to an end, in the order of their `needs`.

    `files` are files and folders beside the YAML file that travel with the code although nothing names them. Under `parameters` stand
    default values, or declarations such as `{type: integer, default: 3, min: 1, max: 50, description: …}`: see `spec.parameters`.
    """

    type: Literal["batch"]
    files: tuple[str, ...] = ()
    parameters: dict[str, Any] = {}
    steps: tuple[Step, ...] = Field(min_length=1)
    env: dict[str, str] = {}


class OnlineSpec(Word):
    """Services that answer requests until they are stopped, or a workload that somebody else made (`adopt`).

    `files` are files and folders beside the YAML file that travel with the code although nothing names them.
    """

    type: Literal["online"]
    files: tuple[str, ...] = ()
    services: tuple[Service, ...] = ()
    adopt: Adopt | None = None

    @model_validator(mode="after")
    def _something(self) -> "OnlineSpec":
        if bool(self.services) == (self.adopt is not None):
            raise ValueError("an online workflow has either services: (at least one) or adopt:, not both and not none")
        return self

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of what `workflow/NAME` may name."""
        return (self.adopt.name,) if self.adopt else tuple(service.name for service in self.services)


class Workflow(Word):
    """A workflow: what runs."""

    api_version: Literal["autonomic.dev/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["Workflow"]
    metadata: Metadata
    spec: Annotated[BatchSpec | OnlineSpec, Field(discriminator="type")]

    @property
    def name(self) -> str:
        return self.metadata.name
