"""What the API server's refusals become."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autonomic.platforms.kubernetes.objects.api import CONFIG_MAPS, DEPLOYMENTS, Api, Conflict, Forbidden
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.seams.clock import VirtualClock
from autonomic.seams.errors import Permanent, Retryable

BODY = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {}}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def api(settings: KubernetesSettings, clock: VirtualClock) -> Iterator[Api]:
    made = Api(settings, clock)
    yield made
    made.close()


def busy(status: int, seconds: str = "") -> Any:
    return status, {"Retry-After": seconds} if seconds else {}, {"message": "busy"}


def refused(status: int, message: str) -> Any:
    """A refusal, also when it is asked again; between the two it says that it is ready."""
    refusal = (status, {}, {"message": message})
    return [refusal, (200, {}, {}), refusal]


RBAC = 'User "me" cannot {0} resource "{1}" in API group "{2}" in the namespace "here"'


@pytest.mark.parametrize(
    ("verb", "resource", "group"), [("create", "deployments", "apps"), ("patch", "pods/resize", ""), ("list", "nodes", "")]
)
def test_the_right_that_is_named_is_the_one_that_kubernetes_wants(api: Api, api_server: Any, verb: str, resource: str, group: str) -> None:
    """A server-side apply of an object that is not there needs another verb than its method stands for."""
    api_server.trouble = refused(403, f"it is forbidden: {RBAC.format(verb, resource, group)}")
    with pytest.raises(Forbidden, match=f"must allow the verb {verb} on the resource {resource} of the API group {group!r}"):
        api.apply(DEPLOYMENTS, BODY)


def test_what_a_policy_forbids_is_no_missing_right(api: Api, api_server: Any) -> None:
    why = 'pods "one" is forbidden: failed quota: small: must specify limits.memory'
    api_server.trouble = refused(403, why)
    with pytest.raises(Permanent, match="must specify") as raised:
        api.create(CONFIG_MAPS, BODY)
    assert not isinstance(raised.value, Forbidden)
    assert "must allow" not in str(raised.value)


def test_a_busy_server_is_asked_again_after_the_time_that_it_names(api: Api, api_server: Any, clock: VirtualClock) -> None:
    api_server.trouble = [busy(429, "3"), busy(429, "2")]
    started = clock.now()
    api.create(CONFIG_MAPS, BODY)
    assert clock.now() - started == 5
    assert [method for method, _ in api_server.asked] == ["POST", "POST", "POST"]


def test_a_server_that_stays_busy_is_for_later(api: Api, api_server: Any, clock: VirtualClock) -> None:
    api_server.trouble = [busy(503, "4")] * 9
    started = clock.now()
    with pytest.raises(Retryable, match="503") as raised:
        api.create(CONFIG_MAPS, BODY)
    assert raised.value.delay_seconds == 4
    assert clock.now() - started <= 10
    assert api_server.objects == {}


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_server_that_stumbles_is_asked_again(api: Api, api_server: Any, status: int) -> None:
    api_server.trouble = [busy(status)]
    assert api.create(CONFIG_MAPS, BODY)["metadata"]["name"] == "one"


def test_a_missing_right_is_named(api: Api, api_server: Any) -> None:
    api_server.trouble = refused(403, 'deployments.apps "one" is forbidden: User "system:serviceaccount:here:me" cannot patch')
    with pytest.raises(Forbidden) as raised:
        api.apply(DEPLOYMENTS, BODY)
    for part in ("system:serviceaccount:here:me", "verb patch", "resource deployments", "API group 'apps'", "namespace here"):
        assert part in str(raised.value)
    assert [method for method, _ in api_server.asked] == ["PATCH", "GET", "PATCH", "GET"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_is_starting_does_not_know_yet_who_may_what(api: Api, api_server: Any, status: int) -> None:
    api_server.trouble = [(status, {}, {"message": "forbidden"}), (500, {}, {"message": "[-]poststarthook/rbac/bootstrap-roles failed"})]
    with pytest.raises(Retryable, match="is starting"):
        api.apply(DEPLOYMENTS, BODY)


def test_a_server_without_its_own_roles_is_starting_whatever_it_says_of_itself(api: Api, api_server: Any) -> None:
    message = 'cannot patch resource: RBAC: [clusterrole.rbac.authorization.k8s.io "system:discovery" not found]'
    api_server.trouble = [(403, {}, {"message": message})]
    with pytest.raises(Retryable, match="is starting"):
        api.apply(DEPLOYMENTS, BODY)


def test_a_server_that_has_just_started_is_believed_the_second_time(api: Api, api_server: Any) -> None:
    api_server.trouble = [(403, {}, {"message": "forbidden"})]
    assert api.create(CONFIG_MAPS, BODY)["metadata"]["name"] == "one"


def test_a_quota_is_no_missing_right(api: Api, api_server: Any) -> None:
    api_server.trouble = refused(403, 'deployments.apps "one" is forbidden: exceeded quota: small, requested: count=1')
    with pytest.raises(
        Permanent, match=r"A quota of the namespace here leaves no room to patch deployments\.apps: .*exceeded quota: small"
    ):
        api.apply(DEPLOYMENTS, BODY)


def test_an_object_that_is_another_one_by_now_is_a_conflict(api: Api) -> None:
    made = api.create(CONFIG_MAPS, BODY)
    with pytest.raises(Conflict):
        api.create(CONFIG_MAPS, BODY)
    version = made["metadata"]["resourceVersion"]
    assert api.patch(CONFIG_MAPS, "one", {"metadata": {"resourceVersion": version}, "data": {"a": "1"}})
    with pytest.raises(Conflict):
        api.patch(CONFIG_MAPS, "one", {"metadata": {"resourceVersion": version}, "data": {"a": "2"}})
    assert api.patch(CONFIG_MAPS, "none", {"data": {}}) is None
    assert api.get(CONFIG_MAPS, "none") is None
    api.delete(CONFIG_MAPS, "none")


@pytest.mark.parametrize(("status", "kind"), [(401, Permanent), (422, Permanent)])
def test_other_refusals(api: Api, api_server: Any, status: int, kind: type[Exception]) -> None:
    api_server.trouble = refused(status, "no")
    with pytest.raises(kind):
        api.list(CONFIG_MAPS, "a=b")


def test_a_server_that_is_away_is_for_later(settings: KubernetesSettings, api_server: Any) -> None:
    api = Api(settings)
    api_server.close()
    try:
        with pytest.raises(Retryable, match="does not answer"):
            api.get(CONFIG_MAPS, "one")
    finally:
        api.close()


def test_a_watch_that_breaks_off_says_that_the_server_does_not_answer(api: Api, api_server: Any) -> None:
    api_server.trouble = [(200, {"transfer-encoding": "chunked", "connection": "close"}, b"5\r\nab")]
    answer = api.watch(CONFIG_MAPS, {"watch": "true"}, 5)
    with pytest.raises(Retryable, match="does not answer"):
        list(api.events(answer))


def test_without_credentials_it_says_where_they_could_come_from(settings: KubernetesSettings) -> None:
    with pytest.raises(Permanent, match="KUBECONFIG"):
        Api(settings.model_copy(update={"kubeconfig": "/nowhere/at/all"}))


def test_a_server_that_is_away_frozen_or_starting_is_named_at_once(api: Api, api_server: Any, settings: KubernetesSettings) -> None:
    assert api.trouble(2.0) == ""
    api_server.trouble = [(500, {}, {"message": "starting"})]
    assert f"{api_server.url} answers 500" in api.trouble(2.0)
    # one that is frozen takes connections and answers nothing
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        config = Path(settings.kubeconfig)
        config.write_text(config.read_text().replace(api_server.url, f"http://127.0.0.1:{frozen.getsockname()[1]}"))
        silent = Api(settings)
        started = time.monotonic()
        assert f"127.0.0.1:{frozen.getsockname()[1]} does not answer" in silent.trouble(0.4)
        silent.close()
    # far less than the time of an answer that is worth waiting for
    assert time.monotonic() - started < settings.request_seconds
