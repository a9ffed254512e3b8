"""What a Ray cluster's store holds of runs and searches outlives the cluster."""

from autonomic.platforms.host.store import MemoryStore
from autonomic.platforms.ray.lasting import Lasting, LastingWords, lasting_runs, lasting_searches
from autonomic.seams.clock import VirtualClock


def write_run(cluster: MemoryStore, run: str, status: str) -> None:
    cluster.put(f"request/{run}", {"run_id": run})
    cluster.put(f"state/{run}", {"status": status})
    cluster.put(f"place/{run}/train", {"log": f"/logs/{run}"})


def everything(store: MemoryStore) -> dict[str, object]:
    return {key: store.get(key) for key in store.keys("")}


def test_the_next_cluster_knows_the_runs_of_the_last_one_as_they_stood() -> None:
    first, durable, second, clock = MemoryStore(), MemoryStore(), MemoryStore(), VirtualClock()
    runs = lasting_runs(first, durable, clock)
    write_run(first, "run-1", "running")
    write_run(first, "run-10", "succeeded")
    runs.keep_changes()
    write_run(first, "run-1", "failed")
    runs.keep_changes()

    lasting_runs(second, durable, clock).restore()

    assert everything(second) == everything(first)


def test_what_the_cluster_has_already_is_newer_than_what_was_kept() -> None:
    cluster, durable, clock = MemoryStore(), MemoryStore(), VirtualClock()
    runs = lasting_runs(cluster, durable, clock)
    write_run(cluster, "run-1", "running")
    runs.keep_changes()
    write_run(cluster, "run-1", "succeeded")

    lasting_runs(cluster, durable, clock).restore()

    assert cluster.get("state/run-1") == {"status": "succeeded"}


def test_what_changes_within_minutes_after_the_end_is_kept_and_later_nobody_looks() -> None:
    cluster, durable, clock = MemoryStore(), MemoryStore(), VirtualClock()
    runs = lasting_runs(cluster, durable, clock)
    write_run(cluster, "run-1", "succeeded")
    runs.keep_changes()
    cluster.put("state/run-1", {"status": "succeeded", "detail": "tracking is incomplete"})
    clock.sleep(61)
    runs.keep_changes()
    assert durable.get("run/state/run-1")["detail"] == "tracking is incomplete"

    for _ in range(20):
        clock.sleep(61)
        runs.keep_changes()
    cluster.put("state/run-1", {"status": "succeeded", "detail": "late"})
    clock.sleep(61)
    runs.keep_changes()
    assert durable.get("run/state/run-1")["detail"] == "tracking is incomplete"


def test_what_the_cluster_forgets_is_forgotten_and_its_neighbours_stay() -> None:
    cluster, durable, clock = MemoryStore(), MemoryStore(), VirtualClock()
    runs: Lasting = lasting_runs(cluster, durable, clock)
    searches = lasting_searches(MemoryStore(), durable, clock)
    write_run(cluster, "run-1", "succeeded")
    write_run(cluster, "run-10", "succeeded")
    runs.keep_changes()
    for key in ("request/run-1", "state/run-1", "place/run-1/train"):
        cluster.delete(key)

    runs.keep_changes()
    searches.keep_changes()

    assert durable.keys("") == ["run/place/run-10/train", "run/request/run-10", "run/state/run-10"]


def test_a_search_is_kept_with_its_state_and_the_wish_to_stop_it() -> None:
    first, durable, second, clock = MemoryStore(), MemoryStore(), MemoryStore(), VirtualClock()
    for part, value in (("request", {"id": "s"}), ("state", {"status": "running"}), ("stop", True)):
        first.put(f"search/s/{part}", value)
    lasting_searches(first, durable, clock).keep_changes()

    lasting_searches(second, durable, clock).restore()

    assert everything(second) == everything(first)


def test_a_detector_of_the_next_cluster_goes_on_where_the_last_one_was() -> None:
    first, durable, second = MemoryStore(), MemoryStore(), MemoryStore()
    first.put("drift/shop/api", {"time": 1.0, "cursor": 700})
    LastingWords(first, durable).keep("drift/shop/api")
    LastingWords(first, durable).keep("drift/shop/other")

    words = LastingWords(second, durable)
    words.restore("drift/shop/api")
    words.restore("drift/shop/other")

    assert everything(second) == {"drift/shop/api": {"time": 1.0, "cursor": 700}}
