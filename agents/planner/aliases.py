"""What serves against what the aliases name: a role that is declared by an alias follows it, wherever it was moved."""

from collections.abc import Callable, Collection, Iterator, Mapping

from autonomic.agents.planner.specs import Specs
from autonomic.platforms.host.reconcile import Gap
from autonomic.primitives.base import model_name
from autonomic.primitives.models import alias_of, version_of
from autonomic.primitives.people import Freeze, overlap
from autonomic.seams.decision import Action, DecisionRecord
from autonomic.seams.errors import Permanent
from autonomic.seams.state import State
from autonomic.workflows.spec.workflow import OnlineSpec, Service

ACTOR = "the alias"
LOOK_SECONDS = 10.0
Follow = Callable[[Action, str], DecisionRecord]


class AliasWorld:
    """See `reconcile.World`: the roles of services in force that are declared by an alias (`model: models:/mnist@champion`).

    A role that serves another version of that model than the alias names is upgraded by a plan of its own, through the gate. One
    that was put on another model by hand stays. `named` gives the versions of a model by alias, `busy` the targets that plans
    change now, which are left out; `follow` decides on an upgrade and its reason.
    """

    def __init__(
        self,
        specs: Callable[[], Specs],
        observe: Callable[[str], State],
        named: Callable[[str], Mapping[str, str]],
        busy: Callable[[], Collection[str]],
        freezes: Callable[[], Collection[Freeze]],
        follow: Follow,
    ) -> None:
        self._specs = specs
        self._observe = observe
        self._named = named
        self._busy = busy
        self._freezes = freezes
        self._follow = follow
        self._actions: dict[str, Action] = {}

    def gaps(self, only: str = "") -> list[Gap]:
        workflows = [workflow for workflow in self._specs().workflows.values() if only in ("", workflow.name)]
        declared = [(workflow, service) for workflow in workflows for service in _following(workflow.spec)]
        if not declared:
            return []
        busy, known = self._busy(), dict[str, Mapping[str, str]]()
        found: list[Gap] = []
        for workflow, service in declared:
            target = f"{workflow.name}/{service.name}"
            if not any(overlap(target, one) for one in busy):
                found += self._of(target, service, known)
        return found

    def _of(self, target: str, service: Service, known: dict[str, Mapping[str, str]]) -> Iterator[Gap]:
        state = self._observe(target)
        if state.service is None:
            return
        args: dict[str, str] = {}
        desired: list[str] = []
        actual: list[str] = []
        for role, uri in roles_of(service).items():
            model, alias = alias_of(uri)
            if model and model not in known:
                known[model] = self._named(model)
            wanted, serving = known.get(model, {}).get(alias, ""), state.service.roles.get(role)
            if not wanted or (serving is not None and (model_name(serving.model) != model or version_of(serving.model, model) == wanted)):
                continue
            if serving is None and role != "backup":
                continue
            args[role] = uri
            desired.append(f"version {wanted} as {role} ({uri})")
            actual.append(f"version {version_of(serving.model, model)}" if serving is not None else f"no {role}")
        if args:
            self._actions[target] = Action(primitive="upgrade", target=target, args=args)
            why = next((freeze.words() for freeze in self._freezes() if freeze.covers(target)), "")
            yield Gap(name=target, target=target, close="replace", desired=", ".join(desired), actual=", ".join(actual), why=why)

    def close(self, gap: Gap) -> None:
        if gap.why:
            raise Permanent("it follows the alias when the freeze ends")
        record = self.upgrade(gap)
        if record.verdict is None or record.verdict.outcome != "go":
            why = record.verdict.why if record.verdict else record.decision.why
            raise Permanent(f"the gate does not let it follow: {why} (autonomic explain {record.id})")

    def upgrade(self, gap: Gap) -> DecisionRecord:
        """Decides on the upgrade that closes a gap."""
        return self._follow(self._actions[gap.name], f"{gap.desired} is declared, and {gap.actual} is there")


def roles_of(service: Service) -> dict[str, str]:
    """The models of a service by role, as its document has them."""
    return {role: uri for role, uri in (("champion", service.model), ("backup", service.backup), ("canary", service.canary)) if uri}


def _following(spec: object) -> Iterator[Service]:
    if isinstance(spec, OnlineSpec) and spec.adopt is None:
        yield from (service for service in spec.services if any(alias_of(uri)[0] for uri in roles_of(service).values()))
