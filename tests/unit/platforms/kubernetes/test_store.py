"""The memory in ConfigMaps: what was written is found, also by the next writer, and an older writer is refused."""

from collections.abc import Iterator
from typing import Any

import pytest

from autonomic.platforms.host.intents import Intents, Prepared
from autonomic.platforms.host.notices import Notices
from autonomic.platforms.kubernetes.objects.api import Api
from autonomic.platforms.kubernetes.objects.store import ConfigMapStore, Lost, group_of, object_name
from autonomic.platforms.kubernetes.settings import KubernetesSettings
from autonomic.seams.clock import VirtualClock
from autonomic.seams.plan import Change


@pytest.fixture
def api(settings: KubernetesSettings) -> Iterator[Api]:
    made = Api(settings)
    yield made
    made.close()


def test_what_changes_together_stands_together() -> None:
    assert group_of("fence/web/api") == group_of("revision/web") == group_of("intent/web/key-1") == "target/web"
    assert group_of("app/web--api") == group_of("manifest/web--api")
    assert group_of("request/r1") == group_of("state/r1") == group_of("place/r1/step") != group_of("state/r2")
    assert group_of("outcome/a") != group_of("outcome/b")
    assert group_of("notice/000000000049") == group_of("notice/000000000000") != group_of("notice/000000000050")


@pytest.mark.parametrize("group", ["outcome/Plan_7.revert", "workflow/9lives", "target/" + "w" * 53, "run/run-1"])
def test_names_of_objects_are_names_for_kubernetes(group: str) -> None:
    name = object_name("autonomic", group)
    assert len(name) < 253
    assert all(part.replace("-", "").isalnum() and part == part.lower() for part in name.split("."))
    assert name != object_name("autonomic", group + "x")


def test_values_are_found_again_and_also_after_a_restart(api: Api, api_server: Any) -> None:
    store = ConfigMapStore(api, "autonomic")
    store.put("fence/web/api", 7)
    store.put("revision/web/api", 3)
    store.put("outcome/a", {"x": [1, None, "ü"]})
    assert store.put_new("request/r1", {"a": 1})
    assert not store.put_new("request/r1", {"a": 2})
    assert len(api_server.objects) == 3
    for each in (store, ConfigMapStore(api, "autonomic")):
        assert each.get("outcome/a") == {"x": [1, None, "ü"]}
        assert each.get("request/r1") == {"a": 1}
        assert each.get("nothing") is None
        assert each.keys("") == ["fence/web/api", "outcome/a", "request/r1", "revision/web/api"]
        assert each.keys("fence/") == ["fence/web/api"]
    store.delete("fence/web/api")
    store.delete("outcome/a")
    store.delete("outcome/a")
    assert len(api_server.objects) == 2
    assert ConfigMapStore(api, "autonomic").keys("") == ["request/r1", "revision/web/api"]


def test_two_writers_never_have_the_same_epoch_and_the_older_one_is_refused(api: Api) -> None:
    clock = VirtualClock()
    stores = [ConfigMapStore(api, "autonomic") for _ in range(3)]
    for store in stores:
        store.epoch = Intents(store, _NoEffects(), clock).epoch
    assert [store.epoch for store in stores] == [1, 2, 3]
    oldest, older, newest = stores
    older.put("revision/web", 1)
    # it has never seen what the other one wrote
    with pytest.raises(Lost, match="epoch 1 is over"):
        oldest.put("revision/web", 9)
    # the newest writer writes over what an older one wrote meanwhile
    newest.put("revision/web", 2)
    assert ConfigMapStore(api, "autonomic").get("revision/web") == 2
    with pytest.raises(Lost):
        older.delete("revision/web")


