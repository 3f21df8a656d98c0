"""SQLite as the outbox and the ledger use it: durable at commit, one layout version per file."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import quote

from airgap.errors import AirgapError, DamagedError, MediumError, UsageError


class Rows(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""
        ...

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """Runs statements, in which ``?`` stands for each value."""

    def execute(self, statement: str, values: Sequence[Any] = ..., /) -> Rows:
        """Run a statement."""
        ...

    def executemany(self, statement: str, values: Iterable[Sequence[Any]], /) -> Rows:
        """Run a statement once for each row of values; ``rowcount`` is of all of them."""
        ...


class Store(Protocol):
    """A database that a ledger can be in: a file, or a server that several workstations share.

    Statements are written so that SQLite and PostgreSQL take them, and mean the same by them.
    """

    @property
    def name(self) -> str:
        """Where it is, as it may be shown."""
        ...

    @property
    def connection(self) -> Connection:
        """Runs statements; what is not within a transaction is one by itself."""
        ...

    def transaction(self) -> AbstractContextManager[Connection]:
        """All or nothing, and durable at its end."""
        ...

    def snapshot(self) -> AbstractContextManager[None]:
        """Let everything that is read within be of one moment; within a transaction, of that one."""
        ...

    def turn(self, what: str) -> AbstractContextManager[None]:
        """Let nobody else be within the same turn meanwhile; all that is stored within, or nothing."""
        ...

    def stream(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Any]:
        """Yield rows, of which there may be more than memory holds; nothing is stored meanwhile."""
        ...

    def close(self) -> None:
        """End it."""
        ...


Upgrade = str | Callable[[sqlite3.Connection], None]
"""What makes the next layout of one: statements, or a function that runs them."""


class Database:
    """One SQLite file. Every commit is on disk when it returns (WAL, synchronous=FULL).

    Args:
        path: the file; made where it does not exist.
        layout: statements that make an empty database.
        version: number of that layout.
        application: four letters that tell an outbox from a ledger (SQLite's application_id).
        upgrades: per older layout, what makes the next one of it; all are run in one transaction.
        told_by: a table and a column of it that only this sort of database has, from its first layout
            on. The first layouts were made before there were four letters, and are known by it.

    Raises:
        UsageError: another version of airgap made it, or it is something else.
        DamagedError: it is not a database, or what refers to something refers to nothing.
        MediumError: the file system refused.
    """

    def __init__(
        self,
        path: Path,
        layout: str,
        version: int,
        *,
        application: str,
        upgrades: Mapping[int, Upgrade] = MappingProxyType({}),
        told_by: tuple[str, str],
    ) -> None:
        self.path = path
        self._told_by = told_by
        self._application = int.from_bytes(application.encode())
        with self._errors():
            self.connection = sqlite3.connect(
                f"file:{quote(str(path.absolute()))}", isolation_level=None, timeout=30, uri=True
            )
        try:
            self._prepare(layout, version, upgrades)
        except BaseException:
            self.close()
            raise

    def _prepare(self, layout: str, version: int, upgrades: Mapping[int, Upgrade]) -> None:
        with self._errors():
            _keep_temporary_files(self.connection, self.path.absolute().parent)
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = FULL")
            self.path.chmod(0o600)
            found = self._version()
            self._require_ours(found)
            if found != version:
                self._bring_up(layout, version, upgrades)
            # Not before: a table that is made anew must not take along what refers to it.
            self.connection.execute("PRAGMA foreign_keys = ON")

    def _bring_up(self, layout: str, version: int, upgrades: Mapping[int, Upgrade]) -> None:
        with self.transaction():
            found = self._version()
            # Once more: what it is may have been changed while this one waited for its turn.
            self._require_ours(found)
            if found == 0:
                self._run(layout)
                found = version
            while found in upgrades and found < version:
                self._run(upgrades[found])
                found += 1
            self.connection.execute(f"PRAGMA application_id = {self._application}")
            self.connection.execute(f"PRAGMA user_version = {found}")
            if found != version:
                raise UsageError(
                    "the database was made by another version of airgap",
                    where=str(self.path),
                    expected=f"layout {version}",
                    found=f"layout {found}",
                    hint="use the airgap release that made it, or a newer one",
                )
            if self.connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
                raise DamagedError(
                    "the database refers to rows that are not there",
                    where=str(self.path),
                    hint="restore it from a copy, together with its -wal file; it was left as it is",
                )

    def _require_ours(self, found: int) -> None:
        if found and not self._is_ours():
            raise UsageError(
                "this database is not of the sort that is needed here",
                where=str(self.path),
                hint="an outbox is no ledger; correct the path in airgap.toml",
            )

    def _is_ours(self) -> bool:
        [whose] = self.connection.execute("PRAGMA application_id").fetchone()
        return int(whose) == self._application if whose else tells(self.connection, self._told_by)

    def _run(self, upgrade: Upgrade) -> None:
        if callable(upgrade):
            upgrade(self.connection)
            return
        for statement in upgrade.split(";\n"):
            self.connection.execute(statement)

    def _version(self) -> int:
        return int(self.connection.execute("PRAGMA user_version").fetchone()[0])

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self.path)

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def copy_from(self, other: Path) -> None:
        """Become a copy of another file as it stands, and of nothing that is changed later."""
        address = f"file:{quote(str(other.absolute()))}?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as source:
            source.backup(self.connection)

    def shrink(self) -> None:
        """Give space that is no longer used back to the file system.

        Raises:
            MediumError: there is no room for the copy that this needs; nothing is lost.
        """
        with self._errors():
            self.connection.execute("VACUUM")
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing: commit at the end, roll back on any exception; one writer at a time."""
        with self._errors():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let everything that is read within be of one moment, whatever others write meanwhile."""
        if self.connection.in_transaction:
            yield
            return
        self.connection.execute("BEGIN")
        try:
            yield
        finally:
            self.connection.execute("ROLLBACK")

    @contextmanager
    def turn(self, what: str) -> Iterator[None]:
        """Do nothing: who writes to a file holds its lock file already."""
        del what
        yield

    def stream(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Any]:
        """Yield rows as they are read."""
        return self.connection.execute(statement, values)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise translate(error, self.path) from error


def quietly(path: Path) -> str | None:
    """Return how to open a database so that not even a lock file is made, or None where it can't be.

    SQLite makes the files -wal and -shm beside a database that it only reads, and leaves them there
    ("Write-Ahead Logging", section 5, Read-Only Databases). Without a -wal nobody has it open, and all
    of it is in the one file. A -wal without -shm is what a copy that lacks it looks like.
    """
    wal, shared = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    name = f"file:{quote(str(path.absolute()))}?mode=ro"
    if not wal.exists() or wal.stat().st_size == 0:
        return f"{name}&immutable=1"
    return name if shared.exists() else None


def _keep_temporary_files(connection: sqlite3.Connection, folder: Path) -> None:
    """Let SQLite's temporary files lie beside the first database of this process.

    They may hold records, which are nowhere but in the home, and /tmp need not be writable. SQLite has
    one such folder in a process, and no other way to set it than a pragma that is called deprecated; where
    it is gone, temporary files lie where SQLite's own rules say.
    """
    with _LOCK:
        if not _temporary:
            _temporary.append(folder)
            # Where nobody may write there, SQLite refuses, and goes by its own rules.
            with suppress(sqlite3.Error):
                name = str(folder).replace("'", "''")
                connection.execute(f"PRAGMA temp_store_directory = '{name}'")


_LOCK = Lock()
_temporary: list[Path] = []


def tells(connection: sqlite3.Connection, told_by: tuple[str, str]) -> bool:
    """Tell whether a database has a table with a column by which its sort is known."""
    found = connection.execute("SELECT 1 FROM pragma_table_info(?) WHERE name = ?", told_by)
    return found.fetchone() is not None


def translate(error: sqlite3.Error, path: Path | None = None) -> AirgapError:
    """Return a database's failure in an operator's words."""
    where = str(path) if path else None
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return DamagedError(
            f"the database is damaged: {error}",
            where=where,
            hint="restore it from a copy, together with its -wal file",
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return UsageError(
            "another airgap is writing to the database",
            where=where,
            hint="wait for it to end, then run the command again",
        )
    if name.startswith(
        ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")
    ):
        return MediumError(
            f"the database can't be written: {error}",
            where=where,
            hint="check space and permissions, airgap doctor says whose it is; "
            "nothing that was stored is lost",
        )
    return AirgapError(f"the database refused: {error}", where=where)
