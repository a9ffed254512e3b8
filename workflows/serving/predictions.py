"""The prediction log: what was answered, on which input, by which model; labels and picks come later.

One SQLite file in WAL mode that the replicas of a service write and the host reads. A write is in the operating system's
hands before the answer goes out: it survives the death of any process (kill -9), not the loss of power.
"""

import contextlib
import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from autonomic.seams.errors import Permanent, Retryable
from autonomic.seams.text import well_formed
from autonomic.workflows.serving.oip import datatype_of, decode_array, encode_array

PointState = Literal["unlabelled", "labelled", "all"]

_BUSY_SECONDS = 30.0
# rows appended by one process between two looks at the bounds, and the most that one look deletes
_TRIM_EVERY = 500
_TRIM_MOST = 2000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS predictions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, time REAL NOT NULL, request_id TEXT NOT NULL, role TEXT NOT NULL,
    model_version TEXT NOT NULL, input_ref TEXT NOT NULL, output TEXT NOT NULL, label INTEGER, confidence REAL);
CREATE INDEX IF NOT EXISTS predictions_input ON predictions (input_ref);
CREATE TABLE IF NOT EXISTS inputs (
    ref TEXT NOT NULL, name TEXT NOT NULL, dtype TEXT NOT NULL, shape TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (ref, name));
CREATE TABLE IF NOT EXISTS labels (prediction_id TEXT PRIMARY KEY, label INTEGER NOT NULL, time REAL NOT NULL, received REAL NOT NULL);
CREATE TABLE IF NOT EXISTS picks (
    prediction_id TEXT PRIMARY KEY, time REAL NOT NULL, anomaly REAL NOT NULL, uncertainty REAL NOT NULL, diversity REAL NOT NULL);
"""
# json.dumps would make an encoder for every row
_dumps = json.JSONEncoder(separators=(",", ":")).encode
_ROW = """p.seq, p.id, p.time, p.request_id, p.role, p.model_version, p.input_ref, p.output, p.label, p.confidence, l.label AS truth
    FROM predictions p LEFT JOIN labels l ON l.prediction_id = p.id"""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row that was answered.

    `inputs` are the row's tensors by name (without the batch dimension), `output` its outputs as JSON, `label` and
    `confidence` (0..1) what a classifier said.
    """

    id: str
    time: float
    request_id: str
    role: str
    model_version: str
    inputs: dict[str, np.ndarray]
    output: dict[str, Any]
    label: int | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class PredictionRow:
    """A prediction as it is read back. `seq` grows in the order of the writes; `truth` is its label, where there is one."""

    seq: int
    id: str
    time: float
    request_id: str
    role: str
    model_version: str
    input_ref: str
    inputs: dict[str, np.ndarray]
    output: dict[str, Any]
    label: int | None
    confidence: float | None
    truth: int | None

    @property
    def input(self) -> np.ndarray:
        """The first input: all there is of a model with one."""
        return next(iter(self.inputs.values()))


@dataclass(frozen=True, slots=True)
class Label:
    """What a prediction should have been; `time` (seconds since the epoch) is when somebody said so."""

    prediction_id: str
    label: int
    time: float


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """What became of labels: of them, `unknown` wait for a prediction that has not come (yet)."""

    added: int
    changed: int
    unchanged: int
    unknown: int


@dataclass(frozen=True, slots=True)
class Pick:
    """A prediction that is worth a label, and why (each measure in 0..1)."""

    prediction_id: str
    time: float
    anomaly: float
    uncertainty: float
    diversity: float


@dataclass(frozen=True, slots=True)
class Point:
    """A prediction that was picked or labelled. `truth` and `labelled_at` are None without a label, `picked_at` without a pick."""

    prediction_id: str
    request_id: str
    time: float
    model_version: str
    label: int | None
    confidence: float | None
    picked_at: float | None
    anomaly: float | None
    uncertainty: float | None
    diversity: float | None
    truth: int | None
    labelled_at: float | None


@dataclass(frozen=True, slots=True)
class Counts:
    """Of picks made since a time: `picked` all, `labelled` those with a label. The others count everything there is."""

    predictions: int
    labels: int
    waiting_labels: int
    picked: int
    labelled: int


