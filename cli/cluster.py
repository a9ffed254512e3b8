"""`autonomic cluster`: a Kubernetes cluster on this machine, for those who have none."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from autonomic.cli.options import Denied, HomeOption, NothingRuns, Output, OutputOption

app = typer.Typer(
    name="cluster",
    no_args_is_help=True,
    help=(
        "Run a real Kubernetes cluster on this machine: no container engine, no registry. It needs Linux, root and Go.\n\n"
        "A first look: autonomic cluster up --detach; autonomic cluster kubectl get nodes; autonomic cluster down."
    ),
)


class Addon(StrEnum):
    """What a cluster may have besides."""

    KEDA = "keda"
    GATEWAY_API = "gateway-api"


NodesOption = Annotated[int, typer.Option(min=1, max=7, help="Nodes with a kubelet and a containerd of their own.")]
FakeNodesOption = Annotated[int, typer.Option(min=0, max=1000, help="Nodes that kwok plays: they take pods and run none.")]
AuditOption = Annotated[bool, typer.Option("--audit", help="Write every change that the API server is asked for to logs/audit.log.")]
WithOption = Annotated[
    list[Addon] | None,
    typer.Option(
        "--with", help="What it has besides; KEDA takes another 8 minutes to build, of the Gateway API there are the kinds alone."
    ),
]
NodeArgument = Annotated[str, typer.Argument(help="The name of a node, as `autonomic cluster status` shows it.")]


def register(parent: typer.Typer) -> None:
    """Adds the commands to `parent`."""
    parent.add_typer(app)


@app.command()
def up(
    home: HomeOption = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when everything is up, and leave it running.")] = False,
    nodes: NodesOption = 2,
    fake_nodes: FakeNodesOption = 0,
    audit: AuditOption = False,
    with_: WithOption = None,
) -> None:
    """Start the cluster of this home and keep it running until Ctrl-C.

    The first time the programs are built from their Go modules into the user's cache, which takes about ten minutes on two
    cores. Ends with 0 after Ctrl-C or `autonomic cluster down`, 1 when a part does not come up, 4 when this home's cluster
    runs already.

    Examples:

        autonomic cluster up --detach && export KUBECONFIG=$PWD/.autonomic/cluster/kubeconfig

        autonomic cluster up --fake-nodes 100 --audit
    """
    from autonomic.cli.embedded.kubernetes.cluster import LocalCluster
    from autonomic.cli.embedded.kubernetes.supervisor import Options, Supervisor

    folder = _folder(home)
    addons = with_ or ()
    options = Options(nodes=nodes, fake_nodes=fake_nodes, audit=audit, keda=Addon.KEDA in addons, gateway_api=Addon.GATEWAY_API in addons)
    console = Console(stderr=True, highlight=False)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with _told(), Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("Starting")

        def report(part: str, state: str) -> None:
            if part == "building" and console.is_terminal:
                progress.update(task, description=f"Building {escape(state)}")
                return
            progress.console.print(Text.assemble(("•", "green"), f" {part:<11} {state}"), soft_wrap=True)
            progress.update(task, description="Starting")

        def ready() -> None:
            progress.stop()
            console.print(Text(f"Running in {folder}. Ctrl-C stops everything. In another terminal:"), soft_wrap=True)
            console.print(Text(f"  export KUBECONFIG={folder / 'kubeconfig'}"), soft_wrap=True)

        if detach:
            cluster = LocalCluster.start(folder, options, report)
            progress.stop()
            console.print(Text(f"Running in {folder}. Stop it with `autonomic cluster down`."), soft_wrap=True)
            console.print(Text(f"  export KUBECONFIG={cluster.kubeconfig}"), soft_wrap=True)
        else:
            Supervisor(folder, options, report).run(ready)


@app.command()
def down(home: HomeOption = None) -> None:
    """Stop the cluster of this home and remove everything that it made, also after its supervisor was killed.

    Only its logs stay. Ends with 0 when it is gone, 1 when something would not go, 3 when there was nothing.
    """
    from autonomic.cli.embedded.kubernetes.cluster import stop

    folder = _folder(home)
    with _told(), Console(stderr=True).status("Stopping …"):
        found = stop(folder)
    if not found:
        raise NothingRuns(f"No cluster runs in {folder}.")
    typer.echo("Stopped.", err=True)


@app.command()
def status(home: HomeOption = None, output: OutputOption = Output.TABLE) -> None:
    """Say where the cluster is, how pods reach this machine, and how its nodes are.

    Examples:

        autonomic cluster status -o json
    """
    from autonomic.cli.output import console, show

    with _told():
        cluster = _cluster(home)
        pids = cluster.pids()
        listed = {node["metadata"]["name"]: node for node in json.loads(cluster.run_kubectl("get", "nodes", "-o", "json"))["items"]}
    rows = [[name, _state(listed.get(name), pids[name]), _address(listed.get(name)), pids[name]] for name in cluster.nodes]
    facts = {
        "home": str(cluster.home),
        "kubeconfig": str(cluster.kubeconfig),
        "kubectl": str(cluster.kubectl),
        "host_address": cluster.host_address,
        "fake_nodes": cluster.fake_nodes,
    }
    if output is Output.TABLE:
        for name, value in facts.items():
            console().print(f"{name:<13} {value}", soft_wrap=True)
    columns = ("node", "state", "address", "pid")
    show({**facts, "nodes": [dict(zip(columns, row, strict=True)) for row in rows]}, output, [name.upper() for name in columns], rows)


@app.command()
def settings(
    home: HomeOption = None,
    namespace: Annotated[str, typer.Option(help="Where everything is made; it must be there.")] = "default",
) -> None:
    """Print the cluster.yaml by which `autonomic up` runs workflows on the cluster of this home, with this machine's Python.

    Steps and services share the folder `data` of this home with this machine.

    Examples:

        autonomic cluster settings > cluster.yaml && autonomic up --platform kubernetes --cluster cluster.yaml
    """
    import yaml

    from autonomic.cli.embedded.kubernetes.machine_python import cluster_settings

    with _told():
        cluster = _cluster(home)
    data = _folder(home).parent / "data"
    data.mkdir(exist_ok=True)
    typer.echo(yaml.safe_dump(cluster_settings(cluster.kubeconfig, cluster.host_address, data, namespace), sort_keys=False), nl=False)


@app.command()
def crash(node: NodeArgument, home: HomeOption = None) -> None:
    """Kill everything of a node at once, as when its machine loses power."""
    with _told():
        _cluster(home).crash(node)


@app.command()
def partition(node: NodeArgument, home: HomeOption = None) -> None:
    """Cut a node off from this machine and from the other nodes; what runs on it runs on."""
    with _told():
        _cluster(home).partition(node)


@app.command()
def heal(node: NodeArgument, home: HomeOption = None) -> None:
    """Connect a node again and, after a crash, start it again."""
    with _told():
        _cluster(home).heal(node)


@app.command()
def load(
    archive: Annotated[Path, typer.Argument(help="An OCI or Docker archive.")],
    home: HomeOption = None,
) -> None:
    """Import the images of an archive into every node; pods use them with imagePullPolicy: Never or IfNotPresent."""
    from autonomic.cli.output import working

    with _told(), working(f"Importing {archive}"):
        _cluster(home).load(archive)


@app.command()
def rights(
    home: HomeOption = None,
    namespace: Annotated[str, typer.Option(help="Only service accounts of this namespace.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Compare what service accounts may do by their Roles with what they asked for, by the audit log (`up --audit`).

    A right that was never used is idle; a request that no right allowed is denied.

    Examples:

        autonomic cluster rights --namespace ml
    """
    from autonomic.cli.embedded.kubernetes import rights as compared
    from autonomic.cli.output import show

    with _told():
        cluster = _cluster(home)
        there = ["--all-namespaces", "-o", "json"]
        roles, bound = (json.loads(cluster.run_kubectl("get", kind, *there))["items"] for kind in ("roles", "rolebindings"))
        asked = compared.asked(cluster.audited())
    rows: list[list[Any]] = []
    for account, given in sorted(compared.bindings(roles, bound).items()):
        if account.startswith("kube-") or (namespace and not account.startswith(f"{namespace}/")):
            continue
        let, denied = asked.get(account, compared.Asked(Counter(), Counter()))
        for right in sorted(given | denied.keys()):
            state = "denied" if right in denied else "used" if right in let else "idle"
            rows.append([account, right.group, right.resource, right.verb, let[right], denied[right], state])
    columns = ("account", "group", "resource", "verb", "let", "denied", "state")
    rows_shown = [dict(zip(columns, row, strict=True)) for row in rows]
    show(rows_shown, output, [name.upper() for name in columns], rows, "No service account has a Role.")


