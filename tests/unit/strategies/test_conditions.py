import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autonomic.seams.errors import SpecError
from autonomic.seams.reading import Reading, error, missing, number
from autonomic.strategies.conditions import Condition, ConditionError

NAMES = ("p99", "replicas", "a", "b")


def readings(**values: float) -> dict[str, Reading]:
    return {name: number(value, 0.0, "test") for name, value in values.items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("replicas < 4", True),
        ("replicas == 3", True),
        ("a + 1 > b", False),
        ("a*2 == 4", True),
        ("a - -1 == 3", True),
        ("replicas in [1, 2, 3]", True),
        ("b / a > 1", True),
        ("b / (a - 1) == 5", True),
        ("b/a/a == 1.25", True),
        ("b / -a < 0x1", True),
        ("'4 / 2' == '4 / 2' && a == 2u", True),
        ("math.greatest(a, b) == 5 // the larger", True),
        ("a > b ? p99 > 1 : replicas > 2", True),
    ],
)
def test_integer_literals_work_against_readings(text: str, expected: bool) -> None:
    assert Condition.compile(text, NAMES).judge(readings(replicas=3, a=2, b=5)) is expected


def test_false_and_unknown_is_false_and_true_or_unknown_is_true() -> None:
    values = readings(a=1)
    assert Condition.compile("a > 2 && b > 1", NAMES).judge(values) is False
    assert Condition.compile("b > 1 && a > 2", NAMES).judge(values) is False
    assert Condition.compile("b > 1 || a > 0", NAMES).judge(values) is True
    assert Condition.compile("a > 0 && b > 1", NAMES).judge(values) is None
    assert Condition.compile("!(b > 1)", NAMES).judge(values) is None


@pytest.mark.parametrize(
    "reading",
    [
        missing(0.0, "test", "no sample"),
        error(0.0, "test", "refused"),
        number(math.nan, 0.0, "test"),
        Reading(status="ok", value=math.nan, time=0.0, source="test"),
        Reading(status="ok", value=math.inf, time=0.0, source="test"),
        Reading(status="ok", value=None, time=0.0, source="test"),
        None,
    ],
)
def test_a_reading_that_is_no_number_is_unknown(reading: Reading | None) -> None:
    given_readings = {} if reading is None else {"a": reading}
    for text in ("a > 1", "a < 1", "a == a", "!(a > 1)"):
        assert Condition.compile(text, NAMES).judge(given_readings) is None


def test_division_by_zero_is_unknown() -> None:
    for text in ("a / b > 1", "a / b < 1", "!(a / b > 1)", "a / (b * 3) > 1", "b / b == b / b"):
        assert Condition.compile(text, NAMES).judge(readings(a=1, b=0)) is None


def test_mentioned_names_are_known() -> None:
    assert Condition.compile("a > 1 && 'b' == 'b'", NAMES).names == {"a"}


def test_an_unknown_name_is_refused_with_its_place_and_the_nearest_name() -> None:
    with pytest.raises(ConditionError) as refused:
        Condition.compile("a + 10 > 2 &&\n  replicsa < 40", NAMES)
    assert (refused.value.line, refused.value.column) == (2, 3)
    assert "did you mean 'replicas'?" in str(refused.value)
    assert isinstance(refused.value, SpecError)


@pytest.mark.parametrize(
    ("text", "column"),
    [("", 1), ("a >", 4), ("a > 1 1", 7), ("10 + 10 > x", 11), ("a / 10 > zz", 10), ("a > 'x'", 3), ("(((a > 1", 9), ("a % 2 == 0", 3)],
)
def test_a_condition_that_does_not_compile_names_the_column_of_the_users_text(text: str, column: int) -> None:
    with pytest.raises(ConditionError) as refused:
        Condition.compile(text, NAMES)
    assert (refused.value.line, refused.value.column) == (1, column)


@pytest.mark.parametrize("text", ["a", "a + 1", "'x'"])
def test_a_condition_must_be_true_or_false(text: str) -> None:
    with pytest.raises(ConditionError, match="must be true or false"):
        Condition.compile(text, NAMES)


def test_deep_nesting_and_long_texts_are_refused() -> None:
    with pytest.raises(ConditionError):
        Condition.compile("(" * 600 + "a > 1" + ")" * 600, NAMES)
    with pytest.raises(ConditionError, match="at most"):
        Condition.compile("a > 1 && " * 1000 + "a > 1", NAMES)


@given(st.text(alphabet="ab19. /()-+<>=!&|?:'\"\n", max_size=30))
def test_any_text_compiles_or_is_refused_with_a_place_inside_it(text: str) -> None:
    lines = text.split("\n")
    try:
        condition = Condition.compile(text, NAMES)
    except ConditionError as refused:
        place = (refused.line, refused.column)
    else:
        place = (1, 1)
        assert condition.judge(readings(a=1, b=2)) in (True, False, None)
    assert 1 <= place[0] <= len(lines)
    assert 1 <= place[1] <= len(lines[place[0] - 1]) + 1
