"""Where replicas and steps were rescheduled to, beside what is declared of them."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from autonomic.seams.word import Word


class Avoid(Word):
    """What is kept away from: a node, or the nodes that run a workflow, or one of its services or steps (`part`)."""

    node: str | None = None
    workflow: str | None = None
    part: str | None = None

    @model_validator(mode="after")
    def _one(self) -> "Avoid":
        if bool(self.node) == bool(self.workflow):
            raise ValueError("avoid takes exactly one of node, workflow")
        if self.part is not None and self.workflow is None:
            raise ValueError("part: is a service or a step of a workflow, which workflow: names")
        return self


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


class PlacementOverride(Word):
    """Where replicas or a step may run, beside what is declared of it.

    `nodes` are labels that a node must have; `spread: node` (or `zone`) keeps replicas apart: their numbers differ by one at most.
    """

    nodes: dict[str, str] = {}
    avoid: Annotated[tuple[Avoid, ...], BeforeValidator(_listed, json_schema_input_type=Avoid | tuple[Avoid, ...])] = ()
    spread: Literal["node", "zone"] | None = None

    def said(self) -> dict[str, Any]:
        """What it says, as JSON; empty where it says nothing."""
        return self.model_dump(mode="json", exclude_defaults=True)
