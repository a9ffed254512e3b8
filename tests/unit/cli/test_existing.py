"""MLflow and Prometheus that are there already: what is said where they cannot be used."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

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


def test_what_such_a_prometheus_has_to_scrape_is_written_for_the_owner_only(tmp_path: Path) -> None:
    written = existing.write_scrape_configs(tmp_path / "prometheus" / "scrape.yml", [{"job_name": "host"}])

    assert yaml.safe_load(written.read_text()) == {"scrape_configs": [{"job_name": "host"}]}
    assert written.stat().st_mode & 0o077 == 0
