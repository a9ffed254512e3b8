"""`autonomic validate`, `schema`, `crds`, `apply` and `diff`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autonomic.cli.options import FAILED_PLANS, HomeOption, NothingRuns, Output, OutputOption
from autonomic.seams.errors import Problem, SpecError

if TYPE_CHECKING:
    from autonomic.cli.client import Client
    from autonomic.strategies.validation import Specs
    from autonomic.workflows.spec.workflow import Workflow

PathsArgument = Annotated[list[Path], typer.Argument(help="YAML files, or folders with *.yaml and *.yml files.", metavar="PATH...")]
APPLY_SECONDS = 600.0
UPLOAD_SECONDS = 120.0


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    for command in (validate, schema, crds, apply, diff):
        app.command()(command)


def validate(
    paths: PathsArgument,
    platform: Annotated[str | None, typer.Option(help="Where they will run: ray, kubernetes or simulated (default: as what runs).")] = None,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check documents and all that they name, without changing anything.

    Every problem of every file is told with its place. Strategies may aim at workflows of these files, and at those
    in force where a system runs in this home. What the platform cannot do is a problem, where it is known, and a warning where a
    workflow runs without.

    Examples:

        autonomic validate examples/

        autonomic validate my-workflow.yaml my-strategies/ --output json

        autonomic validate my-workflow.yaml --platform kubernetes
    """
    from autonomic.cli.output import show
    from autonomic.platforms.table import ABILITIES, platforms
    from autonomic.strategies.validation import load_specs

    if platform is not None and platform not in ABILITIES:
        raise typer.BadParameter(f"{platform!r} is no platform; there are {', '.join(ABILITIES)}", param_hint="--platform")
    known, prometheus_url, running = _surroundings(home)
    specs = load_specs(paths, prometheus_url=prometheus_url, known_workflows=known, platforms=platforms(platform or running))
    _tell_lacks(specs, platform or running)
    data = [
        {"kind": model.kind, "name": model.name, "file": (origin := specs.origins[model.kind, model.name]).file, "line": origin.line}
        for model in (*specs.workflows, *specs.strategies)
    ]
    show(data, output, ("KIND", "NAME", "PLACE"), [(row["kind"], row["name"], f"{row['file']}:{row['line']}") for row in data])
    typer.secho(f"{len(data)} documents are valid.", fg="green", err=True)


def schema() -> None:
    """Print the JSON Schema of workflows and strategies, for editors.

    An editor with a YAML language server completes and checks a file that begins with the line
    `# yaml-language-server: $schema=PATH` with the path of the schema.

    Examples:

        autonomic schema > autonomic.schema.json
    """
    from autonomic.strategies.schema import text

    typer.echo(text(), nl=False)


def crds(
    out: Annotated[Path | None, typer.Option(help="Write a file for each kind into this folder instead.", metavar="FOLDER")] = None,
) -> None:
    """Print the CustomResourceDefinitions of workflows and strategies, for Kubernetes.

    Examples:

        autonomic crds | kubectl apply --server-side -f -
    """
    from autonomic.strategies.crds.definitions import files

    made = files()
    if out is None:
        typer.echo("---\n".join(made.values()), nl=False)
        return
    out.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        (out / name).write_text(text)


