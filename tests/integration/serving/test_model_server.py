import asyncio
import gzip
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import tritonclient.http as triton
from prometheus_client.parser import text_string_to_metric_families

from autonomic.seams.errors import Permanent
from autonomic.workflows.serving.config import ServerConfig
from autonomic.workflows.serving.model import save_model
from autonomic.workflows.serving.predictions import PredictionLog
from autonomic.workflows.serving.server import ModelServer

X = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 2, 0], [3, 0, 0, 9]], np.float32)
LABELS = [0, 1, 2, 2, 0]


def body(rows: int = 1, **changes: Any) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": "FP32", "shape": [rows, 4], "data": [[1.0, 0, 0, 0]] * rows}
    return {"inputs": [tensor | changes]}


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}/v2/models/s/infer"


def metric(port: int, name: str, **labels: str) -> float:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@pytest.mark.parametrize("binary", [True, False])
def test_a_stock_client_is_answered(serve: Callable[..., int], binary: bool) -> None:
    port = serve(max_batch_size=2)
    client = triton.InferenceServerClient(f"127.0.0.1:{port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("s")
    assert client.is_model_ready("s", "3")
    assert not client.is_model_ready("s", "4")
    assert client.get_server_metadata()["name"] == "autonomic"
    assert client.get_model_metadata("s")["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]

    tensor = triton.InferInput("x", [5, 4], "FP32")
    tensor.set_data_from_numpy(X, binary_data=binary)
    wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("label", "probabilities")]
    result = client.infer("s", [tensor], outputs=wanted, request_id="r-1", model_version="3")
    assert result.as_numpy("label").tolist() == LABELS
    probabilities = result.as_numpy("probabilities")
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert probabilities.dtype == np.float32
    assert result.get_response()["id"] == "r-1"
    assert result.get_response()["model_version"] == "3"
    assert result.get_response()["parameters"] == {"role": "champion"}
    client.close()


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"", {}, 400),
        (b"\x80\x04\x95", {}, 400),
        (json.dumps(body(datatype="INT64")).encode(), {}, 400),
        (json.dumps(body(shape=[1, 5])).encode(), {}, 400),
        (json.dumps(body(name="y")).encode(), {}, 400),
        (json.dumps(body(data=[["1", 0, 0, 0]])).encode(), {}, 400),
        (json.dumps(body()).encode(), {"Inference-Header-Content-Length": "many"}, 400),
        (json.dumps(body()).encode(), {"Inference-Header-Content-Length": "7000"}, 400),
        (json.dumps(body()).encode(), {"Inference-Header-Content-Length": "5"}, 400),
        (b"[" * 9_000, {}, 400),
        (b" " * 20_000, {}, 413),
        (gzip.compress(json.dumps(body()).encode(), mtime=0), {"Content-Encoding": "gzip"}, 415),
    ],
)
def test_bad_input_is_the_callers_error_and_says_why(
    serve: Callable[..., int], content: bytes, headers: dict[str, str], status: int
) -> None:
    port = serve(max_body_bytes=10_000)
    answer = httpx.post(url(port), content=content, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]
    assert httpx.post(url(port), json=body()).status_code == 200
    assert metric(port, "autonomic_requests_total", code=str(status)) == 1
    assert metric(port, "autonomic_request_duration_seconds_count") == 1


def test_a_body_that_never_says_its_length_is_cut_at_the_limit(serve: Callable[..., int]) -> None:
    port = serve(max_body_bytes=10_000)
    answer = httpx.post(url(port), content=(b" " * 1000 for _ in range(30)))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/models/s/versions/9/infer", 404),
        ("GET", "/v2/models/s/infer", 405),
        ("GET", "/nowhere", 404),
    ],
)
def test_unknown_addresses_are_answered_in_json(serve: Callable[..., int], method: str, path: str, status: int) -> None:
    answer = httpx.request(method, f"http://127.0.0.1:{serve()}{path}")
    assert answer.status_code == status
    assert answer.json()["error"]


def test_a_token_is_asked_for_where_one_is_set(serve: Callable[..., int]) -> None:
    port = serve(token="secret")
    assert httpx.post(url(port), json=body()).status_code == 401
    assert httpx.post(url(port), json=body(), headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert httpx.post(url(port), json=body(), headers={"Authorization": "Bearer secret"}).status_code == 200
    assert httpx.get(f"http://127.0.0.1:{port}/v2/health/ready").status_code == 200


def test_requests_that_come_together_share_the_device_time(serve: Callable[..., int]) -> None:
    port = serve(max_in_flight=8, max_batch_size=8, max_wait_seconds=0.2, device_time_seconds=0.2)

    async def all_at_once() -> list[int]:
        async with httpx.AsyncClient() as client:
            return [answer.status_code for answer in await asyncio.gather(*(client.post(url(port), json=body()) for _ in range(8)))]

    assert asyncio.run(all_at_once()) == [200] * 8
    assert metric(port, "autonomic_batch_rows_count") < 8
    assert metric(port, "autonomic_batch_rows_sum") == 8


def test_who_finds_no_place_to_wait_is_told_at_once(serve: Callable[..., int], tmp_path: Path) -> None:
    port = serve(max_in_flight=1, max_waiting=1, model_folder=save_hanging(tmp_path))
    held = body(data=[100, 0, 0, 0])

    async def all_at_once() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=120) as client:
            asked = [asyncio.ensure_future(client.post(url(port), json=held)) for _ in range(5)]
            while sum(each.done() for each in asked) < 3:
                await asyncio.sleep(0.01)
            Hanging.go.set()
            return await asyncio.gather(*asked)

    answers = asyncio.run(all_at_once())
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503]
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.headers["retry-after"] == "1"
    assert "try again" in refused.json()["error"]


