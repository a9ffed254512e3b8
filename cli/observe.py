"""`autonomic status`, `events`, `decisions`, `explain` and `plans`."""

import json
from typing import Annotated, Any

import typer

from autonomic.cli.freeze import FREEZE_COLUMNS, freeze_row
from autonomic.cli.options import HomeOption, NothingRuns, Output, OutputOption

LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many, the newest first.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    for command in (status, events, decisions, explain, plans):
        app.command()(command)


def status(home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Show what runs: parts, workflows, strategies.

    Ends with 3 when nothing runs or the planner cannot be reached, 1 when a part is not ready.

    Examples:

        autonomic status

        autonomic status --output json
    """
    from autonomic.cli.client import Client
    from autonomic.cli.look import event_row, look, part_rows
    from autonomic.cli.output import show, working

    with Client(home) as client, working("Asking"):
        data = look(client)
    parts, reachable = data["parts"], data["parts"]["planner"]["state"] != "unreachable"
    if output is not Output.TABLE:
        show(data, output)
    else:
        show(data, output, ("PART", "STATE", "URL", ""), part_rows(data))
        if data["freezes"]:
            typer.echo()
            show(data, output, FREEZE_COLUMNS, map(freeze_row, data["freezes"]))
        if reachable:
            typer.echo()
            rows = [row for workflow in data["workflows"] for row in _workflow_rows(workflow)]
            show(data, output, ("WORKFLOW", "TYPE", "STATE"), rows, empty="No workflows; `autonomic apply PATH` puts some in force.")
            typer.echo()
            columns = ("STRATEGY", "TARGET", "AUTONOMY", "LAST LOOK")
            show(data, output, columns, [_strategy_row(item) for item in data["strategies"]], empty="No strategies.")
            if data["events"]:
                typer.echo()
                show(data, output, ("EVENT", "WAITED FOR BY", "SINCE", "LAST RECEIVED"), map(event_row, data["events"]))
            if data["blind"]:
                from autonomic.cli import readings

                typer.echo()
                show(data, output, readings.COLUMNS, [row for row in readings.rows(data["blind"]) if row[3] != "ok"])
    if not reachable:
        raise NothingRuns(f"nothing runs in {data['home']}: the planner does not answer; start everything with `autonomic up`")
    if data["unknown"] or any(part["state"] != "ready" for part in parts.values()):
        raise typer.Exit(1)


def events(
    limit: LimitOption = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show everything that happens from now on, until Ctrl-C.")] = False,
    kinds: Annotated[str | None, typer.Option(help="With --follow: only these kinds, separated by commas.")] = None,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the events that the planner got.

    With --follow also decisions, plans, runs and what the platform told; as JSON lines with --output json.

    Examples:

        autonomic events --limit 5

        autonomic events --follow --kinds decision,plan
    """
    from autonomic.cli.client import Client
    from autonomic.cli.output import brief, clock, show

    with Client(home) as client:
        if follow:
            try:
                for record in client.stream(kinds):
                    line = f"{clock(record['time'])} {record['kind']:<14} {record['subject']} {brief(_gist(record['data']), 120)}"
                    typer.echo(line.rstrip() if output is Output.TABLE else json.dumps(record, ensure_ascii=False))
            except KeyboardInterrupt:
                return
        items = client.pages("planner", "/v1/events", limit)
    rows = [(clock(item["time"]), item["kind"], item["subject"], brief(_gist(item["data"]), 120)) for item in items]
    show(items, output, ("TIME", "KIND", "SUBJECT", ""), rows, empty="No events yet.")


def decisions(
    strategy: Annotated[str | None, typer.Option(help="Only those of this strategy.")] = None,
    limit: LimitOption = 20,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what was decided, and what the gate said.

    Examples:

        autonomic decisions --strategy keep-latency
    """
    from autonomic.cli.client import Client
    from autonomic.cli.output import brief, clock, show

    with Client(home) as client:
        items = client.pages("planner", "/v1/decisions", limit, strategy=strategy)
    rows = [
        (
            item["id"],
            clock(item["time"]),
            item["decision"]["strategy"] or "by hand",
            ", ".join(f"{action['primitive']} {action['target']}" for action in item["decision"]["actions"]) or "nothing",
            (item["verdict"] or {}).get("outcome", ""),
            brief((item["verdict"] or item["decision"])["why"]),
        )
        for item in items
    ]
    show(items, output, ("DECISION", "TIME", "STRATEGY", "ACTIONS", "GATE", "WHY"), rows, empty="No decisions yet.")


def explain(
    decision: Annotated[str, typer.Argument(help="Id of a decision (autonomic decisions).", metavar="DECISION")],
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Tell why something was done, or not: readings, trigger, guards, plan, outcome, verification.

    Examples:

        autonomic explain decision-0h3k2

        autonomic explain decision-0h3k2 --output json
    """
    from autonomic.cli.client import Client
    from autonomic.cli.output import show

    with Client(home) as client:
        told = client.get("planner", f"/v1/decisions/{decision}")["explanation"]
    if output is Output.TABLE:
        typer.echo(told["words"])
    else:
        show(told, output)


def plans(
    phase: Annotated[str | None, typer.Option(help="Only those in this phase, such as waiting, verifying or failed.")] = None,
    limit: LimitOption = 20,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show plans and how far they are; one that waits for a person is begun with `autonomic approve`.

    Examples:

        autonomic plans --phase waiting
    """
    from autonomic.cli.client import Client
    from autonomic.cli.output import brief, clock, show

    with Client(home) as client:
        items = client.pages("planner", "/v1/plans", limit, phase=phase)
    rows = [
        (
            item["plan"]["id"],
            clock(item["updated_at"]),
            item["plan"]["strategy"] or "by hand",
            ", ".join(f"{change['primitive']} {change['target']}" for change in item["plan"]["changes"]),
            item["phase"],
            brief(item["detail"]),
        )
        for item in items
    ]
    show(items, output, ("PLAN", "UPDATED", "STRATEGY", "CHANGES", "PHASE", ""), rows, empty="No plans.")


def _workflow_rows(workflow: dict[str, Any]) -> list[tuple[str, str, str]]:
    """One row for the workflow, or for each of its services."""
    from autonomic.cli.output import brief

    if workflow["type"] == "batch":
        runs = (workflow["state"] or {}).get("runs", [])
        newest = _run_words(runs[0]) if runs else workflow["detail"] or "never run"
        return [(workflow["name"], "batch", newest)]
    rows: list[tuple[str, str, str]] = []
    spec = workflow["spec"]["spec"]
    adopt = spec.get("adopt") or {}
    adopted = {adopt[kind]: kind for kind in ("deployment", "statefulset", "job") if adopt.get(kind)}
    for name in [*adopted, *(service["name"] for service in spec["services"])]:
        target = f"{workflow['name']}/{name}"
        differs = brief("; ".join(_differs(workflow, target)), 400)
        state = workflow["services"].get(target, {}).get("service")
        if state is None:
            absent = f"adopted; there is no {adopted[name]} {name}" if adopted else "not deployed"
            rows.append((target, "online", "; ".join(filter(None, [workflow["detail"] or absent, differs]))))
            continue
        if adopted:
            champion = state["roles"]["champion"]
            rows.append((target, "online", f"adopted; {champion['ready']}/{champion['wanted']} replicas ready{_why_missing(state)}"))
            continue
        roles = [f"{role} {one['ready'] + one.get('surplus', 0)}/{one['wanted']} {one['model']}" for role, one in state["roles"].items()]
        weights = " ".join(f"{role}={share}%" for role, share in state["weights"].items() if share)
        words = f"{', '.join(roles)}; traffic {weights or 'none'}; {state['queued']} queued{_why_missing(state)}"
        rows.append((target, "online", f"{words}{'; ' if differs else ''}{differs}"))
    return rows


def _differs(workflow: dict[str, Any], target: str) -> list[str]:
    """What differs or is wrong of one service: all that is said of its workflow, but for what is said of other services alone."""

    def said(of: dict[str, Any]) -> list[str]:
        return [*of.get("differs", ()), *of.get("faults", ())]

    parts = {name: set(said(part)) for name, part in workflow["services"].items()}
    others = set[str]().union(*(words for name, words in parts.items() if name != target)) - parts.get(target, set())
    return [words for words in said(workflow) if words not in others]


def _why_missing(service: dict[str, Any]) -> str:
    """Why fewer replicas are ready than wanted, or more, in the platform's words."""
    from autonomic.cli.output import brief

    found = [f"{role}: {one['why']}" for role, one in service["roles"].items() if one.get("why")]
    return f"; {brief('; '.join(found), 400)}" if found else ""


def _run_words(run: dict[str, Any]) -> str:
    """A run in a line: what became of it, what its steps wait for, and why attempts of them failed."""
    from autonomic.cli.output import brief

    failures = [f"{name}: {failure}" for name, step in run["steps"].items() for failure in step.get("failures", ())]
    waits = [f"{name}: {step['detail']}" for name, step in run["steps"].items() if step["status"] == "pending" and step.get("detail")]
    why = "; ".join(dict.fromkeys(filter(None, [run["detail"] if run["status"] != "succeeded" else "", *waits, *failures])))
    return f"newest run {run['id']} {run['status']}{': ' if why else ''}{brief(why, 400)}"


def _strategy_row(item: dict[str, Any]) -> tuple[str, ...]:
    from autonomic.cli.look import last_look

    spec = item["spec"]["spec"]
    return item["name"], spec["target"], spec["guard"]["autonomy"], last_look(item)


def _gist(data: dict[str, Any]) -> dict[str, Any]:
    """The fields of a record that say the most, where it has them."""
    both: dict[str, Any] = {}
    for name in ("data", "plan", "decision", "verdict"):
        both |= data[name] if isinstance(data.get(name), dict) else {}
    both |= data
    wanted = ("type", "source", "strategy", "trigger", "target", "outcome", "phase", "status", "message", "detail", "why")
    return {name: both[name] for name in wanted if isinstance(both.get(name), str) and both[name]}
