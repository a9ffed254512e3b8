"""What a labeller sees of predictions, and which labels are for none."""

from pathlib import Path

import numpy as np

from autonomic.agents.monitor.labels import Labels, sort_out
from autonomic.platforms.host.points import look_up
from autonomic.workflows.serving.predictions import Pick, Prediction, PredictionLog


def log_of(folder: Path) -> Path:
    log = PredictionLog(folder / "log.db")
    inputs = {"images": np.arange(4, dtype=np.float32).reshape(2, 2)}
    made = {"time": 1.0, "role": "champion", "model_version": "3", "inputs": inputs, "output": {}, "label": 7, "confidence": 0.5}
    log.append([Prediction(id="a", request_id="request-1", **made)])
    log.add_picks([Pick("a", 1.0, 0.5, 0.5, 0.5)])
    (point,) = log.points("unlabelled")
    assert (point.request_id, point.label, point.confidence) == ("request-1", 7, 0.5)
    log.close()
    return folder / "log.db"


def test_a_labeller_sees_the_request_and_the_input(tmp_path: Path) -> None:
    path = log_of(tmp_path)
    tensor = {"name": "images", "datatype": "FP32", "shape": [2, 2], "data": [0.0, 1.0, 2.0, 3.0]}
    assert look_up(path, ["a", "b"], inputs=True) == {"a": [tensor]}
    assert look_up(path, ["b", "a"], inputs=False) == {"a": []}
    assert look_up(tmp_path / "none.db", ["a"], inputs=True) == {}


def test_a_label_for_no_prediction_is_refused_by_itself() -> None:
    labels = [{"prediction_id": name, "label": 1} for name in ("a", "b", "c")]
    good, refused = sort_out(Labels.model_validate({"workflow": "web", "service": "api", "labels": labels}), {"a", "c"})
    assert [label.prediction_id for label in good.labels] == ["a", "c"]
    assert [one["prediction_id"] for one in refused] == ["b"]
    assert "web/api made no such prediction" in refused[0]["why"]
