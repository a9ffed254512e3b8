"""`mlflow`: metrics of runs and of model versions, over MLflow's REST interface; and events when runs end or versions appear.

A run is counted once: the signal takes and gives cursors that name what was counted, and whoever reads keeps them. Runs
of several clients do not come in the order of their end times, so a cursor is a time, and the runs seen up to ten
minutes before it.
"""

import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Any

from autonomic.seams.errors import AutonomicError, Permanent
from autonomic.seams.event import Event
from autonomic.seams.reading import Reading, error, missing, number
from autonomic.seams.signal import Answer, Query
from autonomic.seams.word import Word
from autonomic.signals.aggregates import aggregated
from autonomic.signals.queries import MlflowQuery
from autonomic.workflows.registry.client import Mlflow, NotFound, metrics_of, tags_of

RUN_FINISHED = "dev.autonomic.mlflow.run.finished"
VERSION_CREATED = "dev.autonomic.model.version.created"
OVERLAP_MS = 600_000
EVENT_EXPIRES_SECONDS = 300.0


class Cursor(Word):
    """Which runs (or versions) were counted: those up to `until` (milliseconds) less the overlap, and the `seen` ones after."""

    until: int = 0
    seen: dict[str, int] = {}

    def has(self, name: str) -> bool:
        return name in self.seen

    @property
    def start(self) -> int:
        """From when on there may be some that were not counted."""
        return max(0, self.until - OVERLAP_MS)

    def after(self, things: dict[str, int], now: float) -> "Cursor":
        """The cursor when also these (name -> milliseconds) are counted; a time after `now` (seconds) holds up no other."""
        until = max([self.until, *(time for time in things.values() if time <= now * 1000)])
        seen = {name: time for name, time in {**self.seen, **things}.items() if time >= until - OVERLAP_MS}
        return Cursor(until=until, seen=seen)


