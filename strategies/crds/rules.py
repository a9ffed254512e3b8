"""What the API server checks beyond the form of a document, in CEL, and the bounds that keep this cheap. Data only.

A rule speaks of `self`, the value of its model. Property names that are reserved words of CEL are written `__for__`.
`docs/custom-resources.md` has the table of what is checked here and what only the agents can check.
"""

from typing import NamedTuple

from autonomic.primitives.table import NEEDS_PERSON, PRIMITIVES
from autonomic.signals.queries import KUBERNETES_FILTERS
from autonomic.strategies.checks import SERVICE_SIGNALS
from autonomic.workflows.spec.workflow import Replicas


class Rule(NamedTuple):
    """A CEL expression that must be true, and what is said where it is not."""

    rule: str
    message: str


def exactly_one(names: list[str]) -> str:
    """The expression that exactly one of these properties is there."""
    return f"[{', '.join(f'has(self.{name})' for name in names)}].filter(given, given).size() == 1"


def longer_than_nothing(name: str) -> str:
    """The expression that a duration, where it is given, is longer than 0s."""
    return f"!has(self.{name}) || self.{name}.matches('[1-9]')"


def _given(names: list[str]) -> str:
    return " || ".join(f"has(a.{name})" for name in names)


def _primitives(wanted: str) -> list[str]:
    return [name for name, primitive in PRIMITIVES.items() if primitive.target == wanted]


def _trigger(names: list[str]) -> tuple[Rule, ...]:
    return (
        Rule(exactly_one(names), f"on: takes exactly one of {', '.join(names)}"),
        Rule(longer_than_nothing("every"), "every must be longer than 0s"),
        Rule("!has(self.call) || self.call", "call: false never fires; write call: true"),
        Rule("!has(self.event) || self.event != ''", "the type of an event is missing, such as drift.detected"),
    )


_AIM = "(has(a.target) ? a.target : self.target)"
_MIN, _MAX = (Replicas.model_fields[name].default for name in ("min", "max"))

RULES: dict[str, tuple[Rule, ...]] = {
    "Step": (
        Rule(
            "has(self.run) != has(self.command)", "a step has either run: (a Python function) or command: (a list), not both and not none"
        ),
        Rule("!has(self.needs) || !self.needs.exists(name, name == self.name)", "a step cannot need itself"),
    ),
    "Neighbour": (
        Rule(exactly_one(["node", "workflow"]), "exactly one of node and workflow is given"),
        Rule("!has(self.part) || has(self.workflow)", "part: is a step or a service of a workflow, which workflow: names"),
    ),
    "Toleration": (
        Rule("!has(self.value) || has(self.key)", "value: is that of the taint key:, which is not given"),
        Rule(
            "!has(self.__for__) || has(self.effect) && self.effect == 'NoExecute'",
            "for: belongs to effect: NoExecute",
        ),
    ),
    "Volume": (
        Rule(exactly_one(["claim", "nfs"]), "exactly one of claim and nfs is given"),
        Rule(
            "!self.mount.matches('(^|/)[.][.](/|$)') && (!has(self.folder) || !self.folder.matches('(^|/)[.][.](/|$)'))",
            "a path has no ..",
        ),
    ),
    "Tls": (
        Rule(
            "has(self.certificate) == has(self.key) && has(self.secret) != has(self.key)",
            "tls: takes either secret: or both of certificate: and key:",
        ),
    ),
    "Replicas": (
        Rule(
            f"(has(self.min) ? self.min : {_MIN}) <= (has(self.max) ? self.max : {_MAX})",
            f"replicas.min is greater than replicas.max (without a word: {_MIN} and {_MAX})",
        ),
    ),
    "Adopt": (Rule(exactly_one(["deployment", "statefulset", "job"]), "adopt takes exactly one of deployment, statefulset, job"),),
    "OnlineSpec": (
        Rule(
            "(has(self.services) && self.services.size() > 0) != has(self.adopt)",
            "an online workflow has either services: (at least one) or adopt:, not both and not none",
        ),
    ),
    "Service": (
        Rule(
            "!has(self.traffic) || !has(self.traffic.canary) || has(self.canary) || !self.traffic.canary.matches('[1-9]')",
            "traffic is given to a canary, but canary: names no model",
        ),
        Rule("!has(self.drift) || !has(self.log) || self.log", "drift: reads the prediction log, so log: must be true"),
    ),
    "Drift": (Rule(longer_than_nothing("every"), "drift.every must be longer than 0s"),),
    "On": (
        *_trigger(["every", "at", "cron", "call", "event", "any"]),
        Rule("!has(self.any) || self.any.size() > 0", "any: holds no trigger"),
    ),
    "On.On": _trigger(["every", "at", "cron", "call", "event"]),
    "MlflowQuery": (
        Rule("!has(self.model) || has(self.alias) != has(self.version)", "a model's metric needs exactly one of alias and version"),
        Rule("has(self.model) || !has(self.alias) && !has(self.version)", "alias and version belong to a model; name it with model:"),
        Rule(
            "!has(self.model) || !has(self.experiment) && (!has(self.filter) || self.filter == '')",
            "a query is over a model's version (model:) or over runs (experiment:, filter:), not both",
        ),
    ),
    "KubernetesQuery": tuple(
        Rule(f"!has(self.{name}) || self.metric in {list(metrics)}", f"{name}: goes with {', '.join(metrics)} only")
        for name, metrics in KUBERNETES_FILTERS.items()
    ),
    "RetargetArguments": (
        Rule(exactly_one(["to", "times"]), "retarget takes exactly one of to, times"),
        Rule("!has(self.min) || !has(self.max) || self.min <= self.max", "retarget's min is greater than its max"),
    ),
    "RescaleArguments": (Rule(exactly_one(["by", "to", "require"]), "rescale takes exactly one of by, to, require"),),
    "UpgradeArguments": (
        Rule("has(self.champion) || has(self.canary) || has(self.backup)", "upgrade needs at least one of champion, canary, backup"),
    ),
    "RetrainArguments": (Rule("!has(self.points) || self.points.contains('/')", "points: names a service, written workflow/service"),),
    "Verify": (Rule(longer_than_nothing("within"), "within must be longer than 0s"),),
    "StrategySpec": (
        Rule(
            "(has(self.do) && self.do.size() > 0) != has(self.decide)",
            "a strategy has either do: (actions) or decide: (a Python function), not both and not none",
        ),
        Rule("has(self.when) || !has(self.clear)", "clear: ends what when: began, but there is no when:"),
        Rule(
            "has(self.when) || !has(self.__for__) || !self.__for__.matches('[1-9]')",
            "for: says how long when: must hold, but there is no when:",
        ),
        Rule(longer_than_nothing("expires"), "expires must be longer than 0s, else no event is ever acted on"),
        Rule(
            "!has(self.guard) || !has(self.guard.autonomy) || self.guard.autonomy != 'auto' || !has(self.do)"
            f" || !self.do.exists(a, {_given(sorted(NEEDS_PERSON))})",
            f"{' and '.join(sorted(NEEDS_PERSON))} cannot be undone, so they are never auto; write suggest or approve",
        ),
        Rule(
            "self.target.contains('/') || !has(self.readings) || self.readings.all(name, "
            + " && ".join(f"!has(self.readings[name].{signal})" for signal in sorted(SERVICE_SIGNALS))
            + ")",
            f"{' and '.join(sorted(SERVICE_SIGNALS))} read a service; write the target as workflow/service",
        ),
        Rule(
            f"!has(self.do) || self.do.all(a, !({_given(_primitives('service'))}) || {_AIM}.contains('/'))",
            f"{', '.join(_primitives('service'))} act on a service of an online workflow, written workflow/service",
        ),
        Rule(
            f"!has(self.do) || self.do.all(a, !({_given(_primitives('part'))}) || {_AIM}.contains('/'))",
            f"{', '.join(_primitives('part'))} acts on a service or a step, written workflow/service or workflow/step",
        ),
        Rule(
            f"!has(self.do) || self.do.all(a, !({_given([*_primitives('batch'), *_primitives('online')])}) || !{_AIM}.contains('/'))",
            f"{', '.join([*_primitives('batch'), *_primitives('online')])} act on a whole workflow, written without a step or service",
        ),
        Rule("!has(self.on) || !has(self.__true__)", 'on: is given twice, once as "true"'),
    ),
}
"""By the name of the model; `On.On` is that of a trigger within a trigger."""

