from autonomic.primitives.arguments import ARGUMENTS
from autonomic.primitives.table import PRIMITIVES


def test_the_table_is_sorted_and_knows_every_declared_primitive() -> None:
    assert list(PRIMITIVES) == sorted(ARGUMENTS)
    assert all(primitive.name == name for name, primitive in PRIMITIVES.items())


def test_what_cannot_be_taken_back_is_known() -> None:
    irreversible = {name for name, primitive in PRIMITIVES.items() if not primitive.reversible}
    assert irreversible == {"call", "delete", "notify", "stop", "tune"}
    assert {name for name, primitive in PRIMITIVES.items() if primitive.harmless} == {"call", "notify", "tune"}
