"""The Open Inference Protocol v2 (KServe) over HTTP: requests and responses, as JSON and with the binary tensor extension.

Source: github.com/kserve/open-inference-protocol and Triton's "binary data" extension. Pure.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from autonomic.seams.text import encode, well_formed

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
HEADER_LENGTH = "Inference-Header-Content-Length"
MAX_DIMENSIONS = 16


class BadRequest(Exception):
    """The request is not valid; the message says what was found and what is allowed."""


class TooManyRows(BadRequest):
    """The request has more rows than one may have."""


class Described(Protocol):
    """A tensor as the model declares it."""

    @property
    def name(self) -> str: ...
    @property
    def datatype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that the caller asked for."""

    name: str
    binary: bool = False
    # 0: the tensor itself; k: the k most probable classes, as "value:index" strings
    classification: int = 0


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A valid request: arrays by name, all with the same number of rows."""

    id: str
    inputs: dict[str, np.ndarray]
    outputs: tuple[RequestedOutput, ...]
    rows: int
    parameters: dict[str, Any] = field(default_factory=dict)


def datatype_of(array: np.ndarray) -> str:
    """The protocol's name of an array's type."""
    for name, dtype in DATATYPES.items():
        if array.dtype == dtype:
            return name
    raise ValueError(f"an array of {array.dtype} has no datatype in the protocol")


def encode_bytes(array: np.ndarray) -> bytes:
    """An array of bytes or str objects: each element after its length, four bytes little-endian."""
    parts: list[bytes] = []
    for element in array.reshape(-1):
        data = encode(element) if isinstance(element, str) else bytes(element)
        parts += (len(data).to_bytes(4, "little"), data)
    return b"".join(parts)


def decode_bytes(data: bytes | memoryview, count: int) -> np.ndarray:
    """The inverse of `encode_bytes`, as a flat array of bytes objects.

    Raises:
        ValueError: `data` does not hold exactly `count` elements.
    """
    array = np.empty(count, dtype=np.object_)
    place = 0
    for index in range(count):
        if place + 4 > len(data):
            raise ValueError(f"the data ends before element {index} of {count}")
        length = int.from_bytes(data[place : place + 4], "little")
        place += 4
        if place + length > len(data):
            raise ValueError(f"element {index} says {length} bytes, but only {len(data) - place} are left")
        array[index] = bytes(data[place : place + length])
        place += length
    if place != len(data):
        raise ValueError(f"{len(data) - place} bytes are left after {count} elements")
    return array


def encode_array(array: np.ndarray) -> bytes:
    """An array in the binary form of the protocol: row-major, little-endian."""
    if array.dtype == np.object_:
        return encode_bytes(array)
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def decode_array(data: bytes | memoryview, datatype: str, shape: Sequence[int]) -> np.ndarray:
    """The inverse of `encode_array`.

    Raises:
        ValueError: the number of bytes does not fit the type and the shape.
    """
    count = math.prod(shape)
    dtype = DATATYPES[datatype]
    if datatype == "BYTES":
        return decode_bytes(data, count).reshape(tuple(shape))
    if len(data) != count * dtype.itemsize:
        raise ValueError(f"{datatype} of shape {list(shape)} takes {count * dtype.itemsize} bytes, not {len(data)}")
    return np.frombuffer(data, dtype=dtype.newbyteorder("<")).astype(dtype, copy=True).reshape(tuple(shape))


def decode_request(
    body: bytes, header_length: str | None, inputs: Sequence[Described], outputs: Sequence[Described], max_rows: int | None = None
) -> InferRequest:
    """Reads the body of an infer request against what the model declares.

    Null stands for an optional member that is absent. Numbers are finite, in JSON (which has no others) as in binary tensors: what a
    model makes of NaN is no answer. Of an id, characters that UTF-8 cannot hold are replaced.

    Args:
        body: the whole body.
        header_length: value of the header `Inference-Header-Content-Length`, None where there is none (all JSON).
        inputs: the tensors that the model takes.
        outputs: the tensors that it gives.
        max_rows: the most rows that one request may have; None: any number.

    Raises:
        TooManyRows: it has more than `max_rows`.
        BadRequest: anything else in it is not as the protocol or the model asks.
    """
    header, rest = _split(body, header_length)
    document = _object(header)
    request_id = _member(document, "id", "")
    if not isinstance(request_id, str):
        raise BadRequest(f"id is {_short(request_id)}; it must be a string")
    request_id = well_formed(request_id)
    parameters = _parameters(document, "the request")
    declared = {spec.name: spec for spec in inputs}
    arrays: dict[str, np.ndarray] = {}
    place = 0
    for index, tensor in enumerate(_list(document, "inputs")):
        name, datatype, shape, tensor_parameters = _describe(tensor, f"inputs[{index}]")
        spec = declared.get(name)
        if spec is None:
            raise BadRequest(f"there is no input {name!r}; the inputs are {', '.join(map(repr, declared))}")
        if name in arrays:
            raise BadRequest(f"input {name!r} is given twice")
        _fits(name, datatype, shape, spec)
        if max_rows is not None and shape[0] > max_rows:
            raise TooManyRows(f"input {name!r} has {shape[0]} rows; at most {max_rows} are taken in one request. Send them in several")
        size = tensor_parameters.get("binary_data_size")
        if size is None:
            if tensor.get("data") is None:
                raise BadRequest(f"input {name!r} has neither data nor parameters.binary_data_size")
            arrays[name] = _from_json(name, tensor["data"], datatype, shape)
            continue
        if tensor.get("data") is not None:
            raise BadRequest(f"input {name!r} has both data and parameters.binary_data_size; give one of them")
        if header_length is None:
            raise BadRequest(f"input {name!r} has a binary_data_size, but the header {HEADER_LENGTH} is missing")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise BadRequest(f"binary_data_size of input {name!r} is {_short(size)}; it must be a whole number >= 0")
        if place + size > len(rest):
            raise BadRequest(f"input {name!r} says {size} binary bytes, but only {len(rest) - place} are left in the body")
        try:
            arrays[name] = decode_array(rest[place : place + size], datatype, shape)
        except ValueError as error:
            raise BadRequest(f"input {name!r}: {error}") from error
        _finite(name, arrays[name])
        place += size
    if place != len(rest):
        raise BadRequest(f"{len(rest) - place} binary bytes follow the tensors that were announced")
    absent = [name for name in declared if name not in arrays]
    if absent:
        raise BadRequest(f"input {', '.join(map(repr, absent))} is missing")
    counts = {name: len(array) for name, array in arrays.items()}
    rows = next(iter(counts.values()))
    if len(set(counts.values())) > 1:
        raise BadRequest(f"the inputs have different numbers of rows: {counts}")
    if rows == 0:
        raise BadRequest("the inputs have no rows; send at least one")
    return InferRequest(request_id, arrays, _requested(document, outputs, parameters), rows, parameters)


def encode_response(
    model: str, version: str, request: InferRequest, outputs: Mapping[str, np.ndarray], parameters: Mapping[str, Any]
) -> tuple[bytes, int | None]:
    """The body of a response with the outputs that `request` asked for.

    Returns:
        The body, and the length of its JSON part where binary tensors follow it (None: all is JSON).
    """
    tensors: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for wanted in request.outputs:
        array = outputs[wanted.name]
        if wanted.classification:
            array = _classes(array, wanted.classification)
        tensor: dict[str, Any] = {"name": wanted.name, "datatype": datatype_of(array), "shape": list(array.shape)}
        if wanted.binary:
            data = encode_array(array)
            tensor["parameters"] = {"binary_data_size": len(data)}
            binary.append(data)
        else:
            tensor["data"] = to_json(array)
        tensors.append(tensor)
    document: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": tensors}
    if request.id:
        document["id"] = request.id
    if parameters:
        document["parameters"] = dict(parameters)
    header = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    return (b"".join([header, *binary]), len(header)) if binary else (header, None)


def to_json(array: np.ndarray) -> list[Any]:
    """The flat data of an array as JSON can hold it; NaN and infinities become null."""
    if array.dtype == np.object_:
        return [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in array.reshape(-1)]
    values = array.reshape(-1).tolist()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        # JSON has no such numbers; who needs them asks for binary data
        return [value if math.isfinite(value) else None for value in values]
    return values


def metadata(name: str, version: str, inputs: Sequence[Described], outputs: Sequence[Described]) -> dict[str, Any]:
    """The answer to a request for a model's metadata."""

    def described(specs: Sequence[Described]) -> list[dict[str, Any]]:
        return [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs]

    return {"name": name, "versions": [version], "platform": "pytorch", "inputs": described(inputs), "outputs": described(outputs)}