def apply(
    paths: PathsArgument,
    prune: Annotated[bool, typer.Option("--prune", help="Also remove what is in force and not in these files.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until what is deployed answers.")] = True,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Put workflows and strategies in force, and deploy online workflows that changed or do not run as they say.

    Everything is checked before anything changes. The code that a workflow names beside its YAML file (functions, scripts, what they
    import and name) is packed and sent along. Ends with 4 where the gate refuses to deploy, and with 1 where a deployment
    fails, such as for a model that is not in the registry; Ctrl-C ends the waiting, not the deployment.

    Examples:

        autonomic apply examples/hello

        autonomic apply production/ --prune --dry-run
    """
    from autonomic.cli.client import Client
    from autonomic.cli.output import brief, show
    from autonomic.cli.plans import ended

    with Client(home) as client:
        answer = _send(client, paths, prune=prune, dry_run=dry_run)
        records = answer.get("decisions", [])
        if wait:
            answer["plans"] = [ended(client, record["plan"], "Deploying") for record in records if record["verdict"]["outcome"] == "go"]
    _warn_of(answer["faults"])
    rows = [
        (change["kind"], change["name"], change["change"], brief(change["text"], 400) if change["change"] == "restored" else "")
        for change in answer["changes"]
    ]
    show(answer, output, ("KIND", "NAME", "CHANGE", ""), rows, empty="Nothing changes.")
    plans = {plan["plan"]["id"]: plan for plan in answer.get("plans", [])}
    for record in records if output is Output.TABLE else ():
        actions = ", ".join(f"{action['primitive']} {action['target']}" for action in record["decision"]["actions"])
        typer.echo(f"{actions}: {brief(_result(record, plans.get(record['plan'])), 400)}")
        typer.echo(f"  autonomic explain {record['id']}")
    if any(record["verdict"]["outcome"] == "refuse" for record in records):
        raise typer.Exit(4)
    if any(plan["phase"] in FAILED_PLANS for plan in plans.values()):
        raise typer.Exit(1)


def _warn_of(faults: list[str]) -> None:
    """Names what fails by itself, which applying does not mend."""
    for fault in faults:
        typer.secho(f"Warning: {fault}", fg="yellow", err=True)


def _result(record: dict[str, Any], plan: dict[str, Any] | None) -> str:
    from autonomic.cli.plans import OPEN_PLANS

    if plan is None:
        return f"{record['verdict']['outcome']}: {record['verdict']['why']}"
    if plan["phase"] not in FAILED_PLANS:
        return "goes on" if plan["phase"] in OPEN_PLANS else "done"
    why = "; ".join(outcome["detail"] for outcome in plan["outcomes"] if outcome["detail"])
    return f"{plan['phase']}: {why or plan['detail']}"


def diff(
    paths: PathsArgument,
    prune: Annotated[bool, typer.Option("--prune", help="Also show what --prune would remove.")] = False,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show how documents differ from what is in force.

    Examples:

        autonomic diff examples/hello
    """
    from autonomic.cli.client import Client
    from autonomic.cli.output import show

    with Client(home) as client:
        answer = _send(client, paths, prune=prune, dry_run=True)
    _warn_of(answer["faults"])
    if output is not Output.TABLE:
        show(answer["changes"], output)
        return
    for change in answer["changes"]:
        typer.secho(f"{change['kind']}/{change['name']}: {change['change']}", bold=True)
        for line in change["text"].splitlines():
            typer.secho(line, fg="green" if line.startswith("+") else "red" if line.startswith("-") else None)
    if not answer["changes"]:
        typer.echo("No differences.")


def _send(client: "Client", paths: list[Path], *, prune: bool, dry_run: bool) -> dict[str, Any]:
    from autonomic.cli.output import working
    from autonomic.platforms.table import platforms
    from autonomic.strategies.validation import load_specs
    from autonomic.workflows.runs.code_package import package_of
    from autonomic.workflows.runs.packages import digest_of

    known = [] if prune else in_force(client)
    settings = client.settings
    specs = load_specs(paths, prometheus_url=settings.prometheus_url or None, known_workflows=known, platforms=platforms(settings.platform))
    _tell_lacks(specs, settings.platform)
    with working("Packing code"):
        packages = {workflow.name: package_of(workflow, specs.folders[workflow.name]) for workflow in specs.workflows}
    if not dry_run:
        with working("Sending code"):
            for content in filter(None, packages.values()):
                client.post("planner", "/v1/packages", content=content, timeout=UPLOAD_SECONDS)
    documents = [model.model_dump(mode="json", by_alias=True) for model in (*specs.workflows, *specs.strategies)]
    digests = {name: digest_of(content) if content else "" for name, content in packages.items()}
    body = {"documents": documents, "packages": digests, "prune": prune, "dry_run": dry_run}
    with working("Comparing" if dry_run else "Applying"):
        return client.post("planner", "/v1/diff" if dry_run else "/v1/apply", body, timeout=APPLY_SECONDS)


def in_force(client: "Client") -> list["Workflow"]:
    """The workflows that are in force."""
    from autonomic.workflows.spec.workflow import Workflow

    return [Workflow.model_validate(item["spec"]) for item in client.pages("planner", "/v1/workflows", 10_000)]


def _tell_lacks(specs: "Specs", platform: str | None) -> None:
    """Warns of what a platform cannot do for workflows, of settings that do not fit together, and of events that nothing here sends.

    Raises:
        SpecError: it would refuse one of them; with all that it lacks.
    """
    from autonomic.platforms.table import ABILITIES
    from autonomic.strategies.advice import events_from_outside
    from autonomic.workflows.spec.advice import advice
    from autonomic.workflows.spec.capabilities import lacking

    for text in (*(text for workflow in specs.workflows for text in advice(workflow)), *events_from_outside(specs.strategies)):
        typer.secho(f"Warning: {text}", fg="yellow", err=True)
    refused: list[Problem] = []
    abilities = ABILITIES[platform] if platform is not None else None
    for workflow in specs.workflows:
        for lack in lacking(workflow, abilities) if abilities is not None else ():
            problem = specs.origins["Workflow", workflow.name].problem(lack.path, lack.message)
            if lack.refused:
                refused.append(problem)
            else:
                typer.secho(f"Warning: {problem}", fg="yellow", err=True)
    if refused:
        raise SpecError(refused)


def _surroundings(home: Path | None) -> tuple[list["Workflow"], str | None, str | None]:
    """The workflows in force, the Prometheus and the platform of a system that runs; validation works without one."""
    from autonomic.cli.client import Client

    try:
        with Client(home) as client:
            return in_force(client), client.settings.prometheus_url or None, client.settings.platform
    except NothingRuns:
        return [], None, None
