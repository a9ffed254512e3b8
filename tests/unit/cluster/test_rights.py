import json
from collections import Counter
from typing import Any

from autonomic.cli.embedded.kubernetes.rights import Right, asked, bindings, granted

PODS = Right("", "pods", "list")
LOG = Right("", "pods/log", "get")


def event(number: int, verb: str, resource: str, *, user: str = "system:serviceaccount:ml:host", **more: Any) -> str:
    return json.dumps({"auditID": str(number), "verb": verb, "user": {"username": user}, "objectRef": {"resource": resource}} | more)


def test_rules_are_one_right_for_each_verb_on_each_resource() -> None:
    rules = [{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get"]}, {"nonResourceURLs": ["/x"], "verbs": ["get"]}]
    assert granted(rules) == {Right("", "pods", "get"), LOG}


def test_requests_are_counted_by_account_once_each() -> None:
    of_log = {"objectRef": {"resource": "pods", "subresource": "log"}}
    lines = [
        event(1, "list", "pods"),
        event(2, "list", "pods"),
        event(2, "list", "pods"),
        event(3, "get", "pods", **of_log),
        event(4, "list", "pods", user="admin"),
        json.dumps({"auditID": "6", "verb": "list", "user": {}, "objectRef": {"resource": "pods"}}),
        json.dumps({"auditID": "5", "verb": "get", "user": {"username": "system:serviceaccount:ml:host"}, "requestURI": "/version"}),
    ]
    found = asked(lines)
    assert list(found) == ["ml/host"]
    assert found["ml/host"].let == Counter({PODS: 2, LOG: 1})
    assert not found["ml/host"].denied


def test_what_was_forbidden_is_denied() -> None:
    forbidden = {"annotations": {"authorization.k8s.io/decision": "forbid"}, "responseStatus": {"code": 403}}
    found = asked([event(1, "list", "pods", **forbidden)])["ml/host"]
    assert (found.let, found.denied) == (Counter(), Counter({PODS: 1}))


def test_an_apply_that_makes_its_object_needs_create_as_well() -> None:
    made = asked([event(1, "patch", "services", responseStatus={"code": 201})])["ml/host"]
    assert set(made.let) == {Right("", "services", "patch"), Right("", "services", "create")}
    message = 'services "x" is forbidden: User "u" cannot create resource "services" in API group ""'
    refused = asked([event(1, "patch", "services", responseStatus={"code": 403, "message": message})])["ml/host"]
    assert set(refused.denied) == {Right("", "services", "create")}
    full = asked([event(1, "patch", "services", responseStatus={"code": 403, "message": "exceeded quota"})])["ml/host"]
    assert not full.denied


def test_an_account_has_the_rights_of_the_roles_that_are_bound_to_it() -> None:
    role = {"metadata": {"namespace": "ml", "name": "r"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]}
    subjects = [{"kind": "ServiceAccount", "name": "host"}, {"kind": "User", "name": "ann"}]
    binding = {"metadata": {"namespace": "ml", "name": "b"}, "roleRef": {"kind": "Role", "name": "r"}, "subjects": subjects}
    of_cluster = {**binding, "roleRef": {"kind": "ClusterRole", "name": "r"}}
    assert bindings([role], [binding, of_cluster]) == {"ml/host": {PODS}}
