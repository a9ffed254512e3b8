"""What every platform keeps: each change does what it says, once, for the one who may, and can be taken back."""

from collections.abc import Callable
from typing import Any

import pytest

from autonomic.primitives.base import Context
from autonomic.primitives.table import PRIMITIVES
from autonomic.seams.plan import Irreversible, Outcome
from autonomic.seams.state import FINISHED, State

EVERYWHERE = {"deploy", "delete", "rescale", "reroute", "upgrade", "run", "stop", "retrain"}


def test_it_says_what_it_can_do(deployed: Any) -> None:
    assert deployed.platform.capabilities() >= EVERYWHERE


def test_a_deployed_service_is_seen_as_declared(deployed: Any) -> None:
    state = deployed.platform.observe("web/api")
    assert state.kind == "online"
    assert deployed.platform.observe("web").kind == "online"
    service = deployed.service()
    wanted = (deployed.case.old, 1)
    assert {role: (entry.model, entry.wanted) for role, entry in service.roles.items()} == {
        "champion": wanted,
        "canary": wanted,
        "backup": wanted,
    }
    assert service.weights == {"champion": 100, "canary": 0, "backup": 0}
    assert (service.min_replicas, service.max_replicas) == (1, 3)


def test_deploying_the_same_again_changes_nothing(deployed: Any) -> None:
    revision = deployed.revision()
    deployed.settle()
    outcome = deployed.apply("deploy", "web", {"spec": deployed.spec, "package": ""})
    assert outcome.status == "unchanged"
    assert deployed.revision() == revision


# (primitive, what is wanted, what is seen of it)
CHANGES = [
    ("rescale", lambda case: {"role": "champion", "replicas": 2}, lambda service: service.roles["champion"].wanted),
    ("rescale", lambda case: {"role": "backup", "replicas": 0}, lambda service: service.roles["backup"].wanted),
    ("reroute", lambda case: {"weights": {"champion": 70, "canary": 20, "backup": 10}}, lambda service: service.weights),
    ("upgrade", lambda case: {"models": {"canary": case.new}}, lambda service: service.roles["canary"].model),
    ("upgrade", lambda case: {"models": {"backup": ""}}, lambda service: sorted(service.roles)),
]
NAMES = ["rescale", "rescale-to-none", "reroute", "upgrade", "remove-role"]


@pytest.mark.parametrize(("primitive", "wanted", "seen"), CHANGES, ids=NAMES)
def test_a_change_is_done_once_and_its_before_takes_it_back(deployed: Any, primitive: str, wanted: Any, seen: Any) -> None:
    to, original, revision = wanted(deployed.case), seen(deployed.service()), deployed.revision()
    change = deployed.change(primitive, "web/api", to, expect=revision)

    outcome = deployed.platform.apply(change, 1)
    assert outcome.status == "done", outcome.detail
    assert outcome.after == to
    changed = seen(deployed.service())
    assert changed != original
    assert deployed.revision() == revision + 1

    # the same key is the same change: nothing is done again, although the target has moved on
    assert deployed.platform.apply(change, 1) == outcome
    assert deployed.platform.lookup(change.key) == outcome
    assert deployed.revision() == revision + 1

    # wanting what runs already is no change
    deployed.settle()
    assert deployed.apply(primitive, "web/api", to).status == "unchanged"
    assert deployed.revision() == revision + 1

    assert deployed.apply(primitive, "web/api", outcome.before).status == "done"
    assert seen(deployed.service()) == original
    assert deployed.revision() == revision + 2


def test_more_replicas_become_ready(deployed: Any) -> None:
    deployed.apply("rescale", "web/api", {"role": "champion", "replicas": 2})
    deployed.case.wait_until(lambda: deployed.service().roles["champion"].ready == 2)
    deployed.apply("rescale", "web/api", {"role": "champion", "replicas": 1})
    deployed.case.wait_until(lambda: deployed.service().roles["champion"].ready == 1)


