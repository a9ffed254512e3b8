"""True labels on their way to the host: committed first, delivered at least once."""

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from autonomic.agents.bus import Delivery
from autonomic.agents.journal import SqlJournal
from autonomic.seams.clock import Clock
from autonomic.seams.errors import Permanent, Retryable
from autonomic.seams.event import CloudEvent
from autonomic.seams.ids import Ids
from autonomic.workflows.spec.name import Name

HOST = "host"
LABELS_GIVEN = "dev.autonomic.labels.given"
AddLabels = Callable[[str, str, Sequence[dict[str, Any]]], Any]
"""(workflow, service, labels): joins them to predictions; raises `AutonomicError`."""


class Label(BaseModel):
    """What a prediction should have been; `time` is when that was found (seconds since the epoch, default now)."""

    model_config = ConfigDict(extra="forbid")

    prediction_id: str = Field(min_length=1, max_length=200)
    label: int = Field(ge=-(2**53), le=2**53, strict=True)
    time: float | None = Field(None, ge=0, allow_inf_nan=False)


class Labels(BaseModel):
    """Labels for predictions of one service; late and out of order is allowed."""

    model_config = ConfigDict(extra="forbid")

    workflow: Name
    service: Name
    labels: list[Label] = Field(min_length=1, max_length=10_000)


def sort_out(given: Labels, known: Collection[str]) -> tuple[Labels, list[dict[str, str]]]:
    """The labels of predictions that are `known`, and the others with why each is refused."""
    why = f"{given.workflow}/{given.service} made no such prediction; one that was just made arrives within seconds: send it again then"
    good = [label for label in given.labels if label.prediction_id in known]
    refused = [{"prediction_id": label.prediction_id, "why": why} for label in given.labels if label.prediction_id not in known]
    return given.model_copy(update={"labels": good}), refused


def commit(journal: SqlJournal, clock: Clock, ids: Ids, given: Labels) -> str:
    """Puts labels into the outbox and returns the id of the event that carries them."""
    now = clock.now()
    rows = [{"prediction_id": label.prediction_id, "label": label.label, "time": label.time or now} for label in given.labels]
    data = {"workflow": given.workflow, "service": given.service, "labels": rows}
    event = CloudEvent(id=ids.new("labels"), source="/autonomic/monitor", type=LABELS_GIVEN, data=data)
    with journal.transaction() as transaction:
        transaction.send(HOST, event)
    return event.id


def route(add_labels: AddLabels) -> Callable[[Sequence[str]], Delivery]:
    """The bus's way to the host. The host knows labels that it has, so a batch that is handed over twice changes nothing."""

    def deliver(events: Sequence[str]) -> Delivery:
        by_service: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for text in events:
            data = json.loads(text)["data"]
            by_service.setdefault((data["workflow"], data["service"]), []).extend(data["labels"])
        try:
            for (workflow, service), labels in by_service.items():
                add_labels(workflow, service, labels)
        except Retryable as away:
            return Delivery(0, str(away))
        except Permanent as refused:
            return Delivery(422, str(refused))
        return Delivery(200, "")

    return deliver
