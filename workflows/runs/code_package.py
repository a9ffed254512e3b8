"""The code of a workflow as it is sent, and whether it can be: `validate` and `apply` judge the same files."""

from pathlib import Path

from autonomic.workflows.runs.packages import pack, too_much
from autonomic.workflows.spec.code import code_of
from autonomic.workflows.spec.places import Keys
from autonomic.workflows.spec.workflow import Workflow


def package_of(workflow: Workflow, folder: Path) -> bytes:
    """The code that the workflow needs and that is not installed, as a zip; empty where there is none. See `spec.code`.

    Raises:
        Permanent: it is too much.
    """
    files = code_of(workflow, folder).files
    return pack(folder, files) if files else b""


def check_code(workflow: Workflow, folder: Path) -> list[tuple[Keys, str]]:
    """What the workers would not find, or could not be sent, each with its place in the document."""
    code = code_of(workflow, folder)
    findings = list(code.findings)
    if fault := too_much(code.files, code.why):
        largest = max(code.files, key=lambda name: code.files[name].stat().st_size)
        findings.append((code.places[largest], fault))
    return findings
