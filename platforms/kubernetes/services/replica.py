"""The process of one replica's pod: `python -m autonomic.platforms.kubernetes.services.replica`.

It brings the model and the workflow's code, serves, and on SIGTERM finishes what it has. The environment holds its
configuration (AUTONOMIC_REPLICA), the address of MLflow and, where callers have to show one, the token (AUTONOMIC_SERVICE_TOKEN).
"""

import importlib
import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from autonomic.platforms.host.models import Models
from autonomic.platforms.kubernetes.objects.in_pod import PACKAGE, REGISTRY_URL, WORK, unpack_parts
from autonomic.platforms.kubernetes.objects.manifests import PORT
from autonomic.seams.errors import AutonomicError
from autonomic.workflows.serving.config import ServerConfig
from autonomic.workflows.serving.ending import end_process


def server_config(told: dict[str, Any], token: str) -> ServerConfig:
    """The configuration of the model server, with the model's folder and the code brought to this pod."""
    work = Path(WORK)
    models = Models(work / "models", os.environ.get(REGISTRY_URL, ""))
    code = [str(unpack_parts(Path(PACKAGE), work / "code"))] if told["package"] else []
    fields = {
        **told["server"],
        "model_folder": str(models.fetch(told["server"]["model"])),
        "address": "0.0.0.0",
        "port": PORT,
        "python_path": code,
        "token": token,
    }
    return ServerConfig.model_validate(fields)


def main() -> int:
    """Serves until SIGTERM or SIGINT."""
    leave = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: leave.set())
    told = json.loads(os.environ["AUTONOMIC_REPLICA"])
    module, _, name = told["class"].partition(":")
    try:
        config = server_config(told, os.environ.pop("AUTONOMIC_SERVICE_TOKEN", ""))
        server = getattr(importlib.import_module(module), name)(config)
        server.start()
    except AutonomicError as error:
        print(error, file=sys.stderr)  # the pod's last words, which say all there is to say
        return 1
    except Exception:  # noqa: BLE001 - whatever keeps it from serving is what the pod ends with
        traceback.print_exc()
        return 1
    while server.alive() and not leave.wait(1.0):
        pass
    if not leave.is_set():
        print(f"the replica ends, and is started again: {server.death()}", file=sys.stderr)
        return 1
    return 0 if server.drain(float(told["drain_seconds"])) else 1


if __name__ == "__main__":
    end_process(main())
