"""What service accounts may do, beside what they did: the rules of Roles against the API server's audit log. Pure."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

_ACCOUNT = "system:serviceaccount:"


class Right(NamedTuple):
    """One verb on one resource (`pods/log` is one of its own) of an API group."""

    group: str
    resource: str
    verb: str


class Asked(NamedTuple):
    """What one service account (`namespace/name`) asked for: how often it was let, and how often it was not."""

    let: Counter[Right]
    denied: Counter[Right]


def granted(rules: Iterable[Mapping[str, Sequence[str]]]) -> frozenset[Right]:
    """The rights that the rules of a Role give."""
    return frozenset(
        Right(group, resource, verb)
        for rule in rules
        for group in rule.get("apiGroups", ())
        for resource in rule.get("resources", ())
        for verb in rule.get("verbs", ())
    )


def asked(lines: Iterable[str]) -> dict[str, Asked]:
    """What each service account asked for, by the lines of audit logs.

    A server-side apply that makes its object asks for `patch` and then for `create`, of which the log has one entry.
    """
    found: dict[str, Asked] = {}
    seen: set[str] = set()
    for line in lines:
        event = json.loads(line)
        # who was not let in has no name
        user, what = event["user"].get("username", ""), event.get("objectRef")
        # a watch is told of twice, when it begins and when it ends
        if not user.startswith(_ACCOUNT) or what is None or event["auditID"] in seen:
            continue
        seen.add(event["auditID"])
        resource = "/".join(part for part in (what["resource"], what.get("subresource", "")) if part)
        right = Right(what.get("apiGroup", ""), resource, event["verb"])
        of_account = found.setdefault(user.removeprefix(_ACCOUNT).replace(":", "/"), Asked(Counter(), Counter()))
        answer = event.get("responseStatus", {})
        if event.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid":
            of_account.denied[right] += 1
            continue
        of_account.let[right] += 1
        if right.verb == "patch" and answer.get("code") == 201:
            of_account.let[right._replace(verb="create")] += 1
        elif right.verb == "patch" and answer.get("code") == 403 and "cannot create resource" in answer.get("message", ""):
            of_account.denied[right._replace(verb="create")] += 1
    return found


def bindings(roles: Iterable[Mapping[str, Any]], bound: Iterable[Mapping[str, Any]]) -> dict[str, frozenset[Right]]:
    """The rights of each service account (`namespace/name`) by Roles and RoleBindings as the API server lists them."""
    rules = {(role["metadata"]["namespace"], role["metadata"]["name"]): granted(role.get("rules") or ()) for role in roles}
    found: dict[str, frozenset[Right]] = {}
    for one in bound:
        namespace = one["metadata"]["namespace"]
        given = rules.get((namespace, one["roleRef"]["name"])) if one["roleRef"]["kind"] == "Role" else None
        if given is None:
            continue
        for subject in one.get("subjects") or ():
            if subject["kind"] == "ServiceAccount":
                name = f"{subject.get('namespace', namespace)}/{subject['name']}"
                found[name] = found.get(name, frozenset()) | given
    return found
