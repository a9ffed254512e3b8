"""One writer per target."""

from typing import Protocol

from autonomic.seams.word import Word


class Fence(Word):
    """A lease that was granted; `token` grows with every new holder, and what it protects refuses a lower one."""

    target: str
    holder: str
    token: int
    expires_at: float


class Lease(Protocol):
    """Leases compare the database's time, never the hosts'."""

    def acquire(self, target: str, ttl_seconds: float) -> Fence | None:
        """The fence, or None while somebody else holds the lease. The holder gets the same token again."""
        ...

    def renew(self, fence: Fence, ttl_seconds: float) -> Fence | None:
        """The fence with a later end, or None where it was lost."""
        ...

    def release(self, fence: Fence) -> None: ...
