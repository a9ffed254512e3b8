"""When a part of this home was started again, and why: kept in HOME/restarts.jsonl, so that it is known while any part is away."""

import fcntl
import json
from pathlib import Path

from pydantic import ValidationError

from autonomic.seams.word import Word

_FILE = "restarts.jsonl"
_LARGEST_BYTES = 100_000
_KEPT = 200


class Restart(Word):
    """A part was started again at `time` (seconds since the epoch), because of `why`."""

    time: float
    part: str
    why: str


def record(home: Path, restart: Restart) -> None:
    """Appends a restart; of many the newest are kept. Several processes may write at once."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / _FILE).open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if file.tell() > _LARGEST_BYTES:
            file.seek(0)
            newest = file.readlines()[-_KEPT:]
            file.truncate(0)
            file.writelines(newest)
        file.write(json.dumps(restart.model_dump(mode="json")) + "\n")


def newest(home: Path) -> dict[str, Restart]:
    """The last restart of each part."""
    try:
        lines = (home / _FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    found: dict[str, Restart] = {}
    for line in lines:
        try:
            restart = Restart.model_validate_json(line)
        except ValidationError:
            # a line that a kill cut short
            continue
        found[restart.part] = restart
    return found
