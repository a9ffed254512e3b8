"""The process of one drift detector's pod: `python -m autonomic.platforms.kubernetes.services.detector`.

It brings the champion and the workflow's code, and looks at the prediction log until SIGTERM. What it says stands in a file
beside the log, in the folder that pods and the writer share: a pod needs no right and no way to the writer.
"""

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from autonomic.platforms.host.drift import DriftLoop, failed_words
from autonomic.platforms.host.models import Models
from autonomic.platforms.kubernetes.objects.in_pod import PACKAGE, REGISTRY_URL, WORK, unpack_parts
from autonomic.workflows.runs.step_main import one_line, write_json


def words_of(log: Path) -> Path:
    """Where the detector of a prediction log says what it sees."""
    return log.with_suffix(".drift.json")


def read_words(log: Path) -> dict[str, Any] | None:
    """What a detector said last: `{time, values, cursor, detector}`; None where none has spoken."""
    try:
        return json.loads(words_of(log).read_text())
    except FileNotFoundError:
        return None


def main() -> int:
    """Looks for drift until SIGTERM or SIGINT."""
    leave = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: leave.set())
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    told = json.loads(os.environ["AUTONOMIC_DETECTOR"])
    work, log = Path(WORK), Path(told["predictions"])

    def say(words: dict[str, Any]) -> None:
        # one that was replaced and still runs on a node that nobody reaches is told from the one of now by its digest
        write_json(words_of(log), {**words, "detector": told["detector"]})

    try:
        if told["package"]:
            sys.path.insert(0, str(unpack_parts(Path(PACKAGE), work / "code")))
        models = Models(work / "models", os.environ.get(REGISTRY_URL, ""))
        champion = models.fetch(told["champion"])
        reference = models.fetch(told["drift"]["reference"]) if told["drift"].get("reference") else champion
    except Exception as failure:
        say(failed_words(one_line(failure)))
        raise
    said = read_words(log)
    if said is not None and said.get("detector") != told["detector"]:
        said = None
    DriftLoop(told["drift"], str(champion), log, said, say, str(reference)).run(leave)
    return 0


if __name__ == "__main__":
    sys.exit(main())
