"""The process of one step: `python -P -m autonomic.workflows.runs.step_main REQUEST.json`.

The process splits in two at once. The guard, the leader of the process group, sees the other end, says how in the result file where the
step could not, and ends the whole group when whoever launched it dies. The other half calls the function or becomes the command.
"""

import ctypes
import importlib
import importlib.util
import inspect
import json
import math
import os
import resource
import signal
import sys
import traceback
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any, NoReturn

from autonomic.seams.text import well_formed_value

MAX_OUTPUT_BYTES = 2**20
_PR_SET_PDEATHSIG = 1
_EXIT_SECONDS = 5


class StepFault(Exception):
    """What is wrong with a step, in one line; `retry` says whether another attempt may help."""

    def __init__(self, message: str, retry: bool = False) -> None:
        self.retry = retry
        super().__init__(message)


def main(path: str) -> int:
    """Runs the step that the request file describes; its result goes to the request's `result` file."""
    request: dict[str, Any] = json.loads(Path(path).read_text())
    _end_with_parent(request["launcher_pid"], signal.SIGTERM)
    guard = os.getpid()
    child = os.fork()
    if child == 0:
        _end_with_parent(guard, signal.SIGKILL)
        _step(request)
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if not Path(request["result"]).exists():
        write_result(request, _judge(request, code))
    return 0


def write_result(request: dict[str, Any], result: dict[str, Any]) -> None:
    """Writes the result file in one step; text that UTF-8 cannot hold is cleaned."""
    write_json(Path(request["result"]), well_formed_value(result))


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file so that nobody ever reads half of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


def failed(detail: str, retry: bool = True) -> dict[str, Any]:
    """The result of a step that did not work."""
    return {"status": "failed", "detail": detail, "retry": retry, "outputs": {}}


def succeeded(request: dict[str, Any], outputs: Any) -> dict[str, Any]:
    """The result of a step that worked.

    Raises:
        StepFault: its outputs cannot be kept, or one that was declared is not there.
    """
    check_outputs(outputs, request["outputs"])
    return {"status": "succeeded", "detail": "", "retry": False, "outputs": outputs}


def check_outputs(outputs: Any, declared: list[str] | None) -> None:
    """Whether outputs are a dict of plain JSON values that holds all that was declared.

    Raises:
        StepFault: they are not; names the value at fault.
    """
    if not isinstance(outputs, dict):
        raise StepFault(f"its outputs are a {type(outputs).__name__}, not a dict of names and values")
    _check_value(outputs, "outputs")
    size = len(json.dumps(outputs))
    if size > MAX_OUTPUT_BYTES:
        raise StepFault(f"its outputs take {size} bytes; at most {MAX_OUTPUT_BYTES} are kept. Write data to a file and return its path")
    missing = [name for name in declared or [] if name not in outputs]
    if missing:
        raise StepFault(f"it declares the outputs {', '.join(missing)} and did not give them; it gave {', '.join(outputs) or 'none'}")


def _check_value(value: Any, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise StepFault(f"{where} is {value}, which JSON cannot hold; leave it out or give a number")
    if value is None or isinstance(value, str | int | float):
        return
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_value(item, f"{where}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise StepFault(f"{where} has the key {key!r}; the keys of outputs are text")
            _check_value(item, f"{where}[{key!r}]")
    else:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise StepFault(f"{where} is a {kind}; outputs are text, numbers, booleans, None, lists and dicts of them")


def _end_with_parent(parent: int, how: signal.Signals) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, how)
    if os.getppid() != parent:
        sys.exit(1)


def _step(request: dict[str, Any]) -> NoReturn:
    try:
        if request["command"] is not None:
            _become_command(request)
        result = succeeded(request, _call(request))
    except StepFault as fault:
        print(f"autonomic: {fault}", file=sys.stderr)
        result = failed(str(fault), fault.retry)
    except SystemExit as ended:
        result = failed(f"it called sys.exit({ended.code!r}) before it returned")
    except BaseException as error:  # noqa: BLE001 - whatever user code raises becomes the step's result
        traceback.print_exc()
        result = failed(one_line(error))
    write_result(request, result)
    # exit handlers and threads of user code may tidy up, but not hold up a step that has ended
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_EXIT_SECONDS)
    sys.exit(0)


def one_line(error: BaseException) -> str:
    """An exception as one line: its type, its message, and where it was raised."""
    lines = str(error).strip().splitlines()
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" ({Path(place[0].filename).name}:{place[0].lineno})" if place else ""
    return f"{type(error).__name__}: {lines[0][:500] if lines else 'no message'}{where}"


