"""What promote and rollback share: a model moves between aliases in the registry and between roles of a service."""

from collections.abc import Mapping
from typing import Any

from autonomic.primitives.base import Context, Refused, model_name, role, service
from autonomic.seams.plan import Change
from autonomic.seams.state import ModelVersion, State

QUARANTINED = "quarantined"
"""The tag of a version that must not go into service; its value says why."""


def registered_model(state: State, primitive: str) -> str:
    """The registered model that the champion of the service is a version of.

    Raises:
        Refused: there is no champion, or it is no version of a registered model.
    """
    uri = role(service(state, primitive), "champion", state.target).model
    name = model_name(uri)
    if not name:
        raise Refused(f"{primitive}: the champion of {state.target} is {uri}, which is no version of a registered model")
    return name


def serving_version(state: State, model: str, name: str = "champion") -> str:
    """The version of `model` that a role serves; "" where the role serves none, or another model."""
    found = state.service.roles.get(name) if state.service is not None else None
    return version_of(found.model, model) if found is not None else ""


def version_of(uri: str, model: str) -> str:
    """The version that `models:/model/3` names; "" where it names none of `model`."""
    return uri.removeprefix(f"models:/{model}/") if uri.startswith(f"models:/{model}/") else ""


def aliases(model: str, context: Context, primitive: str) -> dict[str, ModelVersion]:
    """The aliases of a registered model.

    Raises:
        Refused: the registry could not be asked.
    """
    if model not in context.registry:
        raise Refused(f"{primitive}: the registry could not be asked for the model {model}")
    return context.registry[model]


def alias_of(uri: str) -> tuple[str, str]:
    """The model and the alias of `models:/mnist@champion`; ("", "") of any other URI."""
    name, at, alias = uri.removeprefix("models:/").partition("@")
    return (name, alias) if at and uri.startswith("models:/") else ("", "")


def declared_models(target: str, context: Context) -> dict[str, str]:
    """The models of a service by role, as its document has them."""
    workflow, _, part = target.partition("/")
    services = context.workflows.get(workflow, {}).get("spec", {}).get("services", ())
    nothing: dict[str, Any] = {}
    found: Mapping[str, Any] = next((one for one in services if one["name"] == part), nothing)
    named = {"champion": found.get("model"), "backup": found.get("backup"), "canary": found.get("canary")}
    return {role: str(uri) for role, uri in named.items() if uri}


def registry_change(
    primitive: str, target: str, key: str, model: str, moved: dict[str, str], tags: dict[str, dict[str, str]] | None = None
) -> Change:
    """Moves aliases ("" removes one) and sets tags of versions."""
    return Change(
        key=key, primitive=primitive, target=target, effector="registry", to={"model": model, "aliases": moved, "tags": tags or {}}
    )


def describe_registry(change: Change) -> str:
    """What a change of the registry does, in words."""
    to = change.to
    parts = [f"{alias} becomes version {version}" if version else f"{alias} is taken away" for alias, version in to["aliases"].items()]
    parts += [
        f"version {version} is quarantined ({tags[QUARANTINED]})" for version, tags in to.get("tags", {}).items() if tags.get(QUARANTINED)
    ]
    return f"model {to['model']}: {', '.join(parts)}"
