"""The process of one step's pod: `python -m autonomic.platforms.kubernetes.steps.step`.

It brings the workflow's code, runs the attempt, prints what the step prints, sends what the step notes to MLflow, and ends
with the result as the pod's termination message; a result that is too long for that is the last line of the pod's log.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from autonomic.platforms.kubernetes.objects.in_pod import PACKAGE, REGISTRY_URL, WORK, unpack_parts
from autonomic.seams.clock import SystemClock
from autonomic.seams.errors import AutonomicError, Permanent
from autonomic.workflows.runs.launcher import Attempt, launch
from autonomic.workflows.runs.step_main import failed
from autonomic.workflows.runs.step_tracking import StepTracking

RESULT = "autonomic-result: "
"""What the last line of a log begins with where it is the result."""
MAX_OUTPUT_BYTES = 100_000
"""What a step may hand on: all steps of a run are kept in one object of the cluster."""
_MAX_MESSAGE_BYTES = 4000
_TERMINATION = Path("/dev/termination-log")


class StdoutLog:
    """A `launcher.Log` that is the pod's own."""

    def write(self, data: bytes | memoryview) -> None:
        """Prints."""
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def close(self) -> None:
        """Leaves the output open."""


def bounded(result: dict[str, Any]) -> dict[str, Any]:
    """A result that can be kept: one whose outputs are too large has failed."""
    size = len(json.dumps(result["outputs"]))
    if size <= MAX_OUTPUT_BYTES:
        return result
    why = f"its outputs take {size} bytes; on Kubernetes at most {MAX_OUTPUT_BYTES} are kept. Write data to a file and return its path"
    return failed(why, retry=False)


def out_of_memory(groups: Path = Path("/sys/fs/cgroup")) -> bool:
    """Whether the kernel has ended a process of this pod's container because its memory was over the limit."""
    for name in ("memory.events", "memory/memory.oom_control"):
        try:
            counts = dict(line.split() for line in (groups / name).read_text().splitlines())
        except (OSError, ValueError):
            continue
        return int(counts.get("oom_kill", 0)) > 0
    return False


def result_in(log: str) -> dict[str, Any] | None:
    """The result that a step left in its log, None where there is none, or not the whole of it."""
    for line in reversed(log.splitlines()):
        if line.startswith(RESULT):
            try:
                return json.loads(line.removeprefix(RESULT))
            except ValueError:
                return None
    return None


def without_result(log: str) -> str:
    """A log as the step printed it."""
    start = log.rfind(RESULT)
    return log if start == -1 or (start and log[start - 1] != "\n") else log[:start]


def main() -> int:
    """Runs the attempt that AUTONOMIC_STEP describes; the exit code is 0 where the step succeeded."""
    told = json.loads(os.environ.pop("AUTONOMIC_STEP"))
    attempt = Attempt.model_validate(told["attempt"])
    if attempt.tracking_uri:
        # its Job may have waited while MLflow moved
        attempt = attempt.model_copy(update={"tracking_uri": os.environ.get(REGISTRY_URL) or attempt.tracking_uri})
    # the first process of a pod gets no signal that it does not ask for
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    tracking = StepTracking(attempt.tracking_uri, attempt.tracking_run, SystemClock())
    try:
        if told["package"]:
            attempt = attempt.model_copy(update={"code": str(unpack_parts(Path(PACKAGE), Path(WORK) / "code"))})
        result = bounded(launch(attempt, tracking.note, StdoutLog()))
    except Permanent as error:
        result = failed(str(error), retry=False)
    except (AutonomicError, OSError) as error:
        result = failed(f"its pod could not run it: {error}")
    if result["status"] == "failed" and out_of_memory():
        # the container lives on where the kernel ended the step alone
        result = {**result, "detail": f"OOMKilled: {result['detail']}"}
    lacking = tracking.close()
    if lacking:
        print(f"autonomic: {lacking}", file=sys.stderr, flush=True)
    text = json.dumps(result)
    if len(text.encode()) > _MAX_MESSAGE_BYTES:
        print(f"\n{RESULT}{text}", flush=True)
        text = json.dumps({"in_log": True})
    _TERMINATION.write_text(text)
    return 0 if result["status"] == "succeeded" else 1


if __name__ == "__main__":
    sys.exit(main())
