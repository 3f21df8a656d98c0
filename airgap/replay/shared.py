"""A ledger in PostgreSQL, which several workstations share.

It lies in a schema of its own, ``airgap_ledger``. Its tables are the file's (``ledger_layout``), with
the types that PostgreSQL has for them, and beside them what many runs at a time need (``claims``).
Every commit is on the server's disk when it returns.

A run counts as alive for as long as its session does, so the session must be airgap's own: a pooler
between would keep it, or change it, behind airgap's back, and is refused.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from typing import Any

from airgap import pgsession
from airgap.database import Connection, Rows
from airgap.errors import AirgapError, DamagedError, MediumError, UnreachableError, UsageError
from airgap.pgsession import Ask
from airgap.replay.claims import ALIVE
from airgap.replay.ledger_layout import VERSION
from airgap.replay.shared_layout import GRANTED, OWNER, layout, upgrades

SCHEMA = "airgap_ledger"
_BATCH = 2_000
_LOST = (
    "nothing is lost: what this run was sending is in doubt, and the next run says so; when the database "
    "is back, with the same options: airgap import --resume"
)
_SESSION = {
    "search_path": SCHEMA,
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    # Rather an error than rows that a policy hides from this role without a word.
    "row_security": "off",
    "client_min_messages": "warning",
    # A run waits for the beacon, perhaps for minutes, and must not be put out meanwhile.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    # A workstation that loses power says no goodbye; its session is gone after about a minute.
    "tcp_keepalives_idle": "20",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "4",
}


class SharedDatabase:
    """A session with the database in which a shared ledger is; see ``database.Store``.

    Args:
        url: where, as libpq understands it; a password comes from it, PGPASSWORD, a password or
            service file, or ``ask``.
        ask: asks a person for the password, or None where nobody is there.
        dry: whether all that is stored is undone at the end, its tables included.

    Raises:
        UsageError: psycopg is not installed, the URL can't be read, the role may not do what is
            needed, something stands between, or another version of airgap made the ledger.
        UnreachableError: the server can't be reached.
    """

    def __init__(self, url: str, ask: Ask | None = None, *, dry: bool = False) -> None:
        self._psycopg = pgsession.library("a shared ledger")
        self._target = pgsession.target(self._psycopg, url)
        self.version = VERSION
        """The layout's number."""
        self.made = False
        """Whether there was no ledger before."""
        self._depth = 0
        self._streaming = False
        self._names = count(1)
        with self._errors("can't be reached"):
            self._raw = pgsession.connect(self._psycopg, self._target, ask)
        try:
            with self._errors():
                self._begin_session()
            self.connection: Connection = _Statements(self._raw, self._errors)
            if dry:
                self.connection.execute("BEGIN")
                self._depth = 1
            self._prepare()
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """The URL, without a password."""
        return self._target.name

    def close(self) -> None:
        """End the session; what was not committed is undone."""
        with suppress(self._psycopg.Error):
            self._raw.close()

    def keep(self) -> None:
        """Store what a dry session did, durably, and end its transaction.

        Raises:
            AirgapError: the server refused, or is out of reach: then it may have stored it all the same.
        """
        self.connection.execute("COMMIT")
        self._depth = 0

    def copy_in(
        self, table: str, columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[Any]]
    ) -> int:
        """Add rows to a table by COPY, which is many times as quick as statements.

        Args:
            table: the table.
            columns: names, and types as PostgreSQL calls them.
            rows: read one by one.

        Returns:
            How many rows the server says it took.
        """
        names, types = zip(*columns, strict=True)
        statement = f"COPY {table} ({', '.join(names)}) FROM STDIN (FORMAT BINARY)"
        with self._errors(), self._raw.cursor() as cursor:
            with cursor.copy(statement) as copy:
                copy.set_types(types)
                for row in rows:
                    copy.write_row(row)
            return int(cursor.rowcount)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """All or nothing. Within another one it is a part of that, which can fail by itself."""
        if self._streaming:
            raise RuntimeError("what is stored while rows are streamed would not be durable")
        if not self._depth:
            with self._outermost("BEGIN"):
                yield self.connection
            return
        point = f"airgap_{next(self._names)}"
        self.connection.execute(f"SAVEPOINT {point}")
        try:
            yield self.connection
        except BaseException:
            self.connection.execute(f"ROLLBACK TO SAVEPOINT {point}")
            raise
        finally:
            with suppress(AirgapError):
                self.connection.execute(f"RELEASE SAVEPOINT {point}")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let everything that is read within be of one moment."""
        if self._depth:
            yield
            return
        with self._outermost("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"):
            yield

    @contextmanager
    def turn(self, what: str) -> Iterator[None]:
        """One transaction, in which nobody else is within the same turn; others wait for its end."""
        with self.transaction() as connection:
            connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", (f"{SCHEMA} {what}",)
            )
            yield

    def stream(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Any]:
        """Yield rows, a few thousand at a time."""
        if self._depth:
            yield from self._cursor(statement, values)
            return
        with self._outermost("BEGIN READ ONLY"):
            self._streaming = True
            try:
                yield from self._cursor(statement, values)
            finally:
                self._streaming = False

    def _cursor(self, statement: str, values: Sequence[Any]) -> Iterator[Any]:
        with self._errors(), self._raw.cursor(name=f"airgap_{next(self._names)}") as cursor:
            cursor.itersize = _BATCH
            cursor.execute(translated(statement), tuple(values))
            yield from cursor

    @contextmanager
    def _outermost(self, begin: str) -> Iterator[None]:
        self.connection.execute(begin)
        self._depth += 1
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            # Where the connection is lost, the server has undone it, and the first error says so.
            with suppress(AirgapError):
                self.connection.execute("ROLLBACK")
            raise
        finally:
            self._depth -= 1

    def _begin_session(self) -> None:
        raw = self._raw
        raw.autocommit = True
        raw.adapters.register_dumper(bool, _bool_dumper(self._psycopg))
        [pid, durable, version] = raw.execute(
            "SELECT pg_backend_pid(), current_setting('synchronous_commit'),"
            " current_setting('server_version_num')::int"
        ).fetchone()
        if pid != raw.info.backend_pid:
            raise UsageError(
                "something stands between airgap and the database",
                where=self.name,
                expected="PostgreSQL itself: a run lives as long as its session",
                found="a pooler, which keeps sessions to itself",
                hint="name PostgreSQL's own port, which is 5432 mostly",
            )
        chosen = dict(_SESSION)
        if durable in ("off", "local"):
            chosen["synchronous_commit"] = "on"
        if version >= 140000:
            chosen["idle_session_timeout"] = "0"
        for name, value in chosen.items():
            raw.execute("SELECT set_config(%s, %s, false)", (name, value))

    def _prepare(self) -> None:
        if self._version() == VERSION:
            return
        with self.turn("layout") as _:
            found = self._version()
            if found is None:
                self._create()
                return
            if found in upgrades():
                found = self._bring_up(found)
            if found != VERSION:
                raise UsageError(
                    "the ledger was made by another version of airgap",
                    where=self.name,
                    expected=f"layout {VERSION}",
                    found=f"layout {found}",
                    hint="use the airgap release that made it, or a newer one; all workstations that "
                    "share a ledger need the same one",
                )

    def _bring_up(self, found: int) -> int:
        """Make the newest layout of an older one, for all who may use that; return its number."""
        execute = self.connection.execute
        if execute(f"SELECT 1 FROM ({ALIVE}) AS alive LIMIT 1").fetchone() is not None:
            raise UsageError(
                "the ledger is to be brought up to date, and an importer is at work on it",
                where=self.name,
                expected=f"layout {VERSION}, which nobody makes while others go by the old one",
                found=f"layout {found}",
                hint="wait until it has ended, put this release on each workstation, then run this again",
            )
        before = set(_tables(self.connection))
        while found in upgrades():
            for statement in upgrades()[found]:
                execute(statement)
            found += 1
        new = sorted(set(_tables(self.connection)) - before)
        for role, privilege in execute(GRANTED, (SCHEMA,)).fetchall():
            execute(f"GRANT {privilege} ON {', '.join(new)} TO {role}")
        # An administrator, or a member of the owner's role, may have come first with this release.
        [owner] = execute(OWNER, (SCHEMA,)).fetchone()
        for name in new:
            execute(f"ALTER TABLE {name} OWNER TO {owner}")
        execute("UPDATE layout SET version = ?", (found,))
        return found

    def _version(self) -> int | None:
        # Not by to_regclass: within a transaction it does not see what was made while this one waited.
        there = self.connection.execute(
            "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = ? AND c.relname = 'layout'",
            (SCHEMA,),
        ).fetchone()
        if there is None:
            return None
        rows = self.connection.execute("SELECT version FROM layout").fetchall()
        return int(rows[0][0]) if rows else None

    def _create(self) -> None:
        self.made = True
        # Not "IF NOT EXISTS": that needs the right to create one even where it is there.
        names = "SELECT 1 FROM pg_namespace WHERE nspname = ?"
        if self.connection.execute(names, (SCHEMA,)).fetchone() is None:
            self.connection.execute(f"CREATE SCHEMA {SCHEMA}")
        for statement in layout():
            self.connection.execute(statement)
        self.connection.execute("CREATE TABLE layout (version BIGINT NOT NULL)")
        self.connection.execute("INSERT INTO layout VALUES (?)", (VERSION,))

    @contextmanager
    def _errors(self, failed: str = "refused") -> Iterator[None]:
        try:
            yield
        except self._psycopg.Error as error:
            raise self._said(error, failed) from None

    def _said(self, error: Any, failed: str) -> AirgapError:
        """Return the library's error in an operator's words."""
        words, state = self._target.words(error), error.sqlstate or ""
        raw = getattr(self, "_raw", None)
        if raw is None and ("FATAL" in words or "password" in words):
            return UsageError(
                f"the shared ledger can't be opened: {words}",
                where=self.name,
                hint="check role, database and password (PGPASSWORD, ~/.pgpass, a service file); "
                "psql with the same URL says more",
            )
        if raw is None or raw.closed or state.startswith(("08", "57P")):
            return UnreachableError(
                f"the shared ledger {failed if raw is None else 'is out of reach'}: {words}",
                where=self.name,
                hint="check host and port, and that the server runs; then run the command again"
                if raw is None
                else _LOST,
            )
        if state in ("42501", "25006"):
            return UsageError(
                f"the database role may not do this: {words}",
                where=self.name,
                hint=f"let the role that made the schema {SCHEMA} grant it USAGE there and all on its "
                "tables; a first run needs CREATE and TEMPORARY on the database, and the first one of a new "
                "release may need the role that made the schema",
            )
        if state.startswith("53"):
            return MediumError(f"the database can't store it: {words}", where=self.name)
        if state.startswith(("XX", "42", "3F")):
            return DamagedError(
                f"the shared ledger is not as airgap made it: {words}",
                where=self.name,
                hint=f"restore the schema {SCHEMA} from a copy; until then import nothing",
            )
        if state.startswith(("40", "55")):
            return UsageError(
                f"another importer was in the way: {words}",
                where=self.name,
                hint="nothing was stored; run the command again",
            )
        return AirgapError(f"the database refused: {words}", where=self.name)


def _tables(connection: Connection) -> list[str]:
    """Return the names of the ledger's tables and views."""
    found = connection.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = ? AND c.relkind IN ('r', 'v')",
        (SCHEMA,),
    )
    return [row[0] for row in found]


class _Statements:
    """Runs statements as ``database.Connection`` says."""

    def __init__(self, raw: Any, errors: Any) -> None:
        self._raw, self._errors = raw, errors

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Rows:
        with self._errors():
            found: Rows = self._raw.execute(translated(statement), tuple(values))
        return found

    def executemany(self, statement: str, values: Iterable[Sequence[Any]], /) -> Rows:
        with self._errors():
            cursor = self._raw.cursor()
            cursor.executemany(translated(statement), values)
        found: Rows = cursor
        return found


@cache
def translated(statement: str) -> str:
    """Return a statement in which ``%s`` stands for each value, as psycopg wants it."""
    return statement.replace("%", "%%").replace("?", "%s")


def _bool_dumper(psycopg: Any) -> type[Any]:
    """Return what writes True and False as 1 and 0, as SQLite does: columns are numbers."""

    class AsNumber(psycopg.adapt.Dumper):  # type: ignore[misc]
        oid = psycopg.adapters.types["int4"].oid

        def dump(self, obj: bool) -> bytes:  # noqa: FBT001 - psycopg's signature
            return b"1" if obj else b"0"

    return AsNumber
