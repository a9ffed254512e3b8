"""What `autonomic status` shows: every part is asked at the same time, each for a few seconds at most, and fails by itself."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autonomic.platforms.host import restarts
from autonomic.seams.errors import AutonomicError

if TYPE_CHECKING:
    from autonomic.cli.client import Client

ASK_SECONDS = 5.0
RESTARTS_SECONDS = 86_400.0
"""A restart is shown beside its part for so long; `autonomic events` shows all."""
_AGENTS = ("monitor", "planner", "tuner", "host")


def look(client: "Client") -> dict[str, Any]:
    """The parts, freezes, workflows and strategies of a system, and the events that these wait for.

    `unknown` says what could not be asked, and why.
    """
    with ThreadPoolExecutor(16) as pool:
        parts = {name: pool.submit(ask) for name, ask in _asks(client).items()}
        lists = {
            "freezes": pool.submit(_list, lambda: client.request("GET", "planner", "/v1/freezes", timeout=ASK_SECONDS)),
            "observed": pool.submit(_list, lambda: client.pages("planner", "/v1/workflows", 1000, timeout=ASK_SECONDS, observe=True)),
            "workflows": pool.submit(_list, lambda: client.pages("planner", "/v1/workflows", 1000, timeout=ASK_SECONDS)),
            "strategies": pool.submit(_list, lambda: client.pages("planner", "/v1/strategies", 1000, timeout=ASK_SECONDS)),
            "readings": pool.submit(_list, lambda: client.pages("monitor", "/v1/readings", 10_000, timeout=ASK_SECONDS)),
            "triggers": pool.submit(_list, lambda: client.pages("monitor", "/v1/triggers", 10_000, timeout=ASK_SECONDS)),
        }
        found = {name: future.result() for name, future in parts.items()}
        answers = {name: future.result() for name, future in lists.items()}
    # a part that is away is said once, among the parts
    answered = {name for name in ("monitor", "planner") if found[name]["state"] != "unreachable"}
    unknown = {
        name: why
        for name, (_, why) in answers.items()
        if why and ("monitor" if name in ("readings", "triggers") else "planner") in answered
    }
    from autonomic.cli.readings import blind

    workflows, why = answers["observed"]
    if why:
        blank = {"state": None, "services": {}, "differs": [], "faults": [], "detail": f"its state is not known: {why}"}
        workflows = [{**workflow, **blank} for workflow in answers["workflows"][0]]
    looked = {trigger["strategy"]: trigger["evaluated_at"] for trigger in answers["triggers"][0]}
    strategies = [{**item, "last_look": looked.get(item["name"])} for item in answers["strategies"][0]]
    _add_restarts(client.settings.home, found)
    return {
        "home": str(client.settings.home),
        "parts": found,
        "unknown": unknown,
        "freezes": answers["freezes"][0],
        "workflows": workflows,
        "strategies": strategies,
        "blind": blind(answers["readings"][0]),
        "events": [trigger for trigger in answers["triggers"][0] if trigger.get("event")],
    }


def part_rows(data: dict[str, Any]) -> list[tuple[str, ...]]:
    """The parts as rows of a table, and a row for each list that could not be asked."""
    rows = [(name, part["state"], part["url"], part["detail"]) for name, part in data["parts"].items()]
    return [*rows, *((name, "not known", "", why) for name, why in data["unknown"].items())]


def last_look(strategy: dict[str, Any]) -> str:
    """When the monitor judged a strategy's condition last."""
    from autonomic.cli.output import clock

    at = strategy["last_look"]
    return "never" if at is None else f"{max(0.0, time.time() - at):.0f} s ago" if time.time() - at < 3600 else clock(at)


def event_row(trigger: dict[str, Any]) -> tuple[str, ...]:
    """A trigger that waits for events: since when, and when one came last."""
    from autonomic.cli.output import clock

    received = trigger["received_at"]
    return trigger["event"], trigger["strategy"], clock(trigger["waiting_since"]), "never" if received is None else clock(received)


def supervisor(home: Path) -> dict[str, str] | None:
    """The `autonomic up` that starts parts of this home again when they die; None where there is none by design, as in a cluster."""
    from autonomic.cli.home import is_supervised

    # in a cluster nobody has to: there its controllers do
    if not (home / "up.lock").exists():
        return None
    if is_supervised(home):
        return {"state": "ready", "url": "", "detail": "`autonomic up` starts parts again that die"}
    why = "nothing supervises the parts, and none is started again: `autonomic up` takes them over, `autonomic down` ends them"
    return {"state": "not ready", "url": "", "detail": why}


def _add_restarts(home: Path, parts: dict[str, dict[str, str]]) -> None:
    from autonomic.cli.output import clock

    for name, restart in restarts.newest(home).items():
        if name in parts and time.time() - restart.time < RESTARTS_SECONDS:
            words = f"started again at {clock(restart.time)}: {restart.why}"
            parts[name]["detail"] = "; ".join(filter(None, [parts[name]["detail"], words]))


def _asks(client: "Client") -> dict[str, Callable[[], dict[str, str]]]:
    settings = client.settings
    asks: dict[str, Callable[[], dict[str, str]]] = {}
    if (found := supervisor(settings.home)) is not None:
        asks["up"] = lambda found=found: found
    for name in _AGENTS:
        asks[name] = lambda name=name: _agent(client, name)
    for name, url, path in (("prometheus", settings.prometheus_url, "/-/ready"), ("mlflow", settings.mlflow_url, "/health")):
        if url:
            asks[name] = lambda url=url, path=path: _answer(client.answers(url + path), url, "")
    if front := settings.front_url:
        # it knows services only, and says so of any other path
        asks["front"] = lambda: _answer(client.answers(front, refusing=True), front, "services answer at /WORKFLOW/SERVICE")
    return asks


def _agent(client: "Client", name: Any) -> dict[str, str]:
    state, detail = client.ready(name)
    return {"state": state, "url": client.url(name), "detail": detail}


def _answer(answers: bool, url: str, detail: str) -> dict[str, str]:
    return {"state": "ready" if answers else "unreachable", "url": url, "detail": detail}


def _list(ask: Callable[[], list[dict[str, Any]]]) -> tuple[list[dict[str, Any]], str]:
    try:
        return ask(), ""
    except AutonomicError as away:
        return [], str(away)
