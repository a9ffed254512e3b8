"""Carries out changes of the model registry: aliases and tags of versions, set to what is wanted.

What was done is remembered in the registry itself, as tags of the registered model, so that whoever comes later finds it.
"""

import json
from typing import Any, Literal

from pydantic import ValidationError

from autonomic.seams.clock import Clock, SystemClock
from autonomic.seams.errors import Permanent
from autonomic.seams.plan import Change, Outcome
from autonomic.seams.word import Word
from autonomic.workflows.registry.client import Mlflow, tags_of

KEPT_OUTCOMES = 200
_OUTCOME = "autonomic.outcome."
_INTENT = "autonomic.intent."
_FENCE = "autonomic.fence"


class RegistryState(Word):
    """The `to` and `before` of a registry change.

    `aliases` maps an alias to the version that it must name ("": to none); `tags` maps a version to its tags (None:
    no such tag). What is not named stays as it is.
    """

    model: str
    aliases: dict[str, str] = {}
    tags: dict[str, dict[str, str | None]] = {}


class RegistryEffector:
    """The effector of changes with `effector` "registry".

    Its order is intent, effect, outcome. A crash between them leaves the intent with the state before; the change is
    then simply done again, which changes nothing where it was done, and the outcome still names the old state.
    Fences hold per registered model; a registry has no revisions, so `Change.expect` is not compared. MLflow has no
    compare-and-set either: the fence shuts out a planner that has lost its lease, not one in the same instant.
    """

    def __init__(self, server: Mlflow, clock: Clock | None = None) -> None:
        self._server = server
        self._clock = clock or SystemClock()

    def apply(self, change: Change, fence: int) -> Outcome:
        """See `EffectorPort.apply`. A model, version or alias that is not there is refused, and says what is."""
        started = self._clock.now()
        try:
            to = RegistryState.model_validate(change.to)
            known = self._server.model_tags(to.model)
        except (ValidationError, Permanent) as error:
            return self._outcome(change, started, "refused", str(error))
        if (done := _outcome_in(known, change.key)) is not None:
            return done
        highest = int(known.get(_FENCE, "0"))
        if fence < highest:
            return self._outcome(change, started, "refused", f"the fence {fence} is lower than {highest}, which was seen for {to.model}")
        try:
            before = self._before(to, known.get(_INTENT + change.key))
        except Permanent as error:
            return self._outcome(change, started, "refused", str(error))
        if fence > highest:
            self._server.set_model_tag(to.model, _FENCE, str(fence))
        changed = before != to
        if changed:
            self._server.set_model_tag(to.model, _INTENT + change.key, before.model_dump_json())
            try:
                self._carry_out(to)
            except Permanent as error:
                failure = self._outcome(change, started, "failed", str(error), before)
                self._remember(to.model, failure, known)
                return failure
        outcome = self._outcome(change, started, "done" if changed else "unchanged", "", before)
        self._remember(to.model, outcome, known)
        return outcome

    def lookup(self, key: str) -> Outcome | None:
        """The outcome of a change, None where the key was never carried out.

        Raises:
            Retryable: MLflow cannot be reached.
        """
        for name in self._server.models():
            found = _outcome_in(self._server.model_tags(name), key)
            if found is not None:
                return found
        return None

    def _before(self, to: RegistryState, intent: str | None) -> RegistryState:
        if intent is not None:
            return RegistryState.model_validate_json(intent)
        aliases = self._server.aliases(to.model)
        for version in {*to.aliases.values(), *to.tags} - {""}:
            self._server.version(to.model, version)
        return RegistryState(
            model=to.model,
            aliases={alias: aliases.get(alias, "") for alias in to.aliases},
            tags={version: self._tags_before(to.model, version, list(tags)) for version, tags in to.tags.items()},
        )

    def _tags_before(self, model: str, version: str, names: list[str]) -> dict[str, str | None]:
        tags = tags_of(self._server.version(model, version))
        return {name: tags.get(name) for name in names}

    def _carry_out(self, to: RegistryState) -> None:
        # tags first: an alias never names a version whose tags are still to come
        for version, tags in to.tags.items():
            for name, value in tags.items():
                self._server.set_version_tag(to.model, version, name, value)
        for alias, version in to.aliases.items():
            self._server.set_alias(to.model, alias, version)

    def _remember(self, model: str, outcome: Outcome, known: dict[str, str]) -> None:
        self._server.set_model_tag(model, _OUTCOME + outcome.key, outcome.model_dump_json())
        if _INTENT + outcome.key in self._server.model_tags(model):
            self._server.delete_model_tag(model, _INTENT + outcome.key)
        outcomes = {name: json.loads(text) for name, text in known.items() if name.startswith(_OUTCOME)}
        oldest = sorted(outcomes, key=lambda name: outcomes[name]["finished_at"])
        for name in oldest[: max(0, len(oldest) + 1 - KEPT_OUTCOMES)]:
            self._server.delete_model_tag(model, name)

    def _outcome(
        self,
        change: Change,
        started: float,
        status: Literal["done", "unchanged", "refused", "failed"],
        detail: str,
        before: RegistryState | None = None,
    ) -> Outcome:
        after: dict[str, Any] = change.to if status in ("done", "unchanged") else {}
        return Outcome(
            key=change.key,
            primitive=change.primitive,
            target=change.target,
            status=status,
            detail=detail[:1000],
            before=before.model_dump(mode="json") if before is not None else {},
            after=after,
            started_at=started,
            finished_at=self._clock.now(),
        )


def _outcome_in(tags: dict[str, str], key: str) -> Outcome | None:
    text = tags.get(_OUTCOME + key)
    return None if text is None else Outcome.model_validate_json(text)
