import pytest
from hypothesis import given
from hypothesis import strategies as st

from autonomic.workflows.spec.references import UnknownReference, references, resolve

NAMES = {
    "parameters": {"epochs": 5, "rate": 0.5, "name": "x", "flag": True, "none": None, "list": [1, "a"], "evil": "${run.id}"},
    "steps": {"load-data": {"outputs": {"path": "/d", "stats": {"rows": 7}}}},
    "run": {"id": "run-1"},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${parameters.epochs}", 5),
        ("${parameters.list}", [1, "a"]),
        ("${parameters.none}", None),
        ("${steps.load-data.outputs.path}", "/d"),
        ("${steps.load-data.outputs.stats.rows}", 7),
        ("epochs=${parameters.epochs}", "epochs=5"),
        ("${parameters.flag}/${run.id}", "true/run-1"),
        ("${parameters.list}!", '[1, "a"]!'),
        ("${parameters.name}${parameters.rate}", "x0.5"),
        ("$${parameters.epochs}", "${parameters.epochs}"),
        ("$HOME $$ {run.id}", "$HOME $$ {run.id}"),
        ("${parameters.evil}", "${run.id}"),
    ],
)
def test_a_whole_reference_keeps_its_type_and_an_embedded_one_becomes_text(text: str, value: object) -> None:
    assert resolve(text, NAMES) == value
    assert resolve({"a": [text]}, NAMES) == {"a": [value]}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("${parameters.epoch}", "no 'epoch'; there is epochs, rate"),
        ("${env.HOME}", "no 'env'; there is parameters, steps, run"),
        ("${run.id.x}", "nothing below it"),
        ("${}", "names nothing"),
        ("${__class__.__init__}", "no '__class__'"),
        ("a ${1 + 1}", "names nothing"),
    ],
)
def test_what_is_not_in_the_closed_set_of_names_is_refused(text: str, part: str) -> None:
    with pytest.raises(UnknownReference, match=part.replace("'", ".")):
        resolve(text, NAMES)


def test_references_are_found_however_deep_and_malformed_ones_are_empty() -> None:
    value = {"a": ["${parameters.x} and ${steps.s.outputs.y}"], "b": {"c": "$${no}"}, "d": "${a b}", "e": 5}
    assert references(value) == [("parameters", "x"), ("steps", "s", "outputs", "y"), ()]


@given(
    st.recursive(
        st.integers() | st.text(st.characters(exclude_characters="$")), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_values_without_references_stay_as_they_are(value: object) -> None:
    assert resolve(value, {}) == value
    assert references(value) == []


@given(st.text(alphabet="${}ab.", max_size=30))
def test_no_text_breaks_it(text: str) -> None:
    try:
        resolved = resolve(text, {"a": {"b": 1}})
    except UnknownReference:
        assert references(text)
    else:
        assert isinstance(resolved, str | int | dict)
