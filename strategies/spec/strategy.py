"""The document `kind: Strategy`."""

import re
from datetime import datetime
from typing import Any, Literal, cast

from pydantic import Field, ValidationInfo, field_validator, model_validator

from autonomic.primitives.table import ARGUMENTS
from autonomic.seams.decision import Autonomy
from autonomic.seams.word import Word
from autonomic.signals.queries import QUERIES, flatten
from autonomic.workflows.spec.faults import listed, nearest
from autonomic.workflows.spec.units import Duration, Rate
from autonomic.workflows.spec.workflow import Function, Metadata

_NUMBER = re.compile(r"[-+]?[\d._]+([eE][-+]?\d+)?")


class On(Word):
    """When the condition is looked at: exactly one of these, or several under `any`.

    `every` an interval, `at` one date and time (with its zone), `cron` five fields (in `timezone`), `call` only when
    it is asked for (`autonomic fire`), `event` when an event of this type comes in.
    """

    every: Duration | None = None
    at: datetime | None = None
    cron: str | None = None
    timezone: str = "UTC"
    call: bool | None = None
    event: str | None = None
    any: tuple["On", ...] | None = None

    @field_validator("at", mode="before")
    @classmethod
    def _date(cls, value: object) -> object:
        text = str(value) if isinstance(value, int | float | str) else ""
        if isinstance(value, int | float) or _NUMBER.fullmatch(text.strip()):
            raise ValueError(f"{text} is a number; write a date and time with its zone, such as 2026-12-25T08:00:00+01:00")
        try:
            return datetime.fromisoformat(value) if isinstance(value, str) else value
        except ValueError:
            return value

    @model_validator(mode="after")
    def _one(self) -> "On":
        given = [name for name in ("every", "at", "cron", "call", "event", "any") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"on: takes exactly one of every, at, cron, call, event, any; found {', '.join(given) or 'none'}")
        return self


class Fallback(Word):
    """What stands in for a reading that is missing: the last good one no older than `last`, or a number."""

    last: Duration | None = None
    fallback: float | None = None

    @model_validator(mode="after")
    def _one(self) -> "Fallback":
        if (self.last is None) == (self.fallback is None):
            raise ValueError("missing: takes hold, {last: DURATION} or {fallback: NUMBER}")
        return self


Missing = Literal["hold"] | Fallback


class ReadingSpec(Word):
    """One named reading: a signal's query, how old it may be, and what follows when it is missing."""

    signal: str
    query: dict[str, Any]
    max_age: Duration | None = None
    since: Literal["fired"] | None = None
    missing: Missing | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_signal(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "signal" in data:
            return cast(Any, data)
        fields = dict(cast(dict[str, Any], data))
        names = [name for name in QUERIES if name in fields]
        if len(names) != 1:
            close = next((near for key in fields if not names and (near := nearest(str(key), QUERIES))), "")
            raise ValueError(f"a reading names exactly one signal of {listed(QUERIES)}; found {listed(map(str, fields))}{close}")
        own = {name: fields.pop(name) for name in ("max_age", "since", "missing") if name in fields}
        value = fields.pop(names[0])
        return {"signal": names[0], "query": flatten(names[0], value, fields), **own}

    @field_validator("query")
    @classmethod
    def _query(cls, query: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        model = QUERIES.get(info.data.get("signal", ""))
        if model is None:
            raise ValueError(f"a reading's signal is one of {listed(QUERIES)}")
        return model.model_validate(query).model_dump(exclude_none=True)


class ActionSpec(Word):
    """One primitive with its arguments, written `{rescale: {by: 1}}`; `target` is the strategy's unless it is given."""

    primitive: str
    args: dict[str, Any] = Field(default={}, validate_default=True)
    target: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_primitive(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "primitive" in data:
            return cast(Any, data)
        fields = dict(cast(dict[str, Any], data))
        target = fields.pop("target", None)
        if len(fields) != 1:
            raise ValueError(
                f"an action is one primitive with its arguments, such as {{rescale: {{by: 1}}}}; found {sorted(map(str, fields))}"
            )
        name, args = next(iter(fields.items()))
        if name not in ARGUMENTS:
            raise ValueError(f"unknown primitive {name!r}{nearest(str(name), ARGUMENTS)} (known are {listed(ARGUMENTS)})")
        given: object = {} if args is None else args
        if not isinstance(given, dict):
            raise ValueError(f"{name} takes a mapping of its arguments; found {given!r:.60}")
        return {"primitive": name, "args": cast(Any, given), "target": target}

    @field_validator("args")
    @classmethod
    def _arguments(cls, args: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        model = ARGUMENTS.get(info.data.get("primitive", ""))
        if model is None:
            raise ValueError(f"an action's primitive is one of {listed(ARGUMENTS)}")
        model.model_validate(args)
        return args


class Verify(Word):
    """The check after an action; `else` is what follows when `that` is not true `within` the time.

    It is looked at first `after` the action, so that what is true at once and only shows later is found.
    """

    that: str
    after: Duration = 0.0
    within: Duration
    else_: Literal["keep", "revert", "escalate"] = Field(default="revert", alias="else")


class GuardSpec(Word):
    """How freely the strategy may act. `limit` and `cooldown` count per target."""

    autonomy: Autonomy = "suggest"
    cooldown: Duration = 0.0
    limit: Rate | None = None


class StrategySpec(Word):
    """(event, constraint, action). `when` is the event, `for` how long it must hold, `clear` ends it (hysteresis).

    `expires` is how long after it fired an event may be acted on. One that does not come again within that time (`event`,
    `at`, `cron`, a longer interval) waits so long for readings that are missing, and for other plans that change its target.
    """

    target: str
    on: On = On(every=15.0)
    readings: dict[str, ReadingSpec] = {}
    when: str | None = None
    for_: Duration = Field(default=0.0, alias="for")
    clear: str | None = None
    constraint: str | None = None
    do: tuple[ActionSpec, ...] = ()
    decide: Function | None = None
    verify: Verify | None = None
    guard: GuardSpec = GuardSpec()
    priority: int = Field(default=50, ge=0, le=100)
    missing: Missing = "hold"
    expires: Duration = 30.0

    @model_validator(mode="after")
    def _body(self) -> "StrategySpec":
        if bool(self.do) == (self.decide is not None):
            raise ValueError("a strategy has either do: (actions) or decide: (a Python function), not both and not none")
        return self


class Strategy(Word):
    """A strategy: what keeps a workflow healthy."""

    api_version: Literal["autonomic.dev/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["Strategy"]
    metadata: Metadata
    spec: StrategySpec

    @property
    def name(self) -> str:
        return self.metadata.name
