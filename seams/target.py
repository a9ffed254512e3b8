"""A target is what a change acts on: `workflow`, or `workflow/step` (a batch step or an online service)."""

from typing import NamedTuple


class Target(NamedTuple):
    """A parsed target; `step` is empty for the whole workflow."""

    workflow: str
    step: str = ""

    @classmethod
    def parse(cls, text: str) -> "Target":
        workflow, _, step = text.partition("/")
        if not workflow or "/" in step or (not step and text.endswith("/")):
            raise ValueError(f"target {text!r} is not of the form workflow or workflow/step")
        return cls(workflow, step)

    def __str__(self) -> str:
        return f"{self.workflow}/{self.step}" if self.step else self.workflow
