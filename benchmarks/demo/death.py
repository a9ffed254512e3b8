"""Scene 4: all replicas of the champion are killed; the backup answers until they are back."""

import os
import signal
import time

import psutil

from benchmarks.demo.api import wait_for
from benchmarks.demo.world import World

BACK_WITHIN_SECONDS = 60.0


def death(world: World) -> None:
    """From the kill to the champion's return."""
    world.load.stage = "death"
    world.mark("death: every replica of the champion is killed")
    pids = _champion_pids(world)
    begin = time.time()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: _answered_by(world, begin, "backup"), "an answer of the backup", 30)
    wait_for(lambda: world.ready() > 0, "the champion's return", BACK_WITHIN_SECONDS)
    back = time.time()
    wait_for(lambda: _answered_by(world, back, "champion"), "an answer of the champion", 30)
    world.load.stage = ""
    requests = world.requests_between(begin, time.time())
    lost = sum(not request.ok for request in requests)
    by_backup = _answered_by(world, begin, "backup")
    world.claim("death", "traffic goes to the backup", f"{by_backup} of {len(requests)} requests answered by it", by_backup > 0)
    world.claim("death", "traffic goes back to the champion", f"{back - begin:.1f} s after the kill", True)
    world.claim(
        "death", "lost: at most the requests in flight when the replicas died", f"{lost} lost of {len(requests)}", lost <= len(pids)
    )


def _champion_pids(world: World) -> set[int]:
    ports = world.api.replica_ports("champion")
    return {
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.pid and connection.status == psutil.CONN_LISTEN and ports.intersection(connection.laddr[1:2])
    }


def _answered_by(world: World, since: float, role: str) -> int:
    return sum(request.ok and request.role == role for request in world.requests_between(since, time.time()))
