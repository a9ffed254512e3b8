"""What a build says of itself, and the settings that a cluster is used with."""

from pathlib import Path

import pytest
import yaml

from autonomic.cli.embedded.kubernetes import compiling
from autonomic.cli.embedded.kubernetes.machine_python import cluster_settings
from autonomic.platforms.kubernetes.settings import read_settings
from autonomic.seams.errors import Permanent


def test_a_build_says_now_and_then_how_far_it_is_and_how_long_the_rest_may_take() -> None:
    now = 0.0
    packages = {f"p{number}" for number in range(100)}
    progress = compiling.Progress(packages, lambda: now)
    now = 20.0
    assert progress.read("go: downloading k8s.io/api v0.36.3\n") == "fetching modules for 20 s"
    assert progress.read("p0\n") == ""
    now = 40.0
    assert progress.read("p1\n") == "2 of 100 packages after 40 s"
    assert not any(progress.read(f"p{number}\n") for number in range(2, 9))
    now = 60.0
    assert progress.read("p9\n") == "10 of 100 packages after 60 s, about 9 minutes left"
    assert not any(progress.read(f"p{number}\n") for number in range(10, 99))
    now = 65.0
    assert progress.read("p99\n") == "all 100 packages are compiled after 65 s, now linking"
    assert progress.said == []


def test_what_a_compiler_says_is_kept_apart_from_the_progress() -> None:
    progress = compiling.Progress({"p"}, lambda: 0.0)
    assert progress.read("main.go:3:1: syntax error\n") == ""
    assert progress.said == ["main.go:3:1: syntax error"]


@pytest.mark.parametrize(("listed", "words"), [("exit 3", "no such module"), ('[ "$1" = list ] || exit 3', "no such module")])
def test_a_build_that_fails_ends_with_what_go_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str, words: str) -> None:
    go = tmp_path / "go"
    go.write_text(f"#!/bin/sh\necho 'go: downloading x v1' >&2\necho 'no such module' >&2\n{listed}\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    told: list[str] = []
    with pytest.raises(Permanent, match=words) as failed:
        compiling.compile_programs([], ["."], tmp_path, tmp_path, {"PATH": f"{tmp_path}:/bin"}, told.append)
    assert "downloading" not in str(failed.value)
    assert "code 3" in str(failed.value)


def test_the_settings_of_a_local_cluster_are_valid_as_they_are_written(tmp_path: Path) -> None:
    written = tmp_path / "cluster.yaml"
    written.write_text(yaml.safe_dump(cluster_settings(tmp_path / "kubeconfig", "172.30.0.1", tmp_path / "data", "ml")))
    settings = read_settings(written, tmp_path)
    assert (settings.namespace, settings.host_address, settings.data_path) == ("ml", "172.30.0.1", str(tmp_path / "data"))
    assert settings.python
    assert settings.python_path
