"""What is going to be done and what was done: changes, plans and outcomes."""

from typing import Any, Literal

from autonomic.seams.word import Word

Effector = Literal["platform", "registry", "tuner", "agents"]


class Change(Word):
    """One atomic change of one target to an absolute state: doing it twice is doing it once.

    `key` names the change for ever; the effector remembers it together with the effect.
    `to` is the state wanted, in the form that the primitive documents. `expect` is the target's revision that the
    change was planned against; an effector refuses a change whose target has moved on (None: do not compare).
    """

    key: str
    primitive: str
    target: str
    effector: Effector = "platform"
    to: dict[str, Any]
    expect: int | None = None


class Outcome(Word):
    """What a change did. `before` holds what is needed to revert it.

    `status`: "done", "unchanged" (the state was there already), "refused" (a fence, a revision or a rule forbids it)
    or "failed" (it was tried). Times are seconds since the epoch.
    """

    key: str
    primitive: str
    target: str
    status: Literal["done", "unchanged", "refused", "failed"]
    detail: str = ""
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    started_at: float
    finished_at: float


class Irreversible(Word):
    """A primitive's answer to `revert` where there is no way back."""

    why: str


class VerifySpec(Word):
    """A condition that must come true within a time, first looked at after another, and what follows when it does not."""

    that: str
    within_seconds: float
    after_seconds: float = 0.0
    otherwise: Literal["keep", "revert", "escalate"] = "revert"


class Plan(Word):
    """A frozen, ordered list of changes, with the check that follows them.

    `engine` is the version of the interpreter that the document was written for.
    """

    id: str
    engine: Literal[1] = 1
    decision: str
    strategy: str
    target: str
    changes: tuple[Change, ...]
    verify: VerifySpec | None = None
    reverts: str = ""
    created_at: float
