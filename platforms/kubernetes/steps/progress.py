"""The progress of running steps: what they note in the folder that pods and the writer share."""

from collections.abc import Iterable
from pathlib import Path

from autonomic.workflows.runs.launcher import Notes, NotesReader

Step = tuple[str, str, int]
"""A run, a step of it, and the attempt."""


class Progress:
    """Reads the notes of steps that run with `data_path`, and keeps of each no more than how far it has read.

    Metrics and artifacts among the notes are the step's own pod's to send.
    """

    def __init__(self, data_path: str) -> None:
        self._runs = Path(data_path) / "runs"
        self._readers: dict[Step, NotesReader] = {}

    def read(self, running: Iterable[Step]) -> list[tuple[Step, Notes]]:
        """The newest progress of each of these steps that has noted one since the last look."""
        now = set(running)
        self._readers = {step: self._readers.get(step) or NotesReader(self._path(step)) for step in now}
        found: list[tuple[Step, Notes]] = []
        for step, reader in self._readers.items():
            noted: Notes = []
            try:
                reader.pass_on(noted.extend)
            except OSError:
                # a folder that cannot be read now may be read the next time
                continue
            if newest := [note for note in noted if "progress" in note][-1:]:
                found.append((step, newest))
        return found

    def _path(self, step: Step) -> Path:
        run_id, name, attempt = step
        return self._runs / run_id / name / str(attempt) / "notes.jsonl"
