"""Databases of older layouts are brought up to date where they are, and lose nothing."""

import sqlite3

import pytest
from support import SOURCE

from airgap import catalog
from airgap.bundle import codec
from airgap.errors import UsageError
from airgap.outbox import Outbox

# The outbox as the release before sources had rows of their own made it.
LAYOUT_2 = """
CREATE TABLE record (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, kind TEXT NOT NULL,
    dialect TEXT NOT NULL, credential TEXT NOT NULL, occurrence INTEGER NOT NULL, payload BLOB,
    lasting BLOB NOT NULL,
    outcome TEXT CHECK (outcome IN ('delivered', 'dead', 'in_doubt', 'waiting')),
    collected_at TEXT NOT NULL
) STRICT;
CREATE TABLE bundle (
    sequence INTEGER PRIMARY KEY, bundle_id TEXT NOT NULL UNIQUE, file_name TEXT NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, created_at TEXT NOT NULL, manifest BLOB,
    covered TEXT NOT NULL, used TEXT NOT NULL, written_to TEXT, written_at TEXT, pruned_at TEXT
) STRICT;
CREATE TABLE known_window (
    kind TEXT NOT NULL, credential TEXT NOT NULL, windows BLOB NOT NULL,
    PRIMARY KEY (kind, credential)
) STRICT, WITHOUT ROWID;
CREATE TABLE void_bundle (
    bundle_id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, manifest BLOB NOT NULL,
    written_to TEXT, voided_at TEXT NOT NULL
) STRICT;
CREATE TABLE proven (sequence INTEGER PRIMARY KEY, bundle_id TEXT NOT NULL) STRICT;
CREATE TABLE receipt (
    receipt_id TEXT PRIMARY KEY, sequence INTEGER NOT NULL REFERENCES bundle,
    number INTEGER NOT NULL, previous TEXT, importer TEXT NOT NULL, outcomes TEXT NOT NULL,
    created_at TEXT NOT NULL, applied_at TEXT NOT NULL,
    proof TEXT NOT NULL CHECK (proof IN ('receipt', 'code'))
) STRICT;
INSERT INTO record VALUES (1, x'00', 'license_verification', 'documents', 'license:0', 0, x'80',
    x'00', NULL, '2026-01-01T00:00:00Z');
PRAGMA application_id = 1634694516;
PRAGMA user_version = 2;
"""


def made(path, script):
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()
    return path


def layout(path):
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
        return sorted("".join(sql.split()) for (sql,) in rows)
    finally:
        connection.close()


def test_an_outbox_of_the_layout_before_is_brought_up_to_date_and_keeps_its_records(tmp_path):
    old = made(tmp_path / "old.sqlite", LAYOUT_2)
    outbox = Outbox(old, SOURCE, catalog.load())
    records = list(outbox.records(1))
    outbox.close()
    assert [(n, r.kind, codec.encode(r.payload)) for n, r in records] == [
        (1, "license_verification", b"\x80")
    ]
    Outbox(tmp_path / "new.sqlite", SOURCE, catalog.load()).close()
    assert layout(old) == layout(tmp_path / "new.sqlite")


def test_an_outbox_of_a_layout_to_come_is_refused_and_left_as_it_is(tmp_path):
    path = made(tmp_path / "old.sqlite", LAYOUT_2.replace("user_version = 2", "user_version = 99"))
    before = layout(path)
    with pytest.raises(UsageError, match="another version"):
        Outbox(path, SOURCE, catalog.load())
    assert layout(path) == before
