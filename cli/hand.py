"""`autonomic do`, `deploy`, `stop` and `delete`: what a person does by hand, through the gate."""

from typing import Annotated, Any

import typer

from autonomic.cli.options import FAILED_PLANS, Denied, HomeOption, Output, OutputOption
from autonomic.cli.plans import WhyOption, ended
from autonomic.cli.runs import parameters
from autonomic.seams.errors import Permanent

WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    app.command("do")(do)
    app.command()(deploy)
    app.command()(stop)
    app.command()(delete)


def do(
    primitive: Annotated[str, typer.Argument(help="What to do, such as rescale; see below.", metavar="PRIMITIVE")],
    target: Annotated[str, typer.Argument(help="WORKFLOW, or WORKFLOW/PART.", metavar="TARGET")],
    args: Annotated[list[str] | None, typer.Argument(help="Its arguments, as in do: of a strategy.", metavar="[NAME=VALUE]...")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done, and what the gate says.")] = False,
    why: WhyOption = "",
    wait: WaitOption = True,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Do by hand what a strategy may do, through the same gate and plans.

    PRIMITIVE is call, delete, deploy, notify, promote, reroute, rescale, reschedule, resize, retarget, retrain, rollback, run,
    stop, tune or upgrade. A VALUE is read as JSON where it is JSON, else as text. Ends with 4 where the gate refuses it and
    with 1 where it fails; `autonomic revert PLAN` reverts it.

    Examples:

        autonomic do rescale mnist-online/predictor to=3 --dry-run

        autonomic do reroute mnist-online/predictor canary=10% --why "a first look at version 7"

        autonomic do rollback mnist-online/predictor --why "complaints since noon"
    """
    from autonomic.cli.client import Client

    body = {"target": target, "args": parameters(args or [], where="NAME=VALUE"), "dry_run": dry_run, "why": why}
    with Client(home) as client:
        told = client.post("planner", f"/v1/primitives/{primitive}", body)
        _finish(client, told, output, wait=wait and not dry_run)


def deploy(
    workflow: Annotated[str, typer.Argument(help="Name of an online workflow in force.", metavar="WORKFLOW")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done, and what the gate says.")] = False,
    why: WhyOption = "",
    wait: WaitOption = True,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Deploy an online workflow as it is in force, such as after a deployment that failed.

    What runs already keeps its replicas, its weights and the version that serves. After a restart nothing has to be deployed by
    hand: what is in force comes back by itself. Ends with 4 where the gate refuses it and with 1 where it fails.

    Examples:

        autonomic deploy wine --dry-run

        autonomic deploy wine --why "its model is registered now"
    """
    from autonomic.cli.client import Client

    with Client(home) as client:
        body = {"target": workflow, "args": {}, "dry_run": dry_run, "why": why}
        _finish(client, client.post("planner", "/v1/primitives/deploy", body), output, wait=wait and not dry_run)


def stop(
    run: Annotated[str, typer.Argument(help="Id of a run or a search, or name of a workflow: all its runs.", metavar="RUN")],
    why: WhyOption = "",
    wait: WaitOption = True,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Stop a run, all active runs of a workflow, or a search. What is stopped cannot go on.

    Ends with 4 where nothing of it is active.

    Examples:

        autonomic runs --status running

        autonomic stop run-0h3k2 --why "wrong data"

        autonomic stop search-0h3k2
    """
    from autonomic.cli.client import Client
    from autonomic.cli.output import show

    with Client(home) as client:
        if run.startswith("search-"):
            search = client.post("tuner", f"/v1/searches/{run}:stop")
            show(search, output, ("SEARCH", "STATUS"), [(search["id"], search["status"])])
            return
        try:
            target, args = client.get("planner", f"/v1/runs/{run}")["workflow"], {"run": run}
        except Permanent:
            target, args = run, {}
            if client.get("planner", f"/v1/workflows/{run}", observe=False)["type"] != "batch":
                raise Permanent(f"{run} is an online workflow, which has no runs; `autonomic delete {run}` ends it") from None
        told = client.post("planner", "/v1/primitives/stop", {"target": target, "args": args, "why": why})
        _finish(client, told, output, wait=wait)


def delete(
    workflow: Annotated[str, typer.Argument(help="Name of a workflow that is in force (autonomic status).", metavar="WORKFLOW")],
    with_strategies: Annotated[bool, typer.Option("--with-strategies", help="Also delete the strategies that aim at it.")] = False,
    why: WhyOption = "",
    wait: WaitOption = True,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Take a workflow out of force, and an online one out of service.

    Its runs, decisions and models stay. Ends with 4 where strategies aim at it and --with-strategies is not given, or where
    it is frozen. `autonomic apply` brings it back.

    Examples:

        autonomic delete hello

        autonomic delete mnist-online --with-strategies --why "replaced by mnist-2"
    """
    from autonomic.cli.client import Client
    from autonomic.cli.output import brief, show

    with Client(home) as client:
        answer = client.post("planner", f"/v1/workflows/{workflow}:delete", {"why": why, "with_strategies": with_strategies})
        records = answer["decisions"]
        if wait:
            answer["plans"] = [ended(client, record["plan"], "Deleting") for record in records if record["verdict"]["outcome"] == "go"]
    show(answer, output, ("KIND", "NAME", "CHANGE"), [(one["kind"], one["name"], one["change"]) for one in answer["changes"]])
    refused = [record for record in records if record["verdict"]["outcome"] == "refuse"]
    if refused:
        raise Denied(f"{workflow} is out of force and still runs: {refused[0]['verdict']['why']} (autonomic explain {refused[0]['id']})")
    if failed := [plan for plan in answer.get("plans", ()) if plan["phase"] in FAILED_PLANS]:
        raise Permanent(f"{workflow} is out of force and may still run: {brief(failed[0]['detail'], 400)}")


def _finish(client: Any, told: dict[str, Any], output: Output, *, wait: bool) -> None:
    """Shows what was decided and what became of it; ends with 4 where the gate refused it, and with 1 where it failed."""
    from autonomic.cli.output import show

    plan = ended(client, told["plan"], "Waiting") if wait and told["plan"] else None
    status = plan["phase"] if plan else ""
    rows = [(told["decision"], told["plan"], told["verdict"], status, told["why"])]
    show({**told, "plan_status": plan} if plan else told, output, ("DECISION", "PLAN", "GATE", "PHASE", "WHY"), rows)
    if output is Output.TABLE:
        for line in told["explanation"]["considered"]:
            typer.echo(f"  {line}")
    if told["verdict"] == "refuse":
        raise Denied(f"the gate refused it: {told['why']}")
    if plan and plan["phase"] in FAILED_PLANS:
        why = "; ".join(outcome["detail"] for outcome in plan["outcomes"] if outcome["detail"]) or plan["detail"]
        raise Permanent(f"its plan {plan['phase']}: {why} (autonomic explain {told['decision']})")
