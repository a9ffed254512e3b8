"""`autonomic adopt` and `release`: workloads of Kubernetes that somebody else made."""

from typing import Annotated, Any

import typer

from autonomic.cli.hand import WaitOption, delete
from autonomic.cli.options import FAILED_PLANS, Denied, HomeOption, Output, OutputOption
from autonomic.cli.plans import WhyOption, ended
from autonomic.seams.errors import Permanent

KINDS = ("deployment", "statefulset", "job")
_APPLY_SECONDS = 600.0


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    app.command()(adopt)
    app.command()(release)


def adopt(
    name: Annotated[str, typer.Argument(help="Name of the workload in the namespace of the installation.", metavar="NAME")],
    workflow: Annotated[str, typer.Option("--as", help="The workflow that it becomes; default: its own name.", metavar="WORKFLOW")] = "",
    kind: Annotated[str, typer.Option(help=f"What it is: {', '.join(KINDS)}.")] = "deployment",
    least: Annotated[int, typer.Option("--min", min=0, help="The fewest replicas that rescale may make of it.")] = 1,
    most: Annotated[int, typer.Option("--max", min=1, help="The most replicas that rescale may make of it.")] = 1,
    wait: WaitOption = True,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make a workload that somebody else made a target, on Kubernetes. That changes nothing of it.

    Its readings are then those of WORKFLOW/NAME, and strategies may rescale, resize and retarget it. Adopting it again reverts
    what somebody changed after us. A document with `adopt:` says more: one container, bounds of its size.

    Examples:

        autonomic adopt web --as legacy --min 1 --max 5

        autonomic adopt crunch --kind job
    """
    from autonomic.cli.client import Client
    from autonomic.cli.output import show

    if kind not in KINDS:
        raise typer.BadParameter(f"{kind!r} is no kind of workload; there are {', '.join(KINDS)}", param_hint="--kind")
    if least > most:
        raise typer.BadParameter(f"{least} is more than --max {most}", param_hint="--min")
    workflow = workflow or name
    with Client(home) as client:
        body = {"documents": [document(workflow, kind, name, least, most)], "packages": {workflow: ""}, "prune": False, "dry_run": False}
        answer = client.post("planner", "/v1/apply", body, timeout=_APPLY_SECONDS)
        plans = [record["plan"] for record in answer.get("decisions", []) if record["verdict"]["outcome"] == "go"]
        refused = [record["verdict"]["why"] for record in answer.get("decisions", []) if record["verdict"]["outcome"] == "refuse"]
        if not answer["changes"]:
            # it is in force as it is written: what was changed by hand since is reverted
            told = client.post(
                "planner", "/v1/primitives/deploy", {"target": workflow, "args": {}, "why": "adopted again", "dry_run": False}
            )
            plans += [told["plan"]] if told["plan"] else []
            refused += [told["why"]] if told["verdict"] == "refuse" else []
        answer["plans"] = [ended(client, plan, "Adopting") for plan in plans] if wait else []
    rows = [(f"{workflow}/{name}", f"{least} to {most}", "adopted" if wait else "being adopted")]
    if refused:
        raise Denied(f"the gate refused it: {'; '.join(refused)}")
    if failed := [plan for plan in answer["plans"] if plan["phase"] in FAILED_PLANS]:
        why = "; ".join(outcome["detail"] for outcome in failed[0]["outcomes"] if outcome["detail"]) or failed[0]["detail"]
        raise Permanent(f"{name} was not adopted: {why}")
    show(answer, output, ("TARGET", "REPLICAS", ""), rows)


def release(
    target: Annotated[str, typer.Argument(help="WORKFLOW, or WORKFLOW/NAME, that was adopted.", metavar="TARGET")],
    with_strategies: Annotated[bool, typer.Option("--with-strategies", help="Also delete the strategies that aim at it.")] = False,
    why: WhyOption = "",
    wait: WaitOption = True,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Give an adopted workload back: it stays as it is, and its fields are its owners' again.

    Ends with 1 where it was not adopted, and with 4 where strategies aim at it and --with-strategies is not given.

    Examples:

        autonomic release legacy/web --why "its team scales it again"
    """
    from autonomic.cli.client import Client

    workflow = target.partition("/")[0]
    with Client(home) as client:
        found = client.get("planner", f"/v1/workflows/{workflow}", observe=False)
    if not found["spec"]["spec"].get("adopt"):
        raise Permanent(f"{workflow} was not adopted but made here; `autonomic delete {workflow}` takes it out of service")
    delete(workflow, with_strategies=with_strategies, why=why, wait=wait, home=home, output=output)


def document(workflow: str, kind: str, name: str, least: int, most: int) -> dict[str, Any]:
    """The document that adopts a workload. Pure."""
    spec = {"type": "online", "adopt": {kind: name, "replicas": {"min": least, "max": most}}}
    return {"apiVersion": "autonomic.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": workflow}, "spec": spec}