class MlflowSignal:
    """Readings from one MLflow server.

    A query whose `args` hold `after` (a `Cursor` as JSON, or {}) counts only runs that ended and are not in the cursor;
    `cursor_after` gives the cursor that counts them, to be kept by the reader when it acts on the reading.
    """

    def __init__(self, url: str, timeout_seconds: float = 5.0) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._client: Mlflow | None = None
        self._cursors: dict[tuple[str, str], Cursor] = {}
        self._lock = threading.Lock()

    def read(self, queries: Sequence[Query], now: float) -> list[Answer]:
        if not self._url:
            return [error(now, "mlflow", "no MLflow is configured") for _ in queries]
        answers: list[Answer] = []
        end = monotonic() + 2 * self._timeout_seconds
        away = ""
        for query in queries:
            if not away and answers and monotonic() > end:
                away = (
                    f"MLflow was not asked, as the readings before this one took {2 * self._timeout_seconds:g} s; it is asked the next time"
                )
            if away:
                answers.append(error(now, "mlflow", away))
                continue
            try:
                answers.append(self._answer(query, now))
            except NotFound as absent:
                answers.append(missing(now, "mlflow", str(absent)))
            except Permanent as refused:
                answers.append(error(now, "mlflow", str(refused)))
            except AutonomicError as unreachable:
                answers.append(error(now, "mlflow", str(unreachable)))
                # one query may be too much for a server that answers all others
                away = "" if self._mlflow().is_there() else str(unreachable)
            except Exception as strange:  # noqa: BLE001 whatever one run holds, the other readings are had
                answers.append(error(now, "mlflow", f"MLflow's answer is not understood: {strange!r}"))
        return answers

    def cursor_after(self, query: Query) -> dict[str, Any] | None:
        """The cursor that counts what the last reading of `query` counted; None for a query without `after`."""
        cursor = self._cursors.get((query.strategy, query.name))
        return cursor.model_dump(mode="json") if cursor is not None and "after" in query.args else None

    def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            self._client.close()

    def _mlflow(self) -> Mlflow:
        with self._lock:
            if self._client is None:
                self._client = Mlflow(self._url, self._timeout_seconds)
            return self._client

    def _answer(self, query: Query, now: float) -> Reading:
        args = dict(query.args)
        after = args.pop("after", None)
        asked = MlflowQuery.model_validate(args)
        if asked.model is not None:
            return self._version(asked, now)
        cursor = Cursor.model_validate(after) if after is not None else None
        values: list[tuple[float, float]] = []
        counted: dict[str, int] = {}
        for run in self._runs(asked, cursor):
            metric = _metric(run, asked.metric)
            ended = int(run["info"].get("end_time") or 0)
            if metric is None or (cursor is not None and (not ended or cursor.has(run["info"]["run_id"]))):
                continue
            values.append(metric)
            counted[run["info"]["run_id"]] = ended
            if asked.aggregate == "last" and cursor is None:
                break
        if cursor is not None:
            self._cursors[query.strategy, query.name] = cursor.after(counted, now)
        return _aggregate(asked, values, now)

    def _runs(self, asked: MlflowQuery, cursor: Cursor | None) -> Iterator[dict[str, Any]]:
        mlflow = self._mlflow()
        if asked.experiment is None:
            found = mlflow.call("POST", "experiments/search", {"max_results": 1000}).get("experiments", [])
            experiments = [experiment["experiment_id"] for experiment in found]
        else:
            experiments = mlflow.experiment_ids([asked.experiment])
        if not experiments:
            raise NotFound(f"MLflow at {self._url} has no experiment {asked.experiment or ''!r}")
        parts = [part for part in (asked.filter, f"attributes.end_time >= {cursor.start}" if cursor is not None else "") if part]
        return mlflow.search_runs(experiments, " and ".join(parts), ["attributes.start_time DESC"])

    def _version(self, asked: MlflowQuery, now: float) -> Reading:
        mlflow = self._mlflow()
        model = asked.model or ""
        if asked.version is not None:
            version = mlflow.version(model, asked.version)
        elif asked.alias is not None:
            version = mlflow.version_by_alias(model, asked.alias)
        else:
            version = next(iter(mlflow.versions(model)), None)
            if version is None:
                return missing(now, "mlflow", f"the model {model!r} has no version")
        labels = {"model": model, "version": str(version["version"])}
        tag = tags_of(version).get(asked.metric)
        if tag is not None:
            try:
                return number(float(tag), now, "mlflow", labels)
            except ValueError:
                return missing(now, "mlflow", f"the tag {asked.metric} of {model} {labels['version']} is {tag!r}, no number", labels)
        value = metrics_of(mlflow.run(version["run_id"])).get(asked.metric) if version.get("run_id") else None
        if value is None:
            return missing(now, "mlflow", f"neither {model} {labels['version']} nor its run has {asked.metric!r}", labels)
        return number(value, now, "mlflow", labels)


def _metric(run: dict[str, Any], name: str) -> tuple[float, float] | None:
    for metric in run.get("data", {}).get("metrics", []):
        if metric["key"] == name:
            value = float(metric["value"])
            # what MLflow's SQL store keeps of an infinite value is the largest of all floats
            value = math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value
            return value, int(metric["timestamp"]) / 1000
    return None


def _aggregate(asked: MlflowQuery, values: list[tuple[float, float]], now: float) -> Reading:
    found = [value for value, _ in values]
    match asked.aggregate:
        case "count":
            return number(len(found), now, "mlflow")
        case "last" if found:
            value, time = values[0]
            return number(value, time, "mlflow")
        case _ if not all(map(math.isfinite, found)):
            # the greatest of values of which one is not a number would depend on their order
            return missing(now, "mlflow", f"a run's {asked.metric!r} is not a finite number")
        case "sum":
            return number(aggregated("sum", found), now, "mlflow")
        case "max" | "min" | "avg" as how if found:
            return number(aggregated(how, found), now, "mlflow")
        case _:
            return missing(now, "mlflow", f"no run has the metric {asked.metric!r}")


