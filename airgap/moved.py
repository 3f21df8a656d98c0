"""The mark of a ledger's file that was moved to a server: from then on it is no ledger any more.

The mark is a table of its own, made in the transaction that also takes the four letters of a ledger
away (``Database``, SQLite's application_id), so that a release which knows no such mark refuses the
file too. It is on disk before the server is told to keep what it was sent. Whether the server did is
known by the name of the run that moved the ledger, which is on both sides.
"""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from airgap.database import quietly
from airgap.errors import UsageError
from airgap.text import printable

APPLICATION = "amov"
"""The four letters of a file that was a ledger."""
_TABLE = """\
CREATE TABLE moved (
    place TEXT NOT NULL,
    server TEXT NOT NULL,
    run TEXT NOT NULL,
    begun_at TEXT NOT NULL,
    moved_at TEXT
) STRICT"""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a ledger went.

    Args:
        place: the server's URL, without a password.
        server: by what the server tells itself from others.
        run: by what name the server's ledger knows the run that moved it.
        begun_at: when the file ceased to be a ledger.
        moved_at: when it was known that the server holds all; None: it may not.
    """

    place: str
    server: str
    run: str
    begun_at: str
    moved_at: str | None = None


def read(path: Path) -> Mark | None:
    """Return a file's mark, or None where it has none or can't be read; no trace is left."""
    if not path.is_file():
        return None
    target = quietly(path) or f"file:{quote(str(path.absolute()))}?mode=ro"
    try:
        with closing(sqlite3.connect(target, uri=True, timeout=5)) as connection:
            return of(connection)
    except sqlite3.Error:
        return None  # who opens it to read or write in it says why


def of(connection: sqlite3.Connection) -> Mark | None:
    """Return the mark of an open file, or None."""
    there = connection.execute(
        "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'moved'"
    )
    if there.fetchone() is None:
        return None
    row = connection.execute("SELECT place, server, run, begun_at, moved_at FROM moved").fetchone()
    return None if row is None else Mark(*row)


def set_mark(connection: sqlite3.Connection, mark: Mark) -> None:
    """Mark a file, within the caller's transaction."""
    connection.execute(_TABLE)
    connection.execute(
        "INSERT INTO moved VALUES (?, ?, ?, ?, ?)",
        (mark.place, mark.server, mark.run, mark.begun_at, mark.moved_at),
    )
    connection.execute(f"PRAGMA application_id = {int.from_bytes(APPLICATION.encode())}")


def finish(path: Path, now: str) -> None:
    """Write down, durably, that the server holds all.

    Raises:
        sqlite3.Error: the file can't be written.
    """
    with closing(_opened(path)) as connection:
        connection.execute("UPDATE moved SET moved_at = ?", (now,))


def take_back(path: Path, application: str) -> None:
    """Make a ledger of a marked file again, durably.

    Args:
        path: the file.
        application: the four letters of a ledger.

    Raises:
        sqlite3.Error: the file can't be written.
    """
    with closing(_opened(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DROP TABLE moved")
        connection.execute(f"PRAGMA application_id = {int.from_bytes(application.encode())}")
        connection.execute("COMMIT")


def require_unmoved(path: Path) -> None:
    """Check that a file is still a ledger, where it is there.

    Raises:
        UsageError: it was moved, or a move of it did not end.
    """
    mark = read(path)
    if mark is not None:
        raise refusal(mark, path)


def refusal(mark: Mark, path: Path) -> UsageError:
    """Return the error for a file that is no ledger any more."""
    place = printable(mark.place, 300)
    if mark.moved_at is None:
        return UsageError(
            f"this ledger is on its way to {place}: a move of it did not end",
            where=str(path),
            expected="one ledger: which of the two it is, the server knows",
            found=f"a move that was begun at {mark.begun_at}",
            hint=f"end it: airgap ledger move {place}; or, where the server does not hold it, take it "
            "back by the same command with --undo",
        )
    return UsageError(
        f"this ledger was moved to {place}",
        where=str(path),
        expected="the ledger there: what this file has not been told since, it would deliver again",
        found=f"a file that is no ledger any more since {mark.begun_at}",
        hint=f'put ledger = "{place}" into airgap.toml, or give it by --ledger or AIRGAP_LEDGER',
    )


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=rw", isolation_level=None, timeout=30, uri=True
    )
    connection.execute("PRAGMA synchronous = FULL")
    return connection