FIELD_RULES: dict[tuple[str, str], tuple[Rule, ...]] = {
    ("BatchSpec", "steps"): (
        Rule(
            "self.all(step, !has(step.needs) || step.needs.all(name, self.exists(other, other.name == name)))",
            "needs: names a step that this workflow does not have",
        ),
    ),
    ("StrategySpec", "readings"): (
        Rule(
            "self.all(name, name.matches('^[A-Za-z_][A-Za-z0-9_]*$'))",
            "a reading is named by letters, digits and _, not beginning with a digit",
        ),
    ),
}
"""By the names of the model and of its field."""

UNIQUE: frozenset[tuple[str, str]] = frozenset({("BatchSpec", "steps"), ("OnlineSpec", "services")})
"""Lists whose entries have names that are unique: maps, in the words of Kubernetes."""

TEXT_LENGTH = 1024
ITEMS = 64
PROPERTIES = 64
LIMITS: dict[tuple[str, str], int] = {
    ("BatchSpec", "steps"): 100,
    ("Step", "needs"): 32,
    ("Step", "command"): 256,
    ("Step", "volumes"): 16,
    ("Service", "volumes"): 16,
    ("Placement", "near"): 16,
    ("Placement", "avoid"): 16,
    ("Placement", "tolerations"): 16,
    ("Placement", "nodes"): 16,
    ("Volume", "mount"): 256,
    ("Volume", "folder"): 256,
    ("On", "any"): 16,
    ("StrategySpec", "do"): 16,
    ("StrategySpec", "readings"): 32,
    ("StrategySpec", "target"): 120,
    ("StrategySpec", "when"): 4096,
    ("StrategySpec", "clear"): 4096,
    ("StrategySpec", "constraint"): 4096,
    ("Verify", "that"): 4096,
    ("PromqlQuery", "promql"): 16384,
    ("KubernetesQuery", "of"): 120,
    ("RetrainArguments", "points"): 120,
    ("ActionSpec", "target"): 120,
}
"""How long a text, and how many entries a list or mapping may have, where it is not as above."""
UNBOUNDED_TEXT: frozenset[tuple[str, str]] = frozenset({("Step", "command"), ("Step", "env"), ("BatchSpec", "env")})
"""Fields whose texts are programs or their settings: no rule reads them, and they have no bound of their own."""
