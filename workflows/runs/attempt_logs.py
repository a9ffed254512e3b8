"""The logs of a step's attempts, put together for a reader."""

from collections.abc import Mapping
from pathlib import Path

from autonomic.workflows.runs.capped_log import read_capped_log


def joined(logs: Mapping[int, str | None], attempt: int | None = None, tail: int | None = None) -> str | None:
    """What the attempts of a step printed, in order, or one of them; a line names each but the first.

    `logs` holds the text of each attempt, None where it is gone; `tail` keeps the last lines. None where `attempt` is none of them.
    """
    if attempt is not None:
        if attempt not in logs:
            return None
        logs = {attempt: logs[attempt]}
    text = ""
    for number, log in sorted(logs.items()):
        if text and not text.endswith("\n"):
            text += "\n"
        if attempt is None and number > 1:
            text += f"[autonomic: attempt {number}]\n"
        text += f"[autonomic: the log of attempt {number} is gone]\n" if log is None else log
    return "".join(text.splitlines(keepends=True)[-tail:]) if tail else text


def read_attempt(path: str) -> str | None:
    """The log of an attempt at `path`, after those of its earlier beginnings, which were broken off; None where it is gone."""
    log = Path(path)
    if not log.parent.is_dir():
        return None
    begun = sorted(log.parent.parent.glob(f"{log.parent.name}.*"), key=lambda folder: int(folder.suffix[1:]))
    broken = [f"{read_capped_log(folder / log.name)}\n[autonomic: broken off here, and begun again]\n" for folder in begun]
    return "".join([*broken, read_capped_log(log)])
