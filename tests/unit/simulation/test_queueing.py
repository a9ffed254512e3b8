import math

import pytest

from autonomic.platforms.simulated.queueing import Line, Load, QueueingService


def service(load: Load, replicas: int = 1, standby: int = 0, slots: int = 1, **roles: int) -> QueueingService:
    counts = {"champion": replicas, **roles}
    lines = {name: Line(wanted=count, standby=standby if name == "champion" else 0, slots=slots) for name, count in counts.items()}
    for line in lines.values():
        line.start(0.0, 0.0)
    return QueueingService(load, 0.0, lines, dict.fromkeys(lines, 0) | {"champion": 100})


def test_the_throughput_is_that_of_the_arrivals_below_capacity_and_of_the_replicas_above() -> None:
    calm, full = service(Load(rate=10)), service(Load(rate=50))
    calm.advance(1000)
    full.advance(1000)
    assert calm.throughput(100) == pytest.approx(10, rel=0.1)
    assert full.throughput(100) == pytest.approx(20, rel=0.02)


def test_the_wait_is_that_of_a_queue_with_fixed_service_times() -> None:
    # Pollaczek-Khinchine for M/D/1: the mean wait is rho s / (2 (1 - rho))
    queue = service(Load(rate=14, service_seconds=0.05, jitter=0.0, seed=3))
    waits: list[float] = []
    for minute in range(1, 101):
        queue.advance(60.0 * minute)
        waits += [latency - 0.05 for latency in queue.latencies(60)]
    rho = 14 * 0.05
    assert sum(waits) / len(waits) == pytest.approx(rho * 0.05 / (2 * (1 - rho)), rel=0.1)


def test_a_new_replica_serves_after_its_start_and_takes_those_who_wait() -> None:
    queue = service(Load(rate=30, startup_seconds=5))
    queue.advance(60)
    queue.rescale("champion", 2)
    waiting = queue.queued()
    queue.advance(64)
    assert queue.ready("champion") == 1
    assert queue.queued() >= waiting
    queue.advance(90)
    assert queue.ready("champion") == 2
    assert queue.throughput(20) == pytest.approx(40, rel=0.1)


def test_a_standby_replica_serves_at_once() -> None:
    queue = service(Load(rate=30, startup_seconds=5), standby=1)
    queue.advance(10)
    assert queue.ready("champion") == 1
    queue.rescale("champion", 2)
    assert queue.ready("champion") == 2


def test_the_backup_serves_while_there_is_no_champion() -> None:
    queue = service(Load(rate=10, startup_seconds=30), backup=1)
    queue.advance(20)
    assert queue.throughput(10, "backup") == 0
    queue.kill("champion")
    queue.advance(40)
    assert queue.throughput(10, "backup") == pytest.approx(10, rel=0.4)
    queue.advance(80)
    assert queue.throughput(10, "backup") == 0


def test_requests_that_wait_too_long_are_lost_and_counted() -> None:
    queue = service(Load(rate=40, timeout_seconds=2))
    queue.advance(100)
    assert queue.lost > 1000
    assert queue.quantile(1.0, 50) <= 2.1


def test_rates_may_be_steps_and_functions() -> None:
    for rate in ([(0, 0), (50, 10)], lambda seconds: 0.0 if seconds < 50 else 10.0):
        queue = service(Load(rate=rate))
        queue.advance(50)
        assert (queue.served, math.isnan(queue.quantile(0.99, 50))) == (0, True)
        queue.advance(100)
        assert queue.served == pytest.approx(500, rel=0.2)


def test_the_same_seed_gives_the_same_requests_however_often_it_is_looked_at() -> None:
    once, often = service(Load(rate=18, seed=5)), service(Load(rate=18, seed=5))
    once.advance(120)
    for step in range(1, 1201):
        often.advance(step / 10)
    assert once.latencies(60) == often.latencies(60)
