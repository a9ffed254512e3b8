"""Small JSON documents in the Ray cluster's own key-value store, which every node reads and a restarted actor finds again."""

import json
from typing import Any, TypeVar

from ray.experimental import internal_kv as kv

from autonomic.seams.word import Word

Model = TypeVar("Model", bound=Word)


class ClusterStore:
    """Documents under keys of one namespace. The process must be connected to the cluster."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace.encode()

    def put(self, key: str, value: Any) -> None:
        """Writes a document."""
        self.put_bytes(key, json.dumps(value).encode())

    def put_new(self, key: str, value: Any) -> bool:
        """Writes a document where there is none; False where there was one, which stays."""
        return not kv._internal_kv_put(key.encode(), json.dumps(value).encode(), overwrite=False, namespace=self._namespace)

    def get(self, key: str) -> Any:
        """The document, None where there is none."""
        data = self.get_bytes(key)
        return None if data is None else json.loads(data)

    def read(self, key: str, model: type[Model]) -> Model | None:
        """The document as a model, None where there is none."""
        value = self.get(key)
        return None if value is None else model.model_validate(value)

    def put_bytes(self, key: str, data: bytes) -> None:
        kv._internal_kv_put(key.encode(), data, namespace=self._namespace)

    def get_bytes(self, key: str) -> bytes | None:
        return kv._internal_kv_get(key.encode(), namespace=self._namespace)

    def delete(self, key: str) -> None:
        kv._internal_kv_del(key.encode(), namespace=self._namespace)

    def keys(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix`, sorted."""
        return sorted(key.decode() for key in kv._internal_kv_list(prefix.encode(), namespace=self._namespace))
