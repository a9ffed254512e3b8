"""The monitor's endpoints."""

from collections.abc import Collection, Iterable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from autonomic.agents.auth import ACT, READ
from autonomic.agents.monitor import alerts, labels
from autonomic.agents.monitor.intake import OUTSIDE, Intake
from autonomic.agents.monitor.loop import EVENT
from autonomic.agents.monitor.schedule import described
from autonomic.agents.monitor.service import MonitorService
from autonomic.agents.monitor.watched import Watched
from autonomic.agents.pagination import Cursor, Limit, Page, number_of, page_of
from autonomic.agents.problems import ProblemError, not_found
from autonomic.agents.strict_json import StrictRoute
from autonomic.seams.errors import Retryable
from autonomic.seams.reading import Reading
from autonomic.signals.queries import QUERIES
from autonomic.strategies.triggers import Trigger


class SignalView(BaseModel):
    """A signal, how many readings ask it, and how their last answers were."""

    name: str
    readings: int
    ok: int
    missing: int
    error: int
    last_error: str = ""


class ReadingView(BaseModel):
    """The last answer to one reading of one strategy; with `by` one for each label value."""

    strategy: str
    name: str
    target: str
    signal: str
    query: dict[str, Any]
    readings: list[Reading]


class BreachView(BaseModel):
    """What is known of a condition, for one label value (`by` is empty without labels)."""

    by: str
    holds: bool | None
    firing: bool
    since: float | None
    fired_at: float | None


class TriggerView(BaseModel):
    """One trigger; `next` is when it is looked at next. All times are seconds since the epoch.

    Of one that waits for events, `event` is their type, `waiting_since` when a strategy began to wait for it, and `received_at` when the
    newest came in, None where none ever has.
    """

    name: str
    strategy: str
    target: str
    waits_for: str
    when: str | None
    next: float | None
    evaluated_at: float | None
    breaches: list[BreachView]
    event: str | None = None
    waiting_since: float | None = None
    received_at: float | None = None


class EventView(BaseModel):
    """An event: of a trigger that fired, or from outside."""

    cursor: int
    time: float
    kind: Literal["event", "event.outside"]
    subject: str
    event: dict[str, Any]


class ReadRequest(BaseModel):
    """Whose readings are wanted; `by` holds the label values of a trigger that fires per label."""

    model_config = ConfigDict(extra="forbid")

    strategy: str = Field(max_length=200)
    by: dict[str, str] = {}


class ReadAnswer(BaseModel):
    """Readings by name, as the strategy's policy for missing ones leaves them."""

    readings: dict[str, Reading]


class FireAnswer(BaseModel):
    """The events that fired, and what is known of the condition."""

    events: list[str]
    breaches: list[BreachView]


class Accepted(BaseModel):
    """How many events came, and how many of them had come before."""

    accepted: int
    duplicates: int
    problems: list[str] = []


