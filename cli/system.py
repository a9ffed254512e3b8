"""All parts of the system on one machine: started together, watched, and stopped together."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import httpx

from autonomic.agents.auth import Tokens
from autonomic.agents.settings import Settings
from autonomic.seams.errors import AutonomicError, Permanent
from autonomic.workflows.embedded import leftovers
from autonomic.workflows.embedded.mlflow_server import MlflowServer
from autonomic.workflows.embedded.processes import answers, ended, free_port, start_process, stop_process, wait_until
from autonomic.workflows.embedded.prometheus_server import PrometheusServer, find_prometheus
from autonomic.workflows.embedded.ray_cluster import RayCluster, cluster_env
from autonomic.workflows.platforms.kubernetes.settings import KubernetesSettings
from autonomic.workflows.serving.front import Front

AGENTS = ("monitor", "planner", "tuner")
_RESTART_DELAY_SECONDS = 1.0
_HOST_END_SECONDS = 10.0
_READY_SECONDS = 10.0

Report = Callable[[str, str], None]


class AlreadyRunning(AutonomicError):
    """Another `up` holds this home."""


class System:
    """The running system of one home.

    `report(part, state)` is called as the parts come up. Parts that die are started again; after the death of Ray the applied
    online workflows are deployed again.

    With `kubernetes` workflows run on that cluster and no Ray is started; what runs there goes on when the system is stopped,
    and is found again by the next one.
    """

    def __init__(
        self,
        home: Path,
        *,
        cpus: int | None = None,
        metrics_interval: str = "1s",
        report: Report = lambda part, state: None,
        kubernetes: KubernetesSettings | None = None,
    ) -> None:
        self.home = home.absolute()
        self._cpus = cpus
        self._metrics_interval = metrics_interval
        self._report = report
        self._lock: IO[str] | None = None
        self._agents: dict[str, subprocess.Popen[bytes]] = {}
        self._mlflow: MlflowServer | None = None
        self._prometheus: PrometheusServer | None = None
        self._ray: RayCluster | None = None
        self._kubernetes = kubernetes
        self._kubernetes_host: Part | None = None
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None
        self.settings = Settings(home=self.home, monitor_url="", planner_url="", tuner_url="")

    def start(self) -> Settings:
        """Starts everything and returns when every part answers, and every agent is ready or has had ten seconds for it.

        Raises:
            AlreadyRunning: this home has a running system; it is left alone.
            Permanent: a part did not come up; what was started has been stopped again.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.home)
        if killed := leftovers.stop_leftovers(self.home):
            self._report("up", f"ended {killed} processes that an earlier one left when it was killed")
        os.environ[leftovers.MARK] = str(self.home)
        try:
            find_prometheus()
            self._start()
        except BaseException:
            self.stop()
            raise
        return self.settings

    def _start(self) -> None:
        urls = [f"http://127.0.0.1:{free_port()}" for _ in range(7)]
        if self._kubernetes is not None:
            urls[6] = self._prepare_kubernetes(self._kubernetes, urls[6])
            if self._kubernetes.front_address != "0.0.0.0":
                urls[4] = f"http://{self._kubernetes.front_address}:{_port(urls[4])}"
        self.settings = Settings(
            home=self.home,
            monitor_url=urls[0],
            planner_url=urls[1],
            tuner_url=urls[2],
            host_url=urls[3],
            front_url=urls[4],
            prometheus_url=urls[5],
            mlflow_url=urls[6],
            platform="ray" if self._kubernetes is None else "kubernetes",
            custom_resources=self._kubernetes is not None and self._kubernetes.custom_resources,
        )
        Tokens.load(self.settings.tokens_path)
        self.settings.save()
        for agent in AGENTS:
            self._start_agent(agent)
        with ThreadPoolExecutor(3) as pool:
            parts = [pool.submit(self._start_prometheus)]
            if self._kubernetes is None:
                parts += [pool.submit(self._start_mlflow), pool.submit(self._start_ray)]
            else:
                parts += [pool.submit(self._start_kubernetes_host)]
                if not self._kubernetes.mlflow_url:
                    parts += [pool.submit(self._start_mlflow)]
            for part in parts:
                part.result()
        if self._kubernetes is None:
            self._start_host()
        for agent in AGENTS:
            self._wait_for_agent(agent)
        (self.home / "up.json").write_text(json.dumps({"pid": os.getpid(), "started_at": time.time()}))
        self._watcher = threading.Thread(target=self._watch, name="watch-agents", daemon=True)
        self._watcher.start()

    def _start_agent(self, agent: str) -> None:
        self._agents[agent] = start_process(
            [sys.executable, "-m", f"autonomic.agents.{agent}"],
            self.settings.logs / f"{agent}.log",
            env={"AUTONOMIC_HOME": str(self.home), "OMP_NUM_THREADS": "1"},
        )

    def _wait_for_agent(self, agent: str) -> None:
        url = getattr(self.settings, f"{agent}_url")
        log = self.settings.logs / f"{agent}.log"
        wait_until(lambda: answers(f"{url}/healthz"), f"The {agent}", 120, log, self._agents[agent])
        # an agent that lacks something says so in the status; it need not keep the others waiting
        deadline = time.monotonic() + _READY_SECONDS
        while not answers(f"{url}/readyz") and time.monotonic() < deadline:
            time.sleep(0.05)
        self._report(agent, url)

    def _start_mlflow(self) -> None:
        address = urlsplit(self.settings.mlflow_url).hostname or "127.0.0.1"
        self._mlflow = MlflowServer.start(self.home / "mlflow", _port(self.settings.mlflow_url), address)
        self._report("mlflow", self._mlflow.url)

    def _start_prometheus(self) -> None:
        tokens = Tokens.load(self.settings.tokens_path)
        credentials = {"type": "Bearer", "credentials": tokens["host"]}
        host = self.settings.host_url.removeprefix("http://")
        agents = [
            {"targets": [getattr(self.settings, f"{agent}_url").removeprefix("http://")], "labels": {"agent": agent}} for agent in AGENTS
        ]
        self._prometheus = PrometheusServer.start(
            self.home / "prometheus",
            [
                {"job_name": "agents", "static_configs": agents, "authorization": {"type": "Bearer", "credentials": tokens["read"]}},
                {"job_name": "host", "static_configs": [{"targets": [host]}], "authorization": credentials},
                {
                    "job_name": "services",
                    "honor_labels": True,
                    "http_sd_configs": [{"url": f"http://{host}/v1/sd", "refresh_interval": "1s", "authorization": credentials}],
                },
            ],
            _port(self.settings.prometheus_url),
            self._metrics_interval,
        )
        self._report("prometheus", self._prometheus.url)

    def _start_ray(self) -> None:
        self._ray = RayCluster.start(self.home / "ray", self._cpus)
        self.settings = self.settings.model_copy(update={"ray_address": self._ray.address})
        self.settings.save()
        self._report("ray", self._ray.address)

    def _start_host(self) -> None:
        log = self.settings.logs / "host.log"
        process = start_process(
            [sys.executable, "-m", "autonomic.workflows.platforms.ray.start_host", "--home", str(self.home)],
            log,
            env=cluster_env(self.home / "ray"),
        )
        wait_until(lambda: process.poll() is not None, "The start of the Ray host", 180, log)
        if process.returncode != 0:
            raise ended("The start of the Ray host", process, log)
        self._report("host", self.settings.host_url)

    def _prepare_kubernetes(self, given: KubernetesSettings, mlflow_url: str) -> str:
        """Writes what the host of a cluster is told, and returns where MLflow answers."""
        if given.mlflow_url:
            mlflow_url = given.mlflow_url
        elif given.host_address:
            mlflow_url = f"http://{given.host_address}:{_port(mlflow_url)}"
        else:
            raise Permanent(
                "Pods have to reach MLflow: give mlflow_url, where it answers, or host_address, an address of this machine that pods reach"
            )
        written = given.model_copy(update={"home": self.home, "mlflow_url": mlflow_url}).model_dump_json(exclude={"home", "service_token"})
        (self.home / "kubernetes.json").write_text(written + "\n")
        return mlflow_url

    def _start_kubernetes_host(self) -> None:
        log = self.settings.logs / "host.log"
        command = [sys.executable, "-m", "autonomic.workflows.platforms.kubernetes.host", "--home", str(self.home)]
        process = start_process(command, log)
        self._kubernetes_host = Part(process)
        wait_until(lambda: answers(f"{self.settings.host_url}/healthz"), "The host of the Kubernetes cluster", 60, log, process)
        self._report("host", self.settings.host_url)

    def _watch(self) -> None:
        while not self._stopping.wait(0.5):
            for agent, process in list(self._agents.items()):
                if process.poll() is not None and not self._stopping.wait(_RESTART_DELAY_SECONDS):
                    self._report(agent, f"ended with code {process.returncode}; starting it again")
                    self._start_agent(agent)
            for name, part, start in (
                ("mlflow", self._mlflow, self._start_mlflow),
                ("prometheus", self._prometheus, self._start_prometheus),
                ("ray", self._ray, self._restart_ray),
                ("host", self._kubernetes_host, self._start_kubernetes_host),
            ):
                if part is not None and part.process.poll() is not None and not self._stopping.is_set():
                    self._report(name, f"ended with code {part.process.returncode}; starting it again")
                    # a worker that outlived its parent would keep the port
                    part.stop()
                    self._try(name, start)

    def _try(self, name: str, start: Callable[[], None]) -> None:
        try:
            start()
        except (AutonomicError, OSError) as failed:
            self._report(name, f"did not come back and is tried again: {failed}")

    def _restart_ray(self) -> None:
        if self._ray is not None:
            self._ray.stop()
            self._stop_front()
        self._start_ray()
        try:
            self._start_host()
        except AutonomicError:
            # a cluster without a host is of no use: the next round starts both
            if self._ray is not None:
                self._ray.stop()
            raise
        self._deploy_again()

    def _deploy_again(self) -> None:
        # a new cluster knows no services; the planner knows what was applied
        headers = {"Authorization": f"Bearer {Tokens.load(self.settings.tokens_path)['admin']}"}
        with httpx.Client(base_url=self.settings.planner_url, headers=headers, timeout=60) as planner:
            try:
                workflows = planner.get("/v1/workflows").raise_for_status().json()["items"]
                for workflow in workflows:
                    if workflow["type"] == "online":
                        body = {"target": workflow["name"], "args": {}}
                        planner.post("/v1/primitives/deploy", json=body).raise_for_status()
            except httpx.HTTPError as failed:
                self._report("planner", f"could not deploy the online workflows again: {failed}; apply them by hand")

    def agent_pid(self, agent: str) -> int:
        """The process of an agent."""
        return self._agents[agent].pid

    def stop(self) -> None:
        """Stops everything that was started; safe to call at any time."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join()
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(stop_process, self._agents.values()))
        self._agents.clear()
        if self._ray is not None:
            self._ray.stop()
            self._ray = None
            self._stop_front()
        if self._kubernetes_host is not None:
            self._kubernetes_host.stop()
            self._kubernetes_host = None
            self._stop_front()
        for part in (self._prometheus, self._mlflow):
            if part is not None:
                part.stop()
        self._prometheus = self._mlflow = None
        (self.home / "up.json").unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _stop_front(self) -> None:
        # the front is a daemon, so that it outlives the host; a host that has not ended yet would start it again
        deadline = time.monotonic() + _HOST_END_SECONDS
        while self.settings.host_url and answers(f"{self.settings.host_url}/healthz") and time.monotonic() < deadline:
            time.sleep(0.1)
        folder = self.home / "host" / "haproxy"
        if folder.exists():
            Front(folder).stop()


class Part:
    """A process that is a part of the system."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process

    def stop(self) -> None:
        """Ends it."""
        stop_process(self.process)


def _port(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


def _lock(home: Path) -> IO[str]:
    lock = (home / "up.lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise AlreadyRunning(
            f"The system of {home} is running already (process {running_pid(home) or 'unknown'}). "
            "Look at it with `autonomic status`, stop it with `autonomic down`, or use another --home"
        ) from None
    return lock


def running_pid(home: Path) -> int | None:
    """The process of the `up` that holds `home`, None where nothing runs."""
    try:
        pid = int(json.loads((home / "up.json").read_text())["pid"])
        os.kill(pid, 0)
    except (FileNotFoundError, ProcessLookupError, ValueError, KeyError):
        return None
    return pid


def stop_running(home: Path, within_seconds: float = 60.0) -> bool:
    """Asks the `up` of `home` to stop and waits for it; False where nothing runs.

    Raises:
        Permanent: it did not stop in time.
    """
    pid = running_pid(home)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + within_seconds
    while running_pid(home) is not None:
        if time.monotonic() > deadline:
            raise Permanent(f"Process {pid} did not stop within {within_seconds:g} s; look at {home / 'logs'}")
        time.sleep(0.1)
    return True
