import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from autonomic.seams.errors import Problem, SpecError
from autonomic.strategies.validation import load_specs

HEAD = "apiVersion: autonomic.dev/v1alpha1\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file of documents; `apiVersion` is put before each that begins with `kind:`."""

    def make(text: str, name: str = "spec.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = textwrap.dedent(text).lstrip("\n").splitlines(keepends=True)
        path.write_text("".join(HEAD + line if line.startswith("kind:") else line for line in lines))
        return path

    return make


@pytest.fixture
def problems_of(write: Callable[..., Path]) -> Callable[[str], list[Problem]]:
    """Every problem of a text; fails where there is none."""

    def find(text: str) -> list[Problem]:
        with pytest.raises(SpecError) as caught:
            load_specs([write(text)])
        return list(caught.value.problems)

    return find
