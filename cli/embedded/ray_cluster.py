"""A Ray cluster of one node on the loopback interface, with token authentication and no usage reports."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from autonomic.seams.errors import Permanent
from autonomic.workflows.processes import free_port, start_process, stop_process, wait_until

_PREFIX = "autonomic-ray-"
_TEMP_DIRS = "temp-dirs"
_TRIES = 3
_RAY_GAVE_UP = "The current node timed out during startup"
_MAX_TEMP_DIR = 40  # Ray puts unix sockets below it, and their paths may not pass 107 characters


class RayCluster:
    """A running cluster. `address` is where drivers connect, `env` what their processes need to be let in."""

    def __init__(self, address: str, env: dict[str, str], process: "subprocess.Popen[bytes]", temp_dir: Path) -> None:
        self.address = address
        self.env = env
        self.process = process
        self.temp_dir = temp_dir

    @classmethod
    def start(cls, home: Path, cpus: int | None = None) -> "RayCluster":
        """Starts the head node; its token stands in `home`/ray-token, readable by the owner only.

        `cpus` is what Ray may hand out (default: all cores).

        Raises:
            Permanent: it did not come up; the message quotes its log.
        """
        for _ in range(_TRIES - 1):
            try:
                return cls._start(home, cpus)
            except Permanent as failed:
                # Ray gives its own processes 30 s, which a busy machine may need longer for
                if _RAY_GAVE_UP not in str(failed):
                    raise
        return cls._start(home, cpus)

    @classmethod
    def _start(cls, home: Path, cpus: int | None) -> "RayCluster":
        home.mkdir(parents=True, exist_ok=True)
        port = free_port()
        temp_dir = Path(tempfile.mkdtemp(prefix=_PREFIX))
        # whoever finds the home after a kill finds the folder too
        with (home / _TEMP_DIRS).open("a") as file:
            file.write(f"{temp_dir}\n")
        if len(str(temp_dir)) > _MAX_TEMP_DIR:
            raise Permanent(
                f"{temp_dir} is too long for Ray's sockets ({_MAX_TEMP_DIR} characters at most); set TMPDIR to a shorter folder"
            )
        env = cluster_env(home)
        log = home / "ray.log"
        # the log goes on from start to start, and what an earlier one said says nothing of this one
        begin = log.stat().st_size if log.exists() else 0
        process = start_process(
            [
                *(str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--disable-usage-stats"),
                *("--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false", f"--temp-dir={temp_dir}"),
                *(f"--ray-client-server-port={free_port()}", f"--dashboard-agent-listen-port={free_port()}"),
                *(f"--metrics-export-port={free_port()}", "--min-worker-port=0", "--max-worker-port=0"),
                *(f"--object-store-memory={256 * 2**20}", *([f"--num-cpus={cpus}"] if cpus is not None else [])),
            ],
            log,
            env=env,
        )
        cluster = cls(f"127.0.0.1:{port}", env, process, temp_dir)
        try:
            wait_until(lambda: b"Ray runtime started" in log.read_bytes()[begin:], "Ray", 180, log, process, begin)
        except BaseException:
            cluster.stop()
            raise
        return cluster

    def stop(self) -> None:
        """Stops every process of the cluster and removes its temporary folder."""
        # Ray drains itself for up to half a minute, and nobody waits for what it drains
        stop_process(self.process, grace_seconds=3)
        _kill_group_of(self.temp_dir)
        shutil.rmtree(self.temp_dir, ignore_errors=True)


def remove_temp_dirs(home: Path) -> None:
    """Removes the temporary folders of the clusters of a home, none of which may run any more."""
    known = home / _TEMP_DIRS
    if known.exists():
        for line in known.read_text().splitlines():
            folder = Path(line)
            if folder.name.startswith(_PREFIX):
                _kill_group_of(folder)
                shutil.rmtree(folder, ignore_errors=True)
        known.unlink()


def cluster_env(home: Path) -> dict[str, str]:
    """The environment of the head node and of every driver: token, no usage reports, no metrics sent away."""
    token = home / "ray-token"
    if not token.exists():
        descriptor = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_enable_open_telemetry": "0",
        "OMP_NUM_THREADS": "1",
    }


def _kill_group_of(temp_dir: Path) -> None:
    # what survived its head node still names the cluster's folder on its command line
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if str(temp_dir).encode() in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), 9)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
