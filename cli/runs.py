"""`autonomic run` and `logs`."""

import contextlib
import json
import time
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from autonomic.cli.options import FAILED_PLANS, Denied, HomeOption, Output, OutputOption
from autonomic.seams.errors import Permanent, Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from autonomic.cli.client import Client

POLL_SECONDS = 0.5
_START_SECONDS = 120.0
_FINISHED = frozenset({"succeeded", "failed", "stopped"})


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    app.command()(run)
    app.command()(logs)


def run(
    workflow: Annotated[str, typer.Argument(help="Name of a batch workflow that was applied.", metavar="WORKFLOW")],
    param: Annotated[list[str] | None, typer.Option("--param", "-p", help="A parameter, NAME=VALUE; may be given often.")] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Show each step live until the run has ended.")] = False,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Run a batch workflow.

    With --wait the outputs of the last steps are printed, and the command ends with 1 when the run did not succeed.
    Ctrl-C ends the waiting, not the run. A VALUE is read as what the workflow declares, or as the kind of its default: 6063e25 is a
    text where a text is expected. Where neither declares one, it is JSON or else text. A value that does not fit is refused at once.

    Examples:

        autonomic run hello --wait --param words=300

        autonomic run training --param 'layers=[32, 64]' --output json
    """
    from autonomic.cli.client import Client
    from autonomic.cli.output import show, working

    parameters(param or [])
    with Client(home) as client:
        body = {"target": workflow, "args": {"parameters": parameters(param or [], declared_by(client, workflow))}}
        with working("Starting"):
            told = client.post("planner", "/v1/primitives/run", body)
        run_id = _run_id(told)
        if not wait:
            rows = [(run_id, workflow, told["decision"])]
            show({"run": run_id, "workflow": workflow, "decision": told["decision"]}, output, ("RUN", "WORKFLOW", "DECISION"), rows)
            return
        state = _follow(client, run_id, told.get("plan", ""), live=output is Output.TABLE)
        last = _last_outputs(client, state)
        if output is Output.TABLE:
            typer.secho(f"{run_id} {state['status']}{': ' if state['detail'] else ''}{state['detail']}", bold=True)
            for step, outputs in last.items():
                for name, value in outputs.items():
                    typer.echo(f"{step}.{name} = {json.dumps(value, ensure_ascii=False)}")
        else:
            show({**state, "last_outputs": last}, output)
        if state["status"] != "succeeded":
            for name, step in state["steps"].items():
                if step["status"] == "failed":
                    typer.secho(f"{name} failed: {step['detail']}  (autonomic logs {run_id} {name})", fg="red", err=True)
            raise typer.Exit(1)


def logs(
    run_or_workflow: Annotated[str, typer.Argument(help="Id of a run, or name of a workflow for its newest run.", metavar="RUN")],
    step: Annotated[str | None, typer.Argument(help="Only this step.", metavar="[STEP]")] = None,
    tail: Annotated[int | None, typer.Option("--tail", "-n", min=1, help="Only the last lines of each step.")] = None,
    attempt: Annotated[int | None, typer.Option("--attempt", "-a", min=1, help="Only this attempt of each step.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what every attempt of the steps of a run printed, and why attempts failed.

    With --output json or yaml it is printed whole, by step; together with --follow when the run has ended.

    Examples:

        autonomic logs hello

        autonomic logs run-0h3k2 train --attempt 2

        autonomic logs run-0h3k2 train --tail 20 --follow
    """
    from autonomic.cli.client import Client
    from autonomic.cli.output import show

    with Client(home) as client:
        state = _find_run(client, run_or_workflow)
        names = list(state["steps"])
        if step is not None and step not in names:
            raise Permanent(f"run {state['id']} has no step {step!r}; it has {', '.join(names) or 'none yet'}")
        made = max((state["steps"][name].get("attempt", 0) for name in ([step] if step else names)), default=0)
        if attempt is not None and attempt > made and not follow:
            raise Permanent(f"run {state['id']} has no attempt {attempt}{f' of {step}' if step else ''}; the newest is {made}")
        shown: dict[str, str] = {}
        told: set[tuple[str, str]] = set()
        while True:
            for name in [step] if step else list(state["steps"]):
                _print_failures(name, state["steps"][name].get("failures", ()), told)
                if state["steps"][name]["status"] != "pending" and output is Output.TABLE:
                    _print_news(client, state["id"], name, {"tail": tail, "attempt": attempt}, shown, titled=step is None)
            if not follow or state["status"] in _FINISHED:
                break
            time.sleep(POLL_SECONDS)
            state = client.get("planner", f"/v1/runs/{state['id']}")
        if output is not Output.TABLE:
            wanted = [step] if step else list(state["steps"])
            texts = {name: _log(client, state["id"], name, {"tail": tail, "attempt": attempt}) for name in wanted}
            show({"run": state["id"], "steps": texts}, output)


def parameters(
    given: list[str], declared: "Mapping[str, Any] | None" = None, *, complete: bool = True, where: str = "--param"
) -> dict[str, Any]:
    """`NAME=VALUE` texts as a mapping, judged by what stands under the workflow's `parameters:` (None: it is not known here).

    `where` names in problems what they were given as.

    Raises:
        SpecError: with every one that is not of that form or not allowed, and (`complete`) those that are missing.
    """
    from autonomic.workflows.spec.parameters import beyond_json, declarations, faults_of_values, from_text

    known = declarations(declared or {})
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for text in given:
        name, equals, value = text.partition("=")
        if (beyond := beyond_json(text)) is not None:
            problems.append(Problem(f"found {beyond}; a parameter is written NAME=VALUE in UTF-8", where))
        elif not equals or not name:
            problems.append(Problem(f"found {text!r}; a parameter is written NAME=VALUE", where))
        else:
            values[name] = from_text(value, known.get(name))
    if declared is not None and not problems:
        problems = [Problem(fault, where, path=name) for name, fault in faults_of_values(declared, values, complete=complete)]
    if problems:
        raise SpecError(problems)
    return values


def declared_by(client: "Client", workflow: str) -> dict[str, Any] | None:
    """What stands under a batch workflow's `parameters:`; None where there is no such workflow, which whoever is asked next reports."""
    try:
        spec = client.get("planner", f"/v1/workflows/{quote(workflow, safe='')}", observe=False)["spec"]["spec"]
    except Permanent:
        return None
    return dict(spec["parameters"]) if spec["type"] == "batch" else None


def _run_id(told: dict[str, Any]) -> str:
    if told["verdict"] != "go":
        raise Denied(f"the gate says {told['verdict']}: {told['why']} (autonomic explain {told['decision']})")
    return str(told["changes"][0]["to"]["run_id"])


def _find_run(client: "Client", run_or_workflow: str) -> dict[str, Any]:
    # the platform knows a run at once, the planner's list a moment later, and also while the platform is away
    with contextlib.suppress(Permanent):
        state = client.get("planner", f"/v1/workflows/{run_or_workflow}")["state"]
        if state and state["runs"]:
            return state["runs"][0]
    newest = client.get("planner", "/v1/runs", workflow=run_or_workflow, limit=1)["items"]
    return newest[0] if newest else client.get("planner", f"/v1/runs/{run_or_workflow}")


def _log(client: "Client", run_id: str, step: str, wanted: dict[str, int | None]) -> str:
    try:
        return client.get("planner", f"/v1/runs/{run_id}/steps/{step}/log", **wanted)
    except Permanent:
        return ""  # it has printed nothing yet


def _print_failures(step: str, failures: "Sequence[str]", told: set[tuple[str, str]]) -> None:
    for failure in failures:
        if (step, failure) not in told:
            told.add((step, failure))
            typer.secho(f"{step}: {failure}", fg="red", err=True)


def _print_news(client: "Client", run_id: str, step: str, wanted: dict[str, int | None], shown: dict[str, str], *, titled: bool) -> None:
    text = _log(client, run_id, step, wanted)
    if not text:
        return
    before = shown.get(step, "")
    news = text[len(before) :] if text.startswith(before) else text
    if news or step not in shown:
        if titled:
            typer.secho(f"==> {step} <==", bold=True)
        typer.echo(news, nl=not news.endswith("\n"))
    shown[step] = text


def _follow(client: "Client", run_id: str, plan: str, *, live: bool) -> dict[str, Any]:
    """Shows a run until it has ended, and returns its last state."""
    from rich.live import Live

    from autonomic.cli.output import console

    state: dict[str, Any] | None = None
    told: dict[str, str] = {}
    screen = console(err=True)
    started = time.monotonic()
    try:
        with Live(console=screen, refresh_per_second=8, transient=False) as view:
            while state is None or state["status"] not in _FINISHED:
                state = _state(client, run_id, plan, started)
                if live and state is not None and screen.is_terminal:
                    view.update(_picture(state))
                elif live and state is not None:
                    _tell_changes(state, told)
                if state is None or state["status"] not in _FINISHED:
                    time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        typer.echo(f"The run goes on: autonomic logs {run_id} --follow", err=True)
        raise typer.Exit(130) from None
    return state


def _state(client: "Client", run_id: str, plan: str, started: float) -> dict[str, Any] | None:
    try:
        return client.get("planner", f"/v1/runs/{run_id}")
    except Permanent:
        if plan:
            status = client.get("planner", f"/v1/plans/{plan}")
            if status["phase"] in FAILED_PLANS:
                why = "; ".join(outcome["detail"] for outcome in status["outcomes"] if outcome["detail"]) or status["detail"]
                raise Permanent(f"the run did not start: its plan {plan} {status['phase']}: {why}") from None
        if time.monotonic() - started > _START_SECONDS:
            raise
        return None


def _picture(state: dict[str, Any]) -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    from autonomic.cli.output import cell, table, took

    now = time.time()
    rows = [
        [cell(name), cell(step["status"]), cell(took(step["started_at"], step["finished_at"], now)), cell(step["detail"][:100])]
        for name, step in state["steps"].items()
    ]
    return Group(Text(f"{state['id']} {state['status']}"), table(("STEP", "STATUS", "TIME", ""), rows))


def _tell_changes(state: dict[str, Any], told: dict[str, str]) -> None:
    for name, step in state["steps"].items():
        if step["status"] not in (told.get(name), "pending"):
            told[name] = step["status"]
            typer.echo(f"{name}: {step['status']}", err=True)


def _last_outputs(client: "Client", state: dict[str, Any]) -> dict[str, Any]:
    from autonomic.workflows.spec.graph import last_steps

    spec = client.get("planner", f"/v1/workflows/{state['workflow']}", observe=False)["spec"]["spec"]
    needs = {step["name"]: step["needs"] for step in spec["steps"]}
    return {name: state["steps"][name]["outputs"] for name in last_steps(needs) if name in state["steps"]}
