"""A process around the planner's other ends, which outlives it: a host that remembers effects, and a monitor.

    python planner_world.py PORT TOKEN

The host's endpoints are those of the RayHost that the planner uses; its platform keeps states in memory, remembers each
change by its key together with its effect, refuses lower fences, and takes up to 30 ms before and after each effect, so that
a kill of the planner comes between any two of its steps. The monitor answers with the readings that were put.
"""

import random
import sys
import threading
import time
from collections import Counter
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from autonomic.seams.plan import Change, Outcome
from autonomic.seams.reading import number
from autonomic.seams.state import RoleState, RunState, ServiceState, State


class World:
    """States by target, outcomes and effects by key."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.states: dict[str, State] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.effects: Counter[str] = Counter()
        self.fences: dict[str, int] = {}
        self.refused: list[str] = []
        self.readings: dict[str, float] = {"load": 0.0}
        self.events: list[dict[str, Any]] = []
        self.runs: dict[str, RunState] = {}
        self.searches: dict[str, dict[str, Any]] = {}
        self.applied_at: dict[str, float] = {}
        self.delay_seconds = 0.0
        self.down = False

    def observe(self, target: str) -> State:
        with self.lock:
            return self.states.get(target, State(target=target, kind="absent"))

    def apply(self, change: Change, fence: int) -> Outcome:
        self.applied_at.setdefault(change.key, time.time())
        time.sleep(random.uniform(0, self.delay_seconds))
        with self.lock:
            outcome = self._apply(change, fence)
        time.sleep(random.uniform(0, self.delay_seconds))
        return outcome

    def _apply(self, change: Change, fence: int) -> Outcome:
        if change.key in self.outcomes:
            return self.outcomes[change.key]
        now = time.time()
        state = self.states.get(change.target, State(target=change.target, kind="absent"))
        why = ""
        if fence < self.fences.get(change.target, 0):
            why = f"fence {fence} is lower than {self.fences[change.target]}"
        elif change.expect is not None and change.expect != state.revision:
            why = f"revision is {state.revision}, not {change.expect}"
        if why:
            self.refused.append(f"{change.key}: {why}")
            return Outcome(
                key=change.key,
                primitive=change.primitive,
                target=change.target,
                status="refused",
                detail=why,
                started_at=now,
                finished_at=now,
            )
        self.fences[change.target] = fence
        before = self._effect(change, state)
        self.effects[change.key] += 1
        outcome = Outcome(
            key=change.key, primitive=change.primitive, target=change.target, status="done",
            before=before, after=change.to, started_at=now, finished_at=time.time(),
        )  # fmt: skip
        self.outcomes[change.key] = outcome
        return outcome

    def _effect(self, change: Change, state: State) -> dict[str, Any]:
        if change.primitive == "deploy":
            for service in change.to["spec"]["spec"]["services"]:
                role = RoleState(model=service["model"], wanted=1, ready=1)
                found = ServiceState(
                    roles={"champion": role, "canary": role},
                    weights={"champion": 100, "canary": 0},
                    min_replicas=1,
                    max_replicas=service["replicas"]["max"],
                )
                target = f"{change.target}/{service['name']}"
                self.states.setdefault(target, State(target=target, kind="online", revision=1, service=found))
            self.states[change.target] = State(
                target=change.target, kind="online", revision=state.revision + 1, spec=change.to["spec"], package=change.to["package"]
            )
            return {"spec": state.spec, "package": ""} if state.spec else {}
        if change.primitive == "delete":
            for target in [one for one in self.states if one.partition("/")[0] == change.target]:
                del self.states[target]
            return {}
        if change.primitive == "run":
            self.runs[change.to["run_id"]] = RunState(
                id=change.to["run_id"],
                workflow=change.to["workflow"],
                status="running",
                parameters=change.to["parameters"],
                started_at=time.time(),
            )
            return {}
        service = state.service
        assert service is not None, change
        if change.primitive == "rescale":
            role, replicas = change.to["role"], change.to["replicas"]
            before = {"role": role, "replicas": service.roles[role].wanted}
            roles = {**service.roles, role: service.roles[role].model_copy(update={"wanted": replicas, "ready": replicas})}
            after = service.model_copy(update={"roles": roles})
        elif change.primitive == "reroute":
            before = {"weights": dict(service.weights)}
            after = service.model_copy(update={"weights": change.to["weights"]})
        else:
            raise AssertionError(f"this world does not know {change.primitive}")
        self.states[change.target] = state.model_copy(update={"service": after, "revision": state.revision + 1})
        return before


def create(world: World, token: str) -> Starlette:
    """The host's and the monitor's endpoints, and `/world` for the test."""

    def answer(value: Any, status: int = 200) -> Response:
        return JSONResponse(value, status)

    async def apply(request: Request) -> Response:
        try:
            body = await request.json()
        except ClientDisconnect:  # the planner was killed while it spoke
            return answer({}, 400)
        outcome = await run_in_threadpool(world.apply, Change.model_validate(body["change"]), body["fence"])
        return answer(outcome.model_dump(mode="json"))

    async def outcome(request: Request) -> Response:
        found = world.outcomes.get(request.path_params["key"])
        return answer(found.model_dump(mode="json")) if found else answer({"detail": "unknown"}, 404)

    async def state(request: Request) -> Response:
        return answer(world.observe(request.path_params["target"]).model_dump(mode="json"))

    async def states(request: Request) -> Response:
        found = {target: world.observe(target).model_dump(mode="json") for target in await request.json()}
        return answer({"states": found, "errors": {}})

    async def runs(_: Request) -> Response:
        return answer([run.model_dump(mode="json") for run in world.runs.values()])

    async def run(request: Request) -> Response:
        found = world.runs.get(request.path_params["run"])
        return answer(found.model_dump(mode="json")) if found else answer({"detail": "unknown"}, 404)

    async def log(_: Request) -> Response:
        return PlainTextResponse("line 1\nline 2\n")

    async def readings(_: Request) -> Response:
        now = time.time()
        return answer({"readings": {name: number(value, now, "test").model_dump(mode="json") for name, value in world.readings.items()}})

    async def events(request: Request) -> Response:
        body = await request.json()
        world.events += body if isinstance(body, list) else [body]
        return answer({"accepted": 1, "duplicates": 0}, 202)

    async def package(_: Request) -> Response:
        return answer({"digest": "abc123"}, 201)

    async def search(request: Request) -> Response:
        if request.method == "POST":
            body = await request.json()
            world.searches.setdefault(body["id"], {"id": body["id"], "status": "running", "best": None, "trials": []})
            return answer(world.searches[body["id"]], 201)
        found = world.searches.get(request.path_params["search"])
        return answer(found) if found else answer({"detail": "unknown"}, 404)

    async def hold_search(request: Request) -> Response:
        world.searches[request.path_params["search"]]["held"] = (await request.json())["why"]
        return answer({"id": request.path_params["search"]})

    async def stop_search(request: Request) -> Response:
        world.searches[request.path_params["search"]]["status"] = "stopped"
        return answer(world.searches[request.path_params["search"]])

    async def see(_: Request) -> Response:
        return answer(
            {
                "states": {target: state.model_dump(mode="json") for target, state in world.states.items()},
                "effects": dict(world.effects),
                "refused": world.refused,
                "events": world.events,
                "applied_at": world.applied_at,
                "searches": world.searches,
            }
        )

    async def put(request: Request) -> Response:
        body = await request.json()
        world.readings |= body.get("readings", {})
        world.delay_seconds = body.get("delay_seconds", world.delay_seconds)
        world.down = body.get("down", world.down)
        world.runs |= {value["id"]: RunState.model_validate(value) for value in body.get("runs", [])}
        for identifier in body.get("forget_runs", []):
            world.runs.pop(identifier, None)
        for identifier, value in body.get("searches", {}).items():
            world.searches[identifier] |= value
        return answer({})

    routes = [
        Route("/v1/apply", apply, methods=["POST"]),
        Route("/v1/capabilities", lambda _: JSONResponse(["rescale", "run"])),
        Route("/v1/outcomes/{key:path}", outcome),
        Route("/v1/states:find", states, methods=["POST"]),
        Route("/v1/state/{target:path}", state),
        Route("/v1/watch", lambda _: JSONResponse([])),
        Route("/v1/runs", runs),
        Route("/v1/runs/{run}", run),
        Route("/v1/runs/{run}/steps/{step}/log", log),
        Route("/v1/readings:read", readings, methods=["POST"]),
        Route("/v1/events", events, methods=["POST"]),
        Route("/v1/packages", package, methods=["POST"]),
        Route("/v1/searches", search, methods=["POST"]),
        Route("/v1/searches/{search}:hold", hold_search, methods=["POST"]),
        Route("/v1/searches/{search}:stop", stop_search, methods=["POST"]),
        Route("/v1/searches/{search}", search),
        Route("/world", see),
        Route("/world", put, methods=["POST"]),
    ]
    app = Starlette(routes=routes)

    class _Down:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http" and world.down and scope["path"] != "/world":
                await JSONResponse({"detail": "the world is down"}, 503)(scope, receive, send)
                return
            await self.inner(scope, receive, send)

    app.add_middleware(_Down)
    return app


if __name__ == "__main__":
    uvicorn.run(create(World(), sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
