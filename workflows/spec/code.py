"""Which files beside a workflow's YAML file are its code: what the workflow names, and what these files import or name in turn.

Only they travel to the workers, and only they decide whether the code has changed. The rule:

- modules named by `run:`, `detector:` and `python -m`, files and folders named by `command:` or `with:`, and all that `files:` lists;
- of each Python file: the modules that it imports, and the files that it names as a text (`"words.txt"`, `HERE / "data" / "a.csv"`), by
  their place beside the YAML file or beside that Python file; a folder where the path begins at `__file__`;
- of each other script: the files named by its words;
- for services, modules that define a class of torch (`class Net(nn.Module)`), since their models may be made of it; of these, and of what
  they import, the texts are not followed: what a program for training reads is no code of a service;
- of a Python package (a folder with `__init__.py`) all files, except YAML files, which have to be named.

Hidden files, byte code, caches, virtual environments, editors' backups, logs and reports are left out of folders. Links are followed.
"""

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from autonomic.workflows.spec.code_files import MAX_FILES, files_below
from autonomic.workflows.spec.code_names import Names, defines_torch_class, names_in_python, names_in_script
from autonomic.workflows.spec.places import Keys
from autonomic.workflows.spec.workflow import BatchSpec, Step, Workflow

_WALKED = 4 * MAX_FILES
_DOCUMENTS = {".yaml", ".yml"}
_PYTHON = re.compile(r"(.*/)?python(3(\.\d+)?)?")
_INTERPRETERS = re.compile(r"(.*/)?(python(3(\.\d+)?)?|sh|bash|dash|zsh|ksh|perl|ruby|node|Rscript|julia)")
_PLAIN_OPTIONS_OF_PYTHON = frozenset({"-u", "-B", "-E", "-s", "-S", "-I", "-O", "-P"})
_PLAIN_OPTIONS_OF_SHELLS = frozenset({"-u", "-x", "-v"})
"""Options without a value, after which the script follows; what follows others is not judged."""
_INSTALLED = frozenset({"autonomic"})
_IMPORTED_BY_US = frozenset({"run", "detector"})
"""Keys whose code runs in a process that has imported much of the standard library; the function of `run:` itself is still found."""


@dataclass
class Code:
    """Files by their names in the package, why each travels, where in the document that begins, and what is wrong with them."""

    files: dict[str, Path] = field(default_factory=dict[str, Path])
    why: dict[str, str] = field(default_factory=dict[str, str])
    places: dict[str, Keys] = field(default_factory=dict[str, Keys])
    findings: list[tuple[Keys, str]] = field(default_factory=list[tuple[Keys, str]])


def code_of(workflow: Workflow, folder: Path) -> Code:
    """The code of a workflow whose YAML file lies in `folder`."""
    found = _Search(folder)
    spec = workflow.spec
    for number, name in enumerate(spec.files):
        found.add_declared(name, ("spec", "files", number))
    if isinstance(spec, BatchSpec):
        for number, step in enumerate(spec.steps):
            _add_step(found, step, ("spec", "steps", number))
    else:
        for number, service in enumerate(spec.services):
            if service.drift is not None:
                found.add_entry(service.drift.detector, ("spec", "services", number, "drift", "detector"))
        if spec.services:
            found.add_architectures(("spec", "services", 0, "model"))
    return found.code


def _add_step(found: "_Search", step: Step, at: Keys) -> None:
    if step.run is not None:
        found.add_entry(step.run, (*at, "run"))
    for text in _texts(step.with_):
        found.add_named(text, (*at, "with"), "with:", folders=True)
    command = step.command or ()
    for number, word in enumerate(command):
        found.add_word(word, (*at, "command", number))
    if command:
        _check_command(found, list(command), (*at, "command"))


