"""Fields of other people's objects that became ours: written by server-side apply, and given back to whom they were taken from."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from autonomic.platforms.kubernetes.adopted import ownership
from autonomic.platforms.kubernetes.objects.api import Api, Conflict, Resource
from autonomic.seams.errors import Permanent, Retryable
from autonomic.seams.word import Word

_ATTEMPTS = 20


class Owned(Word):
    """An object of somebody else, of which fields are written."""

    resource: Resource
    kind: str
    version: str
    name: str


class Taken(Word):
    """A field that became ours: its value as we wrote it last; what it was, and whose, before that.

    `uid` is that of the object: one of the same name that was made anew is another one, of which nothing is ours.
    """

    of: Owned
    uid: str
    path: ownership.Path
    value: Any
    before: Any
    former: tuple[dict[str, Any], ...]


class TakenFields:
    """Takes fields, and gives them back."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def write(
        self, taken: tuple[Taken, ...], of: Owned, fields: Mapping[ownership.Path, Any], keep: Callable[[tuple[Taken, ...]], None]
    ) -> None:
        """Writes fields of an object, beside those that are `taken` already; `keep` is told of all before it is done.

        Raises:
            Permanent: the object is not there, or Kubernetes refuses the values.
            Retryable: it changes all the time.
        """
        before = taken
        for _ in range(_ATTEMPTS):
            there = self._api.get(of.resource, of.name)
            if there is None:
                raise Permanent(f"The {of.kind} {of.name} is not there any more")
            uid = there["metadata"]["uid"]
            # of an object that was made anew nothing was taken yet
            taken = tuple(one for one in taken if one.of != of or one.uid == uid)
            for path, value in fields.items():
                known = next((one for one in taken if one.of == of and one.path == path), None)
                former = {"before": ownership.value_of(there, path), "former": tuple(ownership.owners(there, path))}
                was = {"before": known.before, "former": known.former} if known else former
                taken = (*(one for one in taken if one != known), Taken(of=of, uid=uid, path=path, value=value, **was))
            # what was whose is known before it is taken
            keep(taken)
            # what somebody else changed after us stays as it is
            mine = [(one.path, one.value) for one in taken if one.of == of and (one.path in fields or ownership.is_ours(there, one.path))]
            meta = {"name": of.name, "namespace": self._api.namespace, "resourceVersion": there["metadata"]["resourceVersion"]}
            try:
                self._api.apply(of.resource, {"apiVersion": of.version, "kind": of.kind, "metadata": meta, **ownership.applied(mine)})
                return
            except Conflict:
                # its status moves all the time: it is looked at again
                continue
            except Permanent:
                keep(before)
                raise
        raise Retryable(f"The {of.kind} {of.name} changes all the time; it is tried again")

    def release(self, taken: Iterable[Taken]) -> None:
        """Gives fields back that are still ours; their values stay as they are.

        Raises:
            Retryable: an object changes all the time.
        """
        by_object: dict[tuple[str, str], list[Taken]] = {}
        for one in taken:
            by_object.setdefault((one.of.kind, one.of.name), []).append(one)
        for held in by_object.values():
            self._give_back(held)

    def _give_back(self, held: Sequence[Taken]) -> None:
        of = held[0].of
        for _ in range(_ATTEMPTS):
            there = self._api.get(of.resource, of.name)
            if there is None:
                return
            fields = [(one.path, one.former) for one in held if one.uid == there["metadata"]["uid"]]
            if not any(ownership.is_ours(there, path) for path, _ in fields):
                return
            meta = {"resourceVersion": there["metadata"]["resourceVersion"], "managedFields": ownership.given_back(there, fields)}
            try:
                self._api.patch(of.resource, of.name, {"metadata": meta})
                return
            except Conflict:
                continue
        raise Retryable(f"The {of.kind} {of.name} changes all the time; it is tried again")

    def lost(self, taken: Iterable[Taken]) -> list[Taken]:
        """What somebody else changed after us."""
        found: list[Taken] = []
        for one in taken:
            there = self._api.get(one.of.resource, one.of.name)
            if (
                there is not None
                and there["metadata"]["uid"] == one.uid
                and not ownership.is_ours(there, one.path)
                and ownership.value_of(there, one.path) != one.value
            ):
                found.append(one)
        return found

    def changed_by(self, taken: Taken) -> str:
        """Who has a field now, in words."""
        there = self._api.get(taken.of.resource, taken.of.name)
        owners = ownership.owners(there, taken.path) if there else []
        return ", ".join(str(owner.get("manager")) for owner in owners) or "somebody"
