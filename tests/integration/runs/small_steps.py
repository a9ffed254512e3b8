"""Functions of the workflows in this folder."""

import os
import sys
import time
from pathlib import Path
from typing import Any


def double(x: float) -> dict[str, Any]:
    print("doubling", x)
    return {"y": 2 * x}


def add(a: float, b: float, context: Any) -> dict[str, Any]:
    context.progress(0.5, "half way")
    context.metric("partial", a, step=1)
    context.metric("partial", a + b, step=2)
    context.log_dataset("numbers", "0123456789abcdef" * 4)
    (context.workdir / "sum.txt").write_text(str(a + b))
    context.artifact(context.workdir / "sum.txt")
    return {"sum": a + b, "attempt": context.attempt}


def meet(own: str, other: str) -> dict[str, Any]:
    """Ends when the step that is called with the same files the other way round runs too."""
    Path(own).touch()
    wait_for_file(other, 60)
    return {"met": True}


def wait_for_file(path: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not Path(path).exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{path} did not appear within {seconds:g} s")
        time.sleep(0.02)


def held(marker: str, until: str) -> None:
    Path(marker).touch()
    wait_for_file(until, 60)


def half_way(until: str, context: Any) -> None:
    context.progress(0.1, "begun")
    context.progress(0.5, "half way")
    wait_for_file(until, 120)


def fail_until(marker: str, times: int) -> dict[str, Any]:
    with Path(marker).open("a") as file:
        file.write("x")
    tries = len(Path(marker).read_text())
    if tries <= times:
        raise ValueError(f"try {tries} is not enough")
    return {"tries": tries}


def raises() -> None:
    raise KeyError("no such thing")


def hangs(pid_file: str = "") -> None:
    if pid_file:
        Path(pid_file).write_text(str(os.getpid()))
    while True:
        time.sleep(60)


def exits(code: int = 3) -> None:
    os._exit(code)


def says_goodbye() -> None:
    sys.exit("enough")


def prints(megabytes: int) -> dict[str, Any]:
    print("the first line")
    line = b"x" * 1023 + b"\n"
    for _ in range(megabytes * 1024):
        os.write(1, line)
    print("the last line")
    return {"printed": megabytes}


def returns_a_set() -> Any:
    return {"rows": [1, {2, 3}]}


def slow(marker: str, seconds: float) -> dict[str, Any]:
    with Path(marker).open("a") as file:
        file.write("x")
    time.sleep(seconds)
    return {"begun": len(Path(marker).read_text())}


def quadratic(x: float, shift: float = 0.0) -> dict[str, float]:
    return {"score": -((x - 3.0) ** 2) + shift}


def slow_quadratic(x: float, seconds: float, marker: str) -> dict[str, float]:
    time.sleep(seconds)
    with Path(marker).open("a") as file:
        file.write("x")
    return {"score": -((x - 3.0) ** 2)}


def register(name: str, context: Any) -> dict[str, Any]:
    import torch

    from autonomic.workflows.serving.model import save_model

    tensor = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
    folder = save_model(torch.nn.Identity(), context.workdir / "model", architecture="torch.nn:Identity", inputs=[tensor], outputs=[tensor])
    version = context.register_model(folder, name, alias=("champion", "backup"), tags={"accuracy": "0.5"})
    return {"version": version, "files": sorted(path.name for path in context.download_model(f"models:/{name}@backup").iterdir())}
