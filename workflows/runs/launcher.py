"""Runs one attempt of a step as a process group and says how it ended."""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import autonomic
from autonomic.seams.word import Word
from autonomic.workflows.runs.capped_log import CappedLog
from autonomic.workflows.runs.step_main import failed, write_json

_READ_BYTES = 2**20
_POLL_SECONDS = 0.1
_MAX_NOTES_BYTES = 4 * 2**20  # taken at once
_F_SETPIPE_SZ = 1031

Notes = list[dict[str, Any]]


class Log(Protocol):
    """Where the output of a step goes."""

    def write(self, data: bytes | memoryview) -> None: ...

    def close(self) -> None: ...


class Attempt(Word):
    """One attempt of a step. `folder` is the step's own: log, notes and working folder stand in it."""

    run_id: str
    workflow: str
    step: str
    attempt: int
    run: str | None
    command: tuple[str, ...] | None
    arguments: dict[str, Any]
    outputs: tuple[str, ...] | None = None
    env: dict[str, str] = {}
    timeout_seconds: float | None = None
    folder: Path
    code: str = ""
    models_cache: Path
    tracking_uri: str = ""
    tracking_run: str = ""

    @property
    def attempt_folder(self) -> Path:
        return self.folder / str(self.attempt)

    @property
    def log(self) -> Path:
        return self.attempt_folder / "log"


def launch(attempt: Attempt, on_notes: Callable[[Notes], None] = lambda notes: None, log: Log | None = None) -> dict[str, Any]:
    """Runs the attempt to its end and returns `{status, outputs, detail, retry}`; never raises for what the step does.

    What the step prints goes to `log`, where there is none to `attempt.log`, of which the beginning and the end are kept.

    The calling thread must not end before: the step is killed when the thread that launched it is gone.
    """
    request = _prepare(attempt)
    log = log or CappedLog(attempt.log)
    reader, writer = os.pipe()
    with contextlib.suppress(OSError):
        import fcntl

        fcntl.fcntl(reader, _F_SETPIPE_SZ, _READ_BYTES)
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "autonomic.workflows.runs.step_main", str(request)],
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            cwd=attempt.folder / "work",
            env=_environment(attempt),
            start_new_session=True,
        )
    except OSError as error:
        os.close(reader)
        return failed(f"its process could not be started: {error}")
    finally:
        os.close(writer)
    try:
        timed_out = _attend(process, reader, log, attempt, on_notes)
    finally:
        _kill_group(process)
        _drain(reader, log)
        os.close(reader)
        log.close()
    if timed_out:
        return failed(f"timed out after {attempt.timeout_seconds:g} s and was killed")
    try:
        return json.loads((attempt.attempt_folder / "result.json").read_text())
    except FileNotFoundError:
        return failed(f"its process ended with code {process.returncode} and left no result")


def _prepare(attempt: Attempt) -> Path:
    folder = attempt.attempt_folder
    if folder.exists():
        # an attempt that was broken off is made again from the start; what it printed stays
        folder.rename(folder.with_name(f"{folder.name}.{len(list(folder.parent.glob(f'{folder.name}.*'))) + 1}"))
    folder.mkdir(parents=True)
    work = attempt.folder / "work"
    work.mkdir(exist_ok=True)
    if attempt.code and attempt.command:
        _copy_code(Path(attempt.code), work)
    path = folder / "request.json"
    write_json(
        path,
        {
            **attempt.model_dump(mode="json", include={"run_id", "workflow", "step", "attempt", "run", "command", "outputs"}),
            **attempt.model_dump(mode="json", include={"code", "models_cache", "tracking_uri", "tracking_run"}),
            "with": attempt.arguments,
            "workdir": str(attempt.folder / "work"),
            "notes": str(folder / "notes.jsonl"),
            "result": str(folder / "result.json"),
            "command_outputs": str(folder / "outputs.json"),
            "launcher_pid": os.getpid(),
        },
    )
    return path


def _copy_code(code: Path, work: Path) -> None:
    """Puts the code where a command starts, so that scripts and files are found by their names; what an earlier attempt wrote stays."""

    def copy(source: str, target: str) -> None:
        if not os.path.lexists(target):
            shutil.copy(source, target)

    shutil.copytree(code, work, ignore=shutil.ignore_patterns(".*", "__pycache__"), copy_function=copy, dirs_exist_ok=True)


def _environment(attempt: Attempt) -> dict[str, str]:
    root = str(Path(next(iter(autonomic.__path__))).parent)
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(path for path in (root, *inherited) if path)}
    if attempt.tracking_uri:
        env["MLFLOW_TRACKING_URI"] = attempt.tracking_uri
        # one of the environment would register models where nothing of ours looks
        env.pop("MLFLOW_REGISTRY_URI", None)
    if attempt.tracking_run:
        env["MLFLOW_RUN_ID"] = attempt.tracking_run
    return {**env, "AUTONOMIC_RUN_ID": attempt.run_id, "MLFLOW_DISABLE_TELEMETRY": "true", **attempt.env}


def _attend(process: "subprocess.Popen[bytes]", reader: int, log: Log, attempt: Attempt, on_notes: Callable[[Notes], None]) -> bool:
    """Copies output and passes notes on until the process ends; True where the time was over first."""
    deadline = time.monotonic() + attempt.timeout_seconds if attempt.timeout_seconds is not None else None
    notes = NotesReader(attempt.attempt_folder / "notes.jsonl")
    looked = 0.0
    open_pipe = True
    while process.poll() is None:
        now = time.monotonic()
        if deadline is not None and now >= deadline:
            return True
        if now - looked >= _POLL_SECONDS:
            looked = now
            notes.pass_on(on_notes)
        if not open_pipe:
            # mostly it ends right after it has closed its output
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
        elif select.select([reader], [], [], _POLL_SECONDS)[0]:
            data = os.read(reader, _READ_BYTES)
            open_pipe = bool(data)
            log.write(data)
    notes.pass_on(on_notes)
    return False


class NotesReader:
    """Reads the whole lines that were added to a step's notes since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def pass_on(self, on_notes: Callable[[Notes], None]) -> None:
        """Hands new notes to `on_notes`, if there are any."""
        while notes := self._read():
            on_notes(notes)

    def _read(self) -> Notes:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(_MAX_NOTES_BYTES)
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _drain(reader: int, log: Log) -> None:
    # what left the group keeps the pipe open: take what is there and do not wait for more
    while select.select([reader], [], [], 0)[0]:
        data = os.read(reader, _READ_BYTES)
        if not data:
            return
        log.write(data)