def test_each_row_is_in_the_log_before_its_answer_arrives(serve: Callable[..., int], tmp_path: Path) -> None:
    port = serve(predictions=str(tmp_path / "p.db"), max_batch_size=2, role="canary")
    log = PredictionLog(tmp_path / "p.db")
    answer = httpx.post(url(port), json={"id": "r-7"} | body(data=X.tolist(), shape=[5, 4]))
    rows = log.read()
    assert answer.json()["parameters"]["prediction_ids"].split(",") == [row.id for row in rows]
    assert [row.label for row in rows] == LABELS
    np.testing.assert_array_equal(np.stack([row.input for row in rows]), X)
    assert {(row.request_id, row.role, row.model_version) for row in rows} == {("r-7", "canary", "3")}
    confidences = [row.confidence for row in rows]
    assert confidences == pytest.approx([max(row.output["probabilities"]) for row in rows])
    log.close()


def test_the_histogram_counts_from_the_arrival_at_the_front(serve: Callable[..., int]) -> None:
    port = serve()
    start = round((time.time() - 3) * 1e6)
    assert httpx.post(url(port), json=body(), headers={"X-Request-Start": f"t={start}"}).status_code == 200
    assert 3.0 <= metric(port, "autonomic_request_duration_seconds_sum") < 10.0


def test_draining_finishes_what_was_begun(configure: Callable[..., ServerConfig]) -> None:
    server = ModelServer(configure(device_time_seconds=0.5))
    port = server.start()
    answers: list[int] = []
    caller = threading.Thread(target=lambda: answers.append(httpx.post(url(port), json=body()).status_code))
    caller.start()
    while not answers and metric(port, "autonomic_server_in_flight_requests") < 1:
        time.sleep(0.01)
    assert server.drain(5.0)
    caller.join()
    assert answers == [200]
    assert not server.alive()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/v2/health/live")


def test_a_model_that_fails_on_one_request_serves_the_next(serve: Callable[..., int], tmp_path: Path) -> None:
    document = {
        "format": "state_dict",
        "architecture": "torch.nn:Embedding",
        "kwargs": {"num_embeddings": 3, "embedding_dim": 2},
        "inputs": [{"name": "word", "datatype": "INT64", "shape": [-1]}],
        "outputs": [{"name": "vector", "datatype": "FP32", "shape": [-1, 2]}],
    }
    (tmp_path / "model.json").write_text(json.dumps(document))
    torch.save(torch.nn.Embedding(3, 2).state_dict(), tmp_path / "weights.pt")
    port = serve(model_folder=str(tmp_path))
    tensor = {"name": "word", "datatype": "INT64", "shape": [1], "data": [7]}
    failed = httpx.post(url(port), json={"inputs": [tensor]})
    assert failed.status_code == 500
    assert "the model failed on this input" in failed.json()["error"]
    assert httpx.post(url(port), json={"inputs": [tensor | {"data": [2]}]}).status_code == 200


def test_a_server_without_a_model_does_not_start(configure: Callable[..., ServerConfig], tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="no model folder"):
        ModelServer(configure(model_folder=str(tmp_path))).start()