def _call(request: dict[str, Any]) -> Any:
    if request["code"]:
        put_code_first(request["code"])
    function = _find(request["run"], request["code"])
    arguments = dict(request["with"])
    try:
        signature = inspect.signature(function)
    except ValueError:
        signature = None
    if signature is not None:
        asks = signature.parameters.get("context")
        if asks is not None and "context" not in arguments:
            from autonomic.workflows.runs.context import Context

            arguments["context"] = Context(request)
        try:
            signature.bind(**arguments)
        except TypeError as mismatch:
            raise StepFault(f"{request['run']}{signature} cannot be called with what stands under with: {mismatch}") from None
    outputs = function(**arguments)
    return {} if outputs is None else outputs


class _StandardFirst:
    """Finds modules of the standard library where they are, whatever else bears their names."""

    def __init__(self, code: str) -> None:
        self._code = code

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if path is not None or name not in sys.stdlib_module_names:
            return None
        return PathFinder.find_spec(name, [entry for entry in sys.path if entry != self._code], target)


def put_code_first(code: str) -> None:
    """Makes modules in the folder `code` the first to be found, after the standard library's; what this process has imported of others
    of the same names is forgotten."""
    sys.path.insert(0, code)
    sys.meta_path.insert(0, _StandardFirst(code))
    own = {entry.name.removesuffix(".py") for entry in Path(code).iterdir()} - sys.stdlib_module_names - {"autonomic", "__main__"}
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        del sys.modules[name]


def _import(module_name: str, code: str) -> Any:
    source = Path(code, f"{module_name}.py")
    if not code or module_name not in sys.stdlib_module_names or not source.is_file():
        return importlib.import_module(module_name)
    # the standard library's module stays what everything else finds under this name
    spec = importlib.util.spec_from_file_location(f"{module_name}_beside_the_yaml_file", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _find(entry: str, code: str) -> Any:
    module_name, _, name = entry.partition(":")
    try:
        module = _import(module_name, code)
    except ModuleNotFoundError as missing:
        if missing.name is None or not (module_name == missing.name or module_name.startswith(f"{missing.name}.")):
            raise
        raise StepFault(f"there is no module {missing.name!r} beside the YAML file or on PYTHONPATH (run: {entry})") from None
    function = getattr(module, name, None)
    if not callable(function):
        raise StepFault(f"{module_name} ({getattr(module, '__file__', None)}) has no function {name!r} (run: {entry})")
    return function


def _become_command(request: dict[str, Any]) -> NoReturn:
    command = [*request["command"]]
    for name, value in request["with"].items():
        text = value if isinstance(value, str) else json.dumps(value)
        command += [f"--{name}", text]
        os.environ[f"AUTONOMIC_WITH_{name.upper().replace('-', '_')}"] = text
    os.environ["AUTONOMIC_OUTPUTS"] = request["command_outputs"]
    if request["code"]:
        # the working folder holds a copy of the code: a script may be named without ./, after what the system has
        os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), os.getcwd()])
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [request["code"], os.environ.get("PYTHONPATH")]))
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise StepFault(f"the command {command[0]!r} cannot be run: {error.strerror}") from None


def _judge(request: dict[str, Any], code: int) -> dict[str, Any]:
    # what a step that left no result did, told from how its process ended
    if code == 0 and request["command"] is not None:
        try:
            return succeeded(request, _command_outputs(Path(request["command_outputs"])))
        except StepFault as fault:
            print(f"autonomic: {fault}", file=sys.stderr)
            return failed(str(fault), fault.retry)
    if code < 0:
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
        why = f"it was killed by {signal.Signals(-code).name}; its memory had peaked at {peak} MiB"
        if code == -signal.SIGKILL:
            why += ". The kernel kills so when memory runs out: ask for more with resources.memory"
        return failed(why)
    what = "it ended" if request["command"] is not None else "its process ended before the function returned,"
    return failed(f"{what} with exit code {code}")


def _command_outputs(path: Path) -> Any:
    if not path.exists():
        return {}
    try:
        if path.stat().st_size > MAX_OUTPUT_BYTES:
            raise StepFault(f"its outputs file takes {path.stat().st_size} bytes; at most {MAX_OUTPUT_BYTES} are kept")
        return json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise StepFault(f"its outputs file AUTONOMIC_OUTPUTS is not JSON: {error}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
