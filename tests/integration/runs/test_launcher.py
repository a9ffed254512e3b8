import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autonomic.workflows.runs.attempt_logs import read_attempt
from autonomic.workflows.runs.capped_log import read_capped_log
from autonomic.workflows.runs.launcher import Attempt, Notes, launch

Make = Callable[..., Attempt]


@pytest.fixture
def attempt(tmp_path: Path) -> Make:
    """An attempt at a function of a module with the given source, or at a command."""

    def make(source: str = "", entry: str = "user_code:f", command: tuple[str, ...] | None = None, **fields: Any) -> Attempt:
        (tmp_path / "code").mkdir(exist_ok=True)
        (tmp_path / "code" / "user_code.py").write_text(textwrap.dedent(source))
        return Attempt.model_validate(
            {
                "run_id": "run-1",
                "workflow": "w",
                "step": "s",
                "attempt": 1,
                "run": None if command else entry,
                "command": command,
                "arguments": {},
                "folder": tmp_path / "s",
                "code": str(tmp_path / "code"),
                "models_cache": tmp_path / "models",
                **fields,
            }
        )

    return make


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def test_a_function_gets_its_arguments_and_gives_its_outputs(attempt: Make) -> None:
    made = attempt("def f(a, b=2):\n    print('hello')\n    return {'sum': a + b, 'list': [1, None, 'x', {'y': True}]}", arguments={"a": 1})
    result = launch(made)
    assert result == {"status": "succeeded", "detail": "", "retry": False, "outputs": {"sum": 3, "list": [1, None, "x", {"y": True}]}}
    assert read_capped_log(made.log) == "hello\n"


@pytest.mark.parametrize(
    ("source", "command", "said"),
    [
        (
            "import glob\ndef f():\n    open(b'caf\\xe9.csv', 'w')\n    return {'files': glob.glob('*.csv')}",
            None,
            {"files": ["caf\ufffd.csv"]},
        ),
        ("def f(): raise ValueError('caf\\udce9.csv has no header')", None, "ValueError: caf\ufffd.csv has no header (user_code.py:1)"),
        ("", ("sh", "-c", """printf '{"t": "\\\\ud83d"}' > $AUTONOMIC_OUTPUTS"""), {"t": "\ufffd"}),
    ],
    ids=["listed", "raised", "half"],
)
def test_text_that_utf_8_cannot_hold_is_replaced_before_it_leaves_a_step(attempt: Make, source: str, command: Any, said: Any) -> None:
    result = launch(attempt(source, command=command))
    assert (result["outputs"] or result["detail"]) == said


def test_a_function_that_returns_nothing_has_no_outputs(attempt: Make) -> None:
    assert launch(attempt("def f(): pass"))["outputs"] == {}


@pytest.mark.parametrize(
    ("source", "fields", "said", "retry"),
    [
        ("def f():\n    raise ValueError('two\\nlines')", {}, "ValueError: two (user_code.py:2)", True),
        ("def g(): pass", {}, "has no function 'f'", False),
        ("import not_installed_anywhere\ndef f(): pass", {}, "ModuleNotFoundError: No module named 'not_installed_anywhere'", True),
        ("", {"entry": "no_such_module:f"}, "there is no module 'no_such_module' beside the YAML file or on PYTHONPATH", False),
        ("def f(a): pass", {"arguments": {"b": 1}}, "user_code:f(a) cannot be called with what stands under with: missing", False),
        ("def f(): return 3", {}, "its outputs are a int, not a dict", False),
        ("def f(): return {'a': [1, {2}]}", {}, "outputs['a'][1] is a builtins.set", False),
        ("def f(): return {'a': {1: 2}}", {}, "outputs['a'] has the key 1", False),
        ("def f(): return {'loss': float('nan')}", {}, "outputs['loss'] is nan, which JSON cannot hold", False),
        ("def f(): return {'a': 'x' * 2000000}", {}, "at most 1048576 are kept", False),
        ("def f(): return {'a': 1}", {"outputs": ("a", "b")}, "it declares the outputs b and did not give them; it gave a", False),
        ("import sys\ndef f(): sys.exit(4)", {}, "it called sys.exit(4) before it returned", True),
        ("import os\ndef f(): os._exit(4)", {}, "its process ended before the function returned, with exit code 4", True),
        ("import os\ndef f(): os.kill(os.getpid(), 11)", {}, "it was killed by SIGSEGV; its memory had peaked at", True),
        ("import os\ndef f(): os.kill(os.getpid(), 9)", {}, "The kernel kills so when memory runs out", True),
        ("def f(: pass", {}, "SyntaxError", True),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(attempt: Make, source: str, fields: dict[str, Any], said: str, retry: bool) -> None:
    result = launch(attempt(source, **fields))
    assert result["status"] == "failed"
    assert said in result["detail"]
    assert "\n" not in result["detail"]
    assert result["retry"] is retry


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("no-such-program-anywhere",), "the command 'no-such-program-anywhere' cannot be run: No such file or directory"),
        (("sh", "-c", "exit 5"), "it ended with exit code 5"),
        (("sh", "-c", "echo nonsense > $AUTONOMIC_OUTPUTS"), "its outputs file AUTONOMIC_OUTPUTS is not JSON"),
        (("sh", "-c", "echo [1] > $AUTONOMIC_OUTPUTS"), "its outputs are a list, not a dict"),
    ],
)
def test_what_goes_wrong_with_a_command_is_said(attempt: Make, command: tuple[str, ...], said: str) -> None:
    result = launch(attempt(command=command))
    assert result["status"] == "failed"
    assert said in result["detail"]