def test_a_service_is_resized_once_and_its_before_takes_it_back(deployed: Any) -> None:
    skip_without(deployed, "resize")
    size, revision = deployed.size(), deployed.revision()
    wanted = {"cpu": 0.02, "memory": 160 * 2**20, "gpu": 0.0}
    assert size == {"cpu": 0.01, "memory": 128 * 2**20, "gpu": 0.0}
    change = deployed.change("resize", "web/api", {"resources": wanted}, expect=revision)
    outcome = deployed.platform.apply(change, 1)
    assert outcome.status == "done", outcome.detail
    assert (outcome.before, outcome.after) == ({"resources": size}, {"resources": wanted})
    assert deployed.size() == wanted
    assert deployed.platform.apply(change, 1) == outcome
    deployed.settle()
    assert deployed.apply("resize", "web/api", {"resources": wanted}).status == "unchanged"
    # what is declared again keeps the size, as it keeps the number of replicas
    assert deployed.apply("deploy", "web", {"spec": deployed.spec, "package": ""}).status == "unchanged"
    assert deployed.revision() == revision + 1
    assert deployed.apply("resize", "web/api", outcome.before).status == "done"
    assert deployed.size() == size


def test_a_service_is_rescheduled_once_and_its_before_takes_it_back(deployed: Any) -> None:
    skip_without(deployed, "reschedule")
    revision = deployed.revision()
    wanted = {"placement": {"avoid": [{"workflow": "nobody"}]}}
    change = deployed.change("reschedule", "web/api", wanted, expect=revision)
    outcome = deployed.platform.apply(change, 1)
    assert outcome.status == "done", outcome.detail
    assert (outcome.before, outcome.after) == ({"placement": {}}, wanted)
    assert deployed.platform.apply(change, 1) == outcome
    deployed.settle()
    assert deployed.apply("reschedule", "web/api", wanted).status == "unchanged"
    assert deployed.revision() == revision + 1
    assert deployed.apply("reschedule", "web/api", outcome.before).status == "done"
    deployed.settle()
    assert deployed.apply("reschedule", "web/api", {"placement": {}}).status == "unchanged"


# primitive: (target, arguments)
PLANNED: dict[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    "rescale": ("web/api", lambda case: {"to": 2}),
    "reroute": ("web/api", lambda case: {"canary": "20%"}),
    "upgrade": ("web/api", lambda case: {"canary": case.new}),
    "resize": ("web/api", lambda case: {"times": {"cpu": 2}}),
    "reschedule": ("web/api", lambda case: {"avoid": {"workflow": "nobody"}}),
    "run": ("run-job", lambda case: {}),
    "retrain": ("retrain-job", lambda case: {"from": case.old}),
    "stop": ("stop-job", lambda case: {}),
    "delete": ("web", lambda case: {}),
    "deploy": ("web", lambda case: {}),
}


# what an earlier change is followed by, some time later
FOLLOWS = {"replica_ready", "replica_lost", "run_pending", "run_running"}


@pytest.mark.parametrize("name", PLANNED)
def test_what_a_primitive_plans_leaves_no_trace_is_done_and_goes_back(deployed: Any, name: str) -> None:
    skip_without(deployed, name)
    target, arguments = PLANNED[name]
    job = deployed.batch(f"{name}-job")
    job["spec"]["parameters"] = {"base_model": ""}
    context = Context(plan=f"planned-{name}", workflows={"web": deployed.spec, f"{name}-job": job})
    primitive = PRIMITIVES[name]
    if name == "stop":
        deployed.apply("run", "stop-job", {**deployed.run("run-to-stop", "stop-job"), "spec": job})
    if name == "deploy":
        deployed.apply("delete", "web", {})

    def seen() -> Any:
        platform = deployed.platform
        runs = sorted(run.id for run in platform.runs() if run.workflow == f"{name}-job" and run.status not in FINISHED)
        return deployed.written("web"), _wanted(platform.observe("web/api")), runs

    cursor, before = deployed.platform.watch(0)[-1].cursor, seen()
    args = PRIMITIVES[name].arguments.model_validate(arguments(deployed.case))
    (change,) = primitive.plan(args, deployed.platform.observe(target), context)
    # it is told in words, and nothing is there of it
    assert target.partition("/")[0] in primitive.describe(change)
    assert seen() == before
    told = [notice for notice in deployed.platform.watch(cursor) if notice.target.startswith(target)]
    assert [notice for notice in told if notice.kind not in FOLLOWS] == []
    assert deployed.platform.lookup(change.key) is None

    outcome = deployed.platform.apply(change, 1)
    assert outcome.status == "done", outcome.detail
    assert seen() != before
    back = primitive.revert(outcome)
    if isinstance(back, Irreversible):
        assert not primitive.reversible
        if name == "delete":
            deployed.apply("deploy", "web", outcome.before)
        return
    assert deployed.platform.apply(back, 1).status == "done"
    deployed.case.wait_until(lambda: seen()[1:] == before[1:])
    if name == "deploy":
        deployed.apply("deploy", "web", {"spec": deployed.spec, "package": ""})