def router(service: MonitorService) -> APIRouter:
    """All endpoints but those that every agent has."""
    api = APIRouter(prefix="/v1", route_class=StrictRoute)

    @api.get("/signals", dependencies=[READ], tags=["readings"])
    def signals(limit: Limit = 100, cursor: Cursor = "") -> Page[SignalView]:
        """The signals, sorted by name, and how they answer."""
        return page_of([_signal_view(name, service.loop.all()) for name in QUERIES], lambda view: view.name, cursor, limit)

    @api.get("/readings", dependencies=[READ], tags=["readings"])
    def readings(limit: Limit = 100, cursor: Cursor = "", strategy: Annotated[str, Query(max_length=200)] = "") -> Page[ReadingView]:
        """The last readings, sorted by strategy and name."""
        views = (view for watched in service.loop.all() if strategy in ("", watched.name) for view in _reading_views(watched))
        return page_of(views, lambda view: f"{view.strategy}/{view.name}", cursor, limit)

    @api.get("/triggers", dependencies=[READ], tags=["triggers"])
    def triggers(limit: Limit = 100, cursor: Cursor = "") -> Page[TriggerView]:
        """The triggers, sorted by name."""
        times = service.loop.next_times()
        views = (_trigger_view(watched, trigger, times, service.intake) for watched in service.loop.all() for trigger in watched.triggers)
        return page_of(views, lambda view: view.name, cursor, limit)

    @api.get("/events", dependencies=[READ], tags=["events"])
    def events(limit: Limit = 100, cursor: Cursor = "", strategy: Annotated[str, Query(max_length=200)] = "") -> Page[EventView]:
        """The events, the newest first."""
        kinds = (EVENT,) if strategy else (EVENT, OUTSIDE)
        records = service.journal.latest(kinds=kinds, subject=strategy or None, limit=limit, before=number_of(cursor))
        items = [
            EventView(cursor=record.cursor, time=record.time, kind=_kind(record.kind), subject=record.subject, event=record.data)
            for record in records
        ]
        return Page(items=items, next=str(items[-1].cursor) if len(items) == limit else "")

    @api.post("/readings:read", dependencies=[READ], tags=["readings"])
    def read(request: ReadRequest) -> ReadAnswer:
        """Reads a strategy's readings now."""
        return ReadAnswer(readings=service.read(_watched(service, request.strategy), request.by))

    @api.post("/triggers/{strategy}/{trigger}:fire", dependencies=[ACT], tags=["triggers"])
    def fire(strategy: str, trigger: str) -> FireAnswer:
        """Looks at a strategy's condition now; where it is met, the event goes out."""
        watched = _watched(service, strategy)
        names = [known.name for known in watched.triggers]
        if trigger not in names:
            raise ProblemError(404, f"the strategy {strategy!r} has no trigger {trigger!r}; it has {', '.join(names)}")
        return FireAnswer(events=service.fire(watched, trigger), breaches=_breaches(watched))

    @api.post("/alerts", status_code=202, dependencies=[ACT], tags=["events"])
    def alert(notification: alerts.Notification) -> Accepted:
        """Takes Alertmanager's notifications as they are. Alerts that cannot be read are named; the others are taken."""
        events, problems = alerts.events_of(notification, service.turns)
        if problems and not events:
            raise ProblemError(422, "; ".join(problems)[:2000])
        service.keep_turns()
        new = service.intake.accept(events)
        return Accepted(accepted=len(events), duplicates=len(events) - new, problems=problems)

    @api.post("/labels", status_code=202, dependencies=[ACT], tags=["labels"])
    def label(given: labels.Labels) -> dict[str, Any]:
        """Takes true labels of predictions; they reach the service's prediction log soon, once each. A label for a prediction that the log
        does not have is refused by itself, the others are accepted."""
        target = f"{given.workflow}/{given.service}"
        if not service.intake.knows(given.workflow, given.service):
            raise not_found("service", target, "GET /v1/workflows of the planner")
        ids = [label.prediction_id for label in given.labels]
        try:
            known: Collection[str] = service.look_up(target, ids)
        except Retryable:
            # labels are kept for a host that is away, and joined when it is back
            known = ids
        good, refused = labels.sort_out(given, known)
        if not good.labels:
            raise ProblemError(422, f"{target} made none of these predictions", refused=refused)
        return {"id": labels.commit(service.journal, service.clock, service.ids, good), "accepted": len(good.labels), "refused": refused}

    @api.get("/points", dependencies=[READ], tags=["labels"])
    def points(
        target: Annotated[str, Query(pattern=r"^[a-z0-9][-a-z0-9]*/[a-z0-9][-a-z0-9]*$", max_length=120, description="workflow/service")],
        state: Literal["unlabelled", "labelled", "all"] = "all",
        inputs: Annotated[bool, Query(description="Give each point the tensors that it was predicted from, too.")] = False,
        limit: Limit = 100,
        cursor: Cursor = "",
    ) -> Page[dict[str, Any]]:
        """The critical points that were picked among a service's predictions, the oldest first."""
        page = page_of(service.points(target, state), lambda point: f"{point['time']:017.6f} {point['prediction_id']}", cursor, limit)
        if not inputs:
            return page
        found = service.look_up(target, [point["prediction_id"] for point in page.items], inputs=True)
        return Page(items=[{**point, "inputs": found.get(point["prediction_id"], [])} for point in page.items], next=page.next)

    return api


def _watched(service: MonitorService, strategy: str) -> Watched:
    watched = service.loop.get(strategy)
    if watched is None:
        raise not_found("strategy", strategy, "GET /v1/triggers")
    return watched


def _kind(kind: str) -> Literal["event", "event.outside"]:
    return "event.outside" if kind == OUTSIDE else "event"


def _several(answer: Any) -> list[Reading]:
    return [answer] if isinstance(answer, Reading) else list(answer)


def _reading_views(watched: Watched) -> Iterable[ReadingView]:
    for query in watched.queries:
        yield ReadingView(
            strategy=watched.name,
            name=query.name,
            target=query.target,
            signal=query.signal,
            query=query.args,
            readings=_several(watched.latest.get(query.name, ())),
        )


def _signal_view(name: str, strategies: Iterable[Watched]) -> SignalView:
    counts = {"ok": 0, "missing": 0, "error": 0}
    asked, last = 0, ""
    for watched in strategies:
        for query in watched.queries:
            if query.signal != name:
                continue
            asked += 1
            for reading in _several(watched.latest.get(query.name, ())):
                counts[reading.status] += 1
                if reading.status == "error":
                    last = reading.detail
    return SignalView(name=name, readings=asked, last_error=last, **counts)


def _trigger_view(watched: Watched, trigger: Trigger, times: dict[tuple[str, str], float], intake: Intake) -> TriggerView:
    event = trigger.on.event
    newest = intake.newest(event) if event else None
    return TriggerView(
        name=f"{watched.name}/{trigger.name}",
        strategy=watched.name,
        target=watched.strategy.spec.target,
        waits_for=described(trigger),
        when=watched.strategy.spec.when,
        next=times.get((watched.name, trigger.name)),
        evaluated_at=watched.evaluated_at or None,
        breaches=_breaches(watched),
        event=event,
        waiting_since=intake.waits.since(event) if event else None,
        received_at=newest[1] if newest else None,
    )


def _breaches(watched: Watched) -> list[BreachView]:
    return [
        BreachView(by=by, holds=breach.holds, firing=breach.firing, since=breach.since, fired_at=breach.fired_at)
        for by, breach in watched.memory.state.breaches.items()
    ]
