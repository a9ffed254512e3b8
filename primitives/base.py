"""What every primitive is: arguments and a state in, absolute changes out; and the way back."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Literal, TypeVar

from autonomic.seams.errors import Permanent
from autonomic.seams.plan import Change, Effector, Irreversible, Outcome
from autonomic.seams.reading import Reading
from autonomic.seams.state import ModelVersion, RoleState, ServiceState, State
from autonomic.seams.word import Word

Layer = Literal["application", "infrastructure", "both"]
TargetKind = Literal["batch", "online", "service", "part", "placed", "any"]
"""A batch workflow; an online one; a service; a service or a step; a batch workflow, a service or a step; anything."""
Arguments = TypeVar("Arguments", bound=Word)


class Refused(Permanent):
    """A primitive may not or need not act; the message says why. `instead` are changes that keep the refused thing away."""

    def __init__(self, message: str, instead: tuple[Change, ...] = ()) -> None:
        self.instead = instead
        super().__init__(message)


class Unneeded(Refused):
    """The state that was asked for is there already."""


class Context(Word):
    """What a primitive may look at beside its target's state; all of it is recorded with the decision.

    `plan` and `first` make the keys of changes: `plan.first`, `plan.first+1` … `workflows` are the documents applied (as
    JSON) and `packages` their code's digests, both by workflow; `states` are other targets' states; `registry` holds
    alias -> version for each registered model. `why` is the decision's reason, `cause` the decision's id.
    """

    plan: str
    first: int = 0
    cause: str = ""
    why: str = ""
    readings: dict[str, Reading] = {}
    workflows: dict[str, dict[str, Any]] = {}
    packages: dict[str, str] = {}
    states: dict[str, State] = {}
    registry: dict[str, dict[str, ModelVersion]] = {}

    def key(self, index: int = 0) -> str:
        """The key of the primitive's change number `index`."""
        return f"{self.plan}.{self.first + index}"


class Primitive(ABC, Generic[Arguments]):
    """One kind of change: what it takes, what it acts on, how it is planned and reverted. Every table derives from these.

    `arguments` is the model of its arguments. `reversible`: `revert` gives a way back. `harmless`: it changes no workflow, so that it
    needs none. `adopted`: it also acts on workloads that somebody else made. `moves_models`: it looks at the models that the target
    serves. `on_substitutes`: what stands in for a missing reading may cause it. `admin`: by hand it needs the scope admin.
    """

    name: ClassVar[str]
    arguments: ClassVar[type[Word]]
    target: ClassVar[TargetKind]
    layer: ClassVar[Layer]
    reversible: ClassVar[bool] = True
    harmless: ClassVar[bool] = False
    adopted: ClassVar[bool] = False
    moves_models: ClassVar[bool] = False
    on_substitutes: ClassVar[bool] = True
    admin: ClassVar[bool] = False

    @property
    def needs_person(self) -> bool:
        """Whether it is never done without a person: it cannot be reverted, and does harm where it was a mistake."""
        return not (self.reversible or self.harmless)

    @abstractmethod
    def plan(self, args: Arguments, state: State, context: Context) -> tuple[Change, ...]:
        """The changes that do it, absolute.

        Raises:
            Refused: it may not be done, or the state is there already.
        """

    @abstractmethod
    def revert(self, outcome: Outcome) -> Change | Irreversible:
        """The change that reverts what `outcome` reports as done."""

    @abstractmethod
    def describe(self, change: Change) -> str:
        """The change in words, such as "rescale the champion of mnist-online/predictor to 3 replicas"."""

    def cuts_capacity(self, change: Change, state: State | None) -> bool:
        """Whether fewer or smaller replicas would serve after `change`. What cannot be compared counts as a cut."""
        return False

    def wants_more(self, args: Mapping[str, Any]) -> bool:
        """Whether an action with these arguments, as written, asks for more capacity."""
        return False


def revert_key(key: str) -> str:
    """The key of the change that takes back the change `key`."""
    return f"{key}.revert"


def put_back(outcome: Outcome, effector: Effector = "platform") -> Change:
    """The change to the state before."""
    return Change(key=revert_key(outcome.key), primitive=outcome.primitive, target=outcome.target, effector=effector, to=outcome.before)


def service(state: State, primitive: str) -> ServiceState:
    """The service that `state` is about.

    Raises:
        Refused: it is not a service that is deployed.
    """
    if state.kind == "absent":
        raise Refused(f"{primitive}: {state.target} is not deployed")
    if state.service is None:
        raise Refused(f"{primitive}: {state.target} is not a service; it acts on workflow/service of an online workflow")
    return state.service


def role(found: ServiceState, name: str, target: str) -> RoleState:
    """One role of a service.

    Raises:
        Refused: the service has no such role.
    """
    if name not in found.roles:
        raise Refused(f"{target} has no {name}; it has {', '.join(found.roles) or 'no model in service'}")
    return found.roles[name]


def model_name(uri: str) -> str:
    """The registered model of `models:/name/3` or `models:/name@alias`, "" for another URI."""
    return uri.removeprefix("models:/").partition("@")[0].partition("/")[0] if uri.startswith("models:/") else ""


def resolve_model(uri: str, context: Context) -> str:
    """The version that `uri` names now, as `models:/name/3`; a folder's URI stays as it is.

    Raises:
        Refused: no version bears that alias, or the version is quarantined.
    """
    name, at, alias = uri.removeprefix("models:/").partition("@")
    if not at or not uri.startswith("models:/"):
        return uri
    aliases = context.registry.get(name, {})
    if alias not in aliases:
        raise Refused(f"no version of the model {name} has the alias {alias!r}; aliases are {', '.join(sorted(aliases)) or 'none'}")
    version = aliases[alias]
    if version.tags.get("quarantined"):
        raise Refused(f"version {version.version} of the model {name} is quarantined: {version.tags['quarantined']}")
    return f"models:/{name}/{version.version}"


def workflow_document(target: str, kind: Literal["batch", "online"], primitive: str, context: Context) -> dict[str, Any]:
    """The applied document of a workflow of that kind.

    Raises:
        Refused: there is none, or it is of the other kind, or the target is one of its steps.
    """
    document = context.workflows.get(target)
    if document is None:
        raise Refused(f"{primitive}: {target} is not a workflow that was applied; apply its document first")
    if document["spec"]["type"] != kind:
        raise Refused(f"{primitive}: {target} is {document['spec']['type']}; {primitive} acts on {kind} workflows")
    return document