def _split(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    if header_length is None:
        return body, memoryview(b"")
    if not (header_length.isascii() and header_length.isdigit()):
        raise BadRequest(f"{HEADER_LENGTH} is {_short(header_length)}; it must be a whole number")
    # a longer number than any body has is not worth converting
    length = int(header_length) if len(header_length) < 16 else len(body) + 1
    if length > len(body):
        raise BadRequest(f"{HEADER_LENGTH} is {_short(header_length)}, but the body has only {len(body)} bytes")
    return body[:length], memoryview(body)[length:]


def _object(header: bytes) -> dict[str, Any]:
    try:
        document = json.loads(header, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the request is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadRequest(f"the request is {_short(document)}; it must be a JSON object with inputs")
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON; send it as a binary tensor")


def _list(document: Mapping[str, Any], key: str) -> list[Any]:
    value = document.get(key)
    if not isinstance(value, list) or not value:
        raise BadRequest(f"{key} is {_short(value)}; it must be a list of at least one tensor")
    return value


def _member(document: Mapping[str, Any], key: str, default: Any) -> Any:
    value = document.get(key)
    return default if value is None else value


def _parameters(document: Mapping[str, Any], where: str) -> dict[str, Any]:
    value = _member(document, "parameters", {})
    if not isinstance(value, dict):
        raise BadRequest(f"parameters of {where} is {_short(value)}; it must be an object")
    return value


def _describe(tensor: Any, where: str) -> tuple[str, str, list[int], dict[str, Any]]:
    if not isinstance(tensor, dict):
        raise BadRequest(f"{where} is {_short(tensor)}; it must be an object with name, datatype, shape and data")
    name, datatype, shape = tensor.get("name"), tensor.get("datatype"), tensor.get("shape")
    if not isinstance(name, str) or not name:
        raise BadRequest(f"name of {where} is {_short(name)}; it must be a string")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise BadRequest(f"datatype of input {name!r} is {_short(datatype)}; it must be one of {', '.join(DATATYPES)}")
    if not isinstance(shape, list) or not all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in shape):
        raise BadRequest(f"shape of input {name!r} is {_short(shape)}; it must be a list of whole numbers >= 0")
    if len(shape) > MAX_DIMENSIONS:
        raise BadRequest(f"shape of input {name!r} has {len(shape)} dimensions; at most {MAX_DIMENSIONS} are allowed")
    return name, datatype, shape, _parameters(tensor, f"input {name!r}")


def _fits(name: str, datatype: str, shape: Sequence[int], spec: Described) -> None:
    if datatype != spec.datatype:
        raise BadRequest(f"datatype of input {name!r} is {datatype}; the model takes {spec.datatype}")
    if len(shape) != len(spec.shape) or any(want not in (-1, got) for want, got in zip(spec.shape, shape, strict=True)):
        raise BadRequest(f"shape of input {name!r} is {list(shape)}; the model takes {list(spec.shape)} (-1: any size)")


def _finite(name: str, array: np.ndarray) -> None:
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    row = int(np.argwhere(~np.isfinite(array))[0][0])
    value = next(value for value in array[row].reshape(-1).tolist() if not math.isfinite(value))
    raise BadRequest(f"input {name!r} holds {value} in row {row}; only finite numbers are taken")


def _from_json(name: str, data: Any, datatype: str, shape: Sequence[int]) -> np.ndarray:
    flat = _flatten(name, data)
    count = math.prod(shape)
    if len(flat) != count:
        raise BadRequest(f"input {name!r} has {len(flat)} values; shape {list(shape)} takes {count}")
    dtype = DATATYPES[datatype]
    allowed = {"BYTES": str, "BOOL": bool}.get(datatype, int if dtype.kind in "iu" else (int, float))
    for value in flat:
        if not isinstance(value, allowed) or (isinstance(value, bool) and datatype != "BOOL"):
            raise BadRequest(f"input {name!r} holds {_short(value)}, which is no {datatype}")
    if datatype == "BYTES":
        array = np.empty(count, dtype=np.object_)
        try:
            array[:] = [value.encode() for value in flat]
        except UnicodeEncodeError as error:
            raise BadRequest(f"input {name!r} holds text that is not valid Unicode: {error.reason}") from error
        return array.reshape(tuple(shape))
    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, dtype=dtype).reshape(tuple(shape))
    except (OverflowError, ValueError) as error:
        raise BadRequest(f"input {name!r} holds a value that does not fit {datatype}: {error}") from error
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise BadRequest(f"input {name!r} holds a number that is too large for {datatype}")
    return array


