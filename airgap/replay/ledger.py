"""The ledger: what was imported, and what became of each record.

A record's state goes ``waiting`` -> ``sending`` -> ``delivered``, ``dead``, ``in_doubt`` or back
to ``waiting``. ``sending`` is on disk before the request leaves. A record that is found in it
when the ledger is opened again was cut off: it is in doubt, or sent again where the endpoint can
tell duplicates. Every step but a plain delivery is kept as an event of the record.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, takewhile
from pathlib import Path

from airgap import timestamps, windows
from airgap.bundle import codec
from airgap.catalog import Catalog, JsonObject
from airgap.database import Database, Store
from airgap.errors import DamagedError, UnreachableError
from airgap.records import Record, Totals, lasting_digest, note_window
from airgap.replay import counts, steps
from airgap.replay.claims import SCOPE, Alone, Sharing
from airgap.replay.ledger_layout import (
    APPLICATION,
    LAYOUT,
    TOLD_BY,
    VERSION,
    Added,
    Entry,
    LastReceipt,
    LedgerBundle,
    Report,
    Settled,
    State,
)
from airgap.replay.ledger_upgrades import upgrades
from airgap.replay.shared import SharedDatabase
from airgap.verify import VerifiedBundle
from airgap.windows import Declaration, Timeline, from_json, to_json

# What came under the id of another record with other content is never sent.
_STATE = "(CASE WHEN b.conflict IS NULL THEN r.state ELSE 'dead' END)"
_CONFLICT = {
    "outcome": "dead",
    "detail": "another content came under this id before; neither sent nor counted",
}
_PAGE = 500
_BUNDLE = "number, bundle_id, source, sequence, previous, created"


class Ledger:
    """The ledger of one workstation.

    Args:
        place: the SQLite file, made where it does not exist; or the database that is shared.
        catalog: schemas and kinds.
        clock: the present, for the times that are stored.
    """

    def __init__(
        self, place: Path | SharedDatabase, catalog: Catalog, clock: timestamps.Clock
    ) -> None:
        self.catalog = catalog
        self.clock = clock
        self.database: Store
        if isinstance(place, Path):
            self.database = Database(
                place,
                LAYOUT,
                VERSION,
                application=APPLICATION,
                upgrades=upgrades(catalog),
                told_by=TOLD_BY,
            )
            # Ids are spread over the whole index, of which the usual 2 MB hold too little.
            self.database.connection.execute("PRAGMA cache_size = -65536")
            self.claims = Alone(self.database, catalog, clock)
        else:
            self.database = place
            self.claims = Sharing(self.database, catalog, clock)
        self._connection = self.database.connection
        self._connection.execute("CREATE TEMP TABLE scope (bundle INTEGER PRIMARY KEY)")

    def close(self) -> None:
        """End the run, and close the file or the session."""
        try:
            self.claims.end()
        except UnreachableError:
            pass  # said where it mattered; the session's end ends the run
        finally:
            self.database.close()

    def recover(self) -> int:
        """Settle what runs left in ``sending`` that were cut off; to be called before anything is sent.

        Returns:
            How many records are newly in doubt.
        """
        return self.claims.recover()

    def bundle(self, bundle_id: str) -> LedgerBundle | None:
        """Return the bundle with this id, or None."""
        return self._bundle_where("bundle_id = ?", bundle_id)

    def bundle_at(self, source: str, sequence: int) -> LedgerBundle | None:
        """Return the bundle at a place of a source's chain, or None."""
        return self._bundle_where("source = ? AND sequence = ?", source, sequence)

    def add_bundle(self, bundle: VerifiedBundle) -> Added:
        """Take in a verified bundle, all of its records or none.

        Returns:
            The ledger's entry, how many of its records were there already by another bundle, how
            many of these with other content, and the windows of the new ones.

        Raises:
            DamagedError: the bundle holds a record twice, or totals part.
            TypeError: nobody held the bundle against what the trust store demands.
        """
        if bundle.reviews is None:
            raise TypeError("a bundle is taken in only when its signatures were counted")
        now = timestamps.to_text(self.clock())
        source, known, conflicts = bundle.source, 0, 0
        with self.database.transaction() as connection:
            timeline = Timeline.knowing(
                connection.execute(
                    "SELECT kind, credential, windows FROM known_window WHERE source = ?", (source,)
                )
            )
            [[number]] = connection.execute(
                "INSERT INTO bundle (bundle_id, source, sequence, previous, created, imported_at,"
                " envelope, covered, used, no_usage_from, no_usage_to, no_usage_kinds)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING number",
                (
                    bundle.document_id,
                    bundle.source,
                    bundle.sequence,
                    bundle.manifest["previous"],
                    windows.micros(bundle.created_at),
                    now,
                    bundle.envelope.encode(),
                    to_json(bundle.timeline.covered()),
                    to_json(bundle.timeline.used()),
                    *_columns(bundle.no_usage),
                ),
            ).fetchall()
            records = bundle.records()
            while page := list(islice(records, _PAGE)):
                there = self._add_page(number, page, now, bundle.name)
                for identifier, record in page:
                    if identifier not in there:
                        kind = self.catalog.kind(record.kind)
                        note_window(timeline, record, kind, where=bundle.name)
                    elif self._note_conflict(number, identifier, record):
                        conflicts += 1
                known += len(there)
            connection.executemany(
                "INSERT INTO known_window VALUES (?, ?, ?, ?)"
                " ON CONFLICT (source, kind, credential) DO UPDATE SET windows = excluded.windows",
                [(source, *row) for row in timeline.known()],
            )
            counts.note(connection, number)
            entry = LedgerBundle(
                int(number),
                bundle.document_id,
                bundle.source,
                bundle.sequence,
                bundle.manifest["previous"],
                windows.micros(bundle.created_at),
            )
            self.bundle_totals(entry).require_equal(
                bundle.totals, here="the ledger", there="the bundle"
            )
        return Added(entry, known, conflicts, timeline)

    def set_scope(self, bundles: Iterable[LedgerBundle]) -> None:
        """Choose the bundles whose records the following calls are about."""
        self._connection.execute("DELETE FROM scope")
        self._connection.executemany(
            "INSERT INTO scope VALUES (?) ON CONFLICT DO NOTHING", [(b.number,) for b in bundles]
        )

    def waiting(self, kind: str) -> Iterator[Entry]:
        """Yield the scope's waiting records of a kind, oldest first.

        Records that change state while this is read are seen once at most.
        """
        last = -1
        while True:
            rows = self.claims.page(kind, last, _PAGE)
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
        now = timestamps.to_text(self.clock())
        changes = steps.changes(settled, now)
        leaving = [(now, first, last) for first, last in steps.runs(sending)]
        with self.database.transaction() as connection:
            for statement, values in changes:
                connection.executemany(statement.format(carried=self.claims.carried), values)
            if not leaving:
                return
            send = f"{steps.SEND}{self.claims.held}"
            if connection.executemany(send, leaving).rowcount != len(sending):
                raise DamagedError(
                    "a record is being sent by somebody else",
                    where=self.database.name,
                    hint="two imports are at work on one ledger: end one, then run the other again",
                )

    def bundles(self, source: str | None = None) -> list[LedgerBundle]:
        """Return all bundles, or those of a source, by source and sequence."""
        rows = self._connection.execute(
            f"SELECT {_BUNDLE} FROM bundle WHERE CAST(? AS TEXT) IS NULL OR source = ?"
            " ORDER BY source, sequence",
            (source, source),
        )
        return [LedgerBundle(*row) for row in rows]

    def neighbours(
        self, source: str, sequence: int
    ) -> tuple[LedgerBundle | None, LedgerBundle | None]:
        """Return the bundles of a source that are next before and next after a place, if any."""
        where = "source = ? AND sequence {} ? ORDER BY sequence {} LIMIT 1"
        return (
            self._bundle_where(where.format("<", "DESC"), source, sequence),
            self._bundle_where(where.format(">", "ASC"), source, sequence),
        )

    def reports(self, source: str) -> list[Report]:
        """Return what each bundle of a source covers, and whether it is delivered, in order."""
        rows = self._connection.execute(
            f"SELECT {_BUNDLE}, imported_at, covered, used, no_usage_from, no_usage_to, no_usage_kinds"
            " FROM bundle WHERE source = ? ORDER BY sequence",
            (source,),
        ).fetchall()
        return [
            Report(
                LedgerBundle(*row[:6]),
                timestamps.parse(row[6]),
                from_json(row[7]),
                from_json(row[8]),
                _declaration(*row[9:]),
                delivered=self.is_delivered(LedgerBundle(*row[:6])),
            )
            for row in rows
        ]

    def bundle_totals(self, bundle: LedgerBundle, state: State | None = None) -> Totals:
        """Return the totals of a bundle's records, or of those in one state."""
        totals = Totals()
        rows = self.database.stream(
            "SELECT r.kind, coalesce(b.conflict, r.payload) FROM bundle_record b"
            " JOIN record_state r ON r.number = b.record WHERE b.bundle = ?"
            f" AND (CAST(? AS TEXT) IS NULL OR {_STATE} = ?)",
            (bundle.number, state, state),
        )
        for kind, payload in rows:
            totals.add(self.catalog.kind(kind), codec.decode_own(payload))
        return totals

    def is_delivered(self, bundle: LedgerBundle) -> bool:
        """Tell whether every record of a bundle was delivered; once it was, that is so for good."""
        seen = "SELECT 1 FROM delivered_bundle WHERE bundle = ?"
        if self._connection.execute(seen, (bundle.number,)).fetchone() is not None:
            return True
        row = self._connection.execute(
            "SELECT 1 FROM bundle_record b LEFT JOIN delivered_record d ON d.record = b.record"
            " WHERE b.bundle = ? AND (b.conflict IS NOT NULL OR d.record IS NULL) LIMIT 1",
            (bundle.number,),
        ).fetchone()
        return row is None

    def outcomes(self, bundle: LedgerBundle) -> Iterator[JsonObject]:
        """Yield one map per record of a bundle (``schemas/outcome.schema.json``), in order."""
        rows = self.database.stream(
            f"SELECT r.id, {_STATE}, r.status, r.changed_at, r.detail, r.answer, b.conflict IS NOT NULL"
            " FROM bundle_record b JOIN record_state r ON r.number = b.record"
            " WHERE b.bundle = ? ORDER BY b.record",
            (bundle.number,),
        )
        for identifier, state, status, changed_at, detail, answer, conflict in rows:
            if conflict:
                yield {
                    **dict.fromkeys(("status", "at", "answer")),
                    **_CONFLICT,
                    "id": identifier.hex(),
                }
                continue
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
        with self.database.snapshot():
            if scoped:
                return counts.per_kind(counts.of_scope(self._connection))
            return counts.by_kind(self._connection)

    def credentials_waiting(self) -> list[str]:
        """Return the fingerprints that the scope's records need that are still to be delivered.

        That is what waits, and in a shared ledger what another run is sending meanwhile.
        """
        rows = self._connection.execute(
            "SELECT DISTINCT r.credential FROM open_record o JOIN record r ON r.number = o.record"
            f" WHERE o.state IN ('waiting', 'sending') AND {SCOPE} ORDER BY 1"
        )
        return [row[0] for row in rows]

    def forms_waiting(self) -> list[tuple[str, str, str]]:
        """Return kind, dialect and credential of the scope's waiting records, each once."""
        return self._connection.execute(
            "SELECT DISTINCT r.kind, r.dialect, r.credential FROM open_record o"
            f" JOIN record r ON r.number = o.record WHERE o.state = 'waiting' AND {SCOPE}"
        ).fetchall()

    def last_receipt(self, bundle: LedgerBundle) -> LastReceipt | None:
        """Return a bundle's newest receipt, or None."""
        row = self._connection.execute(
            "SELECT number, receipt_id, outcomes_digest, file_name FROM receipt WHERE bundle = ?"
            " ORDER BY number DESC LIMIT 1",
            (bundle.number,),
        ).fetchone()
        return None if row is None else LastReceipt(*row)

    def receipt_names(self) -> set[str]:
        """Return the file names of all receipts."""
        rows = self._connection.execute("SELECT file_name FROM receipt")
        return {row[0] for row in rows}

    def receipts_saying(self, bundle: LedgerBundle, digest: str) -> list[str]:
        """Return the files of a bundle's receipts, newest first, from which on all say the same.

        Args:
            bundle: the bundle.
            digest: over the outcomes.
        """
        rows = self._connection.execute(
            "SELECT file_name, outcomes_digest FROM receipt WHERE bundle = ? ORDER BY number DESC",
            (bundle.number,),
        )
        return [name for name, _ in takewhile(lambda row: row[1] == digest, rows)]

    def add_receipt(
        self, bundle: LedgerBundle, receipt_id: str, number: int, file_name: str, digest: str
    ) -> bool:
        """Store that a receipt was written; tell whether its number was still free."""
        with self.database.transaction() as connection:
            return bool(
                connection.execute(
                    "INSERT INTO receipt VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (
                        receipt_id,
                        bundle.number,
                        number,
                        file_name,
                        digest,
                        timestamps.to_text(self.clock()),
                    ),
                ).rowcount
            )

    def _bundle_where(self, condition: str, *values: object) -> LedgerBundle | None:
        row = self._connection.execute(
            f"SELECT {_BUNDLE} FROM bundle WHERE {condition}",
            values,
        ).fetchone()
        return None if row is None else LedgerBundle(*row)

    def _add_page(
        self, bundle: int | None, page: Sequence[tuple[bytes, Record]], now: str, name: str
    ) -> set[bytes]:
        """Add a bundle's next records; return the ids of those that were there already."""
        connection = self._connection
        ids = [identifier for identifier, _ in page]
        marks = ", ".join("?" * len(ids))
        found = connection.execute(f"SELECT id, number FROM record WHERE id IN ({marks})", ids)
        there = {bytes(identifier): number for identifier, number in found}
        connection.executemany(
            "INSERT INTO record"
            " (id, kind, dialect, credential, occurrence, payload)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            [
                (
                    identifier,
                    record.kind,
                    record.dialect,
                    record.credential,
                    record.occurrence,
                    codec.encode(record.payload),
                )
                for identifier, record in page
                if identifier not in there
            ],
        )
        linked = connection.execute(
            f"INSERT INTO bundle_record (bundle, record) SELECT ?, number FROM record WHERE id IN ({marks})"
            " ON CONFLICT DO NOTHING RETURNING record",
            (bundle, *ids),
        ).fetchall()
        if len(linked) != len(ids):
            raise DamagedError(
                f"the bundle holds the record {self._twice(ids, linked).hex()} twice",
                where=name,
                hint="nothing was taken over; the exporter that made this is broken",
            )
        known = set(there.values())
        connection.executemany(
            "INSERT INTO open_record (record, kind, state, changed_at)"
            " SELECT number, kind, 'waiting', CAST(? AS TEXT) FROM record WHERE number BETWEEN ? AND ?",
            [(now, *run) for run in steps.runs(n for (n,) in linked if n not in known)],
        )
        return set(there)

    def _twice(self, ids: Sequence[bytes], linked: Sequence[tuple[int]]) -> bytes:
        """Return which of a page's ids came twice: in the page, or in one before."""
        for position, identifier in enumerate(ids):
            if identifier in ids[:position]:
                return identifier
        marks = ", ".join("?" * len(ids))
        return next(
            bytes(identifier)
            for identifier, number in self._connection.execute(
                f"SELECT id, number FROM record WHERE id IN ({marks})", ids
            )
            if (number,) not in linked
        )

    def _note_conflict(self, bundle: int | None, identifier: bytes, record: Record) -> bool:
        """Keep the content of a record that comes under the id of another one; tell whether it does."""
        kind = self.catalog.kind(record.kind)
        if kind.identity is None:
            return False
        row = self._connection.execute(
            "SELECT kind, dialect, credential, occurrence, payload, number FROM record WHERE id = ?",
            (identifier,),
        ).fetchone()
        name, dialect, credential, occurrence, payload, number = row
        there = Record(name, dialect, credential, occurrence, codec.decode_own(payload))
        if lasting_digest(there, kind) == lasting_digest(record, kind):
            return False
        self._connection.execute(
            "UPDATE bundle_record SET conflict = ? WHERE bundle = ? AND record = ?",
            (codec.encode(record.payload), bundle, number),
        )
        return True


def _columns(told: Declaration | None) -> tuple[object, ...]:
    """Return a declaration as the bundle's columns."""
    if told is None:
        return (None, None, None)
    return (told.start, told.end, None if told.kinds is None else json.dumps(sorted(told.kinds)))


def _declaration(start: int | None, end: int | None, kinds: str | None) -> Declaration | None:
    """Return the declaration in a bundle's columns, or None."""
    if start is None or end is None:
        return None
    return Declaration(start, end, None if kinds is None else frozenset(json.loads(kinds)))
