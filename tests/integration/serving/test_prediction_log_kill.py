import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from autonomic.workflows.serving.predictions import PredictionLog

REPLICAS = 2
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 4], "data": [[1.0, 0, 0, 0]] * 2}]}


def test_nothing_acknowledged_is_lost_when_replicas_are_killed(spawn: Callable[..., Any], tmp_path: Path) -> None:
    """Two processes write one log; both die by SIGKILL in the middle of it."""
    database = tmp_path / "p.db"
    replicas = [spawn(predictions=str(database), max_in_flight=4, max_batch_size=4) for _ in range(REPLICAS)]
    ports = [replica.port() for replica in replicas]
    acknowledged: list[list[str]] = []
    enough = threading.Event()

    def ask(port: int) -> None:
        with httpx.Client() as client:
            while True:
                try:
                    answer = client.post(f"http://127.0.0.1:{port}/v2/models/s/infer", json=BODY)
                except httpx.TransportError:
                    return
                acknowledged.append(answer.json()["parameters"]["prediction_ids"].split(","))
                if len(acknowledged) > 150:
                    enough.set()

    callers = [threading.Thread(target=ask, args=(port,)) for port in ports for _ in range(3)]
    for caller in callers:
        caller.start()
    assert enough.wait(60)
    for replica in replicas:
        replica.process.kill()
    for caller in callers:
        caller.join()

    log = PredictionLog(database)
    rows = log.read(limit=100_000)
    log.close()
    place = {row.id: row.seq for row in rows}
    assert all(name in place for ids in acknowledged for name in ids)
    assert len(place) == len(rows)
    assert [row.seq for row in rows] == sorted(row.seq for row in rows)
    # the rows of one request stand in its order
    assert all(place[ids[0]] + 1 == place[ids[1]] for ids in acknowledged)
