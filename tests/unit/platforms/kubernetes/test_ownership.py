from typing import Any

from autonomic.platforms.kubernetes.adopted import ownership

REPLICAS, LIMIT = ("spec", "replicas"), ("spec", "limit")
KUBECTL = {"manager": "kubectl", "operation": "Update", "apiVersion": "apps/v1", "subresource": "scale"}
HELM = {"manager": "helm", "operation": "Apply", "apiVersion": "apps/v1"}
OURS = {"manager": "autonomic", "operation": "Apply", "apiVersion": "apps/v1"}


def entry(owner: dict[str, str], *fields: str) -> dict[str, Any]:
    return {**owner, "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {f"f:{name}": {} for name in fields}}}


def item(*entries: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"managedFields": list(entries)}, "spec": spec}


def test_who_owns_a_field_is_told_without_us() -> None:
    found = item(entry(KUBECTL, "replicas"), entry(HELM, "template"), entry(OURS, "replicas"))
    assert ownership.owners(found, REPLICAS) == [KUBECTL]
    assert ownership.is_ours(found, REPLICAS)
    assert not ownership.is_ours(found, ("spec", "template"))
    assert ownership.owners({"metadata": {}}, REPLICAS) == []


def test_a_write_of_ours_that_is_no_apply_is_not_ownership() -> None:
    assert not ownership.is_ours(item(entry({**OURS, "operation": "Update"}, "replicas")), REPLICAS)


def test_values_are_read_and_applied_by_their_paths() -> None:
    assert ownership.value_of(item(replicas=2), REPLICAS) == 2
    assert ownership.value_of(item(), REPLICAS) is None
    assert ownership.applied([(REPLICAS, 2), (LIMIT, 3)]) == {"spec": {"replicas": 2, "limit": 3}}


def test_a_field_goes_back_to_the_entry_of_its_owner_and_ours_goes() -> None:
    found = item(entry(HELM, "template"), entry(OURS, "replicas"))
    assert ownership.given_back(found, [(REPLICAS, [HELM])]) == [entry(HELM, "template", "replicas")]
    assert found == item(entry(HELM, "template"), entry(OURS, "replicas"))


def test_an_owner_who_had_nothing_else_has_an_entry_again() -> None:
    (back,) = ownership.given_back(item(entry(OURS, "replicas")), [(REPLICAS, [KUBECTL])])
    assert back == {**KUBECTL, "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}}


def test_what_nobody_owned_is_nobodys_and_what_was_taken_from_us_stays_with_its_owner() -> None:
    assert ownership.given_back(item(entry(OURS, "replicas")), [(REPLICAS, [])]) == []
    taken = item(entry(KUBECTL, "replicas"), entry(OURS, "limit"))
    assert ownership.given_back(taken, [(REPLICAS, [HELM]), (LIMIT, [])]) == [entry(KUBECTL, "replicas")]


def test_an_item_of_a_list_is_found_by_its_name_applied_by_it_and_given_back() -> None:
    path = ("spec", "containers", ownership.in_list("web"), "image")
    found = item(containers=[{"name": "proxy", "image": "a"}, {"name": "web", "image": "b"}])
    assert ownership.words(path) == "spec.containers[web].image"
    assert ownership.value_of(found, path) == "b"
    assert ownership.value_of(item(containers=[{"name": "proxy"}]), path) is None
    assert ownership.applied([(path, "c")]) == {"spec": {"containers": [{"name": "web", "image": "c"}]}}
    held = {"f:spec": {"f:containers": {'k:{"name":"web"}': {"f:image": {}}}}}
    found["metadata"]["managedFields"] = [{**OURS, "fieldsType": "FieldsV1", "fieldsV1": held}]
    assert ownership.is_ours(found, path)
    assert ownership.given_back(found, [(path, [HELM])]) == [{**HELM, "fieldsType": "FieldsV1", "fieldsV1": held}]
