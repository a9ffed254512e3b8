from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autonomic.seams.errors import Permanent
from autonomic.workflows.serving.predictions import Counts, Label, LabelCounts, Pick, Prediction, PredictionLog


def prediction(name: str, value: float = 0.0, time: float = 100.0) -> Prediction:
    return Prediction(name, time, "r", "champion", "3", {"x": np.full((2, 2), value, np.float32)}, {"label": 1}, 1, 0.75)


@pytest.fixture
def log(tmp_path: Path):
    opened = PredictionLog(tmp_path / "deeper" / "p.db")
    yield opened
    opened.close()


def test_predictions_come_back_as_they_were_written_and_in_their_order(log: PredictionLog) -> None:
    log.append([prediction("a", 1), prediction("b", 2)])
    log.append([])
    log.append([prediction("c", 1)])
    rows = log.read()
    assert [row.id for row in rows] == ["a", "b", "c"]
    assert rows[0].input_ref == rows[2].input_ref != rows[1].input_ref
    np.testing.assert_array_equal(rows[1].input, np.full((2, 2), 2, np.float32))
    assert (rows[0].label, rows[0].confidence, rows[0].output, rows[0].role, rows[0].truth) == (1, 0.75, {"label": 1}, "champion", None)
    assert [row.id for row in log.read(after=rows[0].seq, limit=1)] == ["b"]
    assert log.read(after=rows[2].seq) == []
    assert log.last() == rows[2].seq
    assert [row.id for row in log.get(["c", "nobody", "a"])] == ["a", "c"]


def test_text_inputs_are_kept_too(log: PredictionLog) -> None:
    words = np.array([b"one", b"\xff\x00"], dtype=np.object_)
    log.append([Prediction("a", 1.0, "", "canary", "1", {"words": words, "n": np.int64(3).reshape(())}, {})])
    (row,) = log.read()
    assert row.inputs["words"].tolist() == [b"one", b"\xff\x00"]
    assert row.inputs["n"] == 3
    assert (row.label, row.confidence) == (None, None)


def test_an_id_that_is_there_fails_the_whole_batch(log: PredictionLog) -> None:
    log.append([prediction("a")])
    with pytest.raises(Exception, match="UNIQUE"):
        log.append([prediction("b"), prediction("a")])
    assert [row.id for row in log.read()] == ["a"]
    log.append([prediction("b")])
    assert log.counts().predictions == 2


def test_labels_may_come_before_their_prediction(log: PredictionLog) -> None:
    assert log.add_labels([Label("a", 7, 10.0)]) == LabelCounts(added=1, changed=0, unchanged=0, unknown=1)
    assert log.points() == []
    assert log.counts().waiting_labels == 1
    log.append([prediction("a")])
    assert log.read()[0].truth == 7
    assert log.counts().waiting_labels == 0
    assert log.add_labels([Label("a", 7, 10.0)]) == LabelCounts(added=0, changed=0, unchanged=1, unknown=0)


@given(st.permutations([Label("a", 1, 10.0), Label("a", 2, 20.0), Label("a", 3, 30.0)]), st.integers(0, 2))
def test_the_latest_label_counts_in_whatever_order_they_come(labels: list[Label], again: int) -> None:
    log = PredictionLog(":memory:")
    log.append([prediction("a")])
    for label in [*labels, labels[again]]:
        log.add_labels([label])
    assert log.read()[0].truth == 3
    log.close()


def test_a_correction_of_the_same_time_counts(log: PredictionLog) -> None:
    log.append([prediction("a")])
    log.add_labels([Label("a", 1, 10.0)])
    assert log.add_labels([Label("a", 2, 10.0)]).changed == 1
    assert log.read()[0].truth == 2


def test_points_are_what_was_picked_or_labelled(log: PredictionLog) -> None:
    log.append([prediction(name, time=float(at)) for at, name in enumerate("abcd")])
    assert log.add_picks([Pick("a", 50.0, 0.9, 0.8, 0.7), Pick("b", 60.0, 0.1, 0.2, 0.3)]) == 2
    assert log.add_picks([Pick("a", 70.0, 0.0, 0.0, 0.0)]) == 0
    log.add_labels([Label("b", 4, 65.0), Label("c", 5, 66.0)])
    assert [point.prediction_id for point in log.points()] == ["a", "b", "c"]
    (unlabelled,) = log.points("unlabelled")
    assert (unlabelled.prediction_id, unlabelled.picked_at, unlabelled.anomaly, unlabelled.truth) == ("a", 50.0, 0.9, None)
    labelled = log.points("labelled")
    assert [(point.prediction_id, point.truth, point.labelled_at) for point in labelled] == [("b", 4, 65.0), ("c", 5, 66.0)]
    assert [point.prediction_id for point in log.points(since=1.0, limit=1, offset=1)] == ["c"]
    assert log.counts() == Counts(predictions=4, labels=2, waiting_labels=0, picked=2, labelled=1)
    assert log.counts(since=55.0) == Counts(predictions=4, labels=2, waiting_labels=0, picked=1, labelled=1)
    assert log.counts(since=61.0).picked == 0


def test_the_log_is_bounded_and_keeps_what_was_picked(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "p.db", max_rows=100, max_points=3)
    log.append([prediction(f"first-{n}", n) for n in range(5)])
    log.add_picks([Pick("first-1", 1.0, 1, 1, 1)])
    log.add_labels([Label("first-2", 1, 1.0)])
    for block in range(4):
        log.append([prediction(f"{block}-{n}", block * 1000 + n) for n in range(500)])
    kept = [row.id for row in log.read(limit=5000)]
    assert len(kept) == 102
    assert kept[:2] == ["first-1", "first-2"]
    np.testing.assert_array_equal(log.get(["first-1"])[0].input, np.full((2, 2), 1, np.float32))
    # too many points, and too many labels that wait for what never comes
    log.add_labels([Label(f"3-{n}", 1, 1.0) for n in range(480, 490)] + [Label(f"nowhere-{n}", 1, 1.0) for n in range(20)])
    log.append([prediction(f"last-{n}", -n) for n in range(500)])
    counts = log.counts()
    assert counts.labels <= 3
    assert counts.waiting_labels == 0
    log.close()


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.db").write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(Permanent, match="cannot be opened"):
        PredictionLog(tmp_path / "p.db")
