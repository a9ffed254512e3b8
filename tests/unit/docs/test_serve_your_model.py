"""The page about one's own model shows the files of examples/wine, which an integration test runs."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "serve-your-model.md").read_text()
EXAMPLE = ROOT / "examples" / "wine"


def test_the_page_shows_what_the_example_holds() -> None:
    training, service = (EXAMPLE / name for name in ("train.py", "service.yaml"))
    python, _, yaml = re.findall(r"```(?:python|yaml)\n(.*?)```", PAGE, re.DOTALL)
    assert python in training.read_text()
    assert yaml in service.read_text()


def test_every_file_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"examples/wine/[\w.]+\w", PAGE))
    assert named == {f"examples/wine/{path.name}" for path in EXAMPLE.iterdir() if path.is_file()}
