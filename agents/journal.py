"""An agent's journal in SQL: records, states, outbox and inbox, each transaction all or nothing."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from pydantic import BaseModel
from sqlalchemy import (
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    bindparam,
    delete,
    event,
    func,
    insert,
    select,
    text,
)
from sqlalchemy import create_engine as _create_engine
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import StaticPool

from autonomic.seams.event import CloudEvent
from autonomic.seams.journal import Record, StateConflict
from autonomic.seams.text import encode_json, well_formed

_metadata = MetaData()
_bytewise = Text().with_variant(Text(collation="C"), "postgresql")
_records = Table(
    "records",
    _metadata,
    Column("cursor", Integer, primary_key=True, autoincrement=True),
    Column("time", Float, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("data", Text, nullable=False),
    Index("records_by_kind", "kind", "cursor"),
    Index("records_by_subject", "subject", "cursor"),
    sqlite_autoincrement=True,
)
_states = Table(
    "states",
    _metadata,
    Column("key", _bytewise, primary_key=True),
    Column("value", Text, nullable=False),
    Column("version", Integer, nullable=False),
)
_outbox = Table(
    "outbox",
    _metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("destination", Text, nullable=False),
    Column("event", Text, nullable=False),
    Index("outbox_by_destination", "destination", "seq"),
    sqlite_autoincrement=True,
)
_inbox = Table(
    "inbox",
    _metadata,
    Column("source", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("time", Float, nullable=False),
    PrimaryKeyConstraint("source", "id"),
    Index("inbox_by_time", "time"),
)
_LAST_CHARACTER = "\U0010ffff"
# both are read some hundred times a second, and a statement costs more to build than to run
_STATE = select(_states.c.value, _states.c.version).where(_states.c.key == bindparam("key"))
_STATES_BETWEEN = (
    select(_states.c.key, _states.c.value)
    .where(_states.c.key >= bindparam("first"), _states.c.key < bindparam("end"))
    .order_by(_states.c.key)
)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} is not JSON: {value!r}")


def _dumps(value: Any) -> str:
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain)
        text.encode()
    except ValueError:
        # NaN, or text that no database takes: it costs its own value, and not all that is committed with it
        return encode_json(json.loads(json.dumps(value, default=_plain))).decode()
    return text


class Committed(NamedTuple):
    """What a committed transaction brought: destinations that were sent something, and whether records were written."""

    destinations: frozenset[str]
    records: bool


class SqlTransaction:
    """See `seams.journal.Transaction`; the `…_many` forms are for batches."""

    def __init__(self, connection: Connection, now: Callable[[], float]) -> None:
        self._connection = connection
        self._now = now
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        self._upsert_insert = dialect.insert
        self.destinations: set[str] = set()
        self.appended = False

    def database_time(self) -> float:
        """Seconds since the epoch by the database's clock, which all its clients share."""
        if self._connection.dialect.name == "postgresql":
            return float(self._connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
        return float(self._connection.execute(text("SELECT (julianday('now') - 2440587.5) * 86400.0")).scalar_one())

    def append(self, record: Record) -> int:
        self.appended = True
        statement = insert(_records).returning(_records.c.cursor)
        return self._connection.execute(statement, _record_row(record)).scalar_one()

    def append_many(self, records: Sequence[Record]) -> None:
        """Writes records in their order."""
        if records:
            self.appended = True
            self._connection.execute(insert(_records), [_record_row(record) for record in records])

    def state(self, key: str) -> tuple[Any, int]:
        row = self._connection.execute(_STATE, {"key": key}).one_or_none()
        return (json.loads(row.value), row.version) if row else (None, 0)

    def put_state(self, key: str, value: Any, expected_version: int | None = None) -> int:
        statement = select(_states.c.version).where(_states.c.key == key)
        version = self._connection.execute(statement).scalar_one_or_none() or 0
        if expected_version is not None and expected_version != version:
            raise StateConflict(f"state {key!r} has version {version}, not {expected_version}; read it again")
        self.put_states({key: value})
        return version + 1

    def put_states(self, values: Mapping[str, Any]) -> None:
        """Writes several values, whatever their versions are."""
        if not values:
            return
        statement = self._upsert_insert(_states)
        statement = statement.on_conflict_do_update(
            index_elements=["key"], set_={"value": statement.excluded.value, "version": _states.c.version + 1}
        )
        rows = [{"key": key, "value": _dumps(value), "version": 1} for key, value in values.items()]
        self._connection.execute(statement, rows)

    def delete_state(self, key: str) -> None:
        self._connection.execute(delete(_states).where(_states.c.key == key))

    def send(self, destination: str, event: CloudEvent) -> None:
        self.send_many(destination, [event])

    def send_many(self, destination: str, events: Sequence[CloudEvent]) -> None:
        """Puts events into the outbox in their order."""
        if events:
            self.destinations.add(destination)
            rows = [{"destination": destination, "event": _dumps(event.model_dump(mode="json", exclude_none=True))} for event in events]
            self._connection.execute(insert(_outbox), rows)

    def accept(self, event: CloudEvent) -> bool:
        return bool(self.accept_many([event]))

    def accept_many(self, events: Sequence[CloudEvent]) -> list[CloudEvent]:
        """Remembers events that came in and returns those that are new, in their order."""
        unique: dict[tuple[str, str], CloudEvent] = {}
        for arrived in events:
            unique.setdefault((arrived.source, arrived.id), arrived)
        if not unique:
            return []
        statement = self._upsert_insert(_inbox).on_conflict_do_nothing().returning(_inbox.c.source, _inbox.c.id)
        now = self._now()
        rows = [{"source": source, "id": id_, "time": now} for source, id_ in unique]
        fresh = {(row.source, row.id) for row in self._connection.execute(statement, rows)}
        return [arrived for key, arrived in unique.items() if key in fresh]

    def take(self, sequences: Sequence[int]) -> None:
        """Takes events out of the outbox by their sequence numbers."""
        self._connection.execute(delete(_outbox).where(_outbox.c.seq == bindparam("taken")), [{"taken": seq} for seq in sequences])


def _record_row(record: Record) -> dict[str, Any]:
    return {"time": record.time, "kind": record.kind, "subject": well_formed(record.subject), "data": _dumps(record.data)}


class SqlJournal:
    """The seam `Journal` on SQLAlchemy Core, and what the bus needs to deliver the outbox.

    `url` is a SQLAlchemy URL: `sqlite:///file.db` (WAL, synchronous=NORMAL: a killed process loses nothing that was
    committed), `sqlite://` in memory for simulation, or `postgresql://…`. Writers are serialised, so the order of
    cursors is the order of commits. Values must be JSON; pydantic models are dumped. Threads may share it.
    """

    def __init__(self, url: str, now: Callable[[], float] = time.time) -> None:
        self._engine = _engine(url)
        self._memory = isinstance(self._engine.pool, StaticPool)
        self._now = now
        self._lock = threading.RLock()
        self._writer: int | None = None
        self._open: Connection | None = None
        self._listeners: list[Callable[[Committed], None]] = []
        _metadata.create_all(self._engine)

    def listen(self, callback: Callable[[Committed], None]) -> None:
        """Calls back after each commit that wrote records or sent events, in the thread that committed."""
        self._listeners.append(callback)

    @contextmanager
    def transaction(self) -> Iterator[SqlTransaction]:
        """Commits at the end of the block, rolls back when it raises. Transactions do not nest."""
        with self._lock:
            if self._writer is not None:
                raise RuntimeError("a transaction is open in this thread already; pass it on instead of opening another")
            self._writer = threading.get_ident()
            try:
                with self._engine.connect().execution_options(autonomic_write=True) as connection, connection.begin():
                    if connection.dialect.name == "postgresql":
                        connection.execute(text("SELECT pg_advisory_xact_lock(7310)"))
                    transaction = SqlTransaction(connection, self._now)
                    self._open = connection
                    yield transaction
            finally:
                self._writer = self._open = None
        if transaction.destinations or transaction.appended:
            committed = Committed(frozenset(transaction.destinations), transaction.appended)
            for callback in tuple(self._listeners):
                callback(committed)

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        if self._open is not None and self._writer == threading.get_ident():
            yield self._open  # who writes reads what they wrote
        # in memory there is one connection, which a writer of another thread may be using
        elif self._memory:
            with self._lock, self._engine.connect() as connection:
                yield connection
        else:
            with self._engine.connect() as connection:
                yield connection

    def read(self, cursor: int = 0, *, kinds: Iterable[str] | None = None, subject: str | None = None, limit: int = 1000) -> list[Record]:
        """Records after `cursor` in their order, at most `limit`."""
        statement = select(_records).where(_records.c.cursor > cursor).order_by(_records.c.cursor).limit(limit)
        return self._fetch(statement, kinds, subject)

    def latest(self, *, kinds: Iterable[str], subject: str | None = None, limit: int = 100, before: int | None = None) -> list[Record]:
        """The newest records (older than the cursor `before`), the newest first."""
        statement = select(_records).order_by(_records.c.cursor.desc()).limit(limit)
        if before is not None:
            statement = statement.where(_records.c.cursor < before)
        return self._fetch(statement, kinds, subject)

    def _fetch(self, statement: Any, kinds: Iterable[str] | None, subject: str | None) -> list[Record]:
        if kinds is not None:
            statement = statement.where(_records.c.kind.in_(tuple(kinds)))
        if subject is not None:
            statement = statement.where(_records.c.subject == subject)
        with self._read() as connection:
            rows = connection.execute(statement).all()
        return [Record(cursor=row.cursor, time=row.time, kind=row.kind, subject=row.subject, data=json.loads(row.data)) for row in rows]

    def state(self, key: str) -> tuple[Any, int]:
        """A value and its version outside of a transaction; (None, 0) where there is none."""
        with self._read() as connection:
            return SqlTransaction(connection, self._now).state(key)

    def states(self, prefix: str) -> dict[str, Any]:
        """All values whose key begins with `prefix`, sorted by key."""
        with self._read() as connection:
            rows = connection.execute(_STATES_BETWEEN, {"first": prefix, "end": prefix + _LAST_CHARACTER}).all()
        return {row.key: json.loads(row.value) for row in rows}

    def last_cursor(self) -> int:
        """The cursor of the newest record, 0 where there is none."""
        with self._read() as connection:
            return connection.execute(select(func.max(_records.c.cursor))).scalar_one() or 0

    def prune(self, before: float) -> None:
        """Forgets records, and which events came in, older than the time `before`. States stay."""
        with self._lock, self._engine.connect().execution_options(autonomic_write=True) as connection, connection.begin():
            connection.execute(delete(_records).where(_records.c.time < before))
            connection.execute(delete(_inbox).where(_inbox.c.time < before))

    def outbox_sizes(self) -> dict[str, int]:
        """How many events wait, by destination."""
        with self._read() as connection:
            rows = connection.execute(select(_outbox.c.destination, func.count()).group_by(_outbox.c.destination)).all()
        return {row[0]: row[1] for row in rows}

    def outbox(self, destination: str, limit: int = 500) -> list[tuple[int, str]]:
        """The oldest events that wait for `destination`: their sequence numbers and their JSON."""
        statement = select(_outbox.c.seq, _outbox.c.event).where(_outbox.c.destination == destination)
        with self._read() as connection:
            return [(row.seq, row.event) for row in connection.execute(statement.order_by(_outbox.c.seq).limit(limit))]

    def delivered(self, sequences: Sequence[int], undeliverable: Record | None = None) -> None:
        """Takes events out of the outbox, and writes down why where one can never be delivered."""
        with self.transaction() as transaction:
            transaction.take(sequences)
            if undeliverable is not None:
                transaction.append(undeliverable)

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()


def _engine(url: str) -> Engine:
    if url.startswith("postgresql://"):
        url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    if not url.startswith("sqlite"):
        return _create_engine(url, pool_pre_ping=True)
    memory = url in ("sqlite://", "sqlite:///:memory:")
    options: dict[str, Any] = {"poolclass": StaticPool} if memory else {}
    engine = _create_engine(url, connect_args={"check_same_thread": False, "timeout": 30}, **options)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        # the driver must not begin transactions by itself: a write begins immediately, so that it never fails half way
        connection.isolation_level = None
        cursor = connection.cursor()
        if not memory:
            cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("autonomic_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine
