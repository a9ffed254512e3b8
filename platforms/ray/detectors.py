"""Drift detection on Ray: one detached actor per service reads the prediction log and says what it sees."""

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autonomic.platforms.host.drift import failed_words, told
from autonomic.platforms.host.records import ServiceRecord
from autonomic.platforms.host.store import Store
from autonomic.platforms.ray.lasting import LastingWords
from autonomic.platforms.ray.replica import NAMESPACE

Wanted = Mapping[tuple[str, str], tuple[dict[str, Any], tuple[Path, Path], tuple[str, ...]]]
"""By (workflow, service): how drift is looked for (`drift.watched`), the folders of champion and reference, and where to import from."""


class DriftWatcher:
    """The actor of one service; `key` is where its words stand in the cluster's store, with `digest`, which tells it from others."""

    def __init__(self, key: str, digest: str, drift: dict[str, Any], folders: tuple[str, str], log: str, python_path: list[str]) -> None:
        import sys

        from autonomic.platforms.host.drift import DriftLoop
        from autonomic.platforms.ray.cluster_store import ClusterStore

        sys.path[:0] = [folder for folder in python_path if folder not in sys.path]
        store = ClusterStore(NAMESPACE)
        said = store.get(key)
        if said is not None and said.get("detector") != digest:
            said = None

        def say(words: dict[str, Any]) -> None:
            store.put(key, {**words, "detector": digest})

        loop = DriftLoop(drift, folders[0], log, said, say, folders[1])
        threading.Thread(target=loop.run, args=(threading.Event(),), daemon=True, name="drift").start()


class Detectors:
    """The drift watchers of a cluster, and the questions that are answered from their words and the prediction logs.

    Their words come through the cluster's `store`, and are kept in `durable`.
    """

    def __init__(self, store: Store, durable: Store) -> None:
        self._store = store
        self._words = LastingWords(store, durable)
        self._lock = threading.Lock()

    def keep(self, wanted: Wanted, log_of: Callable[[str, str], Path]) -> None:
        """Makes the actors what they should be: one for each service with `drift:`, with its champion of now."""
        import ray

        with self._lock:
            running = {key.removeprefix("drift-watcher/"): self._store.get(key) for key in self._store.keys("drift-watcher/")}
            for (workflow, service), (watched, folders, python_path) in wanted.items():
                name, key = f"drift-{workflow}--{service}", f"drift/{workflow}/{service}"
                # changed code is another detector, and so is another folder to compare with
                description = {**watched, "code": list(python_path), "folders": [str(folder) for folder in folders]}
                if running.pop(name, None) == description and _is_there(name):
                    self._words.keep(key)
                    continue
                self._stop(name)
                self._words.restore(key)
                arguments = (
                    key,
                    _digest(description),
                    watched["drift"],
                    (str(folders[0]), str(folders[1])),
                    str(log_of(workflow, service)),
                    list(python_path),
                )
                ray.remote(DriftWatcher).options(
                    name=name, namespace=NAMESPACE, lifetime="detached", num_cpus=0, max_restarts=-1, get_if_exists=True
                ).remote(*arguments)
                self._store.put(f"drift-watcher/{name}", description)
            for name in running:
                self._stop(name)
                self._store.delete(f"drift-watcher/{name}")

    def _stop(self, name: str) -> None:
        import ray

        try:
            ray.kill(ray.get_actor(name, NAMESPACE))
        except ValueError:
            return

    def values(self, workflow: str, record: ServiceRecord, log: Path) -> dict[str, Any]:
        """What the service's detector said last; see `drift.told`."""
        if record.spec.drift is None:
            return told(None, log, record.since)
        said = self._store.get(f"drift/{workflow}/{record.spec.name}")
        running = self._store.get(f"drift-watcher/drift-{workflow}--{record.spec.name}")
        if said is not None and said.get("detector") not in ("", _digest(running)):
            said = None
        return told(said, log, record.since, record.spec.drift.every)

    def fail(self, workflow: str, service: str, why: str) -> None:
        """Keeps why a service's detector could not be started."""
        self._store.put(f"drift/{workflow}/{service}", {**failed_words(why), "detector": ""})


def _digest(description: Any) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:16]


def _is_there(name: str) -> bool:
    import ray

    try:
        ray.get_actor(name, NAMESPACE)
    except ValueError:
        return False
    return True