def _flatten(name: str, data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise BadRequest(f"data of input {name!r} is {_short(data)}; it must be a list")
    for _ in range(MAX_DIMENSIONS):
        if not any(isinstance(value, list) for value in data):
            return data
        if not all(isinstance(value, list) for value in data):
            raise BadRequest(f"data of input {name!r} mixes lists and values")
        data = [value for row in data for value in row]
    raise BadRequest(f"data of input {name!r} is nested deeper than {MAX_DIMENSIONS} lists")


def _requested(document: Mapping[str, Any], outputs: Sequence[Described], parameters: Mapping[str, Any]) -> tuple[RequestedOutput, ...]:
    all_binary = _flag(parameters, "binary_data_output", "the request")
    wanted = document.get("outputs")
    if wanted is None or wanted == []:
        return tuple(RequestedOutput(spec.name, all_binary) for spec in outputs)
    if not isinstance(wanted, list):
        raise BadRequest(f"outputs is {_short(wanted)}; it must be a list of objects with a name")
    names = {spec.name: spec for spec in outputs}
    chosen: dict[str, RequestedOutput] = {}
    for index, each in enumerate(wanted):
        name = each.get("name") if isinstance(each, dict) else None
        if not isinstance(each, dict) or not isinstance(name, str):
            raise BadRequest(f"outputs[{index}] is {_short(each)}; it must be an object with a name")
        if name not in names:
            raise BadRequest(f"there is no output {name!r}; the outputs are {', '.join(map(repr, names))}")
        if name in chosen:
            raise BadRequest(f"output {name!r} is asked for twice")
        own = _parameters(each, f"output {name!r}")
        binary = _flag(own, "binary_data", f"output {name!r}", all_binary)
        chosen[name] = RequestedOutput(name, binary, _class_count(own, names[name]))
    return tuple(chosen.values())


def _class_count(parameters: Mapping[str, Any], spec: Described) -> int:
    count = _member(parameters, "classification", 0)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise BadRequest(f"classification of output {spec.name!r} is {_short(count)}; it must be a whole number >= 0")
    if count and (len(spec.shape) < 2 or spec.datatype == "BYTES"):
        raise BadRequest(f"output {spec.name!r} has no classes to choose from")
    return count


def _flag(parameters: Mapping[str, Any], key: str, where: str, default: bool = False) -> bool:
    value = _member(parameters, key, default)
    if not isinstance(value, bool):
        raise BadRequest(f"{key} of {where} is {_short(value)}; it must be true or false")
    return value


def _classes(array: np.ndarray, count: int) -> np.ndarray:
    flat = array.reshape(len(array), -1)
    order = np.argsort(-flat, axis=1, kind="stable")[:, :count]
    result = np.empty(order.shape, dtype=np.object_)
    for row, indices in enumerate(order):
        for column, index in enumerate(indices):
            result[row, column] = f"{flat[row, index]:f}:{index}".encode()
    return result


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
