"""An endpoint with one gauge for each target, scraped by the system's own Prometheus."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import yaml

from autonomic.agents.settings import Settings


class Exporter:
    """Serves `benchmark_load{target="…"}` while it is entered; `scrapes` counts how often it was read."""

    def __init__(self, settings: Settings, targets: int) -> None:
        self.scrapes = 0
        self._config = settings.home / "prometheus" / "prometheus.yml"
        self._reload = f"{settings.prometheus_url}/-/reload"
        page = "".join(f'benchmark_load{{target="{number}"}} {number % 2}\n' for number in range(targets)).encode()
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                exporter.scrapes += 1
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="exporter", daemon=True)

    def __enter__(self) -> "Exporter":
        self._thread.start()
        config = yaml.safe_load(self._config.read_text())
        target = f"127.0.0.1:{self._server.server_address[1]}"
        config["scrape_configs"].append({"job_name": "benchmark", "scrape_interval": "15s", "static_configs": [{"targets": [target]}]})
        self._config.write_text(yaml.safe_dump(config))
        httpx.post(self._reload, timeout=10).raise_for_status()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
