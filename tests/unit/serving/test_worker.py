import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autonomic.seams.errors import Retryable
from autonomic.workflows.serving.batcher import Answer, Item
from autonomic.workflows.serving.config import ServerConfig
from autonomic.workflows.serving.model import LoadedModel, ModelFile
from autonomic.workflows.serving.predictions import PredictionLog
from autonomic.workflows.serving.server_metrics import ServerMetrics
from autonomic.workflows.serving.worker import ModelFailed, Worker

TENSOR = {"name": "x", "datatype": "FP32", "shape": [-1, 3]}
FILE = ModelFile.model_validate(
    {"format": "export", "inputs": [TENSOR], "outputs": [{**TENSOR, "name": "logits"}], "postprocess": "classifier"}
)


class Net(torch.nn.Module):
    """The input is the logits; it raises where one is negative, and loses itself where one is above 99."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool((x < 0).any()):
            raise ValueError("negative")
        return torch.where(x > 99, torch.nan, x)


def work(log: Any, *first: float, ids: tuple[str, ...] = ()) -> list[Answer | Exception]:
    """What becomes of requests of two rows each in one batch, by the first number of their second row."""
    config = ServerConfig(workflow="w", service="s", name="s", model="m", model_version="1", model_folder="")
    worker = Worker(config, LoadedModel(FILE, Net()), log, ServerMetrics(config))

    async def ask() -> list[Answer | Exception]:
        made = [
            Item(ids[n] if ids else f"r{n}", {"x": np.array([[0, 1, 0], [value, 0, 0]], np.float32)}, 2, ((3,),), asyncio.Future())
            for n, value in enumerate(first)
        ]
        return worker(made)

    return asyncio.run(ask())


@pytest.mark.parametrize(("bad", "said"), [(-1.0, "ValueError: negative"), (100.0, "no class for row 1")])
def test_one_bad_row_fails_its_own_request_and_no_other_of_its_batch(tmp_path: Path, bad: float, said: str) -> None:
    log = PredictionLog(tmp_path / "p.db")
    good, wrong, other = work(log, 5, bad, 6)
    assert isinstance(wrong, ModelFailed)
    assert said in str(wrong)
    for each in (good, other):
        assert isinstance(each, Answer)
        assert each.outputs["label"].tolist() == [1, 0]
    assert [row.request_id for row in log.read()] == ["r0", "r0", "r2", "r2"]
    log.close()


def test_any_text_of_a_request_id_is_logged_and_spoils_no_neighbour(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "p.db")
    answers = work(log, 5, 6, 7, ids=("fine", "\ud83d", "a\0b"))
    assert all(isinstance(each, Answer) for each in answers)
    assert [row.request_id for row in log.read()][::2] == ["fine", "\ufffd", "a\0b"]
    log.close()


class FailingLog:
    """Fails where a row of the request `bad` is in it, or always."""

    def __init__(self, error: Exception, always: bool = False) -> None:
        self.error = error
        self.always = always

    def append(self, predictions: Any) -> None:
        if self.always or any(each.request_id == "bad" for each in predictions):
            raise self.error


def test_a_prediction_that_cannot_be_logged_fails_its_own_request_alone() -> None:
    good, bad, other = work(FailingLog(ValueError("odd")), 5, 6, 7, ids=("a", "bad", "b"))
    assert isinstance(bad, ModelFailed)
    assert "cannot be logged: ValueError: odd" in str(bad)
    assert isinstance(good, Answer)
    assert isinstance(other, Answer)


def test_a_log_that_cannot_be_written_now_is_a_matter_for_all_of_the_batch() -> None:
    with pytest.raises(Retryable, match="full"):
        work(FailingLog(Retryable("full"), always=True), 5, 6)