def _wanted(state: State) -> Any:
    """A service without what moves by itself."""
    if state.service is None:
        return state.kind
    roles = {role: (entry.model, entry.wanted) for role, entry in state.service.roles.items()}
    return roles, state.service.weights, state.spec["resources"], state.spec["rescheduled"]


SHAPES = [
    ("resize", "web/api", {"resources": {"cpu": 64}}, "0.01 to 0.05 are allowed"),
    ("resize", "web/api", {"resources": {"memory": 2**20}}, "resources.min"),
    ("resize", "web/api", {"resources": {"gpu": 1}}, "of gpu"),
    ("resize", "web/api", {"resources": {"cpu": "many"}}, "many"),
    ("resize", "web/nothing", {"resources": {"cpu": 0.02}}, "web/nothing"),
    ("resize", "nothing/api", {"resources": {"cpu": 0.02}}, "nothing/api"),
    ("reschedule", "web/api", {"placement": {"avoid": [{}]}}, "avoid"),
    ("reschedule", "web/api", {"placement": {"spread": "continent"}}, "continent"),
    ("reschedule", "nothing", {"placement": {}}, "nothing"),
    ("retarget", "web/api", {"metric": "cpu", "value": 60}, "web/api"),
]


@pytest.mark.parametrize(("primitive", "target", "to", "why"), SHAPES)
def test_a_size_or_a_place_that_cannot_be_is_refused_in_words(deployed: Any, primitive: str, target: str, to: Any, why: str) -> None:
    before = deployed.written()
    change = deployed.change(primitive, target, to)
    outcome = deployed.platform.apply(change, 1)
    assert outcome.status == "refused"
    able = primitive in deployed.platform.capabilities()
    assert (why if able else f"does not know the primitive {primitive!r}") in outcome.detail
    assert deployed.written() == before
    assert deployed.platform.lookup(change.key) is None


# (primitive, what is wanted, what it is at first)
ADOPTED = [
    ("rescale", {"role": "champion", "replicas": 2, "bounds": {"min": 2, "max": 2}}, {"min": 1, "max": 2}),
    ("resize", {"resources": {"memory": 128 * 2**20}}, {"memory": 64 * 2**20}),
    ("retarget", {"metric": "cpu", "value": 60}, 80),
]


def test_what_somebody_else_made_is_changed_once_and_each_before_takes_it_back(deployed: Any) -> None:
    adopt = deployed.change("deploy", "theirs", {"spec": deployed.adopting("somebody-elses"), "package": ""})
    if "retarget" not in deployed.platform.capabilities():
        refused = deployed.platform.apply(adopt, 1)
        assert (refused.status, "this platform is another one" in refused.detail) == ("refused", True)
        assert deployed.platform.observe("theirs").kind == "absent"
        return
    deployed.case.somebody_else_deploys("somebody-elses")
    assert deployed.platform.apply(adopt, 1).status == "done"
    for primitive, to, at_first in ADOPTED:
        revision = deployed.revision("theirs/somebody-elses")
        change = deployed.change(primitive, "theirs/somebody-elses", to, expect=revision)
        outcome = deployed.platform.apply(change, 1)
        assert outcome.status == "done", outcome.detail
        assert at_first in outcome.before.values()
        assert deployed.platform.apply(change, 1) == outcome
        # whoever writes next finds it done, and does it no second time
        deployed.case.restart()
        assert deployed.platform.apply(change, 1) == outcome
        assert deployed.apply(primitive, "theirs/somebody-elses", to).status == "unchanged"
        assert deployed.revision("theirs/somebody-elses") == revision + 1
        back = deployed.apply(primitive, "theirs/somebody-elses", outcome.before)
        assert (back.status, back.after) == ("done", outcome.before), back.detail
    assert deployed.apply("delete", "theirs", {}).status == "done"


