from typing import Any

from hypothesis import given
from hypothesis import strategies as some

from autonomic.platforms.host import records
from autonomic.platforms.host.records import ServiceRecord
from autonomic.workflows.spec.workflow import Service

OTHERS = some.sets(some.sampled_from(["canary", "backup"]))


def service(**fields: Any) -> Service:
    return Service.model_validate({"name": "api", "model": "models:/m/1", "replicas": {"min": 1, "max": 4}, **fields})


def deployed(spec: Service, key: str = "k.1", current: ServiceRecord | None = None, now: float = 0.0, **kept: Any) -> ServiceRecord:
    return records.after_deploy("web", spec, records.wanted_models(spec), current, kept, key, now)


@given(OTHERS, some.integers(0, 100), OTHERS)
def test_weights_always_belong_to_the_roles_and_add_up_to_100(before: set[str], canary: int, after: set[str]) -> None:
    record = deployed(service(**dict.fromkeys(before, "models:/m/2"), traffic={"canary": f"{canary}%"}))
    assert set(record.weights) == set(record.roles)
    assert sum(record.weights.values()) == 100
    changes = {role: "models:/m/3" if role in after else "" for role in ("canary", "backup")}
    changed = records.after_upgrade("web", record, changes, "k.2", 1.0)
    assert set(changed.roles) == {"champion", *after}
    assert set(changed.weights) == set(changed.roles)
    assert sum(changed.weights.values()) == 100
    assert all(weight >= 0 for weight in changed.weights.values())


def test_what_a_replica_is_started_with_decides_whether_it_is_started_anew() -> None:
    record = deployed(service(backup="models:/m/0"))
    same = deployed(service(backup="models:/m/0"), "k.2", record)
    assert same == record
    # bounds and traffic do not concern a replica that runs
    wider = deployed(service(backup="models:/m/0", replicas={"min": 2, "max": 8}, traffic={"canary": "5%"}), "k.2", record)
    assert {role: entry.app for role, entry in wider.roles.items()} == {role: entry.app for role, entry in record.roles.items()}
    assert wider.roles["champion"].replicas == 2
    other = deployed(service(backup="models:/m/0", max_in_flight=8), "k.2", record)
    assert not {entry.app for entry in other.roles.values()} & {entry.app for entry in record.roles.values()}


def test_a_new_deploy_keeps_what_was_scaled_and_routed_meanwhile() -> None:
    record = records.after_rescale(deployed(service(canary="models:/m/2")), "champion", 3)
    record = record.model_copy(update={"weights": {"champion": 60, "canary": 40}})
    again = deployed(service(canary="models:/m/2", traffic={"canary": "10%"}), "k.2", record)
    assert again.roles["champion"].replicas == 3
    assert again.weights == {"champion": 60, "canary": 40}
    narrower = deployed(service(canary="models:/m/2", replicas={"min": 1, "max": 2}), "k.2", record)
    assert narrower.roles["champion"].replicas == 2


def test_since_moves_only_with_the_champion() -> None:
    record = deployed(service(backup="models:/m/0"), now=5.0)
    assert records.after_upgrade("web", record, {"backup": "models:/m/1"}, "k.2", 9.0).since == 5.0
    assert records.after_upgrade("web", record, {"champion": "models:/m/2"}, "k.2", 9.0).since == 9.0
    assert deployed(service(backup="models:/m/0"), "k.2", record, now=9.0).since == 5.0
    assert deployed(service(model="models:/m/2"), "k.2", record, now=9.0).since == 9.0


def test_standby_is_run_beside_what_is_wanted_and_only_for_the_champion() -> None:
    spec = service(replicas={"min": 1, "max": 4, "standby": 2})
    assert records.serve_target(spec, "champion", 1) == 3
    assert records.serve_target(spec, "backup", 1) == 1


GPUS = {"cpu": 1, "gpu": 1, "accelerator": "L4", "min": {"gpu": 0}}


def test_bounds_of_a_size_start_no_replica_anew_and_another_type_of_gpu_does() -> None:
    record = deployed(service(resources=GPUS))
    wider = deployed(service(resources={**GPUS, "max": {"cpu": 4, "gpu": 2}}), "k.2", record)
    assert wider.roles == record.roles
    others = deployed(service(resources={**GPUS, "accelerator": "A100"}), "k.2", record)
    assert others.roles["champion"].app != record.roles["champion"].app


def test_a_size_without_gpus_keeps_their_type_for_later() -> None:
    record = records.after_resize(deployed(service(resources=GPUS)), {"cpu": 1.0, "memory": None, "gpu": 0.0})
    assert record.variation["resources"] == {"cpu": 1.0, "memory": None, "gpu": 0.0, "accelerator": "L4"}
    assert records.after_resize(record, {"cpu": 1.0, "memory": None, "gpu": 1.0}) == deployed(service(resources=GPUS))
