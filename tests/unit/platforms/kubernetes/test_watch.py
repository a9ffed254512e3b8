"""A watch that breaks, is told that it is too old, or misses something has the truth in the end."""

import threading
import time
from typing import Any

import pytest

from autonomic.platforms.kubernetes.objects.api import CONFIG_MAPS, Api
from autonomic.platforms.kubernetes.objects.watch import Watch
from autonomic.platforms.kubernetes.settings import KubernetesSettings


def item(name: str, version: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": version}}


class Heard:
    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []
        self._came = threading.Condition()

    def __call__(self, before: Any, now: Any) -> None:
        name = (now or before)["metadata"]["name"]
        what = "came" if before is None else "went" if now is None else now["metadata"]["resourceVersion"]
        with self._came:
            self.changes.append((name, what))
            self._came.notify_all()

    def wait(self, count: int) -> list[tuple[str, str]]:
        with self._came:
            assert self._came.wait_for(lambda: len(self.changes) >= count, 20), self.changes
            return list(self.changes)


@pytest.mark.timeout(60)
def test_events_bookmarks_a_version_that_is_too_old_and_what_was_missed(settings: KubernetesSettings, api_server: Any) -> None:
    api_server.objects = {"a": item("a", "1"), "b": item("b", "1")}
    api_server.version = 5
    asked: list[str] = []
    end = threading.Event()

    def watched(version: str) -> list[dict[str, Any]]:
        asked.append(version)
        if len(asked) == 1:
            return [
                {"type": "MODIFIED", "object": item("a", "6")},
                {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}},
            ]
        if len(asked) == 2:
            # what happened between is only seen by a fresh list
            api_server.objects = {"b": item("b", "1"), "c": item("c", "11")}
            api_server.version = 12
            return [{"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}]
        if len(asked) == 3:
            return [{"type": "DELETED", "object": item("b", "13")}]
        api_server._lock.release()
        end.wait(20)
        api_server._lock.acquire()
        return []

    api_server.watched = watched
    api, heard = Api(settings), Heard()
    watch = Watch(api, CONFIG_MAPS, "a=b", heard)
    watch.start()
    try:
        assert watch.wait(10)
        changes = heard.wait(6)
        assert changes == [("a", "came"), ("b", "came"), ("a", "6"), ("a", "went"), ("c", "came"), ("b", "went")]
        assert list(watch.all()) == ["c"]
        # it went on from the bookmark, and after the list from the list's version
        assert asked[:3] == ["5", "9", "12"]
    finally:
        end.set()
        watch.close()
        api.close()


@pytest.mark.timeout(60)
def test_a_server_that_goes_away_is_found_again(settings: KubernetesSettings, api_server: Any) -> None:
    api_server.trouble = [(500, {}, {"message": "no"})] * 3
    api_server.objects = {"a": item("a", "1")}
    api, heard = Api(settings), Heard()
    watch = Watch(api, CONFIG_MAPS, "a=b", heard)
    watch.start()
    try:
        assert heard.wait(1) == [("a", "came")]
        assert watch.get("a") == item("a", "1")
    finally:
        watch.close()
        api.close()


@pytest.mark.timeout(60)
def test_a_busy_server_is_asked_again_when_it_says_so_and_a_missing_right_is_told(settings: KubernetesSettings, api_server: Any) -> None:
    api_server.objects = {"a": item("a", "1")}
    api_server.watched = lambda version: [{"type": "ADDED", "object": item("b", "2")}] if "b" not in api_server.objects else []
    api = Api(settings)
    heard = Heard()
    watch = Watch(api, CONFIG_MAPS, "x=y", heard)
    # the first list is answered; the watch that follows is told to come later
    asked: list[float] = []
    answer = api_server.answer

    def busy(method: str, path: str, body: Any) -> Any:
        if "watch=true" in path:
            asked.append(time.monotonic())
            if len(asked) == 1:
                return 429, {"Retry-After": "1"}, {"message": "later"}
        return answer(method, path, body)

    api_server.answer = busy
    watch.start()
    try:
        assert heard.wait(2)[:2] == [("a", "came"), ("b", "came")]
        assert asked[1] - asked[0] >= 1
        assert not watch.refused
    finally:
        watch.close()
        api.close()


@pytest.mark.timeout(60)
def test_a_watch_that_is_not_allowed_says_which_right_is_missing(settings: KubernetesSettings, api_server: Any) -> None:
    message = 'configmaps is forbidden: User "me" cannot list'
    api_server.answer = lambda method, path, body: (403, {}, {"message": message})
    api = Api(settings)
    watch = Watch(api, CONFIG_MAPS, "x=y", Heard())
    watch.start()
    try:
        deadline = time.monotonic() + 20
        while not watch.refused:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not watch.wait(0)
        for words in ("get or list", "configmaps", "namespace here"):
            assert words in watch.away
    finally:
        watch.close()
        api.close()