def skip_without(deployed: Any, primitive: str) -> None:
    if primitive not in deployed.platform.capabilities():
        pytest.skip(f"this platform has no {primitive}; that it refuses it is tested below")


REFUSED = [
    ("rescale", "web/api", lambda d: {"role": "champion", "replicas": 9}, "1 to 3 are allowed"),
    ("rescale", "web/api", lambda d: {"role": "champion", "replicas": 0}, "1 to 3 are allowed"),
    ("rescale", "web/api", lambda d: {"role": "shadow", "replicas": 1}, "no role 'shadow'"),
    ("rescale", "web/api", lambda d: {}, "None replicas"),
    ("rescale", "web/nothing", lambda d: {"role": "champion", "replicas": 2}, "web/nothing is not a service"),
    ("rescale", "nothing/api", lambda d: {"role": "champion", "replicas": 2}, "nothing/api is not a service"),
    ("reroute", "web/api", lambda d: {"weights": {"champion": 80, "canary": 30}}, "add up to 110"),
    ("reroute", "web/api", lambda d: {"weights": {"champion": 50, "stranger": 50}}, "stranger"),
    ("reroute", "web/api", lambda d: {"weights": {"champion": 150, "canary": -50}}, "whole percents"),
    ("upgrade", "web/api", lambda d: {"models": {"champion": d.case.missing}}, "not"),
    ("upgrade", "web/api", lambda d: {"models": {"champion": ""}}, "delete the workflow"),
    ("upgrade", "web/api", lambda d: {"models": {"stranger": d.case.new}}, "stranger"),
    ("deploy", "job", lambda d: {"spec": d.batch(), "package": ""}, "batch workflow"),
    ("deploy", "web", lambda d: {"spec": {"kind": "Workflow"}, "package": ""}, "not valid"),
    ("deploy", "web", lambda d: {"spec": d.online("other"), "package": ""}, "other"),
    ("deploy", "web", lambda d: {"spec": d.online("web", model=d.case.missing), "package": ""}, "not"),
    ("run", "web", lambda d: {**d.run("run-web"), "spec": d.spec}, "online"),
    ("run", "other", lambda d: d.run("run-other"), "job"),
    ("run", "job", lambda d: d.run(""), "run_id"),
    ("fly", "web/api", lambda d: {}, "'fly'"),
]


@pytest.mark.parametrize(("primitive", "target", "to", "why"), REFUSED)
def test_what_cannot_be_done_is_refused_in_words_and_touches_nothing(deployed: Any, primitive: str, target: str, to: Any, why: str) -> None:
    # runs of other tests may end meanwhile
    before, runs = deployed.written(), {run.id for run in deployed.platform.runs()}
    change = deployed.change(primitive, target, to(deployed))
    outcome = deployed.platform.apply(change, 1)
    assert outcome.status == "refused"
    assert why in outcome.detail
    assert deployed.written() == before
    assert {run.id for run in deployed.platform.runs()} == runs
    assert deployed.platform.lookup(change.key) is None


def test_a_change_for_another_effector_is_refused(deployed: Any) -> None:
    change = deployed.change("promote", "web/api", {}).model_copy(update={"effector": "registry"})
    assert deployed.platform.apply(change, 1).status == "refused"


def test_a_stale_revision_is_refused(deployed: Any) -> None:
    revision = deployed.revision()
    outcome = deployed.apply("rescale", "web/api", {"role": "champion", "replicas": 2}, expect=revision - 1)
    assert outcome.status == "refused"
    assert str(revision) in outcome.detail
    assert deployed.service().roles["champion"].wanted == 1
    assert deployed.revision() == revision


