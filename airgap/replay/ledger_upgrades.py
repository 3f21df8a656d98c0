"""Ledgers of older layouts, brought up to date where they are.

1  bundles, records, receipts.
2  events; what bundles cover, when they were made, and times without usage; known windows; conflicts.
   Layout 2 grew while nothing was released, so its last tables and columns may be missing in one.
3  events have numbers; what a bundle holds, and that it is delivered, is known without its records.
4  what became of a record is in tables of its own, beside its payload.

What a layout has as columns and an older one had not is taken from the records, which a ledger keeps
for good. Layout 4 is the only one for which these are copied, since a file gives up columns in no other
way: that takes a minute for ten million records, and their room once more, which is used again later.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from functools import partial

from airgap import timestamps, windows
from airgap.bundle import codec
from airgap.catalog import Catalog
from airgap.database import Upgrade
from airgap.records import Record, note_window
from airgap.replay import counts
from airgap.replay.ledger_layout import COUNTS, EVENT, RECORD, RECORD_BY_ID, RECORD_STATE, STATES
from airgap.windows import Timeline, to_json

_BUNDLE_2 = """
CREATE TABLE bundle (
    number INTEGER PRIMARY KEY,
    bundle_id TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    previous TEXT,
    created INTEGER NOT NULL,
    imported_at TEXT NOT NULL,
    envelope BLOB NOT NULL,
    covered TEXT NOT NULL,
    used TEXT NOT NULL,
    no_usage_from INTEGER,
    no_usage_to INTEGER,
    no_usage_kinds TEXT,
    UNIQUE (source, sequence)
) STRICT
"""
_EVENT_2 = """
CREATE TABLE event (
    record INTEGER NOT NULL REFERENCES record,
    at TEXT NOT NULL,
    state TEXT NOT NULL,
    status INTEGER,
    detail TEXT
) STRICT;
CREATE INDEX event_by_record ON event (record)
"""
_KNOWN_WINDOW = """
CREATE TABLE known_window (
    source TEXT NOT NULL,
    kind TEXT NOT NULL,
    credential TEXT NOT NULL,
    windows BLOB NOT NULL,
    PRIMARY KEY (source, kind, credential)
) STRICT, WITHOUT ROWID
"""

_FACTS = "attempts, doubted, status, detail, answer, changed_at"
FILL_OPEN = (
    f"INSERT INTO open_record (record, kind, state, {_FACTS})"
    f" SELECT number, kind, state, {_FACTS} FROM record WHERE state <> 'delivered' ORDER BY number"
)
FILL_DELIVERED = (
    f"INSERT INTO delivered_record (record, {_FACTS})"
    f" SELECT number, {_FACTS} FROM record WHERE state = 'delivered' ORDER BY number"
)


def upgrades(catalog: Catalog) -> Mapping[int, Upgrade]:
    """Return what makes the next layout of each older one.

    Args:
        catalog: the kinds, which say where a record's window is.
    """
    return {
        1: partial(_second, catalog=catalog),
        2: partial(_third, catalog=catalog),
        3: _fourth,
    }


def _second(connection: sqlite3.Connection, catalog: Catalog) -> None:
    connection.execute("CREATE INDEX IF NOT EXISTS bundle_by_record ON bundle_record (record)")
    rows = connection.execute("SELECT * FROM bundle ORDER BY number").fetchall()
    connection.execute("DROP TABLE bundle")
    _run(connection, _BUNDLE_2)
    for number, bundle_id, source, sequence, previous, created_at, imported_at, envelope in rows:
        timeline = Timeline()
        _note(connection, timeline, catalog, "b.bundle = ?", number)
        connection.execute(
            "INSERT INTO bundle VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL)",
            (
                *(number, bundle_id, source, sequence, previous),
                windows.micros(timestamps.parse(created_at)),
                *(imported_at, envelope),
                *(to_json(timeline.covered()), to_json(timeline.used())),
            ),
        )
    _run(connection, _EVENT_2)


def _third(connection: sqlite3.Connection, catalog: Catalog) -> None:
    if "no_usage_kinds" not in _columns(connection, "bundle"):
        connection.execute("ALTER TABLE bundle ADD COLUMN no_usage_kinds TEXT")
    if "conflict" not in _columns(connection, "bundle_record"):
        connection.execute("ALTER TABLE bundle_record ADD COLUMN conflict BLOB")
    if not _columns(connection, "known_window"):
        _run(connection, _KNOWN_WINDOW)
        _fill_known_windows(connection, catalog)
    connection.execute("ALTER TABLE event RENAME TO older_event")
    connection.execute("DROP INDEX event_by_record")
    _run(connection, EVENT)
    connection.execute(
        "INSERT INTO event (record, at, state, status, detail)"
        " SELECT record, at, state, status, detail FROM older_event ORDER BY rowid"
    )
    connection.execute("DROP TABLE older_event")
    _run(connection, COUNTS)
    connection.execute(counts.NOTE.format(where="1 = 1"))


def _fourth(connection: sqlite3.Connection) -> None:
    _run(connection, STATES)
    connection.execute(FILL_OPEN)
    connection.execute(FILL_DELIVERED)
    # What refers to the table goes by its name, so the new one takes that over and not the old one leaves it.
    _run(connection, RECORD.replace("TABLE record", "TABLE newer_record"))
    connection.execute(
        "INSERT INTO newer_record SELECT number, id, kind, dialect, credential, occurrence, payload"
        " FROM record ORDER BY number"
    )
    connection.execute("DROP TABLE record")
    connection.execute("ALTER TABLE newer_record RENAME TO record")
    _run(connection, RECORD_BY_ID)
    _run(connection, RECORD_STATE)


def _fill_known_windows(connection: sqlite3.Connection, catalog: Catalog) -> None:
    sources = connection.execute("SELECT DISTINCT source FROM bundle ORDER BY 1").fetchall()
    for (source,) in sources:
        timeline = Timeline()
        where = "b.bundle IN (SELECT number FROM bundle WHERE source = ?)"
        _note(connection, timeline, catalog, where, source)
        connection.executemany(
            "INSERT INTO known_window VALUES (?, ?, ?, ?)",
            [(source, *row) for row in timeline.known()],
        )


def _note(
    connection: sqlite3.Connection, timeline: Timeline, catalog: Catalog, where: str, value: object
) -> None:
    """Add the windows of the records of bundles to a timeline."""
    for record in _records(connection, where, value):
        note_window(timeline, record, catalog.kind(record.kind), where="a record of the ledger")


def _records(connection: sqlite3.Connection, where: str, value: object) -> Iterator[Record]:
    rows = connection.execute(
        "SELECT r.kind, r.dialect, r.credential, r.occurrence, r.payload FROM record r WHERE r.number IN"
        f" (SELECT b.record FROM bundle_record b WHERE {where}) ORDER BY r.number",
        (value,),
    )
    for kind, dialect, credential, occurrence, payload in rows:
        yield Record(kind, dialect, credential, occurrence, codec.decode_own(payload))


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}


def _run(connection: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";\n"):
        connection.execute(statement)
