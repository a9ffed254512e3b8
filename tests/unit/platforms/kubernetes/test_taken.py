"""Fields that became ours, of objects that somebody else may delete and make again."""

from collections.abc import Iterator
from typing import Any

import pytest

from autonomic.platforms.kubernetes.adopted.taken import Owned, Taken, TakenFields
from autonomic.platforms.kubernetes.adopted.workloads import event_words
from autonomic.platforms.kubernetes.objects.api import CONFIG_MAPS, Api
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.seams.plan import Change

OF = Owned(resource=CONFIG_MAPS, kind="ConfigMap", version="v1", name="theirs")
PATH = ("data", "size")


@pytest.fixture
def api(settings: KubernetesSettings) -> Iterator[Api]:
    made = Api(settings)
    yield made
    made.close()


def theirs(uid: str, size: str) -> dict[str, Any]:
    return {"metadata": {"name": "theirs", "uid": uid, "resourceVersion": "1"}, "data": {"size": size}}


def test_only_the_same_object_is_changed_after_us(api: Api, api_server: Any) -> None:
    fields, kept = TakenFields(api), list[tuple[Taken, ...]]()
    api_server.objects["theirs"] = theirs("first", "1")
    fields.write((), OF, {PATH: "2"}, kept.append)
    (taken,) = kept[-1]
    assert (taken.uid, taken.before, taken.value) == ("first", "1", "2")
    # somebody wrote it after us: that stays, and is known
    api_server.objects["theirs"] = theirs("first", "7")
    assert fields.lost([taken]) == [taken]
    # somebody deleted it and made another one of its name: of that nothing was ours
    api_server.objects["theirs"] = theirs("second", "7")
    assert fields.lost([taken]) == []
    fields.write((taken,), OF, {PATH: "3"}, kept.append)
    (anew,) = kept[-1]
    assert (anew.uid, anew.before, anew.value) == ("second", "7", "3")
    # what is given back is what the object that is there had, not the one before it
    asked = len(api_server.asked)
    fields.release([taken])
    assert [method for method, _ in api_server.asked[asked:]] == ["GET"]


@pytest.mark.parametrize(
    ("primitive", "to", "reason", "words"),
    [
        ("deploy", {}, "Adopted", "adopted by the workflow legacy"),
        ("rescale", {"role": "champion", "replicas": 3}, "Rescale", "replicas 3 (change plan-1.0)"),
        ("delete", {}, "Released", "its fields are its owners' again"),
    ],
)
def test_an_event_on_an_adopted_object_says_what_was_done(primitive: str, to: dict[str, Any], reason: str, words: str) -> None:
    told = event_words(Change(key="plan-1.0", primitive=primitive, target="legacy", to=to))
    assert told[0] == reason
    assert words in told[1]