# all that follows is the other program's, its options and a `--` of its own
_PASSED_ON: dict[str, Any] = {
    "allow_extra_args": True,
    "allow_interspersed_args": False,
    "ignore_unknown_options": True,
    "help_option_names": [],
}


@app.command(context_settings=_PASSED_ON)
def kubectl(context: typer.Context) -> None:
    """Run the kubectl that was built for the cluster, against the cluster of this home (see AUTONOMIC_HOME).

    Examples:

        autonomic cluster kubectl get pods --all-namespaces
    """
    with _told():
        cluster = _cluster(None)
    os.execve(cluster.kubectl, ["kubectl", *context.args], {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)})


@app.command(context_settings=_PASSED_ON)
def helm(context: typer.Context) -> None:
    """Run Helm against the cluster of this home (see AUTONOMIC_HOME); it is built the first time, which takes some minutes.

    Examples:

        autonomic cluster helm list --all-namespaces
    """
    from autonomic.cli.embedded.kubernetes import helm as program
    from autonomic.cli.output import working

    with _told(), working("Looking for Helm"):
        cluster = _cluster(None)
        built = program.ensure()
    os.execve(built, ["helm", *context.args], {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)})


def running(home: Path | None) -> Any:
    """The cluster of this home.

    Raises:
        NothingRuns: it does not run.
    """
    with _told():
        return _cluster(home)


def _folder(home: Path | None) -> Path:
    from autonomic.agents.settings import home_from_environment

    return (home or home_from_environment()).resolve() / "cluster"


def _cluster(home: Path | None) -> Any:
    from autonomic.cli.embedded.kubernetes.cluster import LocalCluster

    return LocalCluster.attach(_folder(home))


@contextmanager
def _told() -> Iterator[None]:
    """Gives expected errors the exit codes of the command."""
    from autonomic.cli.embedded.kubernetes.cluster import NotRunning
    from autonomic.cli.embedded.kubernetes.registry import AlreadyRunning

    try:
        yield
    except NotRunning as absent:
        raise NothingRuns(str(absent)) from None
    except AlreadyRunning as running:
        raise Denied(str(running)) from None


def _state(node: dict[str, Any] | None, pid: int | None) -> str:
    if pid is None:
        return "crashed"
    conditions = (node or {}).get("status", {}).get("conditions", [])
    good = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    return "ready" if good else "not ready"


def _address(node: dict[str, Any] | None) -> str:
    addresses = (node or {}).get("status", {}).get("addresses", [])
    return next((address["address"] for address in addresses if address["type"] == "InternalIP"), "")
