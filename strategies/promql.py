"""Whether a text is PromQL: the parser library says so, and where it does not, Prometheus itself is asked if there is one."""

from functools import lru_cache

import promql_parser


class PromqlChecker:
    """`prometheus_url`: of a Prometheus that may know newer syntax than the library; None asks nobody."""

    def __init__(self, prometheus_url: str | None = None) -> None:
        self._url = prometheus_url

    def fault(self, query: str) -> str:
        """What is wrong with `query`; empty where nothing is."""
        fault, parsed = _parse(query)
        if parsed:
            return fault
        return "" if self._url and _prometheus_accepts(self._url, query) else fault


@lru_cache(maxsize=1024)
def _parse(query: str) -> tuple[str, bool]:
    """What is wrong with a query, and whether it could be parsed."""
    try:
        expression = promql_parser.parse(query)
    except ValueError as refused:
        return " ".join(str(refused).split()), False
    while isinstance(expression, promql_parser.ParenExpr):
        expression = expression.expr
    if isinstance(expression, promql_parser.StringLiteral):
        return f"{query} is a text; a reading is a number, so write the expression without quotes around it", True
    if isinstance(expression, promql_parser.MatrixSelector | promql_parser.SubqueryExpr):
        return f"{query} gives a range of samples; a reading is one number, such as max_over_time({query})", True
    return "", True


def _prometheus_accepts(url: str, query: str) -> bool:
    import httpx  # 100 ms, and seldom needed

    try:
        answer = httpx.post(f"{url}/api/v1/format_query", data={"query": query}, timeout=2.0)
    except httpx.HTTPError:
        return False
    return answer.is_success
