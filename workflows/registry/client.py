"""A light client of MLflow's REST interface (2.0): runs, registered models, versions, aliases, tags."""

import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import httpx

from autonomic.seams.errors import Permanent, Retryable

_PAGE = 1000
_BATCH = 900  # MLflow takes at most 1000 values of all kinds in one batch
_PARAM_CHARACTERS = 6000
_TAG_CHARACTERS = 5000
_DIGEST_CHARACTERS = 36


class NotFound(Permanent):
    """MLflow has no such thing."""


class AlreadyExists(Permanent):
    """MLflow has a thing of that name."""


class Mlflow:
    """One MLflow server. Every method raises `Retryable` while it cannot be reached and `Permanent` for what it refuses.

    A user name and password, or a token, are taken from MLflow's own variables MLFLOW_TRACKING_USERNAME,
    MLFLOW_TRACKING_PASSWORD and MLFLOW_TRACKING_TOKEN. Runs and versions are the JSON objects of the interface.
    """

    def __init__(self, url: str, timeout_seconds: float = 10.0) -> None:
        self.url = url.rstrip("/")
        user, token = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_TOKEN")
        self.http = httpx.Client(
            base_url=self.url,
            trust_env=httpx.URL(self.url).host not in ("127.0.0.1", "localhost", "::1"),  # no proxy to this machine
            timeout=timeout_seconds,
            auth=(user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None,
            headers={"Authorization": f"Bearer {token}"} if token and not user else {},
        )

    def close(self) -> None:
        self.http.close()

    def is_there(self, timeout_seconds: float = 1.0) -> bool:
        """Whether a server answers at all, whatever it says."""
        try:
            self.http.get("/health", timeout=timeout_seconds)
        except httpx.HTTPError:
            return False
        return True

    def call(self, method: str, path: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """One call of `/api/2.0/mlflow/PATH`; None values are left out."""
        given = {name: value for name, value in fields.items() if value is not None}
        query = {"params": given} if method == "GET" else {"json": given}
        answer = self.request(method, f"/api/2.0/mlflow/{path}", **query)
        return answer.json() if answer.content else {}

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One HTTP request; an answer that is an error is raised."""
        try:
            answer = self.http.request(method, path, **options)
        except httpx.HTTPError as away:
            raise Retryable(f"MLflow at {self.url} cannot be reached: {type(away).__name__}: {away}") from None
        if answer.is_success:
            return answer
        code, message = _problem(answer)
        text = f"MLflow at {self.url} answered {answer.status_code} {code} to {method} {path}: {message}"
        if answer.status_code in (408, 429) or answer.status_code >= 500:
            raise Retryable(text)
        if answer.status_code == 404 or code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
            raise NotFound(text)
        if code == "RESOURCE_ALREADY_EXISTS":
            raise AlreadyExists(text)
        # SQLite's registry says so for an alias that is not set
        if code == "INVALID_PARAMETER_VALUE" and "not found" in message:
            raise NotFound(text)
        raise Permanent(text)

    def experiment(self, name: str) -> str:
        """The id of the experiment of that name, made where it is not there."""
        try:
            return self.call("GET", "experiments/get-by-name", {"experiment_name": name})["experiment"]["experiment_id"]
        except NotFound:
            pass
        try:
            return self.call("POST", "experiments/create", {"name": name})["experiment_id"]
        except AlreadyExists:
            return self.call("GET", "experiments/get-by-name", {"experiment_name": name})["experiment"]["experiment_id"]

    def create_run(self, experiment: str, name: str, tags: Mapping[str, str], started_at: float | None = None) -> dict[str, Any]:
        """A new run in the experiment (an id)."""
        started = int((started_at if started_at is not None else time.time()) * 1000)
        fields = {"experiment_id": experiment, "run_name": name, "start_time": started, "tags": _tags(tags)}
        return self.call("POST", "runs/create", fields)["run"]

    def run(self, run_id: str) -> dict[str, Any]:
        """A run with its metrics (the last value of each), parameters and tags."""
        return self.call("GET", "runs/get", {"run_id": run_id})["run"]

    def end_run(self, run_id: str, status: str, finished_at: float | None = None) -> None:
        """Sets the status: FINISHED, FAILED, KILLED, or RUNNING again."""
        ended = int(finished_at * 1000) if finished_at is not None else None
        self.call("POST", "runs/update", {"run_id": run_id, "status": status, "end_time": ended})

    def log(
        self,
        run_id: str,
        metrics: Iterable[Mapping[str, Any]] = (),
        parameters: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Adds metrics ({key, value, timestamp in ms, step}), parameters and tags; what is there already is not doubled."""
        params = [{"key": key, "value": str(value)[:_PARAM_CHARACTERS]} for key, value in (parameters or {}).items()]
        points = [{**point, "value": _number(point["value"])} for point in metrics]
        for start in range(0, len(params), 100):
            self.call("POST", "runs/log-batch", {"run_id": run_id, "params": params[start : start + 100]})
        for start in range(0, len(points), _BATCH):
            self.call("POST", "runs/log-batch", {"run_id": run_id, "metrics": points[start : start + _BATCH]})
        if tags:
            self.call("POST", "runs/log-batch", {"run_id": run_id, "tags": _tags(tags)})

    def log_dataset(self, run_id: str, name: str, digest: str, source: str) -> None:
        """Adds a data set to the run's inputs; of a long digest MLflow keeps the first 36 characters."""
        dataset = {"name": name, "digest": digest[:_DIGEST_CHARACTERS], "source_type": "local", "source": source or name}
        self.call("POST", "runs/log-inputs", {"run_id": run_id, "datasets": [{"dataset": dataset, "tags": []}]})

    def search_runs(
        self, experiments: Iterable[str], filter_string: str = "", order_by: Iterable[str] = (), limit: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """Runs of the experiments (ids), page by page; at most `limit`."""
        fields: dict[str, Any] = {
            "experiment_ids": list(experiments),
            "filter": filter_string,
            "order_by": list(order_by),
            "max_results": min(_PAGE, limit or _PAGE),
        }
        seen = 0
        while True:
            page = self.call("POST", "runs/search", fields)
            for run in page.get("runs", []):
                if limit is not None and seen >= limit:
                    return
                seen += 1
                yield run
            fields["page_token"] = page.get("next_page_token")
            if not fields["page_token"]:
                return

    def experiment_ids(self, names: Iterable[str]) -> list[str]:
        """The ids of those experiments that are there."""
        found: list[str] = []
        for name in names:
            try:
                found.append(self.call("GET", "experiments/get-by-name", {"experiment_name": name})["experiment"]["experiment_id"])
            except NotFound:
                continue
        return found

    def models(self) -> list[str]:
        """The names of all registered models."""
        names: list[str] = []
        token: str | None = None
        while True:
            page = self.call("GET", "registered-models/search", {"max_results": _PAGE, "page_token": token})
            names += [model["name"] for model in page.get("registered_models", [])]
            token = page.get("next_page_token")
            if not token:
                return names

    def model(self, name: str) -> dict[str, Any]:
        """A registered model.

        Raises:
            NotFound: there is none of that name; the message names those that are there.
        """
        try:
            return self.call("GET", "registered-models/get", {"name": name})["registered_model"]
        except NotFound:
            raise NotFound(
                f"the registry at {self.url} has no model {name!r}; it has {', '.join(sorted(self.models())) or 'none'}"
            ) from None

    def create_model(self, name: str) -> None:
        """Makes a registered model where there is none of that name."""
        try:
            self.call("POST", "registered-models/create", {"name": name})
        except AlreadyExists:
            return

    def aliases(self, name: str) -> dict[str, str]:
        """Alias -> version of a registered model."""
        return {entry["alias"]: entry["version"] for entry in self.model(name).get("aliases", [])}

    def model_tags(self, name: str) -> dict[str, str]:
        """The tags of a registered model."""
        return tags_of(self.model(name))

    def version(self, name: str, version: str) -> dict[str, Any]:
        """A version of a registered model.

        Raises:
            NotFound: there is no such model or version; the message names those that are there.
        """
        try:
            return self.call("GET", "model-versions/get", {"name": name, "version": version})["model_version"]
        except NotFound:
            self.model(name)
            there = ", ".join(sorted((found["version"] for found in self.versions(name)), key=int)) or "none"
            raise NotFound(f"the model {name!r} has no version {version!r}; it has {there}") from None

    def version_by_alias(self, name: str, alias: str) -> dict[str, Any]:
        """The version that an alias names.

        Raises:
            NotFound: there is no such model or alias; the message names those that are there.
        """
        aliases = self.aliases(name)
        if alias not in aliases:
            there = ", ".join(sorted(aliases)) or "none"
            raise NotFound(f"the model {name!r} has no alias {alias!r}; it has {there}")
        return self.version(name, aliases[alias])

    def versions(self, name: str) -> list[dict[str, Any]]:
        """All versions of a model, the newest first."""
        quoted = name.replace("'", "\\'")
        fields: dict[str, Any] = {"filter": f"name = '{quoted}'", "max_results": _PAGE, "order_by": "version_number DESC"}
        found: list[dict[str, Any]] = []
        while True:
            page = self.call("GET", "model-versions/search", fields)
            found += page.get("model_versions", [])
            fields["page_token"] = page.get("next_page_token")
            if not fields["page_token"]:
                return found

    def artifacts_of(self, name: str, version: str) -> str:
        """The address of a version's files in the artifact store, whatever it was made from (a run, a logged model, another version)."""
        found = self.call("GET", "model-versions/get-download-uri", {"name": name, "version": version})["artifact_uri"]
        scheme, _, rest = found.partition(":/")
        if scheme == "models" and rest.lstrip("/").startswith("m-"):
            model, _, inner = rest.lstrip("/").partition("/")
            found = _below(self.call("GET", f"logged-models/{model}", {})["model"]["info"]["artifact_uri"], inner)
        elif scheme == "runs":
            run, _, inner = rest.lstrip("/").partition("/")
            found = _below(self.run(run)["info"]["artifact_uri"], inner)
        return found

    def create_version(self, name: str, source: str, run_id: str, tags: Mapping[str, str]) -> str:
        """A new version of a registered model whose files stand at `source`."""
        fields = {"name": name, "source": source, "run_id": run_id or None, "tags": _tags(tags)}
        return self.call("POST", "model-versions/create", fields)["model_version"]["version"]

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Points an alias to a version; "" removes it."""
        if version:
            self.call("POST", "registered-models/alias", {"name": name, "alias": alias, "version": version})
        elif alias in self.aliases(name):
            self.call("DELETE", "registered-models/alias", {"name": name, "alias": alias})

    def set_model_tag(self, name: str, key: str, value: str) -> None:
        self.call("POST", "registered-models/set-tag", {"name": name, "key": key, "value": value})

    def delete_model_tag(self, name: str, key: str) -> None:
        self.call("DELETE", "registered-models/delete-tag", {"name": name, "key": key})

    def set_version_tag(self, name: str, version: str, key: str, value: str | None) -> None:
        """Sets a tag of a version; None removes it."""
        fields = {"name": name, "version": version, "key": key}
        if value is not None:
            self.call("POST", "model-versions/set-tag", {**fields, "value": value})
        elif key in tags_of(self.version(name, version)):
            self.call("DELETE", "model-versions/delete-tag", fields)


def tags_of(thing: Mapping[str, Any]) -> dict[str, str]:
    """The tags of a run's data, a registered model or a version."""
    return {tag["key"]: tag.get("value", "") for tag in thing.get("tags", [])}


def metrics_of(run: Mapping[str, Any]) -> dict[str, float]:
    """The last value of each metric of a run."""
    return {metric["key"]: float(metric["value"]) for metric in run.get("data", {}).get("metrics", [])}


def params_of(run: Mapping[str, Any]) -> dict[str, str]:
    """The parameters of a run."""
    return {param["key"]: param["value"] for param in run.get("data", {}).get("params", [])}


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": str(value)[:_TAG_CHARACTERS]} for key, value in tags.items()]


def _below(uri: str, inner: str) -> str:
    return f"{uri.rstrip('/')}/{inner}" if inner else uri


def _number(value: float) -> float | str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _problem(answer: httpx.Response) -> tuple[str, str]:
    try:
        data = answer.json()
        return str(data.get("error_code", "")), str(data.get("message", ""))[:1000]
    except (ValueError, AttributeError):
        return "", answer.text[:300]