class PredictionLog:
    """Many processes may write and read one log at once; one object may be used by several threads.

    Args:
        path: the file; its folder is made.
        max_rows: of so many newest predictions all are kept; older ones go, unless they were picked or labelled.
        max_points: picks and labels kept, those included that wait for their prediction.

    Raises:
        Permanent: the file cannot be used.
    """

    def __init__(self, path: Path | str, *, max_rows: int = 100_000, max_points: int = 50_000) -> None:
        self._path = Path(path)
        self._max_rows = max_rows
        self._max_points = max_points
        self._since_trim = 0
        self._lock = threading.Lock()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            self._open()
        except (OSError, sqlite3.Error) as error:
            raise Permanent(f"the prediction log {self._path} cannot be opened: {error}") from error

    def append(self, predictions: Sequence[Prediction]) -> None:
        """Writes predictions in their order, all or none; they are kept when this returns.

        Raises:
            Retryable: the file cannot be written now.
        """
        if not predictions:
            return
        inputs: list[tuple[str, str, str, str, bytes]] = []
        rows: list[tuple[Any, ...]] = []
        for each in predictions:
            ref, tensors = _encode(each.inputs)
            inputs += tensors
            output = _dumps(each.output)
            rows.append(
                (each.id, each.time, well_formed(each.request_id), each.role, each.model_version, ref, output, each.label, each.confidence)
            )
        with self._writing() as db:
            db.executemany("INSERT OR IGNORE INTO inputs VALUES (?, ?, ?, ?, ?)", inputs)
            db.executemany(
                "INSERT INTO predictions (id, time, request_id, role, model_version, input_ref, output, label, confidence)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            self._since_trim += len(rows)
            if self._since_trim >= _TRIM_EVERY:
                self._since_trim = 0
                self._trim(db)

    def read(self, after: int = 0, limit: int = 1000) -> list[PredictionRow]:
        """The predictions whose `seq` is greater than `after`, in order, with their inputs."""
        return self._rows("WHERE p.seq > ? ORDER BY p.seq LIMIT ?", (after, limit))

    def get(self, ids: Iterable[str]) -> list[PredictionRow]:
        """The predictions with these ids, in the order of the log; unknown ids are passed over."""
        wanted = json.dumps(list(ids))
        return self._rows("WHERE p.id IN (SELECT value FROM json_each(?)) ORDER BY p.seq", (wanted,))

    def last(self) -> int:
        """The `seq` of the newest prediction ever, 0 where there is none."""
        with self._reading() as db:
            found = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'predictions'").fetchone()
        return int(found[0]) if found else 0

    def add_labels(self, labels: Iterable[Label]) -> LabelCounts:
        """Joins labels on the prediction id. They may come late, in any order, twice, and before their prediction.

        Of two labels for one prediction the later `time` counts, and of the same time the one that came last.
        """
        counts = {"added": 0, "changed": 0, "unchanged": 0, "unknown": 0}
        now = time.time()
        with self._writing() as db:
            for each in labels:
                old = db.execute("SELECT label, time FROM labels WHERE prediction_id = ?", (each.prediction_id,)).fetchone()
                if old is not None and (each.time < old["time"] or (each.time, each.label) == (old["time"], old["label"])):
                    counts["unchanged"] += 1
                else:
                    counts["added" if old is None else "changed"] += 1
                    db.execute("INSERT OR REPLACE INTO labels VALUES (?, ?, ?, ?)", (each.prediction_id, each.label, each.time, now))
                known = db.execute("SELECT 1 FROM predictions WHERE id = ?", (each.prediction_id,)).fetchone()
                counts["unknown"] += known is None
        return LabelCounts(**counts)

    def add_picks(self, picks: Iterable[Pick]) -> int:
        """Keeps picks and returns how many were new; a prediction is picked once."""
        with self._writing() as db:
            before = db.total_changes
            db.executemany(
                "INSERT OR IGNORE INTO picks VALUES (?, ?, ?, ?, ?)",
                [(each.prediction_id, each.time, each.anomaly, each.uncertainty, each.diversity) for each in picks],
            )
            return db.total_changes - before

    def points(self, state: PointState = "all", *, since: float = 0.0, limit: int = 1000, offset: int = 0) -> list[Point]:
        """Predictions that were picked or labelled, the oldest first; "unlabelled" are picks that wait for a label.

        Args:
            state: which.
            since: only predictions made at this time or later (seconds since the epoch).
            limit: at most so many.
            offset: after so many.
        """
        which = {
            "unlabelled": "k.prediction_id IS NOT NULL AND l.prediction_id IS NULL",
            "labelled": "l.prediction_id IS NOT NULL",
            "all": "(k.prediction_id IS NOT NULL OR l.prediction_id IS NOT NULL)",
        }[state]
        with self._reading() as db:
            rows = db.execute(
                "SELECT p.id AS prediction_id, p.request_id, p.time, p.model_version, p.label, p.confidence, k.time AS picked_at,"
                " k.anomaly, k.uncertainty, k.diversity, l.label AS truth, l.time AS labelled_at"
                " FROM predictions p LEFT JOIN picks k ON k.prediction_id = p.id LEFT JOIN labels l ON l.prediction_id = p.id"
                f" WHERE {which} AND p.time >= ? ORDER BY p.seq LIMIT ? OFFSET ?",
                (since, limit, offset),
            ).fetchall()
        return [Point(**dict(row)) for row in rows]

    def known(self, ids: Iterable[str]) -> set[str]:
        """Those of the prediction ids that the log has."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT id FROM predictions WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(ids)),)
            ).fetchall()
        return {row["id"] for row in rows}

    def counts(self, since: float = 0.0) -> Counts:
        """How much there is; picks are counted from `since` (seconds since the epoch), such as a model's first day."""

        def one(query: str, *values: Any) -> int:
            return int(db.execute(query, values).fetchone()[0])

        with self._reading() as db:
            return Counts(
                predictions=one("SELECT count(*) FROM predictions"),
                labels=one("SELECT count(*) FROM labels"),
                waiting_labels=one("SELECT count(*) FROM labels WHERE prediction_id NOT IN (SELECT id FROM predictions)"),
                picked=one("SELECT count(*) FROM picks WHERE time >= ?", since),
                labelled=one("SELECT count(*) FROM picks JOIN labels USING (prediction_id) WHERE picks.time >= ?", since),
            )

    def close(self) -> None:
        """Closes the file; the object cannot be used afterwards."""
        with self._lock:
            self._db.close()

    def _open(self) -> None:
        # the change to WAL does not wait for others that do the same, whatever the timeout
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.OperationalError as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise Retryable(f"the prediction log {self._path} cannot be written now: {error}") from error

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        # one transaction, so that several reads see one state
        with self._lock:
            try:
                self._db.execute("BEGIN")
                try:
                    yield self._db
                finally:
                    self._db.execute("ROLLBACK")
            except sqlite3.OperationalError as error:
                raise Retryable(f"the prediction log {self._path} cannot be read now: {error}") from error

    def _rows(self, where: str, values: Sequence[Any]) -> list[PredictionRow]:
        with self._reading() as db:
            rows = db.execute(f"SELECT {_ROW} {where}", values).fetchall()
            refs = json.dumps(sorted({row["input_ref"] for row in rows}))
            tensors = db.execute("SELECT * FROM inputs WHERE ref IN (SELECT value FROM json_each(?)) ORDER BY rowid", (refs,)).fetchall()
        inputs: dict[str, dict[str, np.ndarray]] = {}
        for tensor in tensors:
            array = decode_array(tensor["data"], tensor["dtype"], json.loads(tensor["shape"]))
            inputs.setdefault(tensor["ref"], {})[tensor["name"]] = array
        return [
            PredictionRow(**{**dict(row), "output": json.loads(row["output"])}, inputs=inputs.get(row["input_ref"], {})) for row in rows
        ]

    def _trim(self, db: sqlite3.Connection) -> None:
        points = "SELECT prediction_id FROM picks UNION SELECT prediction_id FROM labels"
        last = int(db.execute("SELECT max(seq) FROM predictions").fetchone()[0] or 0)
        gone = db.execute(
            f"SELECT id, input_ref FROM predictions WHERE seq <= ? AND id NOT IN ({points}) ORDER BY seq LIMIT ?",
            (last - self._max_rows, _TRIM_MOST),
        ).fetchall()
        surplus = int(db.execute(f"SELECT count(*) FROM ({points})").fetchone()[0]) - self._max_points
        if surplus > 0:
            # what waits for its prediction is as old as its arrival
            db.execute(
                "DELETE FROM labels WHERE prediction_id IN (SELECT prediction_id FROM labels WHERE prediction_id NOT IN"
                " (SELECT id FROM predictions) ORDER BY received LIMIT ?)",
                (min(surplus, _TRIM_MOST),),
            )
            gone += db.execute(
                f"SELECT id, input_ref FROM predictions WHERE id IN ({points}) ORDER BY seq LIMIT ?", (min(surplus, _TRIM_MOST),)
            ).fetchall()
        ids = [(row["id"],) for row in gone]
        for statement in ("predictions WHERE id = ?", "picks WHERE prediction_id = ?", "labels WHERE prediction_id = ?"):
            db.executemany(f"DELETE FROM {statement}", ids)
        db.executemany(
            "DELETE FROM inputs WHERE ref = ? AND NOT EXISTS (SELECT 1 FROM predictions WHERE input_ref = ref)",
            [(row["input_ref"],) for row in gone],
        )


def _encode(inputs: dict[str, np.ndarray]) -> tuple[str, list[tuple[str, str, str, str, bytes]]]:
    encoded = [(name, datatype_of(array), _dumps(list(array.shape)), encode_array(array)) for name, array in inputs.items()]
    digest = hashlib.sha256()
    for name, dtype, shape, data in encoded:
        digest.update(f"{name}\0{dtype}\0{shape}\0{len(data)}\0".encode())
        digest.update(data)
    ref = digest.hexdigest()[:32]
    return ref, [(ref, *tensor) for tensor in encoded]