@pytest.mark.parametrize(
    "command", [("sh", "own.sh"), ("./own.sh",), ("own.sh",), ("python3", "user_code.py"), ("python3", "-m", "user_code")]
)
def test_a_command_finds_its_script_and_files_beside_the_yaml_file(attempt: Make, tmp_path: Path, command: tuple[str, ...]) -> None:
    made = attempt("print(open('data/words.txt').read())", command=command)
    (tmp_path / "code" / "data").mkdir()
    (tmp_path / "code" / "data" / "words.txt").write_text("found")
    (tmp_path / "code" / "own.sh").write_text("#!/bin/sh\ncat data/words.txt; echo; echo spoilt > data/words.txt\n")
    (tmp_path / "code" / "own.sh").chmod(0o755)
    assert launch(made)["status"] == "succeeded", read_capped_log(made.log)
    assert read_capped_log(made.log) == "found\n"
    # what a step writes is its own: the code is shared with all steps of the node
    assert (tmp_path / "code" / "data" / "words.txt").read_text() == "found"


def test_modules_named_like_others_are_found_and_harm_nothing(attempt: Make, tmp_path: Path) -> None:
    made = attempt(entry="signal:work", source="")
    (tmp_path / "code" / "signal.py").write_text("import resource, yaml\ndef work():\n    return {'yaml': yaml.NAME}\n")
    (tmp_path / "code" / "resource.py").write_text("raise SystemExit('not the standard one')\n")
    (tmp_path / "code" / "yaml.py").write_text("NAME = 'own'\n")
    assert launch(made)["outputs"] == {"yaml": "own"}


def test_a_command_gets_values_as_arguments_and_environment(attempt: Make) -> None:
    made = attempt(
        command=("sh", "-c", 'echo "$@" "$AUTONOMIC_WITH_BATCH_SIZE" "$GIVEN"; echo "{\\"ok\\": true}" > $AUTONOMIC_OUTPUTS', "sh"),
        arguments={"batch-size": 4, "names": ["a"]},
        env={"GIVEN": "given"},
    )
    assert launch(made)["outputs"] == {"ok": True}
    assert read_capped_log(made.log) == '--batch-size 4 --names ["a"] 4 given\n'


def test_a_step_that_hangs_is_killed_with_its_children_when_its_time_is_over(attempt: Make, tmp_path: Path) -> None:
    source = """
        import subprocess, sys, pathlib, time, signal
        def f():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            pathlib.Path("pids").write_text(str(child.pid))
            print("hanging")
            time.sleep(600)
    """
    # long enough that the step hangs before its time is over, however busy the machine is
    made = attempt(source, timeout_seconds=4)
    result = launch(made)
    assert result["detail"] == "timed out after 4 s and was killed"
    assert read_capped_log(made.log) == "hanging\n"
    assert is_gone(int((tmp_path / "s" / "work" / "pids").read_text()))


def test_children_that_a_step_leaves_behind_are_ended(attempt: Make, tmp_path: Path) -> None:
    result = launch(attempt(command=("sh", "-c", "sleep 600 & echo $! > pid")))
    assert result["status"] == "succeeded"
    assert is_gone(int((tmp_path / "s" / "work" / "pid").read_text()))


def test_a_thread_that_does_not_end_does_not_hold_up_an_ended_step(attempt: Make) -> None:
    source = """
        import threading, time
        def f():
            threading.Thread(target=time.sleep, args=(600,)).start()
            return {"done": 1}
    """
    assert launch(attempt(source))["outputs"] == {"done": 1}


