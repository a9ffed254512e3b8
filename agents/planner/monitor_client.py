"""The planner's questions to the monitor."""

from collections.abc import Mapping

import httpx

from autonomic.seams.errors import Retryable
from autonomic.seams.reading import Reading


class MonitorReadings:
    """Fresh readings of a strategy, by name; called with the label values of a trigger that fires per label."""

    def __init__(self, url: str, token: str, timeout_seconds: float = 10.0) -> None:
        # trust_env: agents never speak to one another through a proxy
        self._client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=timeout_seconds, trust_env=False)

    def __call__(self, strategy: str, by: Mapping[str, str]) -> dict[str, Reading]:
        """Reads now.

        Raises:
            Retryable: the monitor cannot be reached, or does not know the strategy (yet).
        """
        try:
            answer = self._client.post("/v1/readings:read", json={"strategy": strategy, "by": dict(by)})
        except httpx.HTTPError as error:
            raise Retryable(f"the monitor at {self._client.base_url} cannot be reached: {error!r}") from None
        if not answer.is_success:
            raise Retryable(f"the monitor answered {answer.status_code} for strategy {strategy!r}: {answer.text[:300]}")
        return {name: Reading.model_validate(reading) for name, reading in answer.json()["readings"].items()}

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()
