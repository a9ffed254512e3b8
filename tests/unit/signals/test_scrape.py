import json
import threading
import time
from typing import Any

import pytest

from autonomic.seams.clock import SystemClock, VirtualClock
from autonomic.seams.reading import Reading
from autonomic.seams.signal import Query
from autonomic.signals.scrape import ScrapeSignal

HOST = "http://host:1"


class World:
    """The host and its replicas as a fetch function: pages by URL; None is a page that cannot be had."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.pages: dict[str, str | None] = {f"{HOST}/metrics": ""}
        self.replicas: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.host_down = False
        self.signal = ScrapeSignal(HOST, self.fetch, self.clock)

    def fetch(self, url: str) -> str:
        self.asked.append(url)
        if url == f"{HOST}/v1/sd" and not self.host_down:
            return json.dumps(self.replicas)
        page = self.pages.get(url.partition("?")[0])
        if page is None or (self.host_down and url.startswith(HOST)):
            raise OSError("connection refused")
        return page

    def replica(self, address: str, page: str | None, service: str = "api", workflow: str = "web") -> None:
        if f"http://{address}/metrics" not in self.pages:
            self.replicas.append({"targets": [address], "labels": {"workflow": workflow, "service": service, "role": "champion"}})
        self.pages[f"http://{address}/metrics"] = page

    def read(self, target: str = "web/api", **args: Any) -> Reading:
        self.clock.advance(0.25)
        query = Query(strategy="s", name="n", target=target, signal="scrape", args=args)
        (answer,) = self.signal.read([query], self.clock.now())
        assert isinstance(answer, Reading)
        return answer


@pytest.fixture
def world() -> World:
    return World()


def test_samples_of_all_replicas_of_the_target_and_of_no_other_are_taken_together(world: World) -> None:
    world.replica("a", 'x{k="1"} 2\nx{k="2"} 3\n')
    world.replica("b", 'x{k="1"} 10\n')
    world.replica("c", 'x{k="1"} 100\n', service="other")
    assert world.read(metric="x").value == 15
    assert world.read(metric="x", labels={"k": "1"}).value == 12
    assert world.read(metric="x", aggregate="max").value == 10
    assert world.read(metric="x", aggregate="min").value == 2
    assert world.read(metric="x", aggregate="avg").value == 5
    assert world.read(metric="x", labels={"role": "champion", "k": "2"}).value == 3
    assert world.read("web", metric="x").value == 115


def test_samples_of_the_host_count_where_they_name_the_target(world: World) -> None:
    world.pages[f"{HOST}/metrics"] = 'q{workflow="web",service="api"} 4\nq{workflow="web",service="other"} 9\n'
    assert world.read(metric="q").value == 4


def test_what_nobody_exposes_is_missing_and_not_zero(world: World) -> None:
    world.replica("a", "y 1\n")
    reading = world.read(metric="x")
    assert (reading.status, reading.value) == ("missing", None)


def test_nan_and_infinity_are_missing(world: World) -> None:
    world.replica("a", "x NaN\n")
    assert world.read(metric="x").status == "missing"
    world.replica("a", "x +Inf\n")
    assert world.read(metric="x").status == "missing"


def test_a_rate_needs_two_scrapes_and_survives_a_restart_of_the_counter(world: World) -> None:
    world.replica("a", "x_total 100\n")
    assert world.read(metric="x_total", rate=1.0).status == "missing"
    world.replica("a", "x_total 105\n")
    assert world.read(metric="x_total", rate=1.0).value == pytest.approx(5 / 0.25)
    world.replica("a", "x_total 5\n")
    assert world.read(metric="x_total", rate=1.0).value == pytest.approx(10 / 0.5)


def test_a_rate_looks_back_no_further_than_its_window(world: World) -> None:
    world.replica("a", "x_total 0\n")
    for _ in range(8):
        world.read(metric="x_total", rate=1.0)
    world.replica("a", "x_total 8\n")
    for expected in (8, 8, 8, 8, 0):
        assert world.read(metric="x_total", rate=1.0).value == pytest.approx(expected)


def test_a_quantile_is_over_the_growth_of_all_replicas_in_the_window(world: World) -> None:
    def page(fast: int, slow: int) -> str:
        return f't_bucket{{le="0.1"}} {fast}\nt_bucket{{le="1.0"}} {fast + slow}\nt_bucket{{le="+Inf"}} {fast + slow}\n'

    world.replica("a", page(1000, 0))
    world.replica("b", page(1000, 0))
    world.read(metric="t", quantile=0.5, window=5.0)
    idle = world.read(metric="t", quantile=0.5, window=5.0)
    assert idle.status == "missing"
    world.replica("a", page(1010, 0))
    world.replica("b", page(1000, 10))
    assert world.read(metric="t", quantile=0.5, window=5.0).value == pytest.approx(0.1)
    assert world.read(metric="t", quantile=0.99, window=5.0).value == pytest.approx(0.1 + 0.9 * 0.98)


def test_a_sum_with_a_replica_that_does_not_answer_is_an_error(world: World) -> None:
    world.replica("a", "x 1\n")
    world.replica("b", "x 2\n")
    assert world.read(metric="x").value == 3
    world.replica("b", None)
    reading = world.read(metric="x")
    assert reading.status == "error"
    assert "http://b/metrics" in reading.detail
    assert world.read(metric="x", aggregate="max").value == 1


def test_what_the_host_said_last_is_used_while_it_is_down_but_not_for_ever(world: World) -> None:
    world.replica("a", "x 1\n")
    assert world.read(metric="x").value == 1
    world.host_down = True
    world.clock.advance(10)
    assert world.read(metric="x").value == 1
    world.clock.advance(100)
    assert world.read(metric="x").status == "error"
    world.host_down = False
    assert world.read(metric="x").value == 1


def test_a_host_that_is_down_from_the_start_is_an_error(world: World) -> None:
    world.host_down = True
    reading = world.read(metric="x")
    assert reading.status == "error"
    assert "connection refused" in reading.detail


def test_a_replica_that_is_gone_is_asked_no_more(world: World) -> None:
    world.replica("a", "x 1\n")
    world.read(metric="x")
    world.replicas.clear()
    world.clock.advance(2)
    world.asked.clear()
    assert world.read(metric="x").status == "missing"
    assert "http://a/metrics" not in world.asked


def test_queries_at_one_time_share_a_scrape(world: World) -> None:
    world.replica("a", "x 1\ny 2\n")
    queries = [Query(strategy="s", name=name, target="web/api", signal="scrape", args={"metric": name}) for name in ("x", "y", "x")]
    answers = world.signal.read(queries, world.clock.now())
    assert [answer.value for answer in answers if isinstance(answer, Reading)] == [1, 2, 1]
    assert world.asked.count("http://a/metrics") == 1


def test_without_a_host_every_reading_is_an_error() -> None:
    clock = VirtualClock()
    signal = ScrapeSignal("", lambda _: "", clock)
    query = Query(strategy="s", name="n", target="web/api", signal="scrape", args={"metric": "x"})
    (answer,) = signal.read([query], clock.now())
    assert isinstance(answer, Reading)
    assert answer.status == "error"


def test_an_endpoint_that_hangs_is_an_error_in_time_and_does_not_use_up_the_threads() -> None:
    ended = threading.Event()
    asked: list[str] = []

    def fetch(url: str) -> str:
        asked.append(url)
        if url.endswith("/v1/sd"):
            return json.dumps([{"targets": ["hung"], "labels": {"workflow": "web", "service": "api"}}])
        if url == "http://hung/metrics":
            ended.wait(30)
        return 'q{workflow="web",service="other"} 1'

    signal = ScrapeSignal(HOST, fetch, SystemClock(), timeout_seconds=0.1, workers=4)
    hung = Query(strategy="s", name="n", target="web/api", signal="scrape", args={"metric": "x"})
    other = Query(strategy="s", name="n", target="web/other", signal="scrape", args={"metric": "q"})
    for _ in range(6):
        (answer,) = signal.read([hung], time.time())
        assert isinstance(answer, Reading)
        assert answer.status == "error"
        assert "did not answer in time" in answer.detail

    def free_thread() -> bool:
        (found,) = signal.read([other], time.time())
        assert isinstance(found, Reading)
        return found.value == 1

    # on a busy machine even a page that is there may miss the timeout of a tenth of a second
    assert any(free_thread() for _ in range(20))
    assert asked.count("http://hung/metrics") == 1
    ended.set()
    signal.close()


def test_a_host_that_answers_nonsense_is_an_error(world: World) -> None:
    for nonsense in (None, {}, [1], [{"labels": {}}], "x"):
        world.replicas = nonsense  # type: ignore[assignment]
        world.clock.advance(5)
        assert world.read(metric="x").status in ("error", "missing")
    world.replicas = []
    world.clock.advance(5)
    assert world.read(metric="x").status == "missing"
