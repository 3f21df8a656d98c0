"""The outbox's tables, and how those of older layouts become them.

    1  records, bundles and receipts, without a word of what time they cover
    2  windows of bundles and of all that was collected, codes, void and pruned bundles
    3  rows of LangSmith's tables, pseudonyms, and what the capture endpoint received
    4  ids in a table of their own, so that many are put in at once, in order

An older outbox is brought up to date when it is opened, in one transaction, and loses nothing.
"""

from sqlite3 import Connection

from airgap.bundle import codec
from airgap.catalog import Catalog
from airgap.records import Record, note_window
from airgap.windows import Timeline, to_json

VERSION = 4
LAYOUTS = (1, 2, 3, VERSION)
"""Layouts that can be used, oldest first; the first ones are made the last one when they are opened."""
APPLICATION = "aout"
"""What tells an outbox from other databases; see ``Database``. The first layout does not say it."""
TOLD_BY = ("bundle", "file_name")
"""What only an outbox has; see ``Database``."""
SOURCES = """\
CREATE TABLE source_row (
    table_name TEXT NOT NULL,
    row_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    counted BLOB NOT NULL,
    backfill_id TEXT,
    marked_at TEXT,
    sent_at TEXT,
    PRIMARY KEY (table_name, row_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX source_row_number ON source_row (number);
CREATE TABLE pseudonymised (
    known_as BLOB PRIMARY KEY,
    number INTEGER NOT NULL,
    names TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX pseudonymised_number ON pseudonymised (number);
CREATE TABLE captured (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    dialect TEXT NOT NULL,
    credential TEXT NOT NULL,
    server BLOB NOT NULL,
    start TEXT NOT NULL,
    finish TEXT NOT NULL,
    reported BLOB NOT NULL,
    pseudonymised TEXT NOT NULL,
    taken BLOB,
    received_at TEXT NOT NULL
) STRICT;
CREATE INDEX captured_start ON captured (start)
"""
_RECORD = """
CREATE TABLE record (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL,
    kind TEXT NOT NULL,
    dialect TEXT NOT NULL,
    credential TEXT NOT NULL,
    occurrence INTEGER NOT NULL,
    payload BLOB,
    lasting BLOB NOT NULL,
    outcome TEXT CHECK (outcome IN ('delivered', 'dead', 'in_doubt', 'waiting')),
    collected_at TEXT NOT NULL
) STRICT;
"""
_UNIQUE = ("    id BLOB NOT NULL,", "    id BLOB NOT NULL UNIQUE,")
"""How a record's id is held now, and was before ids had a table of their own."""
_KNOWN_ID = """
CREATE TABLE known_id (
    id BLOB PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""
_OTHERS = """
CREATE TABLE bundle (
    sequence INTEGER PRIMARY KEY,
    bundle_id TEXT NOT NULL UNIQUE,
    file_name TEXT NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    manifest BLOB,
    covered TEXT NOT NULL,
    used TEXT NOT NULL,
    written_to TEXT,
    written_at TEXT,
    pruned_at TEXT
) STRICT;
CREATE TABLE known_window (
    kind TEXT NOT NULL,
    credential TEXT NOT NULL,
    windows BLOB NOT NULL,
    PRIMARY KEY (kind, credential)
) STRICT, WITHOUT ROWID;
CREATE TABLE void_bundle (
    bundle_id TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    manifest BLOB NOT NULL,
    written_to TEXT,
    voided_at TEXT NOT NULL
) STRICT;
CREATE TABLE proven (
    sequence INTEGER PRIMARY KEY,
    bundle_id TEXT NOT NULL
) STRICT;
CREATE TABLE receipt (
    receipt_id TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL REFERENCES bundle,
    number INTEGER NOT NULL,
    previous TEXT,
    importer TEXT NOT NULL,
    outcomes TEXT NOT NULL,
    created_at TEXT NOT NULL,
    applied_at TEXT NOT NULL,
    proof TEXT NOT NULL CHECK (proof IN ('receipt', 'code'))
) STRICT;
"""
_BEFORE_SOURCES = _RECORD.replace(*_UNIQUE) + _OTHERS
_LAST = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'record'"
LAYOUT = _RECORD + _KNOWN_ID + _OTHERS + SOURCES


def from_third(connection: Connection) -> None:
    """Make the fourth layout of the third, within a transaction.

    Args:
        connection: to the outbox.
    """
    (last,) = connection.execute(_LAST).fetchone()
    connection.execute("ALTER TABLE record RENAME TO old_record")
    for statement in (_RECORD + _KNOWN_ID).split(";\n"):
        connection.execute(statement)
    connection.execute("INSERT INTO record SELECT * FROM old_record ORDER BY number")
    connection.execute("INSERT INTO known_id SELECT id, number FROM old_record ORDER BY id")
    connection.execute("DROP TABLE old_record")
    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'record'")
    connection.execute("INSERT INTO sqlite_sequence VALUES ('record', ?)", (last,))


def from_first(connection: Connection, catalog: Catalog) -> None:
    """Make the second layout of the first, within a transaction.

    Every outbox of the first layout has all payloads, so what time they cover follows from them.

    Args:
        connection: to the outbox.
        catalog: schemas and kinds.
    """
    for table in ("record", "bundle", "receipt"):
        connection.execute(f"CREATE TEMP TABLE old_{table} AS SELECT * FROM main.{table}")
    (last,) = connection.execute(_LAST).fetchone()
    for table in ("receipt", "bundle", "record"):
        connection.execute(f"DROP TABLE main.{table}")
    for statement in _BEFORE_SOURCES.split(";\n"):
        connection.execute(statement)
    connection.execute(
        "INSERT INTO record SELECT number, id, kind, dialect, credential, occurrence, payload,"
        " lasting, outcome, collected_at FROM old_record ORDER BY number"
    )
    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'record'")
    connection.execute("INSERT INTO sqlite_sequence VALUES ('record', ?)", (last,))
    bundles = connection.execute("SELECT sequence, first, last FROM old_bundle").fetchall()
    for sequence, first, end in bundles:
        timeline = _timeline(connection, catalog, first, end)
        connection.execute(
            "INSERT INTO bundle SELECT sequence, bundle_id, file_name, first, last, created_at,"
            " manifest, ?, ?, written_to, written_at, NULL FROM old_bundle WHERE sequence = ?",
            (to_json(timeline.covered()), to_json(timeline.used()), sequence),
        )
    connection.executemany(
        "INSERT INTO known_window VALUES (?, ?, ?)", _timeline(connection, catalog, 1, last).known()
    )
    connection.execute(
        "INSERT INTO receipt SELECT receipt_id, sequence, number, NULL, importer, outcomes,"
        " created_at, applied_at, 'receipt' FROM old_receipt"
    )
    for table in ("record", "bundle", "receipt"):
        connection.execute(f"DROP TABLE temp.old_{table}")


def _timeline(connection: Connection, catalog: Catalog, first: int, last: int) -> Timeline:
    """Return the windows of a range of records."""
    timeline = Timeline()
    rows = connection.execute(
        "SELECT kind, dialect, credential, occurrence, payload FROM record"
        " WHERE number BETWEEN ? AND ? ORDER BY number",
        (first, last),
    )
    for kind, dialect, credential, occurrence, payload in rows:
        record = Record(kind, dialect, credential, occurrence, codec.decode_own(payload))
        note_window(timeline, record, catalog.kind(record.kind), where="the outbox")
    return timeline
