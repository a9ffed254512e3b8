"""Leases in the journal's database, so that each target has one writer."""

import os
import secrets
import socket
from pathlib import Path

from autonomic.agents.journal import SqlJournal, SqlTransaction
from autonomic.seams.lease import Fence

_PREFIX = "lease/"


class SqlLeases:
    """The seam `Lease`: state `lease/TARGET`, ended by the database's time. The token outlives a release."""

    def __init__(self, journal: SqlJournal, holder: str) -> None:
        self._journal = journal
        self._holder = holder

    def acquire(self, target: str, ttl_seconds: float) -> Fence | None:
        with self._journal.transaction() as transaction:
            now = transaction.database_time()
            held = _held(transaction, target)
            if held is not None and held.holder != self._holder and held.expires_at > now and not _is_dead(held.holder):
                return None
            # an own lease that ran out may have been another's in between only if its token grew: it did not
            same = held is not None and held.holder == self._holder
            token = (held.token if held else 0) + (0 if same else 1)
            return _put(transaction, Fence(target=target, holder=self._holder, token=token, expires_at=now + ttl_seconds))

    def renew(self, fence: Fence, ttl_seconds: float) -> Fence | None:
        with self._journal.transaction() as transaction:
            held = _held(transaction, fence.target)
            if held is None or (held.holder, held.token) != (fence.holder, fence.token):
                return None
            return _put(transaction, held.model_copy(update={"expires_at": transaction.database_time() + ttl_seconds}))

    def release(self, fence: Fence) -> None:
        with self._journal.transaction() as transaction:
            held = _held(transaction, fence.target)
            if held is not None and (held.holder, held.token) == (fence.holder, fence.token):
                _put(transaction, held.model_copy(update={"holder": "", "expires_at": 0.0}))

    def holder(self, target: str) -> Fence | None:
        """Who holds the lease now, None where nobody does."""
        with self._journal.transaction() as transaction:
            held = _held(transaction, target)
            return held if held is not None and held.expires_at > transaction.database_time() else None


def process_holder() -> str:
    """A holder's name for this process: host, boot, process, its start, and random characters.

    It lets a successor on the same machine see that the holder is dead, instead of waiting until the lease runs out.
    """
    return f"{_machine()}/{os.getpid()}/{_started(os.getpid())}/{secrets.token_hex(4)}"


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
        # containers of one machine share its boot but not its processes
        return f"{socket.gethostname()}-{boot}-{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return f"{socket.gethostname()}-{secrets.token_hex(4)}"


def _started(pid: int) -> str:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    # a zombie holds nothing any more
    return "" if fields[0] == "Z" else fields[19]


def _is_dead(holder: str) -> bool:
    parts = holder.split("/")
    if len(parts) != 4 or parts[0] != _machine() or not parts[1].isdigit():
        return False
    return _started(int(parts[1])) != parts[2]


def _held(transaction: SqlTransaction, target: str) -> Fence | None:
    value, _ = transaction.state(_PREFIX + target)
    return None if value is None else Fence.model_validate(value)


def _put(transaction: SqlTransaction, fence: Fence) -> Fence:
    transaction.put_state(_PREFIX + fence.target, fence)
    return fence
