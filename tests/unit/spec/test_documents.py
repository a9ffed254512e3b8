import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from autonomic.seams.errors import Problem, SpecError
from autonomic.workflows.spec.documents import MAX_FILE_BYTES, MAX_NODES, Document, load_documents, parse_documents


def read(text: str) -> list[Document]:
    problems: list[Problem] = []
    documents = parse_documents(text, "f.yaml", problems)
    assert problems == []
    return documents


def faults(text: str) -> list[str]:
    problems: list[Problem] = []
    parse_documents(text, "f.yaml", problems)
    return [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-7", -7),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1:30", "1:30"),
        ("2026-01-31", "2026-01-31"),
        ("1_000", "1_000"),
        ("'12'", "12"),
        ('"true"', "true"),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    (document,) = read(f"a: {text}\n")
    assert document.data == {"a": value}
    assert type(document.data["a"]) is type(value)


def test_on_is_a_key() -> None:
    (document,) = read("on: {every: 1s}\n")
    assert document.data == {"on": {"every": "1s"}}


def test_every_key_and_value_has_its_place() -> None:
    (document,) = read("a:\n  - b: 1\n    c: [x, yy]\n")
    assert document.values["a", 0, "c", 1] == (3, 12)
    assert document.keys["a", 0, "c"] == (3, 5)
    assert str(document.problem(("a", 0, "c", 1), "wrong")) == "f.yaml:3:12: wrong (a[0].c[1])"


def test_a_problem_of_something_absent_is_placed_at_what_should_hold_it() -> None:
    (document,) = read("x: 1\na:\n  b: 1\n")
    assert (document.problem(("a", "missing"), "").line, document.problem(("a", "missing"), "").column) == (3, 3)


def test_many_documents_of_one_file_keep_their_lines_and_empty_ones_are_left_out() -> None:
    documents = read("---\n---\na: 1\n---\n# nothing\n---\nb: 2\n")
    assert [(document.data, document.line) for document in documents] == [({"a": 1}, 3), ({"b": 2}, 7)]


@pytest.mark.parametrize("text", ["", "# a comment\n", "---\n", "---\n---\nnull\n", "\ufeff"])
def test_a_file_without_a_document_is_a_fault(text: str) -> None:
    (message,) = faults(text)
    assert message.startswith("f.yaml:1:1: there is no document in it")


def test_aliases_and_merge_keys_are_followed_and_what_is_written_wins() -> None:
    (document,) = read("x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz:\n  <<: [*x, *y]\n  a: 0\nw: *x\n")
    assert document.data["z"] == {"a": 0, "b": 2, "c": 4}
    assert document.data["w"] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: 1\na: 2\n", "f.yaml:2:1: the key 'a' stands twice"),
        ("a: {b: 1, b: 1}\n", "f.yaml:1:11: the key 'b' stands twice"),
        ("a: !!python/object/apply:os.system [ls]\n", "f.yaml:1:4: the tag"),
        ("a: !!str 1\n", "f.yaml:1:4: the tag"),
        ("a: ! x\n", "f.yaml:1:4: the tag"),
        ("a: [1, 2\n", "f.yaml:2:1: not valid YAML"),
        ("\ta: 1\n", "f.yaml:1:1: not valid YAML"),
        ("a: b: c\n", "f.yaml:1:5: not valid YAML"),
        ("a: *nowhere\n", "f.yaml:1:4: the alias *nowhere"),
        ("a: &a [*a]\n", "f.yaml:1:8: the alias *a"),
        ("[a]: 1\n", "f.yaml:1:1: a key must be plain text"),
        ("a: {<<: 5}\n", "f.yaml:1:9: <<: takes a mapping"),
        ("a: .nan\n", "f.yaml:1:4: .nan is not a number that can be used"),
        ("a: -.inf\n", "f.yaml:1:4: -.inf is not a number that can be used"),
        ("a: 1e999\n", "f.yaml:1:4: 1e999 is too large"),
        ("a: " + "9" * 5000 + "\n", "f.yaml:1:4: a number of 5000 digits"),
        ("[" * 100_000, "f.yaml:1:41: nested deeper than 40 levels"),
        ("".join(" " * n + "-\n" for n in range(60)), "nested deeper than 40 levels"),
        ("a: \x07\n", "f.yaml:1:1: not valid YAML: unacceptable character"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(text: str, fault: str) -> None:
    (message,) = faults(text)
    assert fault in message


def laughs(template: str, levels: int) -> str:
    lines = [template.format(name="l0", inner="x: 1")]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


def test_a_billion_laughs_are_refused_at_once() -> None:
    (message,) = faults(laughs("{name}: &{name} {{{inner}}}", 12))
    assert f"more than {MAX_NODES} values" in message


def test_a_billion_laughs_through_merge_keys_are_refused_at_once() -> None:
    lines = ["l0: &l0 {}"] + [f"l{n}: &l{n} {{<<: [{', '.join([f'*l{n - 1}'] * 10)}]}}" for n in range(1, 15)]
    (message,) = faults("\n".join(lines))
    assert f"more than {MAX_NODES} values" in message


def test_a_folder_gives_its_yaml_files_in_order_and_no_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.yml", "a.yaml", "c.txt", ".hidden.yaml", ".venv/x.yaml", "sub/d.yaml", "__pycache__/e.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"name: {name}\n")
    names = [document.data["name"] for document in load_documents([tmp_path, tmp_path / "a.yaml"])]
    assert names == ["a.yaml", "b.yml", "sub/d.yaml"]


