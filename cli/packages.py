"""Packing the user code of a workflow, so that it travels to where its steps run."""

import importlib.machinery
import io
import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

from autonomic.seams.errors import Permanent
from autonomic.workflows.spec.workflow import BatchSpec, Workflow

MAX_BYTES = 32 * 1024 * 1024
MAX_FILES = 5000
_SKIPPED = frozenset({"__pycache__", "node_modules", "mlruns", "build", "dist", "reports"})
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(workflow: Workflow, folder: Path) -> bytes:
    """A zip file of the code that the workflow needs and that is not installed; empty where there is none.

    What lies beside the YAML file (`folder`) travels whole where a function or a command of the workflow lies in it;
    caches, hidden folders and virtual environments are left out. Modules found on PYTHONPATH travel beside it. The same
    content always gives the same bytes.

    Raises:
        Permanent: it is too much; the message names the largest file.
    """
    files: dict[str, Path] = {}
    for module in sorted(_modules(workflow)):
        if _in(module, folder):
            files.update(_tree(folder, folder))
            continue
        entry = next((path for path in _python_path() if _in(module, path)), None)
        if entry is not None:
            single = entry / f"{module}.py"
            files.update({single.name: single} if single.is_file() else _tree(entry / module, entry))
    if any((folder / part).is_file() for part in _command_parts(workflow)):
        files.update(_tree(folder, folder))
    return _zip(files, folder) if files else b""


def _python_path() -> list[Path]:
    return [Path(text) for text in os.environ.get("PYTHONPATH", "").split(os.pathsep) if text]


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
            yield from (part for part in step.command or () if len(part) < 256 and "\n" not in part and not part.startswith("/"))


def _in(module: str, folder: Path) -> bool:
    return importlib.machinery.PathFinder.find_spec(module, [str(folder)]) is not None


def _tree(folder: Path, root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for directory, folders, names in os.walk(folder):
        here = Path(directory)
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name not in _SKIPPED and not (here / name / "pyvenv.cfg").exists()
        )
        for name in sorted(names):
            path = here / name
            if not name.startswith(".") and not name.endswith(".pyc") and stat.S_ISREG(path.lstat().st_mode):
                found[path.relative_to(root).as_posix()] = path
            if len(found) > MAX_FILES:
                raise Permanent(f"{folder} holds more than {MAX_FILES} files; put the YAML and its code into a folder of their own")
    return found


def _zip(files: dict[str, Path], folder: Path) -> bytes:
    sizes = {name: path.stat().st_size for name, path in files.items()}
    total = sum(sizes.values())
    if total > MAX_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        raise Permanent(
            f"the code beside the YAML in {folder} is {total / 2**20:.0f} MiB, at most {MAX_BYTES // 2**20} MiB travel; the largest "
            f"file is {largest} ({sizes[largest] / 2**20:.0f} MiB): put the YAML and its code into a folder of their own"
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IMODE(files[name].stat().st_mode) & 0o755) << 16
            archive.writestr(info, files[name].read_bytes())
    return buffer.getvalue()