def test_an_older_writer_carries_out_no_change(api: Api) -> None:
    clock, effects = VirtualClock(), _NoEffects()
    old, new = ConfigMapStore(api, "autonomic"), ConfigMapStore(api, "autonomic")
    first, second = Intents(old, effects, clock), Intents(new, effects, clock)
    old.epoch, new.epoch = first.epoch, second.epoch
    change = Change(key="k", primitive="rescale", target="web/api", to={})
    with pytest.raises(Exception, match="taken over"):
        first.apply(change, 1)
    assert effects.performed == 0
    assert second.apply(change, 1).status == "done"
    assert effects.performed == 1


def test_an_answer_that_was_lost_is_no_other_writer(api: Api, api_server: Any) -> None:
    store = ConfigMapStore(api, "autonomic")
    store.put("fence/web", 1)
    # the write is carried out and the answer lost: it is sent again, and finds its own version gone
    seen = api_server.answer

    def lose(method: str, path: str, body: Any) -> Any:
        api_server.answer = seen
        seen(method, path, body)
        return 502, {}, {"message": "the way back is broken"}

    api_server.answer = lose
    store.put("fence/web", 2)
    assert ConfigMapStore(api, "autonomic").get("fence/web") == 2


def test_notices_share_few_objects_and_old_ones_go(api: Api, api_server: Any) -> None:
    notices = Notices(ConfigMapStore(api, "autonomic"), VirtualClock(), kept=60)
    for number in range(130):
        notices.tell("said", "web", {"number": number})
    again = Notices(ConfigMapStore(api, "autonomic"), VirtualClock(), kept=60)
    assert [notice.data["number"] for notice in again.watch(0)] == list(range(70, 130))
    assert len(api_server.objects) == 2


def test_a_memory_that_somebody_deleted_is_written_again_by_the_writer_that_holds_it(api: Api, api_server: Any) -> None:
    store = ConfigMapStore(api, "autonomic")
    store.epoch = Intents(store, _NoEffects(), VirtualClock()).epoch
    store.put("workflow/web", {"services": {}})
    store.put("revision/web", 3)
    store.put("fence/web", 2)
    kept = {key: store.get(key) for key in store.keys("") if not key.startswith("epoch/")}
    api_server.objects.clear()
    # a write brings back what stood beside it, and not only itself
    store.put("fence/web", 3)
    assert ConfigMapStore(api, "autonomic").get("revision/web") == 3
    assert store.heal(frozenset(api_server.objects)) == ["epochs", "workflow/web"]
    again = ConfigMapStore(api, "autonomic")
    assert {key: again.get(key) for key in again.keys("") if not key.startswith("epoch/")} == {**kept, "fence/web": 3}
    assert again.newest_epoch() == store.epoch
    # nothing is missing any more, and what we delete ourselves stays deleted
    store.delete("workflow/web")
    assert store.heal(frozenset()) == []
    assert again.newest_epoch() == store.epoch


def test_what_a_younger_writer_deleted_stays_deleted(api: Api, api_server: Any) -> None:
    old = ConfigMapStore(api, "autonomic")
    old.epoch = Intents(old, _NoEffects(), VirtualClock()).epoch
    old.put("workflow/web", {})
    young = ConfigMapStore(api, "autonomic")
    young.epoch = Intents(young, _NoEffects(), VirtualClock()).epoch
    young.delete("workflow/web")
    with pytest.raises(Lost):
        old.heal(frozenset(api_server.objects))
    assert ConfigMapStore(api, "autonomic").get("workflow/web") is None


def test_epochs_go_on_where_the_memory_of_them_is_lost(api: Api) -> None:
    store = ConfigMapStore(api, "autonomic")
    store.raise_epoch(7)
    assert Intents(store, _NoEffects(), VirtualClock()).epoch == 8
    store.raise_epoch(7)
    assert store.newest_epoch() == 8


class _NoEffects:
    def __init__(self) -> None:
        self.performed = 0

    def prepare(self, change: Change) -> Prepared:
        return Prepared(to=change.to, before={}, moves=(change.target,))

    def perform(self, change: Change, before: dict[str, Any]) -> dict[str, Any]:
        self.performed += 1
        return change.to
