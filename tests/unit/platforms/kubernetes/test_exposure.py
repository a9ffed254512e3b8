"""What exposes a service to a cluster, and what keeps it from being exposed."""

from pathlib import Path
from typing import Any

import pytest

from autonomic.platforms.host.intents import Refused
from autonomic.platforms.kubernetes.services import exposure
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.seams.errors import Permanent
from autonomic.workflows.spec.workflow import Service, Tls


def settings(**more: Any) -> KubernetesSettings:
    return KubernetesSettings.model_validate({"home": Path("/home"), "image": "image:1", "namespace": "here", **more})


def test_a_service_of_the_cluster_leads_to_the_front() -> None:
    wanted = Service.model_validate({"name": "api", "model": "file:///m", "expose": "NodePort", "tls": {"secret": "web"}})
    service, endpoints = exposure.exposed(settings(front_address="10.1.2.3"), "web", wanted, 7443)
    assert (service["metadata"]["name"], service["spec"]["type"]) == ("web-api", "NodePort")
    assert service["spec"]["ports"] == [{"name": "https", "appProtocol": "https", "port": 443, "targetPort": 7443}]
    # pods of the cluster are no endpoints of it: they would go round the queue and the weights
    assert "selector" not in service["spec"]
    assert endpoints["metadata"]["labels"]["kubernetes.io/service-name"] == "web-api"
    assert (endpoints["addressType"], endpoints["endpoints"][0]["addresses"]) == ("IPv4", ["10.1.2.3"])
    assert endpoints["ports"] == [{"name": "https", "appProtocol": "https", "port": 7443}]
    for one in (service, endpoints):
        assert "ownerReferences" not in one["metadata"]
        labels = one["metadata"]["labels"]
        assert (labels["app.kubernetes.io/part-of"], labels["app.kubernetes.io/component"]) == ("web", "front")
        assert (labels["autonomic.dev/workflow"], labels["autonomic.dev/service"]) == ("web", "api")
    plain = wanted.model_copy(update={"tls": None, "expose": "ClusterIP"})
    service, endpoints = exposure.exposed(settings(front_address="0.0.0.0", host_address="fd00::1"), "web", plain, 7080)
    assert service["spec"]["ports"] == [{"name": "http", "appProtocol": "http", "port": 80, "targetPort": 7080}]
    assert (endpoints["addressType"], endpoints["endpoints"][0]["addresses"]) == ("IPv6", ["fd00::1"])


UNREACHABLE = [{}, {"front_address": "127.0.0.1"}, {"front_address": "0.0.0.0"}, {"front_address": "0.0.0.0", "host_address": "a.name"}]


@pytest.mark.parametrize("given", UNREACHABLE)
def test_a_front_that_nodes_do_not_reach_exposes_nothing(given: dict[str, str]) -> None:
    with pytest.raises(Refused, match="front_address"):
        exposure.front_address(settings(**given))


@pytest.mark.parametrize("pem", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_certificate_that_cannot_be_used_is_found_out_before_the_front_is_told(tmp_path: Path, pem: bytes) -> None:
    with pytest.raises(Permanent, match="cannot be used"):
        exposure.check_certificate(tmp_path, pem)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [{}, {"secret": "a", "key": "/k", "certificate": "/c"}, {"key": "/k"}, {"certificate": "/c"}])
def test_a_certificate_comes_from_one_place(words: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="either secret: or both of certificate: and key:"):
        Tls.model_validate(words)
