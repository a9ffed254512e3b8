"""Programs that `torch.export` wrote: writing one, and loading one without running anything that came with it."""

import io
import json
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autonomic.seams.errors import Permanent
from autonomic.workflows.serving.oip import DATATYPES, Described

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

_TEXT_RECORDS = frozenset({"version", "archive_format", "archive_version", "byteorder", "serialization_id"})
_TEXT = re.compile(rb"[A-Za-z0-9._-]{1,64}\n?")
_PAYLOADS = re.compile(r"(?:^|/)data/(?:weights|constants)/[^/]+_config\.json$")
_RAW_PREFIXES = ("weight_", "tensor_")


def export_program(module: "nn.Module", inputs: "Sequence[Described]", weights: Path) -> None:
    """Writes `module` as a program that takes any number of rows of `inputs`.

    Raises:
        Permanent: an input has a size besides the batch that varies, or `torch.export` cannot follow the module.
    """
    import torch

    batch = torch.export.Dim("batch", min=1)
    examples: list[Tensor] = []
    for spec in inputs:
        if -1 in spec.shape[1:]:
            raise Permanent(f"the input {spec.name!r} of shape {list(spec.shape)} cannot be exported: only the batch may vary")
        # a batch of one would be taken for a constant
        examples.append(torch.from_numpy(np.zeros((2, *spec.shape[1:]), dtype=DATATYPES[spec.datatype])))
    try:
        program = torch.export.export(module.eval(), tuple(examples), dynamic_shapes=[{0: batch} for _ in examples])
    except Exception as error:
        raise Permanent(f"torch.export cannot export {type(module).__name__}: {error}") from error
    torch.export.save(program, weights)


def load_program(weights: Path) -> "nn.Module":
    """The module of a program.

    `torch.export.load` unpickles some of an archive's records, so everything in it is looked at first; see `_check_record`.

    Raises:
        Permanent: it is no program, or it holds something that would run when it is loaded.
    """
    import torch

    try:
        with zipfile.ZipFile(weights) as archive:
            raw = _raw_tensors(archive)
            for record in archive.infolist():
                if not record.is_dir() and record.filename not in raw:
                    _check_record(weights, record.filename, archive.read(record))
        return torch.export.load(weights).module()
    except Permanent:
        raise
    except Exception as error:
        raise Permanent(f"{weights} is not a torch.export program: {error}") from error


def fixed_batch(weights: Path) -> int | None:
    """The only number of rows that a program takes, read without torch; None where it takes any, or cannot be read so."""
    try:
        with zipfile.ZipFile(weights) as archive:
            name = next(name for name in archive.namelist() if name.endswith("models/model.json"))
            graph: Any = json.loads(archive.read(name))["graph_module"]
        values = graph["graph"]["tensor_values"]
        for spec in graph["signature"]["input_specs"]:
            if "user_input" in spec:
                size = values[spec["user_input"]["arg"]["as_tensor"]["name"]]["sizes"][0]
                if "as_int" in size:
                    return int(size["as_int"])
    except (OSError, zipfile.BadZipFile, StopIteration, ValueError, LookupError, TypeError):
        return None
    return None


def _raw_tensors(archive: zipfile.ZipFile) -> set[str]:
    """The records that are read as the bytes of a tensor, which nothing can run from."""
    raw: set[str] = set()
    pickled: set[str] = set()
    for name in filter(_PAYLOADS.search, archive.namelist()):
        for entry in json.loads(archive.read(name))["config"].values():
            record = f"{name.rpartition('/')[0]}/{entry['path_name']}"
            plain = entry["use_pickle"] is False and entry["path_name"].startswith(_RAW_PREFIXES)
            (raw if plain else pickled).add(record)
    return raw - pickled


def _check_record(weights: Path, name: str, content: bytes) -> None:
    """A record that is no raw tensor must be short text, JSON, or tensors that torch loads as weights only."""
    import torch

    if name.rpartition("/")[2] in _TEXT_RECORDS and _TEXT.fullmatch(content):
        return
    try:
        json.loads(content)
    except ValueError:
        pass
    else:
        return
    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise Permanent(
            f"{weights} holds {name!r}, which would be loaded as a pickle and may run any code; export the model again with "
            "tensors alone as weights, constants and example inputs"
        ) from error
