"""Every command that the README, the docs and the help show is one that exists, with options that it takes."""

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from autonomic.cli.main import app

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OPERATORS = {"|", "||", "&&", ";", "&", ">", ">>", "<"}
UsageError: Any = typer.BadParameter.__bases__[0]
ROOT_COMMAND: Any = typer.main.get_command(app)


def lines_of_code(text: str) -> Iterator[str]:
    """The lines of fenced blocks of shell commands and of indented blocks."""
    fence: str | None = None
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fence = line.strip().strip("`") if fence is None else None
        elif fence is not None:
            if fence in ("", "sh", "bash", "shell", "console"):
                yield line.strip().removeprefix("$ ")
        elif line.startswith("    "):
            yield line.strip().removeprefix("$ ")


def commands_in(line: str) -> Iterator[list[str]]:
    """The simple commands of a line for a shell, as words; nothing where it is none."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        return
    command: list[str] = []
    for word in [*words, ";"]:
        if word in OPERATORS:
            yield command
            command = []
        else:
            command.append(word)


def ours(command: list[str]) -> list[str] | None:
    """The arguments of `autonomic`, None where it is another program."""
    words = [word for word in command if not re.fullmatch(r"[A-Z_]+=.*", word)]
    eager = {"--help", "-h", "--version", "--install-completion", "--show-completion"}
    return [word for word in words[1:] if word not in eager] if words and words[0].rsplit("/", 1)[-1] == "autonomic" else None


def shown() -> Iterator[tuple[str, str, bool]]:
    """(page, command, whether it is whole) of everything that is shown."""

    def in_lines(name: str, lines: Iterable[str], *, whole: bool) -> Iterator[tuple[str, str, bool]]:
        for command in (command for line in lines for command in commands_in(line)):
            if (arguments := ours(command)) is not None:
                yield name, shlex.join(arguments), whole

    for page in PAGES:
        text = page.read_text()
        name = page.relative_to(ROOT).as_posix()
        yield from in_lines(name, lines_of_code(text), whole=True)
        inline = re.findall(r"(?<!`)`(autonomic [^`]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        yield from in_lines(name, (" ".join(each.split()) for each in inline), whole=False)
    for path, command in walk(ROOT_COMMAND, ()):
        yield from in_lines(f"{' '.join(path)} --help", lines_of_code(command.help or ""), whole=True)


def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from walk(inner, (*path, name))


def fault(arguments: list[str], *, whole: bool) -> str:
    """What is wrong with a command line, "" where nothing is; nothing is run."""
    command: Any = ROOT_COMMAND
    context: Any = None
    name = "autonomic"
    try:
        while True:
            context = command.make_context(name, list(arguments), parent=context)
            rest = [*getattr(context, "_protected_args", []), *context.args]
            if not hasattr(command, "commands") or not rest:
                return ""
            name, command, arguments = command.resolve_command(context, rest)
    except UsageError as wrong:
        missing = type(wrong).__name__ in ("MissingParameter", "NoArgsIsHelpError")
        return wrong.format_message() if whole or not missing else ""


SHOWN = sorted(set(shown()))


@pytest.mark.parametrize(("page", "command", "whole"), SHOWN, ids=[f"{page}: {command}" for page, command, _ in SHOWN])
def test_a_command_that_is_shown_exists_and_takes_its_options(page: str, command: str, whole: bool) -> None:
    assert fault(shlex.split(command), whole=whole) == "", f"autonomic {command} ({page})"


def test_commands_are_found_on_the_pages_and_faults_in_them() -> None:
    assert {page for page, _, _ in SHOWN} >= {"README.md", "docs/kubernetes.md", "run --help"}
    assert len(SHOWN) > 60
    assert "No such command" in fault(["bogus"], whole=True)
    assert "No such option" in fault(["run", "w", "--bogus"], whole=False)
    assert fault(["run"], whole=False) == ""
    assert "Missing argument" in fault(["run"], whole=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_else_a_page_has_its_reader_run_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    text = page.read_text()
    for command in (command for line in lines_of_code(text) for command in commands_in(line)):
        if command[:1] == ["make"]:
            assert [word for word in command[1:] if "=" not in word and word not in targets] == []
    for folder, name in re.findall(r"\b(scripts|examples|benchmarks|docs)/([\w./-]*\w)", text):
        assert (ROOT / folder / name).exists(), f"{page.name} names {folder}/{name}"
