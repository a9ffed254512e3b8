from pathlib import Path

import pytest

from autonomic.cli.embedded.kubernetes import cgroups

VERSION_1 = """proc /proc proc rw 0 0
cgroup {root}/cpu cgroup rw,cpu 0 0
cgroup {root}/cpuset cgroup rw,cpuset 0 0
cgroup {root}/systemd cgroup rw,name=systemd 0 0
cgroup2 {root}/unified cgroup2 rw 0 0
"""


@pytest.fixture
def version_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree as the kernel shows it; files stay where the kernel would make them."""
    (tmp_path / "mounts").write_text(VERSION_1.format(root=tmp_path))
    mounted = cgroups.hierarchies(tmp_path / "mounts")
    for hierarchy in mounted:
        hierarchy.mkdir()
    (tmp_path / "unified" / "cgroup.controllers").write_text("hugetlb")
    (tmp_path / "unified" / "cgroup.subtree_control").write_text("")
    monkeypatch.setattr(cgroups, "hierarchies", lambda: mounted)
    return tmp_path


def test_each_node_has_a_group_in_each_hierarchy_and_all_of_them_go(version_1: Path) -> None:
    cgroups.make(4, 2)
    made = {str(path.relative_to(version_1)) for path in version_1.glob("*/autonomic4/*")}
    hierarchies, groups = ("cpu", "cpuset", "systemd", "unified"), ("node1", "node2", "processes")
    assert made == {f"{hierarchy}/autonomic4/{group}" for hierarchy in hierarchies for group in groups}
    (version_1 / "cpu" / "autonomic4" / "node2" / "kubepods").mkdir()
    cgroups.remove(4, "node2")
    assert (version_1 / "cpu" / "autonomic4" / "node2").exists()
    assert not (version_1 / "cpu" / "autonomic4" / "node2" / "kubepods").exists()
    for _ in range(2):
        cgroups.remove(4)
        assert not list(version_1.glob("*/autonomic4"))


def test_processes_are_counted_in_one_hierarchy_that_limits_nothing(version_1: Path) -> None:
    assert cgroups.processes(4) == version_1 / "systemd" / "autonomic4" / "processes"


def test_beside_version_1_no_controller_is_taken_into_version_2(version_1: Path) -> None:
    cgroups.make(4, 1)
    assert (version_1 / "unified" / "cgroup.subtree_control").read_text() == ""


def test_in_version_2_controllers_are_handed_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    monkeypatch.setattr(cgroups, "hierarchies", lambda: [tmp_path])
    cgroups.make(0, 1)
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory"
    assert cgroups.processes(0) == tmp_path / "autonomic0" / "processes"


def test_processes_of_a_cluster_or_of_one_node_are_found(version_1: Path) -> None:
    cgroups.make(4, 2)
    (version_1 / "systemd" / "autonomic4" / "processes" / "cgroup.procs").write_text("11\n12\n")
    (version_1 / "cpu" / "autonomic4" / "node1" / "cgroup.procs").write_text("13\n")
    assert cgroups.pids(4) == {11, 12, 13}
    assert cgroups.pids(4, "node1") == {13}
    assert cgroups.pids(5) == set()
