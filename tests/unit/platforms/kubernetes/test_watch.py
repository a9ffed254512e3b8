"""A watch that breaks, is told that it is too old, or misses something has the truth in the end."""

import threading
from typing import Any

import pytest

from autonomic.workflows.platforms.kubernetes.api import CONFIG_MAPS, Api
from autonomic.workflows.platforms.kubernetes.settings import KubernetesSettings
from autonomic.workflows.platforms.kubernetes.watch import Watch


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
