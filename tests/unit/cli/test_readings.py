from typing import Any

from autonomic.cli.readings import blind, rows


def item(name: str, *readings: dict[str, Any], by: str = "") -> dict[str, Any]:
    query = {"promql": "up", **({"by": by} if by else {})}
    return {"strategy": "s", "name": name, "target": "w", "signal": "promql", "query": query, "readings": list(readings)}


def reading(status: str, value: float | None, detail: str = "", **labels: str) -> dict[str, Any]:
    return {"status": status, "value": value, "detail": detail, "labels": labels}


def test_each_value_has_a_row_and_what_is_missing_says_why() -> None:
    items = [
        item("a", reading("ok", 1.5)),
        item("b", reading("missing", None, "the query gives no series")),
        item("c", reading("ok", 2.0, node="n1"), reading("error", None, "away"), by="node"),
        item("d"),
    ]
    assert rows(items) == [
        ("s/a", "w", "promql", "ok", "1.5", ""),
        ("s/b", "w", "promql", "missing", "", "the query gives no series"),
        ("s/c", "w", "promql", "ok", "node=n1 2", ""),
        ("s/c", "w", "promql", "error", "", "away"),
        ("s/d", "w", "promql", "none", "", "it was not looked at yet"),
    ]
    assert [one["name"] for one in blind(items)] == ["b", "c"]
