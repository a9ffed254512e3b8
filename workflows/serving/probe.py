"""Whether a model answers at all: one row and two rows of zeros through it, before anybody else's."""

import numpy as np

from autonomic.seams.errors import Permanent
from autonomic.workflows.serving.model import LoadedModel
from autonomic.workflows.serving.oip import DATATYPES

_ROWS = (1, 2)


def check_answers(model: LoadedModel) -> None:
    """Asks the model for one row and for two rows of zeros, which also warms it up; where an input has sizes that vary, nothing is asked.

    Raises:
        Permanent: it raises, or what it returns is not what it declares; says what it was asked and what it did.
    """
    specs = model.file.inputs
    if any(-1 in spec.shape[1:] for spec in specs):
        return
    for rows in _ROWS:
        asked = ", ".join(f"{spec.name} {spec.datatype}{[rows, *spec.shape[1:]]}" for spec in specs)
        try:
            outputs = model({spec.name: np.zeros((rows, *spec.shape[1:]), DATATYPES[spec.datatype]) for spec in specs})
        except Exception as error:
            raise Permanent(f"the model loads, but does not answer zeros as {asked}: {type(error).__name__}: {error}") from error
        for spec in model.file.served_outputs:
            shape = outputs[spec.name].shape
            if len(shape) != len(spec.shape) or shape[0] != rows or any(w not in (-1, g) for w, g in zip(spec.shape, shape, strict=True)):
                raise Permanent(
                    f"the model answers zeros as {asked} with {spec.name!r} of shape {list(shape)}; it declares {list(spec.shape)}"
                )
