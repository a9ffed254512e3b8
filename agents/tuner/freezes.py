"""Whether a workflow is frozen, asked from the planner, which keeps the freezes."""

import httpx

from autonomic.primitives.people import Freeze
from autonomic.seams.errors import Retryable


class PlannerFreezes:
    """Asks the planner for the freezes in force."""

    def __init__(self, url: str, token: str) -> None:
        # trust_env: agents never speak to one another through a proxy
        self._client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=10.0, trust_env=False)

    def __call__(self) -> list[Freeze]:
        """The freezes in force.

        Raises:
            Retryable: the planner cannot be asked.
        """
        try:
            answer = self._client.get("/v1/freezes")
        except httpx.HTTPError as error:
            raise Retryable(f"the planner at {self._client.base_url} cannot be asked what is frozen: {error!r}") from None
        if not answer.is_success:
            raise Retryable(f"the planner answered {answer.status_code} to what is frozen: {answer.text[:300]}")
        return [Freeze.model_validate(one) for one in answer.json()]
