"""`autonomic approve`, `reject`, `cancel`, `revert` and `reinstate`: what a person says to plans and strategies."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autonomic.cli.options import Denied, HomeOption, Output, OutputOption

if TYPE_CHECKING:
    from autonomic.cli.client import Client

OPEN_PLANS = frozenset({"waiting", "applying", "verifying", "reverting"})
_WAIT_SECONDS = 600.0
PlanArgument = Annotated[str, typer.Argument(help="Id of a plan (autonomic plans), or of its decision.", metavar="PLAN")]
WhyOption = Annotated[str, typer.Option("--why", help="The reason; `autonomic explain` shows it, with the name of your token.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    for command in (approve, reject, cancel, revert, reinstate):
        app.command()(command)


def approve(plan: PlanArgument, why: WhyOption = "", home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Let a plan begin that waits for a person; the gate judges it once more.

    Ends with 4 where the gate refuses it now, such as during a freeze.

    Examples:

        autonomic plans --phase waiting

        autonomic approve plan-0h3k2 --why "seen on the dashboard too"
    """
    told = _act(plan, "approve", why, home)
    verdict = told["verdict"]
    _show_decision(told, verdict["outcome"], verdict["why"], output)


def reject(
    plan: PlanArgument,
    why: Annotated[str, typer.Option("--why", help="The reason; `autonomic explain` shows it, with the name of your token.")],
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Turn down a plan that waits for a person.

    Its strategy does not propose the same again before the evidence changes: another version or other tags of it, a
    condition that ended and came back, another event, or a changed document.

    Examples:

        autonomic reject plan-0h3k2 --why "the labels of that day were wrong"
    """
    _show_status(_act(plan, "reject", why, home), output)


def cancel(plan: PlanArgument, why: WhyOption = "", home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Stop a plan before its next effect; what it did stays.

    A plan that waits for a person is turned down, as by `autonomic reject`. Ends with 4 where the plan has ended: then
    there is `autonomic revert`.

    Examples:

        autonomic cancel plan-0h3k2 --why "we move it by hand"
    """
    _show_status(_act(plan, "cancel", why, home), output)


def revert(plan: PlanArgument, why: WhyOption = "", home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Revert what a plan did, by a plan of its own that passes the gate.

    Its strategy does not propose the same again before the evidence changes (see `autonomic reject --help`).

    Examples:

        autonomic revert plan-0h3k2 --why "latency got worse"
    """
    told = _act(plan, "revert", why, home)
    # an approval carries the gate's whole verdict, a revert its decision in short
    _show_decision(told, told["verdict"] or "", told["why"], output)


def reinstate(
    strategy: Annotated[str, typer.Argument(help="Name of a strategy that demoted itself (autonomic status).", metavar="STRATEGY")],
    why: WhyOption = "",
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let a strategy act again that demoted itself because its plans were reverted.

    Ends with 4 where it did not demote itself.

    Examples:

        autonomic reinstate keep-latency --why "its threshold was mended"
    """
    from autonomic.cli.client import Client
    from autonomic.cli.output import show

    with Client(home) as client:
        client.post("planner", f"/v1/strategies/{strategy}:reinstate", {"why": why})
        item = client.get("planner", f"/v1/strategies/{strategy}")
    show(item, output, ("STRATEGY", "AUTONOMY"), [(strategy, item["autonomy"])])


def _act(plan: str, verb: str, why: str, home: Path | None) -> dict[str, Any]:
    from autonomic.cli.client import Client

    with Client(home) as client:
        if plan.startswith("decision-"):
            plan = client.get("planner", f"/v1/decisions/{plan}")["decision"]["plan"] or plan
        return client.post("planner", f"/v1/plans/{plan}:{verb}", {"why": why})


def _show_decision(told: dict[str, Any], verdict: str, why: str, output: Output) -> None:
    from autonomic.cli.output import show

    show(told, output, ("DECISION", "PLAN", "GATE", "WHY"), [(told["decision"], told["plan"], verdict, why)])
    if verdict == "refuse":
        raise Denied(f"the gate refused it: {why} (autonomic explain {told['decision']})")


def _show_status(status: dict[str, Any], output: Output) -> None:
    from autonomic.cli.output import show

    show(status, output, ("PLAN", "PHASE", ""), [(status["plan"]["id"], status["phase"], status["detail"])])


def ended(client: "Client", plan: str, what: str) -> dict[str, Any]:
    """A plan when it has ended, or as it stands after ten minutes; Ctrl-C ends the waiting only."""
    from autonomic.cli.output import working

    deadline = time.monotonic() + _WAIT_SECONDS
    try:
        with working(what):
            while (status := client.get("planner", f"/v1/plans/{plan}"))["phase"] in OPEN_PLANS and time.monotonic() < deadline:
                time.sleep(0.2)
    except KeyboardInterrupt:
        typer.echo(f"{plan} goes on: autonomic plans", err=True)
        raise typer.Exit(130) from None
    return status
