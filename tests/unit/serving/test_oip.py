import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from autonomic.workflows.serving import oip


@dataclass(frozen=True)
class Spec:
    name: str
    datatype: str
    shape: tuple[int, ...]


IMAGES = Spec("images", "FP32", (-1, 2))
LABEL = Spec("label", "INT64", (-1,))
PROBABILITIES = Spec("probabilities", "FP32", (-1, 3))
NUMERIC = [name for name in oip.DATATYPES if name != "BYTES"]


def request(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "images", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 1]}
    return {"inputs": [tensor | changes]}


def decode(document: Any, header_length: str | None = None, rest: bytes = b"") -> oip.InferRequest:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return oip.decode_request(body + rest, header_length, [IMAGES], [PROBABILITIES, LABEL])


@st.composite
def arrays(draw: st.DrawFn) -> tuple[str, np.ndarray]:
    datatype = draw(st.sampled_from(list(oip.DATATYPES)))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
    if datatype == "BYTES":
        flat = np.empty(math.prod(shape), dtype=np.object_)
        flat[:] = draw(st.lists(st.text(max_size=5).map(str.encode), min_size=len(flat), max_size=len(flat)))
        return datatype, flat.reshape(shape)
    finite = {"allow_nan": False, "allow_infinity": False} if datatype.startswith("FP") else {}
    return datatype, draw(hnp.arrays(oip.DATATYPES[datatype], shape, elements=finite or None))


