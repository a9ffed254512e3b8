"""What is wrong in a user's own code, on a real cluster: a model that hangs, a detector that was changed, one that cannot be made."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from autonomic.seams.plan import Change, Outcome
from autonomic.workflows.runs.packages import pack
from autonomic.workflows.serving.model import save_model

TENSOR = {"datatype": "FP32", "name": "x", "shape": [-1, 4]}
HANGS = 666.0
HANGING = f"""
import time
import torch

class Hanging(torch.nn.Linear):
    def __init__(self):
        super().__init__(4, 2)

    def forward(self, x):
        while bool((x == {HANGS}).any()):
            time.sleep(1)
        return super().forward(x)
"""
DETECTOR = """
class Own:
    def __init__(self, champion_dir, reference_dir):
        {init}

    def update(self, rows):
        return {{"drifted": 0.0, "of_code": {number}}}
"""


def apply(host: Any, primitive: str, target: str, to: dict[str, Any] | None = None) -> Outcome:
    return host.platform.apply(Change(key=f"faults.{time.time_ns()}", primitive=primitive, target=target, to=to or {}), 1)


def deploy(host: Any, name: str, model: str, code: Path, **service: Any) -> Outcome:
    api = {"name": "api", "model": model, "resources": {"cpu": 0}, **service}
    spec = {"type": "online", "services": [api]}
    document = {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": name}, "spec": spec}
    return apply(host, "deploy", name, {"spec": document, "package": host.platform.add_package(pack(code))})


def wait_until(condition: Callable[[], Any], what: str, within_seconds: float = 120) -> Any:
    deadline = time.monotonic() + within_seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {within_seconds:g} s: {what}"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def host(light_host: Any) -> Iterator[Any]:
    yield light_host
    for name in ("hangs", "watched"):
        assert apply(light_host, "delete", name).status in ("done", "unchanged")


def test_a_replica_whose_model_hangs_gets_no_requests_and_is_replaced(host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "hanging_of_a_test.py").write_text(HANGING)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    import hanging_of_a_test  # pyright: ignore[reportMissingImports]

    outputs = [{**TENSOR, "name": "y", "shape": [-1, 2]}]
    model = save_model(
        hanging_of_a_test.Hanging(), tmp_path / "model", architecture="hanging_of_a_test:Hanging", inputs=[TENSOR], outputs=outputs
    )
    outcome = deploy(host, "hangs", f"file://{model}", tmp_path / "code", timeout="1s")
    assert outcome.status == "done", outcome.detail
    (hung,) = host.call("replica_pids", "hangs", "api", "champion")
    url = f"{host.platform.urls()['hangs/api']}/v2/models/api/infer"

    def infer(value: float) -> int:
        body = {"inputs": [TENSOR | {"shape": [1, 4], "data": [value] * 4}]}
        return httpx.post(url, json=body, trust_env=False, timeout=60).status_code

    assert infer(1.0) == 200
    assert infer(HANGS) == 504
    # whoever asks now is refused by the front at once, and does not wait for a replica that hangs
    wait_until(lambda: infer(1.0) == 503, "the replica that hangs gets no requests")
    wait_until(lambda: infer(1.0) == 200, "another replica answers")
    (fresh,) = host.call("replica_pids", "hangs", "api", "champion")
    assert fresh != hung
    assert not os.path.exists(f"/proc/{hung}") or wait_until(lambda: not os.path.exists(f"/proc/{hung}"), "the process that hung ends")


def test_a_detector_whose_code_was_changed_runs_the_new_code_and_one_that_cannot_be_made_is_an_error(host: Any, tmp_path: Path) -> None:
    import torch

    model = save_model(
        torch.nn.Linear(4, 2),
        tmp_path / "model",
        architecture="torch.nn:Linear",
        kwargs={"in_features": 4, "out_features": 2},
        inputs=[TENSOR],
        outputs=[{**TENSOR, "name": "y", "shape": [-1, 2]}],
        postprocess="classifier",
    )

    def deployed_with(init: str, number: float) -> None:
        code = tmp_path / f"code-{number}"
        code.mkdir()
        (code / "detector_of_a_test.py").write_text(DETECTOR.format(init=init, number=number))
        drift = {"detector": "detector_of_a_test:Own", "every": "200ms"}
        outcome = deploy(host, "watched", f"file://{model}", code, log=True, drift=drift)
        assert outcome.status in ("done", "unchanged"), outcome.detail

    def said() -> dict[str, Any]:
        return host.platform.drift("watched", "api") or {"values": {}, "error": ""}

    def of_code() -> Any:
        return said()["values"].get("of_code")

    deployed_with("pass", 1.0)
    wait_until(lambda: of_code() == 1.0, "the first detector reports")
    deployed_with("pass", 2.0)
    wait_until(lambda: of_code() == 2.0, "the detector reports with the code of now")

    deployed_with("raise RuntimeError('no reference here')", 3.0)
    error = wait_until(lambda: said()["error"], "the detector that cannot be made is an error")
    assert "no reference here" in error
    faults = wait_until(lambda: host.platform.observe("watched/api").faults, "and stands in the state of its service")
    assert any("no reference here" in fault for fault in faults), faults

    deployed_with("pass", 4.0)
    wait_until(lambda: of_code() == 4.0 and not said()["error"], "the mended detector reports")
