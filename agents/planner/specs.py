"""The documents that were applied: kept in the journal, compared, and replaced all at once."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import yaml

from autonomic.seams.abilities import Platforms
from autonomic.seams.journal import Journal, Transaction
from autonomic.seams.word import Word
from autonomic.strategies.spec.strategy import Strategy
from autonomic.workflows.spec.workflow import OnlineSpec, Workflow

_SPEC = "spec/"
_PACKAGE = "package/"


class Difference(Word):
    """What applying would change of one document; `text` is a unified diff of its YAML.

    One that stays as it is and does not run as it says is "restored"; then `text` says what is lacking.
    """

    kind: str
    name: str
    change: Literal["added", "changed", "removed", "unchanged", "restored"]
    text: str = ""


class Specs(Word):
    """All documents that are in force, by name, and the digest of each workflow's packed user code."""

    workflows: dict[str, Workflow] = {}
    strategies: dict[str, Strategy] = {}
    packages: dict[str, str] = {}


def load(journal: Journal) -> Specs:
    """What was applied last."""
    workflows = {value["metadata"]["name"]: Workflow.model_validate(value) for value in journal.states(f"{_SPEC}Workflow/").values()}
    strategies = {value["metadata"]["name"]: Strategy.model_validate(value) for value in journal.states(f"{_SPEC}Strategy/").values()}
    packages = {key.removeprefix(_PACKAGE): value for key, value in journal.states(_PACKAGE).items()}
    return Specs(workflows=workflows, strategies=strategies, packages=packages)


def parse(documents: Sequence[Mapping[str, Any]], now: Specs, platforms: Platforms, prune: bool = False) -> list[Workflow | Strategy]:
    """The models of documents, checked together with those that stay in force beside them, for the platform that was chosen.

    Raises:
        SpecError: with every problem of every document.
    """
    from autonomic.strategies.validation import check_documents
    from autonomic.workflows.spec.documents import Document

    given = [Document(file=f"documents[{number}]", data=document) for number, document in enumerate(documents)]
    names = {(document.kind, _name(document.data)) for document in given}
    staying = (
        [] if prune else [model for model in (*now.workflows.values(), *now.strategies.values()) if (model.kind, model.name) not in names]
    )
    beside = [Document(file=f"{model.kind}/{model.name} in force", data=dump(model)) for model in staying]
    # user code travels in packages: whether it imports was judged where it lies
    checked = check_documents([*given, *beside], code=False, platforms=platforms)
    return [model for model in (*checked.workflows, *checked.strategies) if (model.kind, model.name) in names]


def _name(data: Mapping[str, Any]) -> str:
    metadata = data.get("metadata")
    return str(metadata.get("name")) if isinstance(metadata, dict) else ""


def merge(
    now: Specs,
    documents: Sequence[Workflow | Strategy],
    packages: Mapping[str, str],
    prune: bool,
    removed: Collection[tuple[str, str]] = (),
) -> Specs:
    """What will be in force. With `prune`, documents that are not given are removed, and those `removed` (kind, name) in any case."""
    workflows = {} if prune else {name: one for name, one in now.workflows.items() if ("Workflow", name) not in removed}
    strategies = {} if prune else {name: one for name, one in now.strategies.items() if ("Strategy", name) not in removed}
    for document in documents:
        if isinstance(document, Workflow):
            workflows[document.name] = document
        else:
            strategies[document.name] = document
    digests = {name: digest for name, digest in {**now.packages, **packages}.items() if name in workflows}
    return Specs(workflows=workflows, strategies=strategies, packages=digests)


def differences(now: Specs, then: Specs) -> list[Difference]:
    """How two sets of documents differ, by kind and name."""
    found: list[Difference] = []
    for kind, old, new in (("Workflow", now.workflows, then.workflows), ("Strategy", now.strategies, then.strategies)):
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) == new.get(name) and now.packages.get(name) == then.packages.get(name):
                found.append(Difference(kind=kind, name=name, change="unchanged"))
                continue
            before, after = _text(old.get(name)), _text(new.get(name))
            repacked = kind == "Workflow" and now.packages.get(name) != then.packages.get(name)
            change = "added" if not before else "removed" if not after else "changed" if before != after or repacked else "unchanged"
            text = "".join(difflib.unified_diff(before, after, f"{kind}/{name} in force", f"{kind}/{name} given"))
            if repacked and before == after:
                text = f"its packed code changes from {now.packages.get(name, 'none')[:12]} to {then.packages.get(name, 'none')[:12]}\n"
            found.append(Difference(kind=kind, name=name, change=change, text=text))
    return found


def following(changes: Sequence[Difference], now: Specs, then: Specs) -> dict[str, str]:
    """The online workflows of which something follows when they change, and the primitive that it is."""
    found: dict[str, str] = {}
    for change in changes:
        # what is online serves as it was applied; what is batch only runs when somebody wants it to
        gone = change.change == "removed"
        document = (now if gone else then).workflows[change.name] if change.kind == "Workflow" else None
        if document is not None and isinstance(document.spec, OnlineSpec):
            found[change.name] = "delete" if gone else "deploy"
    return found


def save(transaction: Transaction, now: Specs, then: Specs) -> None:
    """Puts the new set in place of the old one, in the caller's transaction."""
    for kind, old, new in (("Workflow", now.workflows, then.workflows), ("Strategy", now.strategies, then.strategies)):
        for name in old.keys() - new.keys():
            transaction.delete_state(f"{_SPEC}{kind}/{name}")
        for name, document in new.items():
            if old.get(name) != document:
                transaction.put_state(f"{_SPEC}{kind}/{name}", dump(document))
    for name in now.packages.keys() - then.packages.keys():
        transaction.delete_state(_PACKAGE + name)
    for name, digest in then.packages.items():
        transaction.put_state(_PACKAGE + name, digest)


def dump(document: Workflow | Strategy) -> dict[str, Any]:
    """The JSON of a document that reads back as an equal one."""
    return document.model_dump(mode="json", by_alias=True)


def _text(document: Workflow | Strategy | None) -> list[str]:
    if document is None:
        return []
    said = document.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    return yaml.safe_dump(said, sort_keys=False).splitlines(keepends=True)
