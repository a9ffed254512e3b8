"""The host's metrics for Prometheus."""

from autonomic.platforms.host.routes import Routes
from autonomic.platforms.host.services import Services
from autonomic.seams.errors import Retryable


def exposition(services: Services, routes: Routes, only: str = "") -> str:
    """Requests that came, wait and are worked on, and replicas, of every service or of those of one workflow.

    What cannot be known now is left out.
    """
    replicas = [
        "# HELP autonomic_replicas Replicas by state: wanted, ready, or standby (warm, without traffic).",
        "# TYPE autonomic_replicas gauge",
    ]
    queued = ["# HELP autonomic_queue_requests Requests that wait in the front.", "# TYPE autonomic_queue_requests gauge"]
    in_flight = ["# HELP autonomic_in_flight_requests Requests that replicas work on.", "# TYPE autonomic_in_flight_requests gauge"]
    came = [
        "# HELP autonomic_front_requests_total Requests that came to the front, whatever became of them.",
        "# TYPE autonomic_front_requests_total counter",
    ]
    workflows = {name: workflow for name, workflow in services.workflows().items() if only in ("", name)}
    try:
        named = [(only, service) for workflow in workflows.values() for service in workflow.services]
        loads = {key: routes.load(*key) for key in named} if only else routes.loads()
    except Retryable:
        loads = {}
    for name, workflow in workflows.items():
        for service, record in workflow.services.items():
            labels = f'workflow="{name}",service="{service}"'
            load = loads.get((name, service))
            if load is not None:
                queued.append(f"autonomic_queue_requests{{{labels}}} {load.queued}")
                in_flight.append(f"autonomic_in_flight_requests{{{labels}}} {load.in_flight}")
                came.append(f"autonomic_front_requests_total{{{labels}}} {load.requests}")
            for role, entry in record.roles.items():
                healthy = [replica for replica in services.registered(entry.app) if load is None or replica.id not in load.down]
                counts = {
                    "wanted": entry.replicas,
                    "ready": min(entry.replicas, len(healthy)),
                    "standby": max(0, len(healthy) - entry.replicas),
                }
                for state, count in counts.items():
                    replicas.append(f'autonomic_replicas{{{labels},role="{role}",state="{state}"}} {count}')
    return "\n".join([*queued, *in_flight, *came, *replicas]) + "\n"
