"""Ledgers as earlier commits made them: the statements are theirs, the content is a real journey's.

Each has the layout's number that it carried. Layout 2 grew without a new number while nothing was
released, so it is here three times; the four letters that tell a ledger came with its second form.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

_BUNDLE_1 = """
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
"""
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
    UNIQUE (source, sequence)
) STRICT;
"""
_BUNDLE_2_OF_A_KIND = _BUNDLE_2.replace(
    "no_usage_to INTEGER,\n", "no_usage_to INTEGER,\n    no_usage_kinds TEXT,\n"
)
_KNOWN_WINDOW = """
CREATE TABLE known_window (
    source TEXT NOT NULL,
    kind TEXT NOT NULL,
    credential TEXT NOT NULL,
    windows BLOB NOT NULL,
    PRIMARY KEY (source, kind, credential)
) STRICT, WITHOUT ROWID;
"""
_RECORD = """
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
"""
_EVENT = """
CREATE TABLE event (
    record INTEGER NOT NULL REFERENCES record,
    at TEXT NOT NULL,
    state TEXT NOT NULL,
    status INTEGER,
    detail TEXT
) STRICT;
CREATE INDEX event_by_record ON event (record);
"""
_EVENT_3 = """
CREATE TABLE event (
    number INTEGER PRIMARY KEY,
    record INTEGER NOT NULL REFERENCES record,
    at TEXT NOT NULL,
    state TEXT NOT NULL,
    status INTEGER,
    detail TEXT
) STRICT;
CREATE INDEX event_by_record ON event (record);
"""
_COUNTS = """
CREATE TABLE bundle_kind (
    bundle INTEGER NOT NULL REFERENCES bundle,
    kind TEXT NOT NULL,
    records INTEGER NOT NULL,
    fresh INTEGER NOT NULL,
    PRIMARY KEY (bundle, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX bundle_conflict ON bundle_record (bundle) WHERE conflict IS NOT NULL;
CREATE TABLE delivered_bundle (
    bundle INTEGER NOT NULL REFERENCES bundle,
    digest TEXT,
    digest_with_answers TEXT,
    first_start INTEGER,
    last_start INTEGER,
    PRIMARY KEY (bundle)
) STRICT;
"""
_BUNDLE_RECORD = """
CREATE TABLE bundle_record (
    bundle INTEGER NOT NULL REFERENCES bundle,
    record INTEGER NOT NULL REFERENCES record,
    PRIMARY KEY (bundle, record)
) STRICT, WITHOUT ROWID;
"""
_BUNDLE_RECORD_WITH_CONFLICT = _BUNDLE_RECORD.replace(
    "    PRIMARY KEY", "    conflict BLOB,\n    PRIMARY KEY"
)
_BUNDLE_BY_RECORD = "CREATE INDEX bundle_by_record ON bundle_record (record);\n"
_RECEIPT = """
CREATE TABLE receipt (
    receipt_id TEXT PRIMARY KEY,
    bundle INTEGER NOT NULL REFERENCES bundle,
    number INTEGER NOT NULL,
    file_name TEXT NOT NULL,
    outcomes_digest TEXT NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (bundle, number)
) STRICT;
"""
_ALED = int.from_bytes(b"aled")

LAYOUTS: dict[str, tuple[int, int, str]] = {
    "1, the first": (1, 0, _BUNDLE_1 + _RECORD + _BUNDLE_RECORD + _RECEIPT),
    "1, with an index": (1, 0, _BUNDLE_1 + _RECORD + _BUNDLE_RECORD + _BUNDLE_BY_RECORD + _RECEIPT),
    "2, with events": (
        *(2, 0),
        _BUNDLE_2 + _RECORD + _EVENT + _BUNDLE_RECORD + _BUNDLE_BY_RECORD + _RECEIPT,
    ),
    "2, with known windows and conflicts": (
        *(2, _ALED),
        _BUNDLE_2 + _KNOWN_WINDOW + _RECORD + _EVENT + _BUNDLE_RECORD_WITH_CONFLICT
        + _BUNDLE_BY_RECORD + _RECEIPT,
    ),
    "2, with quiet times of a kind": (
        *(2, _ALED),
        _BUNDLE_2_OF_A_KIND + _KNOWN_WINDOW + _RECORD + _EVENT + _BUNDLE_RECORD_WITH_CONFLICT
        + _BUNDLE_BY_RECORD + _RECEIPT,
    ),
    "3, with states beside payloads": (
        *(3, _ALED),
        _BUNDLE_2_OF_A_KIND + _KNOWN_WINDOW + _RECORD + _EVENT_3 + _BUNDLE_RECORD_WITH_CONFLICT
        + _BUNDLE_BY_RECORD + _RECEIPT + _COUNTS,
    ),
}  # fmt: skip
"""Per name: the layout's number, the application's, and the statements."""


HELD_BY = {"record": "record_state"}
"""Where today's ledger has what was in a table."""


def columns(path: Path) -> dict[str, set[tuple[object, ...]]]:
    """Return the columns of each table and index: name, type, whether it may be null, place in the key."""
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name, type FROM sqlite_schema ORDER BY name").fetchall()
        found: dict[str, set[tuple[object, ...]]] = {}
        for name, type_ in tables:
            pragma = "table_info" if type_ == "table" else "index_info"
            rows = connection.execute(f"PRAGMA {pragma}({name})").fetchall()
            found[name] = {(r[1], r[2], r[3], r[5]) if type_ == "table" else r[2:] for r in rows}
        return found


def make_old(path: Path, name: str) -> None:
    """Put an old ledger in the place of today's, with as much of its content as the old one could hold."""
    version, application, statements = LAYOUTS[name]
    old = path.with_name("old.sqlite")
    with closing(sqlite3.connect(old, isolation_level=None)) as connection:
        connection.executescript(statements)
        connection.execute(f"PRAGMA application_id = {application}")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("ATTACH ? AS today", (str(path),))
        for table, there in columns(old).items():
            if table.startswith(
                ("sqlite_", "record_by", "event_by", "bundle_by", "bundle_conflict")
            ):
                continue
            names = {str(column[0]) for column in there}
            wanted = ", ".join(sorted(names))
            taken = wanted.replace(
                "created_at",
                "created_at" if table == "receipt" else
                "strftime('%Y-%m-%dT%H:%M:%SZ', created / 1000000, 'unixepoch')",
            )  # fmt: skip
            connection.execute(
                f"INSERT INTO {table} ({wanted}) SELECT {taken} FROM today.{HELD_BY.get(table, table)} ORDER BY 1"
            )
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    old.rename(path)
