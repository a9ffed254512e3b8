"""Recorded decisions, judged again: what was decided then must be decided now, byte for byte."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from autonomic.agents.planner.engine import DECISION
from autonomic.agents.planner.judging import Inputs, judge
from autonomic.agents.planner.suggestions import INPUTS
from autonomic.seams.decision import DecisionRecord
from autonomic.seams.journal import Journal
from autonomic.seams.word import Word


class Recording(Word):
    """A decision with all that it was made of."""

    inputs: Inputs
    record: DecisionRecord


def recordings(journal: Journal) -> Iterator[Recording]:
    """The decisions on events that a journal holds, in order."""
    inputs: dict[str, Inputs] = {}
    records: list[DecisionRecord] = []
    cursor = 0
    while page := journal.read(cursor, kinds=[DECISION, INPUTS]):
        cursor = page[-1].cursor
        for entry in page:
            if entry.kind == INPUTS:
                inputs[entry.subject] = Inputs.model_validate(entry.data)
            else:
                records.append(DecisionRecord.model_validate(entry.data))
    for record in records:
        if record.id in inputs:
            yield Recording(inputs=inputs[record.id], record=record)


def write(path: Path, found: Iterable[Recording]) -> None:
    """Writes recordings as JSON lines."""
    path.write_text("".join(f"{recording.model_dump_json(by_alias=True)}\n" for recording in found))


def read(path: Path) -> list[Recording]:
    """Reads what `write` wrote."""
    return [Recording.model_validate_json(line) for line in path.read_text().splitlines()]


def differs(recording: Recording) -> str:
    """The decision as it is judged now where it is not the recorded one, "" where it is."""
    again = judge(recording.inputs).record.model_dump_json()
    return "" if again == recording.record.model_dump_json() else again
