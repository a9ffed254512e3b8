"""A model registry in memory, and the effector that moves its aliases."""

from autonomic.seams.clock import Clock
from autonomic.seams.plan import Change, Outcome
from autonomic.seams.state import ModelVersion


class SimulatedRegistry:
    """Models with numbered versions, tags and aliases; an `EffectorPort` for changes of the effector "registry"."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._versions: dict[str, dict[str, dict[str, str]]] = {}
        self._aliases: dict[str, dict[str, str]] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._fences: dict[str, int] = {}

    def register(self, model: str, tags: dict[str, str] | None = None, alias: str | None = None) -> str:
        """A new version; returns its number."""
        versions = self._versions.setdefault(model, {})
        version = str(len(versions) + 1)
        versions[version] = dict(tags or {})
        if alias:
            self._aliases.setdefault(model, {})[alias] = version
        return version

    def aliases(self, model: str) -> dict[str, ModelVersion]:
        """alias -> version with its tags."""
        versions = self._versions.get(model, {})
        named = sorted(self._aliases.get(model, {}).items())
        return {alias: ModelVersion(version=version, tags=dict(versions[version])) for alias, version in named}

    def tags(self, model: str, version: str) -> dict[str, str]:
        """The tags of a version."""
        return dict(self._versions[model][version])

    def resolve(self, uri: str) -> str | None:
        """`models:/name/version` of a URI with an alias; None where there is no such version."""
        if not uri.startswith("models:/"):
            return uri
        name, at, alias = uri.removeprefix("models:/").partition("@")
        if at:
            version = self._aliases.get(name, {}).get(alias)
        else:
            name, _, version = name.partition("/")
        return f"models:/{name}/{version}" if version in self._versions.get(name, {}) else None

    def apply(self, change: Change, fence: int) -> Outcome:
        """See `seams.platform.EffectorPort.apply`."""
        if change.key in self._outcomes:
            return self._outcomes[change.key]
        if fence < self._fences.get(change.target, 0):
            return self._outcome(change, "refused", f"fence {fence} is lower than {self._fences[change.target]}", {})
        self._fences[change.target] = fence
        model, versions = change.to["model"], self._versions.get(change.to["model"], {})
        unknown = sorted({version for version in (*change.to["aliases"].values(), *change.to.get("tags", {})) if version} - set(versions))
        if unknown:
            return self._outcome(change, "refused", f"the model {model} has no version {', '.join(unknown)}", {})
        aliases = self._aliases.setdefault(model, {})
        tags = change.to.get("tags", {})
        before = {
            "model": model,
            "aliases": {alias: aliases.get(alias, "") for alias in change.to["aliases"]},
            "tags": {version: {tag: versions[version].get(tag) for tag in given} for version, given in tags.items()},
        }
        for alias, version in change.to["aliases"].items():
            aliases.pop(alias, None)
            if version:
                aliases[alias] = version
        for version, given in tags.items():
            for tag, value in given.items():
                versions[version].pop(tag, None)
                if value:
                    versions[version][tag] = value
        status = "unchanged" if before == {"tags": {}, **change.to} else "done"
        self._outcomes[change.key] = self._outcome(change, status, "", before)
        return self._outcomes[change.key]

    def lookup(self, key: str) -> Outcome | None:
        """See `seams.platform.EffectorPort.lookup`."""
        return self._outcomes.get(key)

    def _outcome(self, change: Change, status: str, detail: str, before: dict[str, object]) -> Outcome:
        now = self._clock.now()
        return Outcome.model_validate(
            {
                "key": change.key,
                "primitive": change.primitive,
                "target": change.target,
                "status": status,
                "detail": detail,
                "before": before,
                "after": change.to if status != "refused" else {},
                "started_at": now,
                "finished_at": now,
            }
        )