@given(arrays(), st.booleans(), st.booleans(), st.text(max_size=8))
def test_a_tensor_goes_there_and_back_unchanged(array: tuple[str, np.ndarray], binary_in: bool, binary_out: bool, request_id: str) -> None:
    datatype, values = array
    spec = Spec("x", datatype, (-1, *values.shape[1:]))
    tensor: dict[str, Any] = {"name": "x", "datatype": datatype, "shape": list(values.shape)}
    rest = b""
    if binary_in:
        rest = oip.encode_array(values)
        tensor["parameters"] = {"binary_data_size": len(rest)}
    else:
        tensor["data"] = [value.decode() for value in values.reshape(-1)] if datatype == "BYTES" else values.tolist()
    document = {"id": request_id, "inputs": [tensor], "parameters": {"binary_data_output": binary_out}}
    header = json.dumps(document).encode()
    asked = oip.decode_request(header + rest, str(len(header)) if binary_in else None, [spec], [spec])
    assert asked.id == request_id
    assert asked.rows == len(values)
    np.testing.assert_array_equal(asked.inputs["x"], values)
    assert asked.inputs["x"].dtype == values.dtype

    body, length = oip.encode_response("m", "1", asked, {"x": asked.inputs["x"]}, {})
    assert (length is not None) == binary_out
    answer = json.loads(body[:length])
    (output,) = answer["outputs"]
    assert (output["datatype"], output["shape"]) == (datatype, list(values.shape))
    assert answer.get("id", "") == request_id
    if binary_out:
        assert output["parameters"]["binary_data_size"] == len(body) - length
        back = oip.decode_array(body[length:], datatype, output["shape"])
    elif datatype == "BYTES":
        back = np.array([text.encode() for text in output["data"]], dtype=np.object_).reshape(values.shape)
    else:
        back = np.array(output["data"], dtype=values.dtype).reshape(values.shape)
    np.testing.assert_array_equal(back, values)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"inputs": [{"name": "images", "datatype": "FP32", "shape": [1, 2], "data": [NaN, 1]}]}', "NaN"),
        ([], "must be a JSON object"),
        ({}, "inputs is None"),
        ({"inputs": []}, "at least one"),
        ({"inputs": {}}, "at least one"),
        ({"inputs": [1]}, "inputs[0] is 1"),
        ({"id": 7} | request(), "id is 7"),
        (request(name="pictures"), "'pictures'; the inputs are 'images'"),
        (request(name=None), "name of inputs[0] is None"),
        (request(datatype="FP64"), "the model takes FP32"),
        (request(datatype="FLOAT"), "must be one of BOOL"),
        (request(datatype=["FP32"]), "datatype of input"),
        (request(shape=[1, 3]), "takes [-1, 2]"),
        (request(shape=[2]), "takes [-1, 2]"),
        (request(shape="1,2"), "must be a list of whole numbers"),
        (request(shape=[1.0, 2]), "must be a list of whole numbers"),
        (request(shape=[-1, 2]), "must be a list of whole numbers"),
        (request(shape=[True, 2]), "must be a list of whole numbers"),
        (request(shape=[1] * 40), "at most 16"),
        (request(shape=[0, 2], data=[]), "no rows"),
        (request(shape=[10**12, 2]), "takes 2000000000000"),
        (request(data=[1]), "has 1 values; shape [1, 2] takes 2"),
        (request(data=[1, "2"]), "holds '2', which is no FP32"),
        (request(data=[1, True]), "holds True"),
        (request(data=[1, None]), "holds None"),
        (request(data=[[1], 2]), "mixes lists and values"),
        (request(data=5), "must be a list"),
        (request(data=[1, 1e300]), "too large for FP32"),
        (request(data=[1, 10**400]), "FP32"),
        (request(parameters=3), "must be an object"),
        (request(parameters={"binary_data_size": 8}), "both data and"),
        ({"inputs": request()["inputs"] * 2}, "given twice"),
        ({"outputs": [{"name": "logits"}]} | request(), "no output 'logits'; the outputs are 'probabilities', 'label'"),
        ({"outputs": [{"name": "label"}, {"name": "label"}]} | request(), "asked for twice"),
        ({"outputs": "label"} | request(), "must be a list of objects"),
        ({"outputs": ["label"]} | request(), "must be an object with a name"),
        ({"outputs": [{"name": "label", "parameters": {"binary_data": 1}}]} | request(), "true or false"),
        ({"outputs": [{"name": "label", "parameters": {"classification": 1}}]} | request(), "no classes"),
        ({"outputs": [{"name": "probabilities", "parameters": {"classification": -1}}]} | request(), "whole number >= 0"),
        ({"parameters": {"binary_data_output": "yes"}} | request(), "true or false"),
    ],
)
def test_what_is_wrong_is_named_together_with_what_is_allowed(document: Any, said: str) -> None:
    with pytest.raises(oip.BadRequest) as caught:
        decode(document)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def binary_header(size: Any) -> bytes:
    tensor = {"name": "images", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": size}}
    return json.dumps({"inputs": [tensor]}).encode()


@pytest.mark.parametrize(
    ("size", "header_length", "rest", "said"),
    [
        (8, None, b"", "Inference-Header-Content-Length is missing"),
        (8, "len", b"12345678", "must be a whole number"),
        (8, "-3", b"12345678", "must be a whole number"),
        (8, "²", b"12345678", "must be a whole number"),
        (8, "99999", b"12345678", "the body has only"),
        (8, "9" * 5000, b"12345678", "the body has only"),
        (8, "ok", b"1234", "only 4 are left"),
        (4, "ok", b"1234", "takes 8 bytes, not 4"),
        (8, "ok", b"1234567890", "2 binary bytes follow"),
        (True, "ok", b"12345678", "whole number >= 0"),
        (-8, "ok", b"12345678", "whole number >= 0"),
        ("8", "ok", b"12345678", "whole number >= 0"),
    ],
)
def test_binary_tensors_that_do_not_fit_are_refused(size: Any, header_length: str | None, rest: bytes, said: str) -> None:
    header = binary_header(size)
    with pytest.raises(oip.BadRequest) as caught:
        decode(header, str(len(header)) if header_length == "ok" else header_length, rest)
    assert said in str(caught.value)


@given(st.binary(max_size=200), st.none() | st.text(max_size=4) | st.integers(0, 250).map(str))
def test_no_body_makes_the_decoder_fail_otherwise(body: bytes, header_length: str | None) -> None:
    with pytest.raises(oip.BadRequest):
        decode(body, header_length)


def test_text_that_is_no_unicode_is_refused() -> None:
    body = b'{"inputs":[{"name":"t","datatype":"BYTES","shape":[1],"data":["\\ud800"]}]}'
    with pytest.raises(oip.BadRequest, match="Unicode"):
        oip.decode_request(body, None, [Spec("t", "BYTES", (-1,))], [])


def test_only_the_outputs_asked_for_come_each_in_its_form() -> None:
    asked = decode({"outputs": [{"name": "label", "parameters": {"binary_data": True}}]} | request())
    body, length = oip.encode_response("m", "2", asked, {"label": np.array([4]), "probabilities": np.zeros((1, 3), np.float32)}, {"k": "v"})
    answer = json.loads(body[:length])
    assert [output["name"] for output in answer["outputs"]] == ["label"]
    assert body[length:] == (4).to_bytes(8, "little")
    assert answer["parameters"] == {"k": "v"}
    assert answer["model_version"] == "2"


def test_all_outputs_come_where_none_is_asked_for() -> None:
    assert [output.name for output in decode(request()).outputs] == ["probabilities", "label"]


def test_numbers_that_json_lacks_become_null() -> None:
    outputs = {"probabilities": np.array([[np.nan, np.inf, 1]]), "label": np.array([0])}
    body, length = oip.encode_response("m", "1", decode(request()), outputs, {})
    assert length is None
    assert json.loads(body)["outputs"][0]["data"] == [None, None, 1]


def test_the_most_probable_classes_come_in_their_order() -> None:
    asked = decode({"outputs": [{"name": "probabilities", "parameters": {"classification": 2}}]} | request())
    body, _ = oip.encode_response("m", "1", asked, {"probabilities": np.array([[0.25, 0.5, 0.125]])}, {})
    output = json.loads(body)["outputs"][0]
    assert output["data"] == ["0.500000:1", "0.250000:0"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 2])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_binary_numbers_that_json_has_not_are_refused_with_their_row(value: float) -> None:
    array = np.array([[1, 2], [3, value]], np.float32)
    tensor = {"name": "images", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}}
    header = json.dumps({"inputs": [tensor]}).encode()
    with pytest.raises(oip.BadRequest, match=rf"input 'images' holds {value} in row 1; only finite numbers are taken"):
        oip.decode_request(header + oip.encode_array(array), str(len(header)), [IMAGES], [LABEL])


