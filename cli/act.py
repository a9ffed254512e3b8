"""`autonomic fire` and `label`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from autonomic.cli.options import HomeOption, Output, OutputOption
from autonomic.seams.errors import Permanent, Problem, SpecError


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    for command in (fire, label):
        app.command()(command)


def fire(
    strategy: Annotated[str, typer.Argument(help="Name of a strategy, or STRATEGY/TRIGGER.", metavar="STRATEGY")],
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Look at a strategy now, as if its trigger had come: `on: {call: true}`, or any other.

    The condition is judged as always. Without TRIGGER it is the strategy's `call`, else its first trigger.

    Examples:

        autonomic fire hello-hourly

        autonomic fire keep-latency/every
    """
    from autonomic.cli.client import Client
    from autonomic.cli.output import brief, show

    name, _, trigger = strategy.partition("/")
    with Client(home) as client:
        if not trigger:
            trigger = _first_trigger(client, name)
        told = client.post("monitor", f"/v1/triggers/{name}/{trigger}:fire")
    show(told, output, ("FIRED", ""), [(f"{name}/{trigger}", brief(told, 160))])


def _first_trigger(client: Any, strategy: str) -> str:
    items = [item for item in client.pages("monitor", "/v1/triggers", 10_000) if item["strategy"] == strategy]
    if not items:
        raise Permanent(f"the monitor knows no strategy {strategy!r}; see `autonomic status`")
    names = [str(item.get("trigger") or item["name"]).rpartition("/")[2] for item in items]
    return "call" if "call" in names else names[0]


def label(
    service: Annotated[str, typer.Argument(help="The service that predicted, WORKFLOW/SERVICE.", metavar="SERVICE")],
    labels: Annotated[list[str] | None, typer.Argument(help="True labels (whole numbers).", metavar="[PREDICTION_ID=LABEL]...")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="CSV file with the columns prediction_id and label.")] = None,
    home: HomeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Tell the true labels of predictions; late and out of order is allowed.

    Without labels the points that are worth one are listed, with the request and the input of each; --output json has the whole input.
    A label for a prediction that the service did not make is refused by itself; the command then ends with 1.

    Examples:

        autonomic label mnist-online/predictor 01h3=7 01h4=2

        autonomic label mnist-online/predictor --file labels.csv
    """
    from autonomic.cli.client import Client
    from autonomic.cli.output import brief, show, working

    workflow, slash, name = service.partition("/")
    if not slash or not name:
        raise SpecError([Problem(f"found {service!r}; a service is written WORKFLOW/SERVICE", "SERVICE")])
    given = parse_labels(labels or [], file)
    with Client(home) as client:
        if not given:
            points = client.pages("monitor", "/v1/points", 10_000, target=service, state="unlabelled", inputs=True)
            rows = [
                (point["prediction_id"], point["label"], point["confidence"], point["request_id"], brief(_input(point["inputs"]), 60))
                for point in points
            ]
            columns = ("PREDICTION", "PREDICTED", "CONFIDENCE", "REQUEST", "INPUT")
            show(points, output, columns, rows, empty="No points wait for labels.")
            return
        with working("Sending labels"):
            told = client.post("monitor", "/v1/labels", {"workflow": workflow, "service": name, "labels": given})
    show(told, output, ("SERVICE", "LABELS"), [(service, str(told["accepted"]))])
    for one in told["refused"]:
        typer.secho(f"{one['prediction_id']}: {one['why']}", fg="red", err=True)
    if told["refused"]:
        raise typer.Exit(1)


def _input(tensors: list[dict[str, Any]]) -> str:
    return "; ".join(f"{one['name']} {one['shape']} {one['data'][:8]}" for one in tensors)


def parse_labels(labels: list[str], file: Path | None) -> list[dict[str, Any]]:
    """Labels of `ID=LABEL` texts and of a CSV file.

    Raises:
        SpecError: with every one that is not of that form.
    """
    import csv

    pairs = [(f"argument {number}", 1, *text.rpartition("=")[::2]) for number, text in enumerate(labels, 1)]
    if file is not None:
        try:
            with file.open(newline="") as stream:
                reader = csv.DictReader(stream)
                if not {"prediction_id", "label"} <= set(reader.fieldnames or ()):
                    raise SpecError([Problem(f"found the columns {reader.fieldnames}; prediction_id and label are needed", str(file))])
                pairs += [(str(file), reader.line_num, row["prediction_id"], row["label"]) for row in reader]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise SpecError([Problem(f"cannot be read: {error}", str(file))]) from None
    problems: list[Problem] = []
    found: list[dict[str, Any]] = []
    for place, line, prediction, text in pairs:
        try:
            found.append({"prediction_id": prediction, "label": int(text or "")})
        except ValueError:
            problems.append(Problem(f"found {prediction!r} and {text!r}; a label is PREDICTION_ID=WHOLE NUMBER", place, line))
            continue
        if not prediction:
            problems.append(Problem("the id of the prediction is missing", place, line))
    if problems:
        raise SpecError(problems)
    return found
