from autonomic.primitives.table import ADOPTED, NEEDS_PERSON, PRIMITIVES


def test_the_table_is_sorted() -> None:
    assert list(PRIMITIVES) == sorted(PRIMITIVES)


def test_what_cannot_be_reverted_is_known() -> None:
    irreversible = {name for name, primitive in PRIMITIVES.items() if not primitive.reversible}
    assert irreversible == {"call", "delete", "notify", "stop", "tune"}
    assert {name for name, primitive in PRIMITIVES.items() if primitive.harmless} == {"call", "notify", "tune"}
    assert {"delete", "stop"} == NEEDS_PERSON


def test_adopted_workloads_take_few_primitives() -> None:
    assert {"rescale", "resize", "retarget"} == ADOPTED
