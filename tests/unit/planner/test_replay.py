"""Decisions that were recorded are judged again (`scripts/record_decisions.py` records them anew)."""

from pathlib import Path

import pytest

from autonomic.agents.planner import replay
from autonomic.agents.planner.replay import Recording

RECORDED = Path(__file__).parent.parent / "data" / "decisions.jsonl"


@pytest.fixture(scope="module")
def recorded() -> list[Recording]:
    return replay.read(RECORDED)


def test_a_hundred_recorded_decisions_are_judged_the_same_byte_for_byte(recorded: list[Recording]) -> None:
    assert len(recorded) >= 100
    assert [recording.record.id for recording in recorded if replay.differs(recording)] == []


def test_the_recorded_decisions_are_of_every_kind(recorded: list[Recording]) -> None:
    verdicts = {recording.record.verdict.outcome if recording.record.verdict else "none" for recording in recorded}
    assert verdicts == {"go", "ask", "log", "refuse", "none"}
    judged = [recording.record.verdict.guards for recording in recorded if recording.record.verdict]
    failed = {guard.name for guards in judged for guard in guards if not guard.passed}
    guards = {"freeze", "autonomy", "cooldown", "rate limit", "conflict", "substitutes", "capacity", "irreversible", "primitive"}
    assert failed == guards
    assert any("it had to wait" in step for recording in recorded for step in recording.record.considered)
    assert len({recording.record.decision.strategy for recording in recorded}) >= 10


def test_another_input_is_another_decision(recorded: list[Recording]) -> None:
    went = next(recording for recording in recorded if recording.record.verdict and recording.record.verdict.outcome == "go")
    late = went.inputs.model_copy(update={"now": went.inputs.event.expires_at + 1})
    assert "expired" in replay.differs(went.model_copy(update={"inputs": late}))


def test_recordings_survive_being_written(recorded: list[Recording], tmp_path: Path) -> None:
    replay.write(tmp_path / "again.jsonl", recorded)
    assert (tmp_path / "again.jsonl").read_bytes() == RECORDED.read_bytes()
