"""Ray, MLflow and Prometheus that are there already: what is reported where they cannot be used."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import pytest
import yaml

from autonomic.agents.settings import Settings
from autonomic.cli import existing
from autonomic.seams.errors import Permanent


class Asking(BaseHTTPRequestHandler):
    """A server that asks for the user `me` with the password `secret`."""

    def do_GET(self) -> None:
        # me:secret
        known = self.headers.get("Authorization") == "Basic bWU6c2VjcmV0"
        body = json.dumps({"status": "success", "experiments": []}).encode()
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    """Where it answers, without the scheme."""
    with HTTPServer(("127.0.0.1", 0), Asking) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def test_a_prometheus_is_asked_with_the_credentials_of_its_url_which_no_message_shows(server: str) -> None:
    existing.check_prometheus(f"http://me:secret@{server}")

    with pytest.raises(Permanent, match=rf"Prometheus at http://{server} cannot be used: it answers 401.*--prometheus embedded") as refused:
        existing.check_prometheus(f"http://me:wrong@{server}")
    assert "wrong" not in str(refused.value)


def test_an_mlflow_is_asked_with_its_own_variables(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    existing.check_mlflow(f"http://{server}")

    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    with pytest.raises(Permanent, match=r"MLflow cannot be used: .*401.*MLFLOW_TRACKING_USERNAME"):
        existing.check_mlflow(f"http://{server}")


def test_nobody_at_an_address_is_told_with_the_way_out() -> None:
    with pytest.raises(Permanent, match=r"cannot be used.*--mlflow embedded"):
        existing.check_mlflow("http://127.0.0.1:1")
    with pytest.raises(Permanent, match=r"cannot be used.*--prometheus embedded"):
        existing.check_prometheus("http://127.0.0.1:1")


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """What answers like a head node of Ray that asks for the token `secret`; the environment holds none."""

    def check_alive(request: bytes, context: grpc.ServicerContext) -> bytes:
        if ("authorization", "Bearer secret") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
        return b""

    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    server = grpc.server(ThreadPoolExecutor(1))
    methods = {"CheckAlive": grpc.unary_unary_rpc_method_handler(check_alive)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("ray.rpc.NodeInfoGcsService", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_ray_cluster_is_asked_with_the_token_that_its_drivers_show(head: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=rf"Ray at {head} cannot be used: it asks for a token; set RAY_AUTH_MODE=token.*--ray embedded"):
        existing.check_ray(head)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(Permanent, match="Ray's token cannot be read"):
        existing.check_ray(head)
    (tmp_path / "token").write_text("wrong\n")
    with pytest.raises(Permanent, match="it does not take the token"):
        existing.check_ray(head)
    (tmp_path / "token").write_text("secret\n")
    existing.check_ray(head)


def test_all_that_cannot_be_used_is_named_at_once(server: str) -> None:
    settings = Settings(home=Path("/home"), monitor_url="", planner_url="", tuner_url="")
    used = {"use_ray": "127.0.0.1:1", "use_mlflow": "127.0.0.1:5000", "use_prometheus": f"http://{server}"}
    with pytest.raises(Permanent) as refused:
        existing.check(settings.model_copy(update=used))
    words = str(refused.value)
    assert words.startswith("Nothing was started: Ray at 127.0.0.1:1 cannot be used: no head node of Ray answers there")
    assert "MLflow cannot be used: " in words
    assert f"Prometheus at http://{server} cannot be used: it answers 401" in words


@pytest.mark.parametrize("address", ["auto", "ray://127.0.0.1:10001", "127.0.0.1", "http://127.0.0.1:6379"])
def test_what_is_no_address_of_a_head_node_is_refused_with_what_is(address: str) -> None:
    with pytest.raises(Permanent, match="write HOST:PORT of its head node"):
        existing.check_ray(address)


def test_what_such_a_prometheus_has_to_scrape_is_written_for_the_owner_only(tmp_path: Path) -> None:
    written = existing.write_scrape_configs(tmp_path / "prometheus" / "scrape.yml", [{"job_name": "host"}])

    assert yaml.safe_load(written.read_text()) == {"scrape_configs": [{"job_name": "host"}]}
    assert written.stat().st_mode & 0o077 == 0
