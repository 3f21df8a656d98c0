"""The ledger: what was imported, and what became of each record.

A record's state goes ``waiting`` -> ``sending`` -> ``delivered``, ``dead``, ``in_doubt`` or back
to ``waiting``. ``sending`` is on disk before the request leaves. A record that is found in it
when the ledger is opened again was cut off: it is in doubt, or sent again where the endpoint can
tell duplicates.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from airgap import timestamps
from airgap.bundle import codec
from airgap.catalog import Catalog, JsonObject
from airgap.credentials import redact
from airgap.database import Database
from airgap.errors import DamagedError
from airgap.records import Record, Totals
from airgap.verify import VerifiedBundle

State = Literal["waiting", "sending", "delivered", "dead", "in_doubt"]
SETTLED_OUTCOMES = ("delivered", "dead", "in_doubt", "waiting")

_VERSION = 1
_LAYOUT = """
CREATE TABLE bundle (
    number INTEGER PRIMARY KEY,
    bundle_id TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    previous TEXT,
    created_at TEXT NOT NULL,
    imported_at TEXT NOT NULL,
    envelope BLOB NOT NULL,
    UNIQUE (source, sequence)
) STRICT;
CREATE TABLE record (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    dialect TEXT NOT NULL,
    credential TEXT NOT NULL,
    occurrence INTEGER NOT NULL,
    payload BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'sending', 'delivered', 'dead', 'in_doubt')),
    attempts INTEGER NOT NULL DEFAULT 0,
    doubted INTEGER NOT NULL DEFAULT 0,
    status INTEGER,
    detail TEXT,
    answer TEXT,
    changed_at TEXT NOT NULL
) STRICT;
CREATE INDEX record_by_state ON record (state, kind, number);
CREATE TABLE bundle_record (
    bundle INTEGER NOT NULL REFERENCES bundle,
    record INTEGER NOT NULL REFERENCES record,
    PRIMARY KEY (bundle, record)
) STRICT, WITHOUT ROWID;
CREATE INDEX bundle_by_record ON bundle_record (record);
CREATE TABLE receipt (
    receipt_id TEXT PRIMARY KEY,
    bundle INTEGER NOT NULL REFERENCES bundle,
    number INTEGER NOT NULL,
    file_name TEXT NOT NULL,
    outcomes_digest TEXT NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (bundle, number)
) STRICT
"""
_SCOPE = (
    "EXISTS (SELECT 1 FROM bundle_record b JOIN temp.scope s ON s.bundle = b.bundle"
    " WHERE b.record = record.number)"
)
_PAGE = 500


@dataclass(frozen=True, slots=True)
class LedgerBundle:
    """A bundle in the ledger."""

    number: int
    bundle_id: str
    source: str
    sequence: int
    previous: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A record in the ledger that is about to be sent."""

    number: int
    id: bytes
    record: Record
    attempts: int
    doubted: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of records that were sent together.

    Args:
        numbers: the records.
        state: their new state.
        status: HTTP status of the answer, or None without one.
        detail: the reason for people, without credentials.
        answers: what is kept of the answer, for each of the records.
        doubted: whether the endpoint may have counted them by this attempt.
    """

    numbers: tuple[int, ...]
    state: State
    status: int | None = None
    detail: str | None = None
    answers: JsonObject = field(default_factory=dict)
    doubted: bool = False


class Ledger:
    """The ledger of one workstation.

    Args:
        path: the SQLite file; made where it does not exist.
        catalog: schemas and kinds.
        clock: the present, for the times that are stored.
    """

    def __init__(self, path: Path, catalog: Catalog, clock: timestamps.Clock) -> None:
        self._catalog = catalog
        self._clock = clock
        self._db = Database(path, _LAYOUT, _VERSION)
        self._connection = self._db.connection
        self._connection.execute("CREATE TEMP TABLE scope (bundle INTEGER PRIMARY KEY)")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def recover(self) -> int:
        """Settle records that a run left in ``sending``; to be called by the one running importer.

        Returns:
            How many records are newly in doubt.
        """
        told = [k.name for k in self._catalog.kinds.values() if k.duplicates_told]
        marks = ", ".join("?" * len(told))
        now = timestamps.to_text(self._clock())
        detail = "the run was cut off after sending began"
        with self._db.transaction() as connection:
            connection.execute(
                f"UPDATE record SET state = 'waiting', doubted = 1, detail = ?, changed_at = ?"
                f" WHERE state = 'sending' AND kind IN ({marks})",
                (detail, now, *told),
            )
            return connection.execute(
                "UPDATE record SET state = 'in_doubt', doubted = 1, detail = ?, changed_at = ?"
                " WHERE state = 'sending'",
                (detail, now),
            ).rowcount

    def bundle(self, bundle_id: str) -> LedgerBundle | None:
        """Return the bundle with this id, or None."""
        return self._bundle_where("bundle_id = ?", bundle_id)

    def bundle_at(self, source: str, sequence: int) -> LedgerBundle | None:
        """Return the bundle at a place of a source's chain, or None."""
        return self._bundle_where("source = ? AND sequence = ?", source, sequence)

    def add_bundle(self, bundle: VerifiedBundle) -> tuple[LedgerBundle, int]:
        """Take in a verified bundle, all of its records or none.

        Returns:
            The ledger's entry, and how many of its records were there already by another bundle.

        Raises:
            DamagedError: the bundle holds a record twice, or totals part.
        """
        now = timestamps.to_text(self._clock())
        known = 0
        with self._db.transaction() as connection:
            number = connection.execute(
                "INSERT INTO bundle"
                " (bundle_id, source, sequence, previous, created_at, imported_at, envelope)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    bundle.document_id,
                    bundle.source,
                    bundle.sequence,
                    bundle.manifest["previous"],
                    bundle.manifest["created_at"],
                    now,
                    bundle.envelope.encode(),
                ),
            ).lastrowid
            for identifier, record in bundle.records():
                known += not self._add_record(number, identifier, record, now, bundle.name)
            entry = LedgerBundle(
                int(number or 0),
                bundle.document_id,
                bundle.source,
                bundle.sequence,
                bundle.manifest["previous"],
            )
            self.bundle_totals(entry).require_equal(
                bundle.totals, here="the ledger", there="the bundle"
            )
        return entry, known

    def set_scope(self, bundles: Iterable[LedgerBundle]) -> None:
        """Choose the bundles whose records the following calls are about."""
        self._connection.execute("DELETE FROM temp.scope")
        self._connection.executemany(
            "INSERT OR IGNORE INTO temp.scope VALUES (?)", [(b.number,) for b in bundles]
        )

    def waiting(self, kind: str) -> Iterator[Entry]:
        """Yield the scope's waiting records of a kind, oldest first.

        Records that change state while this is read are seen once at most.
        """
        last = -1
        while True:
            rows = self._connection.execute(
                "SELECT number, id, kind, dialect, credential, occurrence, payload, attempts, doubted"
                f" FROM record WHERE state = 'waiting' AND kind = ? AND number > ? AND {_SCOPE}"
                f" ORDER BY number LIMIT {_PAGE}",
                (kind, last),
            ).fetchall()
            for (
                number,
                identifier,
                name,
                dialect,
                credential,
                occurrence,
                payload,
                tries,
                doubted,
            ) in rows:
                last = number
                record = Record(name, dialect, credential, occurrence, codec.decode_own(payload))
                yield Entry(number, identifier, record, tries, bool(doubted))
            if len(rows) < _PAGE:
                return

    def step(self, settled: Sequence[Settled], sending: Sequence[int]) -> None:
        """Store answers that came and requests that are about to leave, in one commit.

        When this returns, ``sending`` is on disk: only then may the requests leave.

        Raises:
            DamagedError: a record to be sent is not waiting.
        """
        if not settled and not sending:
            return
        now = timestamps.to_text(self._clock())
        with self._db.transaction() as connection:
            for item in settled:
                answer = json.dumps(item.answers) if item.answers else None
                connection.executemany(
                    "UPDATE record SET state = ?, status = ?, detail = ?, answer = ?, changed_at = ?,"
                    " doubted = doubted OR ? WHERE number = ?",
                    [
                        (item.state, item.status, item.detail, answer, now, item.doubted, n)
                        for n in item.numbers
                    ],
                )
            changed = connection.executemany(
                "UPDATE record SET state = 'sending', attempts = attempts + 1, changed_at = ?"
                " WHERE number = ? AND state = 'waiting'",
                [(now, n) for n in sending],
            ).rowcount
            if sending and changed != len(sending):
                raise DamagedError(
                    "a record is being sent by somebody else", where=str(self._db.path)
                )

    def bundles(self) -> list[LedgerBundle]:
        """Return all bundles, by source and sequence."""
        rows = self._connection.execute(
            "SELECT number, bundle_id, source, sequence, previous FROM bundle"
            " ORDER BY source, sequence"
        )
        return [LedgerBundle(*row) for row in rows]

    def sequences(self, source: str) -> list[int]:
        """Return the sequences of a source that were imported, ascending."""
        rows = self._connection.execute(
            "SELECT sequence FROM bundle WHERE source = ? ORDER BY sequence", (source,)
        )
        return [row[0] for row in rows]

    def bundle_totals(self, bundle: LedgerBundle, state: State | None = None) -> Totals:
        """Return the totals of a bundle's records, or of those in one state."""
        totals = Totals()
        rows = self._connection.execute(
            "SELECT r.kind, r.payload FROM bundle_record b JOIN record r ON r.number = b.record"
            " WHERE b.bundle = ? AND (? IS NULL OR r.state = ?)",
            (bundle.number, state, state),
        )
        for kind, payload in rows:
            totals.add(self._catalog.kind(kind), codec.decode_own(payload))
        return totals

    def outcomes(self, bundle: LedgerBundle) -> Iterator[JsonObject]:
        """Yield one map per record of a bundle (``schemas/outcome.schema.json``), in order."""
        rows = self._connection.execute(
            "SELECT r.id, r.state, r.status, r.changed_at, r.detail, r.answer"
            " FROM bundle_record b JOIN record r ON r.number = b.record"
            " WHERE b.bundle = ? ORDER BY b.record",
            (bundle.number,),
        )
        for identifier, state, status, changed_at, detail, answer in rows:
            yield {
                "id": identifier.hex(),
                "outcome": "in_doubt" if state == "sending" else state,
                "status": status,
                "at": changed_at,
                "detail": detail,
                "answer": json.loads(answer) if answer else None,
            }

    def states(self, *, scoped: bool) -> dict[str, dict[str, int]]:
        """Return how many records of each kind are in each state."""
        rows = self._connection.execute(
            "SELECT kind, state, count(*) FROM record"
            f" {'WHERE ' + _SCOPE if scoped else ''} GROUP BY kind, state ORDER BY kind, state"
        )
        found: dict[str, dict[str, int]] = {}
        for kind, state, count in rows:
            found.setdefault(kind, {})[state] = count
        return found

    def credentials_waiting(self) -> list[str]:
        """Return the fingerprints that the scope's waiting records need."""
        rows = self._connection.execute(
            f"SELECT DISTINCT credential FROM record WHERE state = 'waiting' AND {_SCOPE} ORDER BY 1"
        )
        return [row[0] for row in rows]

    def forms_waiting(self) -> list[tuple[str, str, str]]:
        """Return kind, dialect and credential of the scope's waiting records, each once."""
        return self._connection.execute(
            f"SELECT DISTINCT kind, dialect, credential FROM record WHERE state = 'waiting' AND {_SCOPE}"
        ).fetchall()

    def unsettled(self, state: State, limit: int) -> list[dict[str, Any]]:
        """Return records in a state, for people: id, kind, source, status, detail, since when."""
        rows = self._connection.execute(
            "SELECT r.id, r.kind, (SELECT min(x.source) FROM bundle x JOIN bundle_record y"
            " ON y.bundle = x.number WHERE y.record = r.number), r.status, r.detail, r.changed_at"
            " FROM record r WHERE r.state = ? ORDER BY r.number LIMIT ?",
            (state, limit),
        )
        names = ("id", "kind", "source", "status", "detail", "since")
        return [dict(zip(names, (row[0].hex(), *row[1:]), strict=True)) for row in rows]

    def resolve(
        self, prefix: str, state: Literal["waiting", "delivered"], reason: str
    ) -> list[str]:
        """Decide records in doubt or dead by hand.

        Args:
            prefix: the record's id or its beginning; ``all`` for every record in doubt.
            state: ``waiting`` to send again, ``delivered`` to count it as delivered.
            reason: why, kept with the record.

        Returns:
            Ids of the records that changed.
        """
        choice = "send again" if state == "waiting" else "delivered"
        detail = redact(f"decided by hand ({choice}): {reason}", self._catalog)
        where = (
            "state = 'in_doubt'"
            if prefix == "all"
            else "state IN ('in_doubt', 'dead') AND lower(hex(id)) LIKE ? || '%'"
        )
        values = () if prefix == "all" else (prefix.lower(),)
        with self._db.transaction() as connection:
            found = connection.execute(
                f"SELECT number, id FROM record WHERE {where}", values
            ).fetchall()
            connection.executemany(
                "UPDATE record SET state = ?, detail = ?, changed_at = ? WHERE number = ?",
                [(state, detail, timestamps.to_text(self._clock()), row[0]) for row in found],
            )
        return [row[1].hex() for row in found]

    def last_receipt(self, bundle: LedgerBundle) -> tuple[int, str, str]:
        """Return number, outcomes digest and file name of a bundle's newest receipt, or zeros."""
        row = self._connection.execute(
            "SELECT number, outcomes_digest, file_name FROM receipt WHERE bundle = ?"
            " ORDER BY number DESC LIMIT 1",
            (bundle.number,),
        ).fetchone()
        return (0, "", "") if row is None else (row[0], row[1], row[2])

    def add_receipt(
        self, bundle: LedgerBundle, receipt_id: str, number: int, file_name: str, digest: str
    ) -> None:
        """Store that a receipt was written."""
        with self._db.transaction() as connection:
            connection.execute(
                "INSERT INTO receipt VALUES (?, ?, ?, ?, ?, ?)",
                (
                    receipt_id,
                    bundle.number,
                    number,
                    file_name,
                    digest,
                    timestamps.to_text(self._clock()),
                ),
            )

    def copy_states(self, other: Path) -> None:
        """Take over from another ledger what became of the records that both hold.

        For a dry run, which works on a ledger of its own.
        """
        if not other.exists():
            return
        self._connection.execute(
            "ATTACH DATABASE ? AS other", (f"file:{quote(str(other))}?mode=ro",)
        )
        with self._db.transaction() as connection:
            connection.execute(
                "UPDATE main.record SET state = o.state FROM other.record o"
                " WHERE o.id = main.record.id AND o.state != 'waiting'"
            )
        self._connection.execute("DETACH DATABASE other")

    def _bundle_where(self, condition: str, *values: object) -> LedgerBundle | None:
        row = self._connection.execute(
            f"SELECT number, bundle_id, source, sequence, previous FROM bundle WHERE {condition}",
            values,
        ).fetchone()
        return None if row is None else LedgerBundle(*row)

    def _add_record(
        self, bundle: int | None, identifier: bytes, record: Record, now: str, name: str
    ) -> bool:
        connection = self._connection
        added = connection.execute(
            "INSERT OR IGNORE INTO record"
            " (id, kind, dialect, credential, occurrence, payload, state, changed_at)"
            " VALUES (?, ?, ?, ?, ?, ?, 'waiting', ?)",
            (
                identifier,
                record.kind,
                record.dialect,
                record.credential,
                record.occurrence,
                codec.encode(record.payload),
                now,
            ),
        ).rowcount
        linked = connection.execute(
            "INSERT OR IGNORE INTO bundle_record SELECT ?, number FROM record WHERE id = ?",
            (bundle, identifier),
        ).rowcount
        if not linked:
            raise DamagedError(
                f"the bundle holds the record {identifier.hex()} twice",
                where=name,
                hint="nothing was taken over; the exporter that made this is broken",
            )
        return bool(added)
