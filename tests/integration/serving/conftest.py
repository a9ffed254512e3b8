import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autonomic.workflows.serving.config import ServerConfig
from autonomic.workflows.serving.front import Front
from autonomic.workflows.serving.model import save_model
from autonomic.workflows.serving.server import ModelServer


class Process:
    """A model server in a process of its own."""

    def __init__(self, config: ServerConfig, folder: Path) -> None:
        self.config = config
        file = folder / f"{config.role}-{os.urandom(4).hex()}.json"
        file.write_text(config.model_dump_json())
        command = [sys.executable, "-m", "autonomic.workflows.serving.server", str(file)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})

    def port(self) -> int:
        assert self.process.stdout is not None
        return int(json.loads(self.process.stdout.readline())["port"])

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier of vectors of four numbers into three classes; the class is the greatest of the first three."""
    import torch

    module = torch.nn.Linear(4, 3)
    with torch.no_grad():
        module.weight.copy_(torch.eye(3, 4) * 5)
        module.bias.zero_()
    return save_model(
        module,
        tmp_path_factory.mktemp("model"),
        architecture="torch.nn:Linear",
        kwargs={"in_features": 4, "out_features": 3},
        inputs=[{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        outputs=[{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}],
        postprocess="classifier",
    )


@pytest.fixture
def configure(model_folder: Path) -> Callable[..., ServerConfig]:
    def made(**changes: Any) -> ServerConfig:
        base = {
            "workflow": "w",
            "service": "s",
            "name": "s",
            "model": "models:/m/3",
            "model_version": "3",
            "model_folder": str(model_folder),
        }
        return ServerConfig.model_validate(base | changes)

    return made


@pytest.fixture
def serve(configure: Callable[..., ServerConfig]) -> Iterator[Callable[..., int]]:
    """Starts model servers in this process; returns the port of each."""
    servers: list[ModelServer] = []

    def start(**changes: Any) -> int:
        servers.append(ModelServer(configure(**changes)))
        return servers[-1].start()

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def spawn(configure: Callable[..., ServerConfig], tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts model servers as processes, which can be killed."""
    processes: list[Process] = []

    def start(**changes: Any) -> Process:
        processes.append(Process(configure(**changes), tmp_path))
        return processes[-1]

    yield start
    for process in processes:
        process.end()


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    opened = Front(tmp_path / "front")
    opened.start()
    yield opened
    opened.stop()
