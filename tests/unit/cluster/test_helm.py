import re
from pathlib import Path

import pytest

from autonomic.cli.embedded.kubernetes import build, helm


def test_helm_is_pinned_with_its_checksum() -> None:
    pinned = build.version(helm.MODULE, build.DATA)
    assert re.fullmatch(r"v\d+\.\d+\.\d+", pinned)
    assert f"{helm.MODULE.pinned} {pinned} h1:" in (build.DATA / "helm" / "go.sum").read_text()


def test_what_was_built_is_found_and_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert helm.built() is None
    helm.folder().mkdir(parents=True)
    (helm.folder() / "helm").touch()
    # there is no Go to build it with
    monkeypatch.setenv("PATH", str(tmp_path))
    assert helm.ensure() == helm.built() == tmp_path / "autonomic" / "helm" / helm.folder().name / "helm"
