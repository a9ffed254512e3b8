"""What the file of a cluster may say, and what `up` says of one that it cannot use."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from autonomic.cli.main import app
from autonomic.cli.system import System
from autonomic.platforms.kubernetes.settings import read_settings
from autonomic.seams.errors import Permanent


def test_a_file_needs_no_more_than_an_image(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("image: image:1\nvolumes: [{name: data, emptyDir: {}}]\n")
    settings = read_settings(tmp_path / "cluster.yaml", tmp_path, service_token="secret")
    assert (settings.image, settings.namespace, settings.home, settings.service_token) == ("image:1", "default", tmp_path, "secret")
    assert settings.volumes == ({"name": "data", "emptyDir": {}},)


FAULTS = [("namespace: ml", "image"), ("image: x\nimagee: y", "imagee"), ("- image", "not a mapping"), ("image: [", "not valid")]


@pytest.mark.parametrize(("text", "why"), [*FAULTS, (None, "No such")])
def test_a_file_that_cannot_be_used_is_named_with_its_fault(tmp_path: Path, text: str | None, why: str) -> None:
    path = tmp_path / "cluster.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(Permanent, match=why) as raised:
        read_settings(path, tmp_path)
    assert str(path) in str(raised.value)
    refused = CliRunner().invoke(app, ["up", "--home", str(tmp_path), "--platform", "kubernetes", "--cluster", str(path)])
    assert refused.exit_code == 1
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("options", [["--platform", "kubernetes"], ["--cluster", "cluster.yaml"], ["--platform", "mesos"]])
def test_the_platform_and_its_cluster_go_together(tmp_path: Path, options: list[str]) -> None:
    assert CliRunner().invoke(app, ["up", "--home", str(tmp_path), *options]).exit_code == 2


def test_pods_must_have_a_way_to_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autonomic.cli.system.find_prometheus", lambda: Path("prometheus"))
    (tmp_path / "cluster.yaml").write_text("image: image:1\n")
    system = System(tmp_path / "home", kubernetes=read_settings(tmp_path / "cluster.yaml", tmp_path))
    with pytest.raises(Permanent, match="host_address"):
        system.start()
    assert not (tmp_path / "home" / "logs").exists()