def test_a_lower_fence_is_refused_also_after_a_restart(deployed: Any) -> None:
    def try_fence(fence: int, replicas: int) -> Outcome:
        return deployed.apply("rescale", "web/api", {"role": "canary", "replicas": replicas}, fence=fence)

    assert try_fence(7, 2).status == "done"
    refused = try_fence(6, 3)
    assert refused.status == "refused"
    assert "6" in refused.detail
    assert "7" in refused.detail
    revision, cursor = deployed.revision(), deployed.platform.watch(0)[-1].cursor
    deployed.case.restart()
    assert try_fence(6, 3).status == "refused"
    assert deployed.service().roles["canary"].wanted == 2
    # what was known before the restart is known after it
    assert deployed.revision() == revision
    assert cursor in [notice.cursor for notice in deployed.platform.watch(0)]
    assert try_fence(7, 1).status == "done"
    deployed.settle()
    assert deployed.apply("reroute", "web/api", {"weights": {"champion": 100}}, fence=8).status == "unchanged"


def test_what_is_not_there_is_absent(deployed: Any) -> None:
    for target in ("nothing", "nothing/api", "web/nothing"):
        assert deployed.platform.observe(target).kind == "absent"
    assert deployed.platform.lookup("nothing") is None


def test_notices_come_in_order_and_once(deployed: Any) -> None:
    cursor = deployed.platform.watch(0)[-1].cursor
    # other workflows may go on meanwhile
    assert all(notice.cursor > cursor for notice in deployed.platform.watch(cursor))
    deployed.apply("reroute", "web/api", {"weights": {"champion": 95, "canary": 5}}, fence=8)
    deployed.apply("reroute", "web/api", {"weights": {"champion": 100}}, fence=8)
    new = [notice for notice in deployed.platform.watch(cursor) if notice.target == "web/api" and "weights" in notice.data]
    assert [notice.data["weights"]["champion"] for notice in new] == [95, 100]
    everything = [notice.cursor for notice in deployed.platform.watch(0)]
    assert everything == sorted(set(everything))


def test_a_run_is_started_once_and_stopped_once(deployed: Any) -> None:
    change = deployed.change("run", "job", deployed.run("run-1"))
    outcome = deployed.platform.apply(change, 1)
    assert outcome.status == "done", outcome.detail
    assert deployed.platform.apply(change, 1) == outcome
    # another change that names the same run finds it there
    deployed.apply("run", "job", deployed.run("run-1"))
    assert [run.id for run in deployed.platform.runs() if run.workflow == "job"] == ["run-1"]
    state = deployed.platform.observe("job")
    assert state.kind == "batch"
    assert [run.id for run in state.runs] == ["run-1"]

    doubled = deployed.apply("retrain", "job", deployed.run("run-2"))
    assert doubled.status == "refused"
    assert "run-1" in doubled.detail

    stopped = deployed.apply("stop", "job", {"run_ids": ["run-1"]})
    assert stopped.status == "done"
    assert stopped.before == {"run_ids": ["run-1"]}
    deployed.case.wait_until(lambda: deployed.platform.observe("job").runs[0].status == "stopped")
    assert deployed.apply("stop", "job", {"run_ids": ["run-1"]}).status == "unchanged"

    assert deployed.apply("retrain", "job", deployed.run("run-3")).status == "done"
    assert deployed.apply("stop", "job", {"run_ids": ["run-3"]}).status == "done"


def test_a_deleted_workflow_is_gone_and_its_before_brings_it_back(deployed: Any) -> None:
    deployed.apply("rescale", "web/api", {"role": "champion", "replicas": 2}, fence=8)
    service = deployed.service()
    outcome = deployed.apply("delete", "web", {}, fence=8)
    assert outcome.status == "done"
    assert deployed.platform.observe("web").kind == "absent"
    assert deployed.platform.observe("web/api").kind == "absent"
    assert deployed.apply("delete", "web", {}, fence=8).status == "unchanged"
    assert deployed.apply("rescale", "web/api", {"role": "champion", "replicas": 1}, fence=8).status == "refused"

    assert deployed.apply("deploy", "web", outcome.before, fence=8).status == "done"
    again = deployed.service()
    assert again.weights == service.weights
    assert {role: (entry.model, entry.wanted) for role, entry in again.roles.items()} == {
        role: (entry.model, entry.wanted) for role, entry in service.roles.items()
    }
