"""How far running steps are, from what they note."""

import json
from pathlib import Path
from typing import Any

from autonomic.platforms.kubernetes.steps.progress import Progress

STEP = ("run-1", "train", 1)


def note(folder: Path, **fields: Any) -> None:
    file = folder / "runs" / "run-1" / "train" / "1" / "notes.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as notes:
        notes.write(json.dumps(fields) + "\n")


def test_the_newest_progress_is_told_once_and_metrics_are_not(tmp_path: Path) -> None:
    progress = Progress(str(tmp_path))
    assert progress.read([STEP]) == []
    note(tmp_path, progress=0.1, text="a")
    note(tmp_path, progress=0.2, text="b")
    note(tmp_path, metric="loss", value=1.0, step=0)
    assert progress.read([STEP]) == [(STEP, [{"progress": 0.2, "text": "b"}])]
    assert progress.read([STEP]) == []
    note(tmp_path, metric="loss", value=0.5, step=1)
    assert progress.read([STEP]) == []


def test_a_step_that_runs_no_more_is_forgotten(tmp_path: Path) -> None:
    progress = Progress(str(tmp_path))
    note(tmp_path, progress=0.1, text="a")
    assert len(progress.read([STEP])) == 1
    assert progress.read([]) == []
    # and read anew where it runs again, as after a restart of the writer
    assert len(progress.read([STEP])) == 1


def test_what_cannot_be_read_now_is_no_progress(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("this is no folder")
    assert Progress(str(tmp_path)).read([STEP]) == []
