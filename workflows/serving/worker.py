"""One batch through the model: put together, computed, logged, taken apart."""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from autonomic.seams.errors import AutonomicError, Retryable
from autonomic.seams.ids import RandomIds
from autonomic.workflows.serving.batcher import Answer, Arrays, Item
from autonomic.workflows.serving.config import ServerConfig
from autonomic.workflows.serving.model import LoadedModel
from autonomic.workflows.serving.oip import to_json
from autonomic.workflows.serving.predictions import Prediction, PredictionLog
from autonomic.workflows.serving.server_metrics import ServerMetrics


class ModelFailed(AutonomicError):
    """The model raised on an input that has the declared type and shape."""


class Worker:
    """What the batcher runs, in one thread. Predictions are in the log before they are answers."""

    def __init__(self, config: ServerConfig, model: LoadedModel, log: PredictionLog | None, metrics: ServerMetrics) -> None:
        self._config = config
        self._model = model
        self._log = log
        self._metrics = metrics
        self._ids = RandomIds()

    def __call__(self, items: Sequence[Item]) -> list[Answer | Exception]:
        if self._config.device_time_seconds:
            time.sleep(self._config.device_time_seconds)
        answers = self._compute(items)
        return answers if self._log is None else self._logged(items, answers, self._log)

    def _logged(self, items: Sequence[Item], answers: Sequence[Answer | Exception], log: PredictionLog) -> list[Answer | Exception]:
        """The answers, once their predictions are in the log: of all at once, and where that fails, of each request alone."""
        try:
            log.append([row for item, answer in zip(items, answers, strict=True) for row in self._predictions(item, answer)])
        except Retryable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever one request brought along is no fault of the others
            if len(items) == 1:
                return [ModelFailed(f"the prediction cannot be logged: {type(error).__name__}: {error}")]
            return [each for item, answer in zip(items, answers, strict=True) for each in self._logged([item], [answer], log)]
        return list(answers)

    def _compute(self, items: Sequence[Item]) -> list[Answer | Exception]:
        inputs: Arrays = items[0].inputs
        if len(items) > 1:
            inputs = {name: np.concatenate([item.inputs[name] for item in items]) for name in inputs}
        rows = sum(item.rows for item in items)
        self._metrics.batch_rows.observe(rows)
        try:
            outputs = self._model(inputs)
            if any(len(array) != rows for array in outputs.values()):
                raise ValueError(f"it gave {[len(array) for array in outputs.values()]} rows for {rows}")
        except Exception as error:  # noqa: BLE001 - a model is the user's code and may raise anything
            if len(items) > 1:
                # so that what one request asks does not fail the others
                return [answer for item in items for answer in self._compute([item])]
            return [ModelFailed(f"the model failed on this input: {type(error).__name__}: {error}")]
        answers: list[Answer | Exception] = []
        start = 0
        for item in items:
            part = {name: array[start : start + item.rows] for name, array in outputs.items()}
            start += item.rows
            if self._model.file.postprocess == "classifier" and not np.isfinite(part["probabilities"]).all():
                # the class with the greatest of such probabilities would be the first, whatever the input was
                row = int(np.argwhere(~np.isfinite(part["probabilities"]))[0][0])
                answers.append(ModelFailed(f"the model has no class for row {row}: its output is not a number"))
                continue
            ids = [self._ids.new("prediction") for _ in range(item.rows)] if self._log is not None else []
            answers.append(Answer(part, ids))
        return answers

    def _predictions(self, item: Item, answer: Answer | Exception) -> list[Prediction]:
        if isinstance(answer, Exception):
            return []
        now = time.time()
        predictions: list[Prediction] = []
        for row, prediction_id in enumerate(answer.ids):
            label, confidence = self._classified(answer.outputs, row)
            predictions.append(
                Prediction(
                    id=prediction_id,
                    time=now,
                    request_id=item.request_id,
                    role=self._config.role,
                    model_version=self._config.model_version,
                    inputs={name: array[row] for name, array in item.inputs.items()},
                    output={name: _row_json(array, row) for name, array in answer.outputs.items()},
                    label=label,
                    confidence=confidence,
                )
            )
        return predictions

    def _classified(self, outputs: Mapping[str, np.ndarray], row: int) -> tuple[int | None, float | None]:
        if self._model.file.postprocess != "classifier":
            return None, None
        return int(outputs["label"][row]), float(outputs["probabilities"][row].max())


def _row_json(array: np.ndarray, row: int) -> object:
    values = to_json(array[row : row + 1])
    return values if array.ndim > 1 else values[0]