def test_a_hundred_megabytes_of_output_keep_their_ends_and_cost_little(attempt: Make, tmp_path: Path) -> None:
    made = attempt(command=("sh", "-c", "echo the first line; head -c 104857600 /dev/zero | tr '\\0' x; echo; echo the last line >&2"))
    assert launch(made)["status"] == "succeeded"
    assert sum(file.stat().st_size for file in made.log.parent.iterdir()) < 2**20
    text = read_capped_log(made.log)
    assert text.startswith("the first line\n")
    assert text.endswith("\nthe last line\n")
    assert "bytes are left out here]" in text
    assert read_capped_log(made.log, tail_bytes=14) == "the last line\n"


def test_a_step_that_closes_its_outputs_costs_no_cpu_while_it_goes_on(attempt: Make) -> None:
    before = time.process_time()
    assert launch(attempt("import os, time\ndef f():\n    os.close(1)\n    os.close(2)\n    time.sleep(1)"))["status"] == "succeeded"
    assert time.process_time() - before < 0.5


def test_the_step_dies_with_whoever_launched_it(attempt: Make, tmp_path: Path) -> None:
    made = attempt(command=("sh", "-c", "echo $$ > pid; sleep 600"))
    request = tmp_path / "attempt.json"
    request.write_text(made.model_dump_json())
    code = (
        "import sys; from pathlib import Path; from autonomic.workflows.runs.launcher import Attempt, launch; "
        "launch(Attempt.model_validate_json(Path(sys.argv[1]).read_text()))"
    )
    launcher = subprocess.Popen([sys.executable, "-c", code, str(request)])
    pid_file = tmp_path / "s" / "work" / "pid"
    try:
        deadline = time.monotonic() + 60
        while not (pid_file.exists() and pid_file.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        launcher.send_signal(signal.SIGKILL)
        launcher.wait()
    assert is_gone(int(pid_file.read_text()))


def test_what_a_step_tells_arrives_while_it_runs_and_complete(attempt: Make, tmp_path: Path) -> None:
    source = """
        import time
        def f(context):
            context.progress(0.25, "loading")
            (context.workdir / "out.txt").write_text("x")
            context.artifact(context.workdir / "out.txt")
            context.log_dataset("digits", "sha256-1", source="somewhere")
            while not (context.workdir / "go").exists():
                time.sleep(0.01)
            for step in range(1000):
                context.metric("loss", 1 / (step + 1), step=step)
            return {"attempt": context.attempt, "run": context.run_id}
    """
    told: Notes = []

    def listen(notes: Notes) -> None:
        told.extend(notes)
        (tmp_path / "s" / "work" / "go").touch()

    result = launch(attempt(source), listen)
    assert result["outputs"] == {"attempt": 1, "run": "run-1"}
    assert told[0]["progress"] == 0.25
    assert told[0]["text"] == "loading"
    assert told[1]["artifact"] == str(tmp_path / "s" / "work" / "out.txt")
    assert told[2]["dataset"] == "digits"
    assert [note["step"] for note in told if "metric" in note] == list(range(1000))


def test_another_attempt_finds_the_working_folder_as_it_was_left(attempt: Make) -> None:
    source = """
        from pathlib import Path
        def f():
            found = Path("checkpoint").exists()
            Path("checkpoint").touch()
            return {"found": found}
    """
    assert launch(attempt(source))["outputs"] == {"found": False}
    assert launch(attempt(source, attempt=2))["outputs"] == {"found": True}


def test_an_attempt_that_is_begun_again_keeps_what_it_printed_before(attempt: Make, tmp_path: Path) -> None:
    for text in ("first", "second", "third"):
        launch(attempt(f"def f(): print('{text}')"))
    again = "[autonomic: broken off here, and begun again]"
    assert read_attempt(str(tmp_path / "s" / "1" / "log")) == f"first\n\n{again}\nsecond\n\n{again}\nthird\n"


def test_steps_start_light() -> None:
    heavy = "{'pydantic', 'httpx', 'torch', 'ray', 'mlflow'}"
    code = f"import sys; import autonomic.workflows.runs.step_main; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_registering_without_a_tracking_server_says_so(attempt: Make) -> None:
    result = launch(attempt("def f(context): context.register_model('.', 'm')"))
    assert "there is no model registry" in result["detail"]


def test_nothing_of_a_launch_is_left_in_this_process(attempt: Make) -> None:
    launch(attempt("def f(): pass"))
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    launch(attempt("def f(): pass", attempt=2))
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert threading.active_count() == threads