def _check_command(found: "_Search", command: list[str], at: Keys) -> None:
    """What the command needs beside the YAML file and what is not there."""
    program = command[0]
    if "${" not in program and "/" in program and not program.startswith("/"):
        found.need_script(program, (*at, 0), executable=True)
    if not _INTERPRETERS.fullmatch(program):
        return
    for number, word in enumerate(command[1:], 1):
        following = command[number + 1] if number + 1 < len(command) else ""
        if not word.startswith("-"):
            if "${" not in word and not word.startswith("/"):
                found.need_script(word, (*at, number), executable=False)
            return
        if _PYTHON.fullmatch(program) and word in ("-m", "-c") and following:
            if word == "-m":
                found.add_module(following, (*at, number + 1), "command:")
            else:
                found.add_names(names_in_python(following), found.folder, (*at, number + 1), "command:")
        if word not in (_PLAIN_OPTIONS_OF_PYTHON if _PYTHON.fullmatch(program) else _PLAIN_OPTIONS_OF_SHELLS):
            return


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


class _Search:
    """Follows names from file to file; every file is read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.code = Code()
        self._reported: set[tuple[Keys, str]] = set()
        self._imports_only = False

    def add_declared(self, name: str, at: Keys) -> None:
        """What `files:` lists."""
        if not self.add_named(name, at, "files:", folders=True):
            self._report(at, f"there is no file or folder {name!r} beside the file ({self.folder}) that can travel")

    def add_entry(self, entry: str, at: Keys) -> None:
        """`package.module:function`; a module that is not beside the YAML file is taken from PYTHONPATH."""
        module = entry.partition(":")[0]
        if self.add_module(module, at, str(at[-1]) + ":"):
            return
        top = module.split(".")[0]
        for text in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)):
            root = Path(text).absolute()
            if top not in _INSTALLED and (source := _module(root, top)) is not None:
                self._add_source(source, root, at, "found on PYTHONPATH")
                return

    def add_architectures(self, at: Keys) -> None:
        """Modules beside the YAML file of which a model may be made, with what they import."""
        self._imports_only = True
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            sources = [path] if path.suffix == ".py" else sorted(path.glob("*.py")) if (path / "__init__.py").is_file() else []
            if path.stem.isidentifier() and any(defines_torch_class(source) for source in sources):
                self.add_module(path.stem, at, "model:")
        self._imports_only = False

    def add_module(self, module: str, at: Keys, why: str, beside: Path | None = None) -> bool:
        """A module beside the YAML file (or `beside` the script that imports it), with what it imports; False where there is none."""
        top = module.split(".")[0]
        roots = [root for root in (beside, self.folder) if root is not None]
        for root in roots if top not in _INSTALLED else ():
            source = _module(root, top)
            if source is None:
                continue
            if top in sys.stdlib_module_names and at[-1] in _IMPORTED_BY_US and not (why == "run:" and module == top and source.is_file()):
                name = source.relative_to(self.folder).as_posix()
                self._report(at, f"{name} is named like a module of the standard library, which is imported instead; rename it ({why})")
                return True
            if source.is_dir() and not (source / "__init__.py").is_file():
                inside = source
                for part in module.split(".")[1:]:
                    deeper = _module(inside, part)
                    if deeper is None:
                        break
                    inside = deeper
                if inside == source or (inside.is_dir() and not (inside / "__init__.py").is_file()):
                    return False
                source = inside
            self._add_source(source, self.folder, at, why)
            return True
        return False

    def add_word(self, word: str, at: Keys) -> None:
        """One word of a command: a file, a folder, or a line for a shell."""
        if self.add_named(word, at, "command:", folders=True):
            return
        if word.startswith("-"):
            self.add_named(word.partition("=")[2], at, "command:", folders=True)
            return
        if any(sign in word for sign in " \n;"):
            self.add_names(names_in_script(word), self.folder, at, "command:")

    def add_named(self, name: str, at: Keys, why: str, *, folders: bool = False, beside: Path | None = None) -> bool:
        """A file (or folder) by its name beside the YAML file, or `beside` the file that names it; False where there is none."""
        parts = PurePosixPath(name).parts
        if not parts or len(name) > 1000 or "\0" in name or name.startswith("/") or any(part.startswith(".") for part in parts):
            return False
        for root in (self.folder, beside):
            path = root / name if root is not None else None
            try:
                if path is not None and path.is_file():
                    self._add_file(path, self.folder, at, why)
                    return True
                if path is not None and folders and path.is_dir() and not parts[-1].startswith("."):
                    self._add_folder(path, self.folder, at, why)
                    return True
            except (OSError, ValueError):
                return False  # a program's text may be no name of a file at all
        return False

    def need_script(self, name: str, at: Keys, *, executable: bool) -> None:
        """Reports a script of a command that the worker would not find, or could not start."""
        path = self.folder / name
        if any(part.startswith(".") for part in PurePosixPath(name).parts):
            self._report(at, f"{name!r} leads out of the folder of the file, or is hidden; it does not travel to the worker")
        elif not path.is_file():
            dangling = ", which is a link to nothing" if path.is_symlink() else ""
            self._report(at, f"there is no file {name!r} beside the file ({self.folder}){dangling}; other files are named by a path from /")
        elif executable and not os.access(path, os.X_OK):
            self._report(at, f"{name!r} is not executable; run `chmod +x {name}`, or name its interpreter first: [sh, {name}]")

    def add_names(self, names: Names, beside: Path, at: Keys, why: str) -> None:
        """What a file names."""
        for module, line in names.modules:
            self.add_module(module, at, f"{why}{line}" if line else why, beside if beside != self.folder else None)
        for text, line in names.files:
            self.add_named(text, at, f"{why}{line}" if line else why, beside=beside)
        for text, line in names.folders:
            self.add_named(text, at, f"{why}{line}" if line else why, folders=True, beside=beside)

    def _add_source(self, source: Path, root: Path, at: Keys, why: str) -> None:
        if source.is_dir():
            self._add_folder(source, root, at, why, documents=False)
        else:
            self._add_file(source, root, at, why)

    def _add_folder(self, folder: Path, root: Path, at: Keys, why: str, *, documents: bool = True) -> None:
        for number, path in enumerate(files_below(folder)):
            if number >= _WALKED:
                self._report(at, f"{folder} holds more than {_WALKED} files; at most {MAX_FILES} travel. Keep data elsewhere ({why})")
                return
            if documents or path.suffix not in _DOCUMENTS:
                self._add_file(path, root, at, why)

    def _add_file(self, path: Path, root: Path, at: Keys, why: str) -> None:
        name = os.path.normpath(path.relative_to(root).as_posix())
        if name in self.code.files:
            return
        fault = _name_fault(name)
        if fault:
            self._report(at, f"the file {name!r} cannot travel: {fault}; rename it ({why})")
            return
        self.code.files[name], self.code.why[name], self.code.places[name] = path, why, at
        if root != self.folder:
            return  # what was found on PYTHONPATH travels alone
        if path.suffix == ".py":
            names = names_in_python(path)
            self.add_names(Names(modules=names.modules) if self._imports_only else names, path.parent, at, f"{name}:")
        elif path.suffix == ".sh" or os.access(path, os.X_OK):
            self.add_names(names_in_script(path), path.parent, at, f"{name}:")

    def _report(self, at: Keys, message: str) -> None:
        if (at, message) not in self._reported:
            self._reported.add((at, message))
            self.code.findings.append((at, message))


def _module(root: Path, name: str) -> Path | None:
    """The file or folder of a module directly in `root`."""
    try:
        for candidate in (root / name, root / f"{name}.py"):
            if (candidate / "__init__.py").is_file() or (candidate.suffix == ".py" and candidate.is_file()):
                return candidate
        return root / name if (root / name).is_dir() and name.isidentifier() else None
    except (OSError, ValueError):
        return None


def _name_fault(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    return "its name holds a backslash" if "\\" in name else ""