def test_problems_of_all_files_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\x7fELF\0\0")
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: \xe9\n")
    (tmp_path / "huge.yaml").write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    (tmp_path / "syntax.yaml").write_text("a: [")
    (tmp_path / "good.yaml").write_text("a: 1")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.fifo")
    with pytest.raises(SpecError) as caught:
        load_documents([tmp_path, tmp_path / "empty", tmp_path / "absent.yaml", tmp_path / "pipe.fifo"])
    found = {Path(problem.file).name: (problem.line, problem.message) for problem in caught.value.problems}
    assert set(found) == {"binary.yaml", "latin.yaml", "huge.yaml", "syntax.yaml", "empty", "absent.yaml", "pipe.fifo"}
    assert "binary" in found["binary.yaml"][1]
    assert found["latin.yaml"] == (2, "is not UTF-8 text: byte 8 is 0xe9")
    assert "larger than 1024 KiB" in found["huge.yaml"][1]
    assert found["absent.yaml"][1] == "no such file or folder"
    assert found["pipe.fifo"][1] == "is not a regular file"


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "bom.yaml").write_bytes("\ufeffa: 1\n".encode())
    assert [document.data for document in load_documents([tmp_path])] == [{"a": 1}]


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=15,
)


class QuotingDumper(yaml.SafeDumper):
    """Quotes every text: one such as 0E0 is a number in YAML 1.2, and a text in YAML 1.1."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style='"')


QuotingDumper.add_representer(str, QuotingDumper.represent_str)


@given(plain)
def test_what_a_yaml_writer_wrote_is_read_back(value: object) -> None:
    # quoted scalars and block style: YAML 1.1 and 1.2 agree on them
    text = yaml.dump({"value": value}, Dumper=QuotingDumper, allow_unicode=False)
    problems: list[Problem] = []
    documents = parse_documents(text, "f.yaml", problems)
    if not problems:
        assert _same(documents[0].data["value"], yaml.safe_load(text)["value"])


def _same(ours: object, theirs: object) -> bool:
    if isinstance(theirs, dict):
        # keys are always text here, and may be numbers or booleans there
        return isinstance(ours, dict) and len(ours) == len(theirs) and all(map(_same, ours.values(), theirs.values()))
    if isinstance(theirs, list):
        return isinstance(ours, list) and len(ours) == len(theirs) and all(map(_same, ours, theirs))
    return ours == theirs


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"#%@`,? \n\t<~0.e"), max_size=60) | st.binary(max_size=80))
def test_no_input_raises_anything_but_a_problem(text: str | bytes) -> None:
    problems: list[Problem] = []
    documents = parse_documents(text if isinstance(text, str) else text.decode("latin-1"), "f.yaml", problems)
    assert all(isinstance(document, Document) for document in documents)
    assert all(problem.line >= 1 and problem.column >= 1 and problem.message for problem in problems)


def test_files_written_by_people_are_unharmed_by_the_reader(write: Callable[..., Path]) -> None:
    path = write("kind: X\n")
    before = path.read_bytes()
    load_documents([path])
    assert path.read_bytes() == before
