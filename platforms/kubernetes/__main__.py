"""The process of the one writer: `python -m autonomic.platforms.kubernetes --home HOME`.

It keeps the front, watches the cluster, and answers the HTTP interface that the agents ask, as the Ray host does.
"""

import argparse
import json
import logging
import signal
import sys
import threading
from pathlib import Path
from urllib.parse import urlparse

from autonomic.platforms.host.api import ApiServer, create_app
from autonomic.platforms.kubernetes.host import KubernetesHost
from autonomic.platforms.kubernetes.settings import KubernetesSettings, read_settings
from autonomic.seams.errors import Permanent, Retryable

_log = logging.getLogger(__name__)


def open_host(settings: KubernetesSettings, leave: threading.Event) -> KubernetesHost | None:
    """The started host; waits for an API server that is away. None where `leave` came first.

    Raises:
        Permanent: there are no credentials, or a right is missing.
    """
    while not leave.is_set():
        try:
            host = KubernetesHost(settings)
            try:
                host.start()
            except BaseException:
                host.close()
                raise
            return host
        except Retryable as away:
            _log.warning("%s", away)
            leave.wait(away.delay_seconds)
    return None


def main() -> int:
    """Serves until SIGTERM or SIGINT, or until another writer has taken over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the folder of `autonomic up`, with settings.json and kubernetes.json")
    home = parser.parse_args().home.absolute()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    leave = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: leave.set())
    urls = json.loads((home / "settings.json").read_text())
    tokens = json.loads((home / "tokens.json").read_text())
    listen, front = urlparse(urls["host_url"]), urlparse(urls.get("front_url", ""))
    try:
        settings = read_settings(
            home / "kubernetes.json", home, service_token=tokens["act"], front_port=front.port or 0, front_url=urls.get("front_url", "")
        )
        host = open_host(settings, leave)
    except Permanent as wrong:
        print(wrong, file=sys.stderr)
        return 1
    if host is None:
        return 0
    address = urls.get("listen_address") or listen.hostname or "127.0.0.1"
    server = ApiServer(create_app(host, tokens["host"]), address, listen.port or 0)
    server.start()
    while not host.lost and not leave.wait(0.5):
        pass
    if host.lost:
        print(host.lost, file=sys.stderr)
    server.stop()
    host.close()
    return 1 if host.lost else 0


if __name__ == "__main__":
    sys.exit(main())