def test_null_stands_for_an_optional_member_that_is_absent() -> None:
    plain = request()
    nulls = request(parameters=None) | {"id": None, "parameters": None, "outputs": None}
    assert decode(nulls).outputs == decode(plain).outputs
    assert decode(nulls).id == ""
    inner = request(parameters={"binary_data_size": None}) | {
        "parameters": {"binary_data_output": None},
        "outputs": [
            {"name": "label", "parameters": None},
            {"name": "probabilities", "parameters": {"binary_data": None, "classification": None}},
        ],
    }
    assert decode(inner).outputs == (oip.RequestedOutput("label"), oip.RequestedOutput("probabilities"))
    header = json.dumps(request(data=None, parameters={"binary_data_size": 8})).encode()
    got = oip.decode_request(header + bytes(8), str(len(header)), [IMAGES], [LABEL, PROBABILITIES])
    assert got.inputs["images"].tolist() == [[0, 0]]
    for missing in ({"data": None}, {"name": None}, {"shape": None}, {"datatype": None}):
        with pytest.raises(oip.BadRequest):
            decode(request(**missing))


def test_an_id_that_utf8_cannot_hold_is_cleaned() -> None:
    assert decode(request() | {"id": "a\ud83d"}).id == "a\ufffd"
    assert decode(request() | {"id": "🙂"}).id == "🙂"


def test_more_rows_than_one_request_may_have_are_refused_with_the_bound() -> None:
    body = json.dumps(request(shape=[3, 2], data=[0] * 6)).encode()
    assert oip.decode_request(body, None, [IMAGES], [LABEL], 3).rows == 3
    with pytest.raises(oip.TooManyRows, match="3 rows; at most 2 are taken in one request"):
        oip.decode_request(body, None, [IMAGES], [LABEL], 2)
