"""Which documents shall be in force, of those that the cluster holds and those that are in force. Pure.

A workflow is judged for itself, a strategy by the workflows that it aims at. One document that is refused keeps no other one
out: its last version that was accepted stays.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from autonomic.agents.planner.specs import Specs, dump
from autonomic.seams.errors import Problem, SpecError
from autonomic.strategies.crds.definitions import ON
from autonomic.strategies.spec.documents import parse
from autonomic.strategies.spec.strategy import Strategy
from autonomic.strategies.validation import check_documents
from autonomic.workflows.spec.documents import Document
from autonomic.workflows.spec.workflow import Workflow

Key = tuple[str, str]
"""(kind, name) of a document."""
Model = Workflow | Strategy


class Given(NamedTuple):
    """A document that the cluster holds; `model` is None where its form is wrong, and `errors` say how."""

    data: Mapping[str, Any]
    model: Model | None
    errors: tuple[str, ...] = ()


class Choice(NamedTuple):
    """What shall be in force, by key, and why documents of the cluster are not in force as they are written."""

    models: dict[Key, Model]
    errors: dict[Key, tuple[str, ...]]


def read(item: Mapping[str, Any]) -> Given:
    """The document that an object of the cluster is."""
    metadata, spec = item["metadata"], dict(item.get("spec", {}))
    if ON in spec and "on" not in spec:
        spec = {("on" if key == ON else key): value for key, value in spec.items()}
    about = {"name": metadata["name"]} | ({"labels": metadata["labels"]} if metadata.get("labels") else {})
    data = {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": about, "spec": spec}
    problems: list[Problem] = []
    model = parse(Document(file=f"{item['kind']}/{metadata['name']}", data=data), problems)
    # as it will be read back from the journal, so that it can be compared with what stands there
    return Given(data, type(model).model_validate(dump(model)) if model else None, tuple(_said(problems)))


def in_force(now: Specs) -> dict[Key, Model]:
    """The documents in force by key."""
    return {(model.kind, model.name): model for model in (*now.workflows.values(), *now.strategies.values())}


def choose(given: Mapping[Key, Given], held: Iterable[Key], now: Specs) -> Choice:
    """Chooses. `held` are the documents that are in force because the cluster held them: those that it holds no more are dropped.

    A strategy in force that does not fit a workflow any more is dropped where the cluster holds it or its workflow is gone; where
    it is somebody else's, the workflow's change is refused.
    """
    force = in_force(now)
    errors = {key: one.errors for key, one in given.items() if one.model is None}
    wanted = {key: one.model for key, one in given.items() if one.model is not None and force.get(key) != one.model}
    dropped = {key for key in held if key not in given}
    gone = {name for kind, name in dropped if kind == "Workflow"}
    while True:
        staying = {key: model for key, model in force.items() if key not in dropped}
        after = {**staying, **wanted}
        moved = gone | {name for kind, name in wanted if kind == "Workflow"}
        suspects = {
            key: model for key, model in staying.items() if isinstance(model, Strategy) and aims(model) & moved and key not in wanted
        }
        found = _problems(wanted, suspects, given, after)
        if not found:
            return Choice(after, errors)
        for key, said in found.items():
            if key in wanted:
                errors[key] = said
                del wanted[key]
                continue
            blamed = [] if key in given else [("Workflow", name) for name in aims(suspects[key]) if ("Workflow", name) in wanted]
            if key in given:
                errors.setdefault(key, said)
            for workflow in blamed:
                told = f"the strategy {key[1]}, which is in force and no object of this cluster, does not fit it: "
                errors[workflow] = tuple(told + one for one in said)
                wanted.pop(workflow, None)
            if not blamed:
                dropped.add(key)


def aims(strategy: Strategy) -> set[str]:
    """The workflows that a strategy acts on."""
    targets = (strategy.spec.target, *(action.target for action in strategy.spec.do if action.target))
    return {target.partition("/")[0] for target in targets}


def _problems(
    wanted: Mapping[Key, Model], suspects: Mapping[Key, Strategy], given: Mapping[Key, Given], after: Mapping[Key, Model]
) -> dict[Key, tuple[str, ...]]:
    documents = [Document(file=f"{kind}/{name}", data=given[kind, name].data) for kind, name in wanted]
    documents += [Document(file=f"{kind}/{name}", data=dump(model)) for (kind, name), model in suspects.items()]
    known = [model for key, model in after.items() if isinstance(model, Workflow) and key not in wanted]
    try:
        # user code travels another way: whether it can be imported is not judged here
        check_documents(documents, known_workflows=known, code=False)
    except SpecError as refused:
        found: dict[Key, list[Problem]] = {}
        for problem in refused.problems:
            kind, _, name = problem.file.partition("/")
            found.setdefault((kind, name), []).append(problem)
        return {key: tuple(_said(problems)) for key, problems in found.items()}
    return {}


def _said(problems: Iterable[Problem]) -> Iterator[str]:
    for problem in problems:
        yield f"{problem.path}: {problem.message}" if problem.path else problem.message
