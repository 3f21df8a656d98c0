"""The outbox: what waits on the isolated host, in which bundle it left, what is confirmed.

A record is in at most one bundle. Bundles take records in the order in which they were
collected, so a bundle is a range of row numbers. A record counts as done only when a verified
receipt says ``delivered``; export changes nothing about that.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from airgap import timestamps
from airgap.bundle import codec
from airgap.catalog import Catalog, JsonObject, Kind
from airgap.database import Database
from airgap.errors import DamagedError, InputRefusedError, SequenceError
from airgap.limits import MAX_RECORD_SIZE
from airgap.records import Record, Totals, lasting_digest, record_id
from airgap.text import printable
from airgap.verify import VerifiedReceipt

_VERSION = 1
_LAYOUT = """
CREATE TABLE record (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    dialect TEXT NOT NULL,
    credential TEXT NOT NULL,
    occurrence INTEGER NOT NULL,
    payload BLOB NOT NULL,
    lasting BLOB NOT NULL,
    outcome TEXT CHECK (outcome IN ('delivered', 'dead', 'in_doubt', 'waiting')),
    collected_at TEXT NOT NULL
) STRICT;
CREATE TABLE bundle (
    sequence INTEGER PRIMARY KEY,
    bundle_id TEXT NOT NULL UNIQUE,
    file_name TEXT NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    manifest BLOB NOT NULL,
    written_to TEXT,
    written_at TEXT
) STRICT;
CREATE TABLE receipt (
    receipt_id TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL REFERENCES bundle,
    number INTEGER NOT NULL,
    importer TEXT NOT NULL,
    outcomes TEXT NOT NULL,
    created_at TEXT NOT NULL,
    applied_at TEXT NOT NULL
) STRICT
"""


@dataclass(frozen=True, slots=True)
class StoredBundle:
    """A bundle that the outbox has made.

    Args:
        sequence: number in the chain.
        bundle_id: its id.
        file_name: name of the file, in the home's ``bundles`` folder and on media.
        first: number of its first record in the outbox.
        last: number of its last record.
        created_at: when it was made.
        written_to: where it was last written, or None where it never reached a medium.
    """

    sequence: int
    bundle_id: str
    file_name: str
    first: int
    last: int
    created_at: str
    written_to: str | None


@dataclass(slots=True)
class Collected:
    """What one collection found: totals read, and of these new to the outbox."""

    read: Totals
    new: Totals


class Outbox:
    """The outbox of one isolated host.

    Args:
        path: the SQLite file; made where it does not exist.
        source: the source's name, part of every record's id.
        catalog: schemas and kinds.
    """

    def __init__(self, path: Path, source: str, catalog: Catalog) -> None:
        self.source = source
        self._catalog = catalog
        self._db = Database(path, _LAYOUT, _VERSION)
        self._connection = self._db.connection

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def collect(self, records: Iterable[Record], now: datetime) -> Collected:
        """Take in the records of one source file, all of them or none.

        A record that is there already is not added again; the n-th repetition of the same
        content within ``records`` is a record of its own.

        Args:
            records: checked records with occurrence 0, in file order.
            now: the present.

        Raises:
            InputRefusedError: an identity comes a second time with other content.
            DamagedError: the outbox does not hold what was read.
        """
        collected = Collected(Totals(), Totals())
        with self._db.transaction() as connection:
            connection.execute("DROP TABLE IF EXISTS temp.seen")
            connection.execute(
                "CREATE TEMP TABLE seen (id BLOB PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID"
            )
            before = self._last_number()
            for record in records:
                kind = self._catalog.kind(record.kind)
                collected.read.add(kind, record.payload)
                if self._add(record, kind, timestamps.to_text(now)):
                    collected.new.add(kind, record.payload)
            self.totals(before + 1).require_equal(
                collected.new, here="the outbox", there="the source"
            )
            connection.execute("DROP TABLE temp.seen")
        return collected

    def next_bundle(self) -> tuple[int, str | None, int]:
        """Return sequence and previous bundle's id for the next bundle, and its first record."""
        row = self._connection.execute(
            "SELECT sequence, bundle_id, last FROM bundle ORDER BY sequence DESC LIMIT 1"
        ).fetchone()
        return (1, None, 1) if row is None else (row[0] + 1, row[1], row[2] + 1)

    def records(self, first: int, last: int | None = None) -> Iterator[tuple[int, Record]]:
        """Yield number and record from ``first`` to ``last``, or to the end."""
        rows = self._connection.execute(
            "SELECT number, kind, dialect, credential, occurrence, payload FROM record"
            " WHERE number BETWEEN ? AND ? ORDER BY number",
            (first, last if last is not None else 2**62),
        )
        for number, kind, dialect, credential, occurrence, payload in rows:
            yield number, Record(kind, dialect, credential, occurrence, codec.decode_own(payload))

    def totals(self, first: int, last: int | None = None) -> Totals:
        """Return the totals of a range of records, added up from what is stored."""
        totals = Totals()
        for _, record in self.records(first, last):
            totals.add(self._catalog.kind(record.kind), record.payload)
        return totals

    def add_bundle(self, bundle: StoredBundle, manifest: bytes) -> None:
        """Store that a bundle was made; its records are from now on in it and in no other."""
        with self._db.transaction() as connection:
            if self.next_bundle()[0] != bundle.sequence:
                raise DamagedError(
                    "another export made a bundle in the meantime",
                    where=str(self._db.path),
                    hint="run the command again",
                )
            connection.execute(
                "INSERT INTO bundle (sequence, bundle_id, file_name, first, last, created_at, manifest)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    bundle.sequence,
                    bundle.bundle_id,
                    bundle.file_name,
                    bundle.first,
                    bundle.last,
                    bundle.created_at,
                    manifest,
                ),
            )

    def mark_written(self, sequence: int, folder: str, now: datetime) -> None:
        """Store that a bundle was written to a medium and read back."""
        with self._db.transaction() as connection:
            connection.execute(
                "UPDATE bundle SET written_to = ?, written_at = ? WHERE sequence = ?",
                (printable(folder, 4096), timestamps.to_text(now), sequence),
            )

    def bundles(self) -> list[StoredBundle]:
        """Return all bundles in order."""
        rows = self._connection.execute(
            "SELECT sequence, bundle_id, file_name, first, last, created_at, written_to"
            " FROM bundle ORDER BY sequence"
        )
        return [StoredBundle(*row) for row in rows]

    def manifest(self, sequence: int) -> JsonObject:
        """Return a stored bundle's manifest."""
        row = self._connection.execute(
            "SELECT manifest FROM bundle WHERE sequence = ?", (sequence,)
        ).fetchone()
        value: JsonObject = codec.decode_own(row[0])
        return value

    def outcomes(self, bundle: StoredBundle) -> dict[str, int]:
        """Return how many of a bundle's records have which outcome; ``unknown`` without one."""
        rows = self._connection.execute(
            "SELECT coalesce(outcome, 'unknown'), count(*) FROM record"
            " WHERE number BETWEEN ? AND ? GROUP BY 1",
            (bundle.first, bundle.last),
        )
        return dict(rows.fetchall())

    def has_receipt(self, receipt_id: str) -> bool:
        """Tell whether a receipt was applied."""
        found = self._connection.execute(
            "SELECT 1 FROM receipt WHERE receipt_id = ?", (receipt_id,)
        ).fetchone()
        return found is not None

    def is_stale(self, receipt: VerifiedReceipt) -> bool:
        """Tell whether a newer receipt by the same importer for the same bundle was applied.

        A later receipt stands for the whole bundle, so an older one has nothing to add.
        """
        row = self._connection.execute(
            "SELECT max(number) FROM receipt WHERE sequence = ? AND importer = ?",
            (self._bundle_of(receipt).sequence, receipt.manifest["importer"]),
        ).fetchone()
        return row[0] is not None and receipt.manifest["number"] < row[0]

    def apply(self, receipt: VerifiedReceipt, now: datetime) -> dict[str, int]:
        """Take over a verified receipt: exactly its records change, all of them or none.

        An outcome ``delivered`` is final: an older receipt never takes it back.

        Returns:
            How many records this receipt newly showed to be delivered, dead, in doubt, waiting.

        Raises:
            InputRefusedError: the receipt is not about a bundle of this outbox.
            DamagedError: its records or totals are not those of the bundle.
        """
        bundle = self._bundle_of(receipt)
        changed = {"delivered": 0, "dead": 0, "in_doubt": 0, "waiting": 0}
        confirmed = Totals()
        with self._db.transaction() as connection:
            self._refuse_second(receipt, bundle)
            stored = {
                row[0]: (row[1], row[2])
                for row in connection.execute(
                    "SELECT id, number, outcome FROM record WHERE number BETWEEN ? AND ?",
                    (bundle.first, bundle.last),
                )
            }
            rows = 0
            for outcome in receipt.outcomes():
                entry = stored.pop(bytes.fromhex(outcome["id"]), None)
                if entry is None:
                    raise _foreign(
                        receipt, f"record {outcome['id']}", "a record of that bundle, once"
                    )
                rows += 1
                number, before = entry
                if outcome["outcome"] == "delivered":
                    self._confirm(confirmed, number)
                if before not in ("delivered", outcome["outcome"]):
                    changed[outcome["outcome"]] += 1
                    connection.execute(
                        "UPDATE record SET outcome = ? WHERE number = ?",
                        (outcome["outcome"], number),
                    )
            if stored:
                raise _foreign(
                    receipt, f"{rows} records", f"all {rows + len(stored)} of the bundle"
                )
            receipt.totals.require_equal(confirmed, here="the receipt", there="the outbox")
            connection.execute(
                "INSERT INTO receipt VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    receipt.document_id,
                    bundle.sequence,
                    receipt.manifest["number"],
                    receipt.manifest["importer"],
                    json.dumps(receipt.manifest["outcomes"]),
                    receipt.manifest["created_at"],
                    timestamps.to_text(now),
                ),
            )
        return changed

    def has_waiting(self) -> bool:
        """Tell whether a record is in no bundle yet."""
        return self._last_number() >= self.next_bundle()[2]

    def _refuse_second(self, receipt: VerifiedReceipt, bundle: StoredBundle) -> None:
        row = self._connection.execute(
            "SELECT receipt_id FROM receipt WHERE sequence = ? AND importer = ? AND number = ?",
            (bundle.sequence, receipt.manifest["importer"], receipt.manifest["number"]),
        ).fetchone()
        if row is not None:
            raise SequenceError(
                f"receipt {receipt.manifest['number']} of {receipt.manifest['importer']}"
                f" for bundle {bundle.sequence} was applied before",
                where=receipt.name,
                expected=row[0],
                found=receipt.document_id,
                hint="two workstations of one name, or a restored one, sign receipts; find out which "
                "is right; nothing was changed",
            )

    def waiting(self) -> Totals:
        """Return the totals of records that are in no bundle yet."""
        return self.totals(self.next_bundle()[2])

    def confirmed(self) -> Totals:
        """Return the totals of records that a receipt showed to be delivered."""
        totals = Totals()
        rows = self._connection.execute(
            "SELECT kind, payload FROM record WHERE outcome = 'delivered' ORDER BY number"
        )
        for kind, payload in rows:
            totals.add(self._catalog.kind(kind), codec.decode_own(payload))
        return totals

    def last_receipt(self) -> str | None:
        """Return when the newest applied receipt was made, or None."""
        row = self._connection.execute("SELECT max(created_at) FROM receipt").fetchone()
        return None if row is None else row[0]

    def _add(self, record: Record, kind: Kind, now: str) -> bool:
        connection = self._connection
        identifier = record_id(self.source, record, kind)
        lasting = lasting_digest(record, kind)
        occurrence = 0
        if kind.identity is None:
            occurrence = self._occurrence(identifier)
            if occurrence:
                identifier = record_id(self.source, record.repeated(occurrence), kind)
        payload = codec.encode(record.payload)
        if len(payload) > MAX_RECORD_SIZE - 1024:
            raise InputRefusedError(
                f"a {kind.name} is too large",
                expected=f"at most {MAX_RECORD_SIZE - 1024} bytes",
                found=str(len(payload)),
            )
        added = connection.execute(
            "INSERT OR IGNORE INTO record"
            " (id, kind, dialect, credential, occurrence, payload, lasting, collected_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                identifier,
                record.kind,
                record.dialect,
                record.credential,
                occurrence,
                payload,
                lasting,
                now,
            ),
        ).rowcount
        if not added and kind.identity is not None:
            row = connection.execute(
                "SELECT lasting FROM record WHERE id = ?", (identifier,)
            ).fetchone()
            if row[0] != lasting:
                raise InputRefusedError(
                    f"a {kind.name} comes again with other content",
                    where=f"{kind.identity} {record.payload[kind.identity]}",
                    expected="what was collected under this id before",
                    found="another count, window or credential",
                    hint="find out which is right; nothing of this file was taken over",
                )
        return bool(added)

    def _occurrence(self, identifier: bytes) -> int:
        connection = self._connection
        if connection.execute(
            "INSERT OR IGNORE INTO temp.seen VALUES (?, 0)", (identifier,)
        ).rowcount:
            return 0
        connection.execute("UPDATE temp.seen SET n = n + 1 WHERE id = ?", (identifier,))
        row = connection.execute("SELECT n FROM temp.seen WHERE id = ?", (identifier,)).fetchone()
        return int(row[0])

    def _confirm(self, totals: Totals, number: int) -> None:
        for _, record in self.records(number, number):
            totals.add(self._catalog.kind(record.kind), record.payload)

    def _last_number(self) -> int:
        row = self._connection.execute(
            "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'record'), 0)"
        ).fetchone()
        return int(row[0])

    def _bundle_of(self, receipt: VerifiedReceipt) -> StoredBundle:
        for bundle in self.bundles():
            if bundle.bundle_id == receipt.manifest["bundle_id"]:
                if (
                    receipt.source == self.source
                    and bundle.sequence == receipt.manifest["bundle_sequence"]
                ):
                    return bundle
                break
        raise _foreign(
            receipt,
            f"bundle {receipt.manifest['bundle_sequence']} of {receipt.source}",
            f"a bundle that this outbox ({self.source}) made",
        )


def _foreign(receipt: VerifiedReceipt, found: str, expected: str) -> InputRefusedError:
    return InputRefusedError(
        "the receipt is not about this outbox",
        where=receipt.name,
        expected=expected,
        found=found,
        hint="apply it on the host that exported the bundle; nothing was changed here",
    )
