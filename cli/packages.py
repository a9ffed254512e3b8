"""Which user code of a workflow has to travel to where its steps run."""

import importlib.machinery
import os
from collections.abc import Iterator
from pathlib import Path

from autonomic.workflows.batch.packages import pack
from autonomic.workflows.spec.workflow import BatchSpec, Workflow


def package_of(workflow: Workflow, folder: Path) -> bytes:
    """The code that the workflow needs and that is not installed, as a zip; empty where there is none.

    What lies beside the YAML file (`folder`) travels whole where a function or a command of the workflow names something
    in it; modules found on PYTHONPATH travel beside it.

    Raises:
        Permanent: it is too much.
    """
    beside = any(_is_file(folder / part) for part in _command_parts(workflow))
    modules: list[Path] = []
    for module in sorted(_modules(workflow)):
        if _holds(folder, module):
            beside = True
        else:
            modules += [_path(entry, module) for entry in _python_path() if _holds(entry, module)][:1]
    return pack(folder if beside else None, modules) if beside or modules else b""


def _modules(workflow: Workflow) -> set[str]:
    spec = workflow.spec
    if isinstance(spec, BatchSpec):
        functions = [step.run for step in spec.steps if step.run]
    else:
        functions = [service.drift.detector for service in spec.services if service.drift]
    return {function.split(":")[0].split(".")[0] for function in functions}


def _command_parts(workflow: Workflow) -> Iterator[str]:
    if isinstance(workflow.spec, BatchSpec):
        for step in workflow.spec.steps:
            yield from (part for part in step.command or () if not part.startswith("/"))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False  # a program's text that was given as an argument may be no name of a file at all


def _python_path() -> list[Path]:
    return [Path(text) for text in os.environ.get("PYTHONPATH", "").split(os.pathsep) if text]


def _holds(folder: Path, module: str) -> bool:
    return importlib.machinery.PathFinder.find_spec(module, [str(folder)]) is not None


def _path(folder: Path, module: str) -> Path:
    single = folder / f"{module}.py"
    return single if single.is_file() else folder / module
