"""Scene 4: all replicas of the champion are killed; the backup answers until they are back."""

import time

from benchmarks.demo.world import TARGET, World
from benchmarks.load import Request


def death(world: World) -> None:
    """From the kill to the champion's return."""
    world.load.stage = "death"
    world.mark("death: every replica of the champion is killed")
    begin = time.time()
    killed = world.platform.kill_champion(world.api, TARGET)
    backup = world.wait(lambda: _first_answer(world, begin, "backup"), "an answer of the backup")
    champion = world.wait(lambda: _first_answer(world, backup.scheduled_at, "champion"), "an answer of the champion after it")
    world.wait(lambda: world.ready() > 0, "the champion's return")
    world.load.stage = ""
    end = time.time()
    requests = world.requests_between(begin, end)
    lost, words = world.lost_between(begin, end)
    by_backup = sum(request.ok and request.role == "backup" for request in requests)
    world.claim("death", "traffic goes to the backup", f"{by_backup} of {len(requests)} requests answered by it", by_backup > 0)
    world.claim("death", "traffic goes back to the champion", f"{champion.scheduled_at - begin:.1f} s after the kill of {killed}", True)
    claimed = "lost: at most the requests in flight when the replicas died"
    world.claim("death", claimed, f"{words} of {len(requests)}", killed > 0 and lost <= killed)


def _first_answer(world: World, since: float, role: str) -> Request | None:
    return next((request for request in world.requests_between(since, time.time()) if request.ok and request.role == role), None)
