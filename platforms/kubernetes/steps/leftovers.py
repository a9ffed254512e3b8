"""Jobs of runs that are not known any more: nothing owns them, so that they are deleted here."""

from collections.abc import Collection

from autonomic.platforms.kubernetes.objects import manifests, names
from autonomic.platforms.kubernetes.objects.api import JOBS, Api


def delete_jobs(api: Api, installation: str, run_id: str) -> None:
    """Deletes the Jobs of a run.

    Raises:
        Retryable: the API server does not answer.
        Permanent: a right is missing.
    """
    for job in api.list(JOBS, names.selector(names.labels(installation, run=run_id)))[0]:
        api.delete(JOBS, job["metadata"]["name"])


def delete_unknown_jobs(api: Api, installation: str, known: Collection[str]) -> None:
    """Deletes Jobs that have ended and are of no `known` run; one that still runs is left to its end.

    Raises:
        Retryable: the API server does not answer.
        Permanent: a right is missing.
    """
    for job in api.list(JOBS, names.selector(names.labels(installation), f"{names.PREFIX}/run"))[0]:
        run = job["metadata"].get("annotations", {}).get(manifests.RUN, "")
        if run not in known and has_ended(job):
            api.delete(JOBS, job["metadata"]["name"], uid=job["metadata"]["uid"])


def has_ended(job: dict[str, object]) -> bool:
    """Whether a Job is complete or has failed. Pure."""
    status = job.get("status")
    conditions = status.get("conditions", []) if isinstance(status, dict) else []
    return any(each["type"] in ("Failed", "Complete") and each["status"] == "True" for each in conditions)