def test_an_exported_program_is_served_without_its_class(serve: Callable[..., int], tmp_path: Path) -> None:
    import torch

    from autonomic.workflows.serving.model import save_model

    save_model(
        torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()),
        tmp_path,
        format="export",
        inputs=[{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        outputs=[{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
    )
    port = serve(model_folder=str(tmp_path), max_batch_size=4)
    for rows in (1, 3):
        answer = httpx.post(url(port), json=body(rows))
        assert answer.status_code == 200, answer.text
        assert answer.json()["outputs"][0]["shape"] == [rows, 3]


def test_more_rows_than_a_request_may_have_are_refused_with_the_bound(serve: Callable[..., int]) -> None:
    port = serve(max_rows=300)
    assert httpx.post(url(port), json=body(300)).json()["outputs"][1]["data"] == [0] * 300
    refused = httpx.post(url(port), json=body(301))
    assert refused.status_code == 413
    assert refused.json()["error"] == "input 'x' has 301 rows; at most 300 are taken in one request. Send them in several"


def test_a_big_request_goes_in_chunks_is_logged_whole_and_lets_others_in_between(serve: Callable[..., int], tmp_path: Path) -> None:
    port = serve(predictions=str(tmp_path / "p.db"), max_in_flight=2, device_time_seconds=0.1)
    done: list[str] = []

    def ask(name: str, rows: int) -> None:
        answer = httpx.post(url(port), json=body(rows), timeout=60)
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["parameters"]["prediction_ids"].split(",")) == rows
        done.append(name)

    big = threading.Thread(target=ask, args=("big", 5000))
    big.start()
    while metric(port, "autonomic_batch_rows_count") < 1:
        time.sleep(0.01)
    ask("small", 1)
    big.join()
    assert done == ["small", "big"]
    assert metric(port, "autonomic_batch_rows_count") == 21
    log = PredictionLog(tmp_path / "p.db")
    assert log.counts().predictions == 5001
    log.close()


def test_what_nobody_waits_for_any_more_is_dropped(serve: Callable[..., int]) -> None:
    port = serve(device_time_seconds=0.1, timeout_seconds=1.5)
    late = httpx.post(url(port), json=body(10_000), timeout=60)
    assert late.status_code == 504
    assert late.json()["error"] == "there was no answer within 1.5 s; what was left of the request was dropped"
    patient = serve(device_time_seconds=0.1)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url(patient), json=body(10_000), timeout=httpx.Timeout(60, read=0.5))
    for each in (port, patient):
        while metric(each, "autonomic_server_in_flight_requests"):
            time.sleep(0.01)
        assert httpx.post(url(each), json=body(), timeout=60).status_code == 200
        assert metric(each, "autonomic_batch_rows_count") < 40
    assert metric(patient, "autonomic_requests_total", code="499") == 1


class Hanging(torch.nn.Module):
    """Hangs on a number above 99, until `go` is set."""

    go = threading.Event()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if float(x.max()) > 99:
            self.go.wait()
        return x


def save_hanging(folder: Path) -> str:
    """The folder of the model that hangs."""
    Hanging.go.clear()
    tensor = {"name": "x", "datatype": "FP32", "shape": [-1, 4]}
    return str(save_model(Hanging(), folder, architecture=f"{__name__}:Hanging", inputs=[tensor], outputs=[{**tensor, "name": "y"}]))


def test_a_replica_whose_model_hangs_is_not_ready_until_it_gets_on(serve: Callable[..., int], tmp_path: Path) -> None:
    port = serve(model_folder=save_hanging(tmp_path), timeout_seconds=0.2)
    ready = f"http://127.0.0.1:{port}/v2/health/ready"
    assert httpx.get(ready).status_code == 200
    assert httpx.post(url(port), json=body(data=[100, 0, 0, 0]), timeout=60).status_code == 504
    answer = httpx.get(ready)
    assert answer.status_code == 503
    assert "one batch has been in the model for" in answer.json()["why"]
    assert httpx.get(f"http://127.0.0.1:{port}/v2/models/s/ready").status_code == 503
    assert httpx.get(f"http://127.0.0.1:{port}/v2/health/live").status_code == 200
    Hanging.go.set()
    while httpx.get(ready).status_code != 200:
        time.sleep(0.01)
    # a busy machine may need longer than its short time limit
    while httpx.post(url(port), json=body(), timeout=60).status_code != 200:
        time.sleep(0.01)


def test_an_id_that_utf8_cannot_hold_is_answered_and_so_are_those_beside_it(serve: Callable[..., int], tmp_path: Path) -> None:
    port = serve(predictions=str(tmp_path / "p.db"), max_in_flight=8, max_batch_size=8, max_wait_seconds=0.3)
    good = json.dumps(body() | {"id": "fine"}).encode()
    bodies = [good] * 4 + [good.replace(b"fine", b"\\ud83d")]

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient() as client:
            return await asyncio.gather(*(client.post(url(port), content=content, timeout=60) for content in bodies))

    answers = asyncio.run(ask())
    assert [answer.status_code for answer in answers] == [200] * 5
    assert [answer.json()["id"] for answer in answers] == ["fine"] * 4 + ["\ufffd"]


@pytest.mark.parametrize("path", ["/v2", "/v2/health/ready", "/v2/models/s", "/v2/models/s/ready", "/v2/models/s/versions/3", "/metrics"])
def test_a_slash_at_the_end_of_an_address_changes_nothing(serve: Callable[..., int], path: str) -> None:
    port = serve()
    plain, slashed = (httpx.get(f"http://127.0.0.1:{port}{path}{end}") for end in ("", "/"))
    assert plain.status_code == slashed.status_code == 200
    assert httpx.post(f"{url(port)}/", json=body()).status_code == 200
