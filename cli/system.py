"""All parts of the system on one machine: started together, watched, and stopped together."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from autonomic.agents.auth import Tokens
from autonomic.agents.settings import Settings
from autonomic.cli import existing, home, ray_host
from autonomic.cli.addresses import EMBEDDED, Given, addresses, ignored
from autonomic.cli.embedded import leftovers
from autonomic.cli.embedded.mlflow_server import MlflowServer
from autonomic.cli.embedded.prometheus_server import PrometheusServer, find_prometheus
from autonomic.cli.embedded.ray_cluster import RayCluster, cluster_env
from autonomic.cli.liveness import Liveness, Looked, Published, end_group, end_process
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.seams.errors import AutonomicError, Permanent
from autonomic.workflows.processes import answers, start_process, stop_process, wait_until
from autonomic.workflows.serving.front import Front

AGENTS = ("monitor", "planner", "tuner")
_RESTART_DELAY_SECONDS = 1.0
_HOST_END_SECONDS = 10.0
_HOST_LOOK_SECONDS = 5.0
_READY_SECONDS = 10.0

Report = Callable[[str, str], None]


class System:
    """The running system of one home.

    `report(part, state)` is called as the parts come up. Parts that die are started again; what ran is brought back by the host.
    Addresses are those of the last time; `given` says what else to use.

    With `kubernetes` workflows run on that cluster and no Ray is started; what runs there goes on when the system is stopped,
    and is found again by the next one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        cpus: int | None = None,
        metrics_interval: str = "1s",
        report: Report = lambda part, state: None,
        kubernetes: KubernetesSettings | None = None,
        given: Given | None = None,
    ) -> None:
        self.home = folder.absolute()
        self._given = given or Given()
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
        self._host_driver: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None
        self._published = Published(self.home, lambda: (self.settings.planner_url, self.settings.monitor_url), self._act_token)
        self._liveness = Liveness(self._looked, self._silent, self._published.publish)
        # why a part was ended that did not answer, until it is started again
        self._why: dict[str, str] = {}
        self._look_at_host = 0.0
        self._asked_for_host = False
        self.settings = Settings(home=self.home, monitor_url="", planner_url="", tuner_url="")

    def start(self) -> Settings:
        """Starts everything and returns when every part answers, and every agent is ready or has had ten seconds for it.

        Raises:
            AlreadyRunning: this home has a running system; it is left alone.
            Permanent: a part did not come up; what was started has been stopped again.
        """
        home.prepare(self.home)
        self._lock = home.lock(self.home)
        # that of a killed one would say that all is up already
        (self.home / "up.json").unlink(missing_ok=True)
        if killed := home.clean(self.home):
            self._report("up", f"ended {killed} processes that an earlier one left when it was killed")
        os.environ[leftovers.MARK] = str(self.home)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self.settings

    def _start(self) -> None:
        self.settings = self._addresses()
        for words in ignored(self.settings):
            self._report("up", words)
        existing.check(self.settings)
        if not self.settings.use_prometheus:
            find_prometheus()
        Tokens.load(self.settings.tokens_path)
        self.settings.save()
        for agent in AGENTS:
            self._start_agent(agent)
        with ThreadPoolExecutor(3) as pool:
            parts = [pool.submit(self._start_prometheus), pool.submit(self._start_mlflow)]
            parts.append(pool.submit(self._start_ray if self._kubernetes is None else self._start_kubernetes_host))
            for part in parts:
                part.result()
        if self._kubernetes is None:
            self._start_host()
        for agent in AGENTS:
            self._wait_for_agent(agent)
        (self.home / "up.json").write_text(json.dumps({"pid": os.getpid(), "started_at": time.time()}))
        self._watcher = threading.Thread(target=self._watch, name="watch-agents", daemon=True)
        self._watcher.start()
        self._liveness.start()

    def _addresses(self) -> Settings:
        given, hosts, cluster = self._given, dict[str, str](), self._kubernetes
        if cluster is not None:
            if not cluster.mlflow_url and not cluster.host_address and not given.mlflow:
                raise Permanent(
                    "Pods have to reach MLflow: give mlflow_url, where it answers, or host_address, an address of this machine that pods "
                    "reach"
                )
            if given.mlflow is None:
                given = given.model_copy(update={"mlflow": cluster.mlflow_url or EMBEDDED})
            hosts = {"front": cluster.front_address.replace("0.0.0.0", "127.0.0.1"), "mlflow": cluster.host_address or "127.0.0.1"}
        platform = "ray" if cluster is None else "kubernetes"
        custom_resources = cluster is not None and cluster.custom_resources
        settings = addresses(self.home, given, hosts).model_copy(update={"platform": platform, "custom_resources": custom_resources})
        if cluster is not None:
            written = cluster.model_copy(update={"home": self.home, "mlflow_url": settings.mlflow_url})
            (self.home / "kubernetes.json").write_text(written.model_dump_json(exclude={"home", "service_token"}) + "\n")
        return settings

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
        if self.settings.use_mlflow:
            self._report("mlflow", f"{existing.shown(self.settings.mlflow_url)} (was there)")
            return
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
        jobs: list[dict[str, object]] = [
            {"job_name": "agents", "static_configs": agents, "authorization": {"type": "Bearer", "credentials": tokens["read"]}},
            {"job_name": "host", "static_configs": [{"targets": [host]}], "authorization": credentials},
            {
                "job_name": "services",
                "honor_labels": True,
                "http_sd_configs": [{"url": f"http://{host}/v1/sd", "refresh_interval": "1s", "authorization": credentials}],
            },
        ]
        if self.settings.use_prometheus:
            wanted = existing.write_scrape_configs(self.home / "prometheus" / "scrape.yml", jobs)
            url = existing.shown(self.settings.prometheus_url)
            self._report("prometheus", f"{url} (was there; it has to scrape what {wanted} lists: see docs/one-machine.md)")
            return
        folder, port = self.home / "prometheus", _port(self.settings.prometheus_url)
        self._prometheus = PrometheusServer.start(folder, jobs, port, self._metrics_interval)
        self._report("prometheus", self._prometheus.url)

    def _start_ray(self) -> None:
        if self.settings.use_ray:
            self._report("ray", f"{self.settings.use_ray} (was there)")
            return
        self._ray = RayCluster.start(self.home / "ray", self._cpus)
        self.settings = self.settings.model_copy(update={"ray_address": self._ray.address})
        self.settings.save()
        self._report("ray", self._ray.address)

    def _start_host(self) -> None:
        self._asked_for_host = True
        self._stop_host_driver()
        env = {} if self.settings.use_ray else cluster_env(self.home / "ray")
        self._host_driver = ray_host.start_host(self.home, self.settings.logs / "host.log", env)
        self._report("host", self.settings.host_url)

    def _stop_host_driver(self) -> None:
        if self._host_driver is not None:
            stop_process(self._host_driver, grace_seconds=3)
            self._host_driver = None

    def _start_kubernetes_host(self) -> None:
        log = self.settings.logs / "host.log"
        command = [sys.executable, "-m", "autonomic.platforms.kubernetes", "--home", str(self.home)]
        process = start_process(command, log)
        self._kubernetes_host = Part(process)
        wait_until(lambda: answers(f"{self.settings.host_url}/healthz"), "The host of the Kubernetes cluster", 60, log, process)
        self._report("host", self.settings.host_url)

    def _watch(self) -> None:
        while not self._stopping.wait(0.5):
            for agent, process in list(self._agents.items()):
                if process.poll() is not None and not self._stopping.wait(_RESTART_DELAY_SECONDS):
                    self._restarting(agent, process)
                    self._start_agent(agent)
            for name, part, start in (
                ("mlflow", self._mlflow, self._start_mlflow),
                ("prometheus", self._prometheus, self._start_prometheus),
                ("ray", self._ray, self._restart_ray),
                ("host", self._kubernetes_host, self._start_kubernetes_host),
            ):
                if part is not None and part.process.poll() is not None and not self._stopping.is_set():
                    self._restarting(name, part.process)
                    # a worker that outlived its parent would keep the port
                    part.stop()
                    self._try(name, start)
            self._watch_foreign_ray()

    def _restarting(self, part: str, process: "subprocess.Popen[bytes]") -> None:
        self._record(part, self._why.pop(part, f"ended with code {process.returncode}"))

    def _record(self, part: str, why: str) -> None:
        self._report(part, f"{why}; starting it again")
        self._published.record(part, why)

    def _looked(self) -> list[Looked]:
        """What is to answer, and how a process of it is ended that does not."""
        found = [Looked(name, f"{getattr(self.settings, f'{name}_url')}/healthz", one.pid, end_group) for name, one in self._agents.items()]
        for name, part, path in (("mlflow", self._mlflow, "health"), ("prometheus", self._prometheus, "-/healthy")):
            if part is not None:
                found.append(Looked(name, f"{part.url}/{path}", part.process.pid, end_group))
        host = self._kubernetes_host
        # Ray starts the host again, which is an actor there
        pid, end = (0, end_process) if host is None else (host.process.pid, end_group)
        return [*found, Looked("host", f"{self.settings.host_url}/healthz", pid, end)]

    def _silent(self, part: str, why: str) -> None:
        if part == "host" and self._kubernetes is None:
            self._record(part, why)
        else:
            self._why[part] = why

    def _act_token(self) -> str:
        return Tokens.load(self.settings.tokens_path)["act"]

    def _watch_foreign_ray(self) -> None:
        # the end of a cluster that is not ours is only seen by its host, which does not answer any more
        if not self.settings.use_ray or self._stopping.is_set() or time.monotonic() < self._look_at_host:
            return
        self._look_at_host = time.monotonic() + _HOST_LOOK_SECONDS
        if not answers(f"{self.settings.host_url}/healthz"):
            self._record("host", "does not answer")
            self._try("host", self._start_host)

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

    def agent_pid(self, agent: str) -> int:
        """The process of an agent."""
        return self._agents[agent].pid

    def stop(self) -> None:
        """Stops everything that was started; safe to call at any time."""
        self._stopping.set()
        self._liveness.stop()
        if self._watcher is not None:
            self._watcher.join()
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(stop_process, self._agents.values()))
        self._agents.clear()
        self._stop_host_driver()
        if self._ray is not None:
            self._ray.stop()
            self._ray = None
            self._stop_front()
        elif self.settings.use_ray and self._asked_for_host:
            if why := home.stop_foreign_host(self.home):
                self._report("host", why)
            self._stop_front()
        if self._kubernetes_host is not None:
            self._kubernetes_host.stop()
            self._kubernetes_host = None
            self._stop_front()
        for part in (self._prometheus, self._mlflow):
            if part is not None:
                part.stop()
        self._prometheus = self._mlflow = None
        if self._lock is not None:
            (self.home / "up.json").unlink(missing_ok=True)
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
