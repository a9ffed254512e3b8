import asyncio
from typing import Any

import httpx

from autonomic.platforms.host.api import create_app
from autonomic.platforms.host.store import MemoryStore
from autonomic.seams.state import RunState
from autonomic.workflows.runs.run_records import RunRecords


class Runs:
    """The listing of a host, over real records."""

    def __init__(self, records: RunRecords) -> None:
        self.runs = self
        self.list = records.runs


def listed(records: RunRecords) -> list[dict[str, Any]]:
    host: Any = Runs(records)

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(host, "token")), base_url="http://host") as client:
            return await client.get("/v1/runs", headers={"Authorization": "Bearer token"})

    return asyncio.run(ask()).json()


def test_a_run_that_cannot_be_read_or_written_as_text_hides_no_other() -> None:
    store = MemoryStore()
    records = RunRecords(store)
    for name in ("broken", "good", "half"):
        store.put(f"request/{name}", {})
    good = RunState(id="good", workflow="w", status="succeeded")
    records.put_state(good)
    records.put_state(good.model_copy(update={"id": "half", "detail": "caf\udce9.csv", "outputs": {"t": "\ud83d"}}))
    store.put("state/broken", {"id": "broken"})
    found = {run["id"]: run for run in listed(records)}
    assert found["good"] == good.model_dump(mode="json")
    assert (found["half"]["detail"], found["half"]["outputs"]) == ("caf\ufffd.csv", {"t": "\ufffd"})
    assert found["broken"]["status"] == "failed"
    assert "what is kept of this run cannot be read" in found["broken"]["detail"]
