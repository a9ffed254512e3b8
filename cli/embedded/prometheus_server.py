"""A Prometheus server, from whichever binary the machine has."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import yaml

from autonomic.seams.errors import Permanent
from autonomic.workflows.processes import answers, free_port, start_process, stop_process, wait_until


def find_prometheus() -> Path:
    """The binary named by AUTONOMIC_PROMETHEUS, else on PATH, else in the user's cache where the set-up put it.

    Raises:
        Permanent: there is none.
    """
    named = os.environ.get("AUTONOMIC_PROMETHEUS")
    cached = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "autonomic" / "bin" / "prometheus"
    for candidate in (named, shutil.which("prometheus"), str(cached)):
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    raise Permanent("There is no prometheus on PATH. Run `scripts/install-prometheus`, or name the binary in AUTONOMIC_PROMETHEUS")


class PrometheusServer:
    """A running Prometheus; `url` is where it answers."""

    def __init__(self, url: str, process: "subprocess.Popen[bytes]", config: Path) -> None:
        self.url = url
        self.process = process
        self.config = config

    @classmethod
    def start(
        cls,
        home: Path,
        scrape_configs: list[dict[str, object]],
        port: int | None = None,
        interval: str = "1s",
        *,
        address: str = "127.0.0.1",
        rules: Sequence[Path] = (),
    ) -> "PrometheusServer":
        """Starts Prometheus with `scrape_configs` and files of `rules`, its data in `home`; it listens on `address`.

        Raises:
            Permanent: there is no binary, or it did not come up; the message quotes its log.
        """
        home.mkdir(parents=True, exist_ok=True)
        port = port or free_port()
        config = home / "prometheus.yml"
        write_config(config, scrape_configs, interval, rules)
        log = home / "prometheus.log"
        process = start_process(
            [
                *(str(find_prometheus()), f"--config.file={config}", f"--storage.tsdb.path={home / 'data'}"),
                *(f"--web.listen-address={address}:{port}", "--storage.tsdb.retention.time=2d", "--web.enable-lifecycle"),
            ],
            log,
        )
        server = cls(f"http://{address}:{port}", process, config)
        try:
            wait_until(lambda: answers(f"{server.url}/-/ready"), "Prometheus", 120, log, process)
        except BaseException:
            server.stop()
            raise
        return server

    def stop(self) -> None:
        """Stops the server."""
        stop_process(self.process)


def write_config(path: Path, scrape_configs: list[dict[str, object]], interval: str, rules: Sequence[Path] = ()) -> None:
    """Writes a configuration that holds tokens, readable by its owner only."""
    path.touch(mode=0o600)
    written = {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "scrape_configs": scrape_configs,
        "rule_files": [str(file) for file in rules],
    }
    path.write_text(yaml.safe_dump(written))
