"""What the tuner asks of the planner: applied workflows, and the freezes in force."""

import httpx

from autonomic.primitives.people import Freeze
from autonomic.seams.errors import Permanent, Retryable
from autonomic.workflows.spec.workflow import Workflow


class PlannerClient:
    """HTTP to the planner. May be used by several threads at once."""

    def __init__(self, url: str, token: str) -> None:
        # trust_env: agents never speak to one another through a proxy
        self._client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=10.0, trust_env=False)

    def workflow(self, name: str) -> tuple[Workflow, str]:
        """The applied document and its code's digest.

        Raises:
            Permanent: there is no such workflow.
            Retryable: the planner cannot be asked.
        """
        answer = self._get(f"/v1/workflows/{name}", observe="false")
        if answer.status_code == 404:
            raise Permanent(f"there is no workflow {name!r}; apply it first")
        found = _checked(answer).json()
        return Workflow.model_validate(found["spec"]), found["package"]

    def freezes(self) -> list[Freeze]:
        """The freezes in force.

        Raises:
            Retryable: the planner cannot be asked.
        """
        return [Freeze.model_validate(one) for one in _checked(self._get("/v1/freezes")).json()]

    def _get(self, path: str, **parameters: str) -> httpx.Response:
        try:
            return self._client.get(path, params=parameters)
        except httpx.HTTPError as error:
            raise Retryable(f"the planner at {self._client.base_url} cannot be reached: {error!r}") from None


def _checked(answer: httpx.Response) -> httpx.Response:
    if not answer.is_success:
        raise Retryable(f"the planner answered {answer.status_code} to {answer.request.url.path}: {answer.text[:300]}")
    return answer
