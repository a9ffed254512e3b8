"""Where a step or the replicas of a service may run, and which folders they see: `placement:` and `volumes:`."""

import re
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from autonomic.seams.word import Word
from autonomic.workflows.spec.name import LABEL_KEY, LabelKey, LabelValue, Name, ObjectName
from autonomic.workflows.spec.units import Duration

Folder = Annotated[str, StringConstraints(pattern=r"^/[^\s:]*[^\s:/]$")]
"""An absolute path without spaces and colons, other than `/`."""


class Neighbour(Word):
    """A node by its name, or the nodes on which a workflow runs (or one of its steps or services, `part`).

    Where it cannot be had, a pod waits; with `strict: false` it is placed elsewhere.
    """

    node: ObjectName | None = None
    workflow: Name | None = None
    part: Name | None = None
    strict: bool = True

    @model_validator(mode="after")
    def _one_thing(self) -> "Neighbour":
        if (self.node is None) == (self.workflow is None):
            raise ValueError("exactly one of node and workflow is given")
        if self.part is not None and self.workflow is None:
            raise ValueError("part: is a step or a service of a workflow, which workflow: names")
        return self


class Toleration(Word):
    """A taint that is put up with: of this `key` (without one: every taint), this `value` and this `effect` (without: any).

    `for` bounds how long a pod stays on a node that got the taint `NoExecute`; without it, for ever.
    """

    key: LabelKey | None = None
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    for_: Duration | None = Field(default=None, alias="for")

    @model_validator(mode="after")
    def _sensible(self) -> "Toleration":
        if self.value is not None and self.key is None:
            raise ValueError("value: is that of the taint key:, which is not given")
        if self.for_ is not None and self.effect != "NoExecute":
            raise ValueError("for: belongs to effect: NoExecute")
        return self


class Placement(Word):
    """Where it may run. `nodes` are labels that a node must have; `priority_class` is that of the cluster by its name."""

    nodes: dict[str, LabelValue] = {}
    near: tuple[Neighbour, ...] = ()
    avoid: tuple[Neighbour, ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    priority_class: ObjectName | None = None

    @field_validator("nodes")
    @classmethod
    def _labels(cls, nodes: dict[str, str]) -> dict[str, str]:
        wrong = [key for key in nodes if not re.fullmatch(LABEL_KEY, key)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is not the key of a label, such as topology.kubernetes.io/zone")
        return nodes


class Nfs(Word):
    """A folder of an NFS server."""

    server: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][-A-Za-z0-9.:]*$")]
    path: Annotated[str, StringConstraints(pattern=r"^/\S*$")]


class Volume(Word):
    """A folder at `mount`: that of a PersistentVolumeClaim (`claim`, which must be there) or of an NFS server.

    `folder` is a path within it that is mounted instead of all.
    """

    mount: Folder
    claim: ObjectName | None = None
    nfs: Nfs | None = None
    folder: Annotated[str, StringConstraints(pattern=r"^[^/\s]\S*$")] | None = None
    read_only: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> "Volume":
        if (self.claim is None) == (self.nfs is None):
            raise ValueError("exactly one of claim and nfs is given")
        if ".." in (self.folder or "").split("/") or ".." in self.mount.split("/"):
            raise ValueError("a path has no ..")
        return self
