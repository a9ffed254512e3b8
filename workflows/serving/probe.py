"""Whether a model answers at all: it is asked first with the input example that it was stored with, else with plain numbers."""

from collections.abc import Mapping

import numpy as np

from autonomic.seams.errors import Permanent
from autonomic.workflows.serving.model import LoadedModel
from autonomic.workflows.serving.oip import DATATYPES

Inputs = Mapping[str, np.ndarray]
_ROWS = (1, 2)
_MOST_EXAMPLE_ROWS = 64
_SEED = 0
_WAY_OUT = (
    "store it with inputs that it takes: input_example=… of mlflow.pytorch.log_model, or example=… of save_model, and it is tried by those"
)


def check_answers(model: LoadedModel) -> str:
    """Asks the model, which also warms it up, and returns a warning where it may not answer, else "".

    With an input example it is asked for one row and for all rows of it. Without one it is asked for one and for two rows of zeros; where
    it raises, which a model may, of ones and of random numbers too. Where sizes vary and there is no example, nothing is asked.

    Raises:
        Permanent: it raises for its example, or the same for whatever it is asked; or what it returns is not what it declares.
    """
    if model.example is not None:
        rows = min(_MOST_EXAMPLE_ROWS, *(len(array) for array in model.example.values()))
        for count in dict.fromkeys((1, rows)):
            inputs = {name: array[:count] for name, array in model.example.items()}
            if raised := _ask(model, inputs, count, "its own input example"):
                raise Permanent(f"the model loads, but does not answer its own input example, {_shapes(model, count)}: {raised}")
        return ""
    if any(-1 in spec.shape[1:] for spec in model.file.inputs):
        return ""
    for count in _ROWS:
        raised = {name: why for name in _PLAIN if (why := _ask(model, _plain(model, name, count), count, name))}
        if len(raised) < len(_PLAIN):
            continue
        asked = f"zeros as {_shapes(model, count)}"
        if len(set(raised.values())) == 1:
            raise Permanent(
                f"the model loads, but does not answer {asked}: {raised['zeros']} (ones and random numbers: the same); {_WAY_OUT}"
            )
        return (
            f"the model raises for {asked} ({raised['zeros']}), for ones and for random numbers: it is not known whether it answers "
            f"anything; {_WAY_OUT}"
        )
    return ""


_PLAIN = ("zeros", "ones", "random numbers")


def _plain(model: LoadedModel, name: str, rows: int) -> Inputs:
    random = np.random.default_rng(_SEED)

    def array(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        if name != "random numbers":
            return np.full(shape, 0 if name == "zeros" else 1, dtype)
        return random.random(shape).astype(dtype) if dtype.kind == "f" else random.integers(0, 2, shape).astype(dtype)

    return {spec.name: array((rows, *spec.shape[1:]), np.dtype(DATATYPES[spec.datatype])) for spec in model.file.inputs}


def _ask(model: LoadedModel, inputs: Inputs, rows: int, what: str) -> str:
    """Why the model's own code raised, "" where it answered as it declares."""
    asked = f"{what} as {_shapes(model, rows)}"
    try:
        answer = model.forward(inputs)
    except Exception as error:  # noqa: BLE001 - the model's own code may raise anything
        return f"{type(error).__name__}: {error}"
    try:
        outputs = model.served(answer)
    except Exception as error:
        raise Permanent(f"the model answers {asked} with what is not as it declares: {type(error).__name__}: {error}") from error
    for spec in model.file.served_outputs:
        shape = outputs[spec.name].shape
        if len(shape) != len(spec.shape) or shape[0] != rows or any(w not in (-1, g) for w, g in zip(spec.shape, shape, strict=True)):
            raise Permanent(f"the model answers {asked} with {spec.name!r} of shape {list(shape)}; it declares {list(spec.shape)}")
    return ""


def _shapes(model: LoadedModel, rows: int) -> str:
    return ", ".join(f"{spec.name} {spec.datatype}{[rows, *spec.shape[1:]]}" for spec in model.file.inputs)
