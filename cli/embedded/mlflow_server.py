"""An MLflow tracking server and registry on SQLite and local artifacts."""

import subprocess
import sys
from pathlib import Path

from autonomic.workflows.processes import answers, free_port, start_process, stop_process, wait_until

NO_TELEMETRY = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


class MlflowServer:
    """A running MLflow server; `url` is where it answers."""

    def __init__(self, url: str, process: "subprocess.Popen[bytes]") -> None:
        self.url = url
        self.process = process

    @classmethod
    def start(cls, home: Path, port: int | None = None, address: str = "127.0.0.1") -> "MlflowServer":
        """Starts one worker whose data stand in `home`; it listens on `address`.

        Raises:
            Permanent: it did not come up; the message quotes its log.
        """
        home.mkdir(parents=True, exist_ok=True)
        port = port or free_port()
        log = home / "mlflow.log"
        process = start_process(
            [
                *(sys.executable, "-m", "mlflow", "server", "--host", address, "--port", str(port), "--workers", "1"),
                *("--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}"),
                *("--serve-artifacts", "--artifacts-destination", str(home / "artifacts")),
            ],
            log,
            env={**NO_TELEMETRY, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )
        server = cls(f"http://{address}:{port}", process)
        try:
            wait_until(lambda: answers(f"{server.url}/health"), "MLflow", 180, log, process)
        except BaseException:
            server.stop()
            raise
        return server

    def stop(self) -> None:
        """Stops the server and its workers."""
        stop_process(self.process)
