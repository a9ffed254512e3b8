import os
from pathlib import Path

import pytest

from autonomic.cli.embedded.kubernetes import registry
from autonomic.cli.embedded.kubernetes.network import MAX_CLUSTERS
from autonomic.seams.errors import Permanent


@pytest.fixture
def removed() -> list[int]:
    return []


@pytest.fixture
def claim(tmp_path: Path, removed: list[int]):
    held: list[registry.Slot] = []

    def take(home: str, conflicts: tuple[int, ...] = ()) -> registry.Slot:
        held.append(registry.claim(Path(home), removed.append, lambda index: "10.0.0.0/8" if index in conflicts else None, tmp_path))
        return held[-1]

    yield take
    for slot in held:
        slot.file.close()


def test_each_cluster_gets_an_index_of_its_own(claim, tmp_path: Path) -> None:
    slots = [claim(f"/home/{number}") for number in range(3)]
    assert [slot.index for slot in slots] == [0, 1, 2]
    assert [(entry.home, entry.pid, entry.alive) for entry in registry.entries(tmp_path)] == [
        (Path(f"/home/{number}"), os.getpid(), True) for number in range(3)
    ]
    slots[1].release()
    assert registry.find(Path("/home/1"), tmp_path) is None
    assert claim("/home/3").index == 1


def test_a_home_has_one_cluster(claim) -> None:
    held = claim("/home/a")
    with pytest.raises(registry.AlreadyRunning, match="/home/a is running already"):
        claim("/home/a")
    held.release()
    claim("/home/a").release()


def test_what_a_dead_cluster_left_is_removed_before_anything_is_started(claim, removed: list[int], tmp_path: Path) -> None:
    claim("/home/alive")
    claim("/home/dead").file.close()
    found = registry.find(Path("/home/dead"), tmp_path)
    assert found is not None
    assert not found.alive
    assert claim("/home/new").index == 1
    assert removed == [1]
    assert registry.find(Path("/home/dead"), tmp_path) is None


def test_forgetting_removes_the_traces_of_the_dead_and_leaves_the_living(claim, removed: list[int], tmp_path: Path) -> None:
    held, dead = claim("/home/alive"), claim("/home/dead")
    dead.file.close()
    for _ in range(2):
        registry.forget(held.index, removed.append, tmp_path)
        registry.forget(1, removed.append, tmp_path)
    assert removed == [1]
    assert [entry.home for entry in registry.entries(tmp_path)] == [Path("/home/alive")]


def test_an_index_whose_networks_are_in_use_is_passed_over(claim) -> None:
    held = claim("/home/a", (0, 1))
    assert held.index == 2


def test_where_no_index_is_free_it_is_said_why(claim) -> None:
    claim("/home/a")
    with pytest.raises(Permanent, match=r"0 is taken; 1 would overlap 10.0.0.0/8.*Stop one with `cluster down"):
        claim("/home/b", tuple(range(MAX_CLUSTERS)))


def test_only_root_may_enter_the_folder(claim, tmp_path: Path) -> None:
    claim("/home/a").release()
    assert tmp_path.stat().st_mode & 0o777 == 0o700