class MlflowEvents:
    """The events `dev.autonomic.mlflow.run.finished` and `dev.autonomic.model.version.created`.

    Without a cursor it begins at the present: what ended before is no news. An unreachable server gives no events and
    leaves the cursor where it is.
    """

    def __init__(self, url: str, now: Callable[[], float], timeout_seconds: float = 5.0) -> None:
        self._mlflow = Mlflow(url, timeout_seconds)
        self._now = now

    def watch(self, cursor: Any) -> tuple[list[Event], Any]:
        """The events after `cursor` and the cursor after them.

        Raises:
            AutonomicError: MLflow does not answer, or refuses.
        """
        first, now = cursor is None, self._now()
        runs = Cursor.model_validate(cursor["runs"]) if cursor else Cursor()
        versions = Cursor.model_validate(cursor["versions"]) if cursor else Cursor()
        ended = {run["info"]["run_id"]: run for run in self._ended(runs, first)}
        created = {f"{version['name']}/{version['version']}": version for version in self._created(versions, first)}
        events: list[Event] = []
        if not first:
            events += [_run_event(run) for name, run in ended.items() if not runs.has(name)]
            events += [_version_event(version) for name, version in created.items() if not versions.has(name)]
        after = {
            "runs": runs.after({name: int(run["info"]["end_time"]) for name, run in ended.items()}, now),
            "versions": versions.after({name: int(version["creation_timestamp"]) for name, version in created.items()}, now),
        }
        return sorted(events, key=lambda event: event.observed_at), {name: part.model_dump(mode="json") for name, part in after.items()}

    def close(self) -> None:
        """Closes the connections."""
        self._mlflow.close()

    def _ended(self, cursor: Cursor, first: bool) -> list[dict[str, Any]]:
        found = self._mlflow.call("POST", "experiments/search", {"max_results": 1000}).get("experiments", [])
        experiments = [experiment["experiment_id"] for experiment in found]
        if not experiments:
            return []
        order = ["attributes.end_time DESC"]
        runs = self._mlflow.search_runs(experiments, f"attributes.end_time >= {cursor.start}", order, 1000 if first else None)
        return [run for run in runs if run["info"].get("end_time")]

    def _created(self, cursor: Cursor, first: bool) -> list[dict[str, Any]]:
        fields: dict[str, Any] = {"max_results": 200, "order_by": "creation_timestamp DESC"}
        found: list[dict[str, Any]] = []
        while True:
            page = self._mlflow.call("GET", "model-versions/search", fields)
            versions = page.get("model_versions", [])
            found += [version for version in versions if int(version["creation_timestamp"]) >= cursor.start]
            fields["page_token"] = page.get("next_page_token")
            if first or not fields["page_token"] or int(versions[-1]["creation_timestamp"]) < cursor.start:
                return found


def _run_event(run: dict[str, Any]) -> Event:
    info = run["info"]
    data = {
        "run_id": info["run_id"],
        "experiment_id": info["experiment_id"],
        "run_name": info.get("run_name", ""),
        "status": info["status"],
        "metrics": {name: value for name, value in metrics_of(run).items() if math.isfinite(value)},
        "tags": {name: value for name, value in tags_of(run.get("data", {})).items() if not name.startswith("mlflow.")},
    }
    return _event(RUN_FINISHED, f"mlflow-run-{info['run_id']}", int(info["end_time"]), data)


def _version_event(version: dict[str, Any]) -> Event:
    data = {"model": version["name"], "version": version["version"], "run_id": version.get("run_id", ""), "tags": tags_of(version)}
    return _event(VERSION_CREATED, f"mlflow-model-{version['name']}-{version['version']}", int(version["creation_timestamp"]), data)


def _event(type_: str, identifier: str, milliseconds: int, data: dict[str, Any]) -> Event:
    time = milliseconds / 1000
    return Event(id=identifier, type=type_, source="mlflow", observed_at=time, expires_at=time + EVENT_EXPIRES_SECONDS, data=data)
