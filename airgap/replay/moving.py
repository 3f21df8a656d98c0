"""A ledger moved from its file into PostgreSQL, whole, so that several workstations can share it.

At every moment one of the two is the ledger, or nobody imports into either until it is known which:

1. All is copied within one transaction of the server's, in which the move's run is noted too, and held
   against the file. Nobody else sees it yet; whoever imports there waits.
2. The file is marked (``airgap.moved``), durably: from now on no command imports into it.
3. The server is told to keep what it was sent.
4. The mark says that it did.

A move that is cut off between 2 and 4 is ended by the next one: when no session of the first is left,
which is a lock's word, either the run is there and with it everything, or it will never be.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from airgap import moved, timestamps
from airgap.bundle import codec
from airgap.catalog import Catalog
from airgap.database import Database, Store
from airgap.errors import AirgapError, DamagedError, UnreachableError, UsageError
from airgap.files import exclusive
from airgap.home import Home
from airgap.moved import Mark
from airgap.pgsession import Ask
from airgap.pgurl import bare
from airgap.records import Totals
from airgap.replay import counts
from airgap.replay.ledger import Ledger
from airgap.replay.ledger_layout import APPLICATION, LAYOUT
from airgap.replay.shared import SCHEMA, SharedDatabase
from airgap.text import plural, printable

_TYPES = {"INTEGER": "int8", "TEXT": "text", "BLOB": "bytea"}
_CHUNK = 50_000
"""Rows of one COPY: the server remembers each until it has looked for what the row refers to."""
_TOLD = 1_000
_MOST_LINES = 100
_RECORDS = (
    "SELECT b.bundle, r.kind, CASE WHEN b.conflict IS NULL THEN r.state ELSE 'dead' END,"
    " coalesce(b.conflict, r.payload) FROM bundle_record b JOIN record_state r ON r.number = b.record"
)
_UNTOUCHED = "nothing was moved, and the file is the ledger as before; run the command again"
_LOOK = f"look for triggers and rules on the tables of {SCHEMA}"

Columns = list[tuple[str, str]]


class Watcher(Protocol):
    """Sees a move as it goes on."""

    def warn(self, text: str) -> None:
        """Take what somebody should know."""

    def moving(self, rows: int) -> AbstractContextManager[Callable[[int], None]]:
        """Begin to watch; what is yielded is told how many rows more are done."""
        ...


@dataclass(frozen=True, slots=True)
class Moved:
    """What a move did.

    Args:
        mark: where the ledger is now; for one that was taken back, where it is not.
        before: whether an earlier run had moved it, and this one had only to find that out.
        bundles: how many bundles it holds.
        states: by kind, how many records are in each state.
    """

    mark: Mark
    before: bool
    bundles: int
    states: dict[str, dict[str, int]]

    @property
    def records(self) -> int:
        """How many records it holds, what came under another one's id counted by itself."""
        return sum(sum(states.values()) for states in self.states.values())


def holds(database: Store, mark: Mark) -> bool:
    """Tell whether a shared ledger is the one that a file became."""
    found = database.connection.execute("SELECT 1 FROM run WHERE importer = ? LIMIT 1", (mark.run,))
    return found.fetchone() is not None


def require_moved_here(home: Home, database: Store) -> None:
    """Check that a home whose own ledger was moved uses the ledger that it became.

    Raises:
        UsageError: it is another one, or the move did not end.
    """
    mark = None if isinstance(database, Database) else home.moved
    if mark is None or holds(database, mark):
        return
    if mark.moved_at is None:
        raise moved.refusal(mark, home.path / "ledger.sqlite")
    raise UsageError(
        "this is not the ledger that this home's own was moved to",
        where=database.name,
        expected=f"what was moved to {printable(mark.place, 300)} at {mark.begun_at}: what another "
        "ledger does not know, it delivers again",
        found="one that does not hold it",
        hint="correct `ledger` in airgap.toml, --ledger or AIRGAP_LEDGER; where it is that server, it was "
        "restored from a copy of before the move: put the newest one back",
    )


@dataclass(frozen=True, slots=True)
class Move:
    """A home's ledger and where it is to go, or went.

    Args:
        home: the workstation's home, with a file as its ledger.
        url: the server's database.
        catalog: schemas and kinds.
        clock: the present.
        ask: asks a person for a database's password, or None where nobody is there.
        name: of this move, never used before: the server's ledger keeps it.
    """

    home: Home
    url: str
    catalog: Catalog
    clock: timestamps.Clock
    ask: Ask | None
    name: str

    def run(self, watcher: Watcher) -> Moved:
        """Move the ledger, or end a move that was cut off.

        Args:
            watcher: sees how it goes.

        Raises:
            UsageError: there is nothing to move, somebody imports, the server's ledger holds
                something, or the file is on its way to another server.
            DamagedError: the file is damaged, or the server does not hold what it was sent.
            UnreachableError: the server is out of reach.
        """
        with self._alone() as path, closing(self._connected()) as shared:
            with shared.turn("layout"):
                # Whoever was at it before is through when this one has its turn.
                mark = moved.read(path)
                if mark is not None and holds(shared, mark):
                    return _outcome(shared, self._finished(path, mark), before=True)
                if mark is not None:
                    self._require_not_held(shared, mark)
                    moved.take_back(path, APPLICATION)
            return self._moved(path, shared, watcher)

    def take_back(self, *, server_lost: bool) -> Moved:
        """Make the file the ledger again, after a move that the server does not hold.

        Args:
            server_lost: whether the server's word is not needed, since it is gone for good.

        Raises:
            UsageError: nothing was moved, or the server holds it, or may.
            UnreachableError: the server can't be asked.
        """
        with self._alone() as path:
            mark = moved.read(path)
            if mark is None:
                raise UsageError("this ledger was not moved", where=str(path))
            self._require_lost(mark, server_lost=server_lost)
            moved.take_back(path, APPLICATION)
            with closing(Ledger(path, self.catalog, self.clock)) as ledger:
                return _outcome(ledger.database, mark, before=False)

    @contextmanager
    def _alone(self) -> Iterator[Path]:
        """Yield the file; nobody imports into it, or from this home, meanwhile."""
        path = self.home.ledger_path
        if not path.is_file():
            raise UsageError(
                "there is no ledger to move",
                where=str(path),
                hint="nothing was imported here yet: put "
                f'ledger = "{bare(self.url)}" into airgap.toml',
            )
        with exclusive(self.home.import_lock, "import"), exclusive(self.home.ledger_lock, "import"):
            yield path

    def _connected(self) -> SharedDatabase:
        return SharedDatabase(self.url, self.ask, dry=True)

    def _finished(self, path: Path, mark: Mark) -> Mark:
        """Write down what the server says, that it holds all."""
        if mark.moved_at is not None:
            return mark
        now = self._now()
        moved.finish(path, now)
        return replace(mark, moved_at=now)

    def _moved(self, path: Path, shared: SharedDatabase, watcher: Watcher) -> Moved:
        who = f"{self.home.name} on {os.uname().nodename}"
        run = f"{who}, ledger move {self.name}"
        mark = Mark(bare(shared.name), _identity(shared), run, self._now())
        with closing(Ledger(path, self.catalog, self.clock)) as ledger:
            doubtful = ledger.recover()
            if doubtful:
                watcher.warn(
                    f"{plural(doubtful, 'record')} of a run that was cut off are now in doubt, and are "
                    "moved so"
                )
            # One transaction of the file's, so that nothing is stored in it between copy and mark.
            with _untouched(), ledger.database.transaction() as file:
                assert isinstance(file, sqlite3.Connection)
                _require_whole(file, path)
                with shared.turn("layout"):
                    _require_room(shared)
                    _copy(ledger, shared, watcher)
                    shared.connection.execute(
                        "INSERT INTO run (importer, started_at, ended_at) VALUES (?, ?, ?)",
                        (mark.run, mark.begun_at, self._now()),
                    )
                found = _outcome(shared, mark, before=False)
                moved.set_mark(file, mark)
        try:
            shared.keep()
        except AirgapError as error:
            error.hint = (
                "the server did not say whether it keeps what was moved; until it does, nobody imports: "
                f"airgap ledger move {printable(mark.place, 300)}"
            )
            raise
        return replace(found, mark=self._finished(path, mark))

    def _require_lost(self, mark: Mark, *, server_lost: bool) -> None:
        """Check that the server does not hold what was moved, or can't be asked and is given up."""
        try:
            shared = self._connected()
        except AirgapError as error:
            if not server_lost:
                error.hint = (
                    f"{error.hint}; where the server is gone for good, --undo --server-lost takes the file "
                    f"back without its word: what was delivered by the shared ledger since "
                    f"{mark.begun_at} would then be delivered again"
                )
                raise
            if bare(self.url) != mark.place:
                raise self._elsewhere(mark, bare(self.url)) from None
            return
        with closing(shared), shared.turn("layout"):
            if holds(shared, mark):
                raise UsageError(
                    "the server holds this ledger, so the file can't be it",
                    where=shared.name,
                    expected="a server that does not hold it: two ledgers would each deliver what the "
                    "other has delivered",
                    found=f"what was moved at {mark.begun_at}",
                    hint="end the move by the same command without --undo",
                )
            _require_no_copy(shared)
            if not server_lost:
                self._require_not_held(shared, mark)

    def _require_not_held(self, shared: SharedDatabase, mark: Mark) -> None:
        """Check that a server without the ledger is the one to which it was sent, and never held it."""
        _require_no_copy(shared)
        here = _identity(shared)
        if here != mark.server or (here.startswith("/") and bare(shared.name) != mark.place):
            raise self._elsewhere(mark, shared.name)
        if mark.moved_at is not None:
            raise UsageError(
                "the server held this ledger, and does not any more",
                where=shared.name,
                expected=f"what was moved there at {mark.begun_at}",
                hint="put the server's newest copy back. Where there is none: --undo --server-lost takes "
                "the file back, and what was delivered since the move would be delivered again",
            )

    def _elsewhere(self, mark: Mark, found: str) -> UsageError:
        return UsageError(
            "this ledger went, or is on its way, to another server",
            where=str(self.home.ledger_path),
            expected=printable(mark.place, 300),
            found=printable(found, 300),
            hint="give that server's URL: only it knows whether it holds the ledger. Where it is gone for "
            "good: --undo --server-lost, with that URL",
        )

    def _now(self) -> str:
        return timestamps.to_text(self.clock())


@contextmanager
def _untouched() -> Iterator[None]:
    """Say of a server that is lost meanwhile, or refuses a row, that nothing was moved."""
    try:
        yield
    except UnreachableError as error:
        error.hint = _UNTOUCHED
        raise
    except AirgapError as error:
        if type(error) is not AirgapError:
            raise
        raise DamagedError(
            f"the server does not take what the file holds: {error.message}",
            where=error.where,
            hint=f"nothing was moved, and the file is the ledger as before; {_LOOK}",
        ) from None


def _outcome(store: Store, mark: Mark, *, before: bool) -> Moved:
    [bundles] = store.connection.execute("SELECT count(*) FROM bundle").fetchone()
    return Moved(mark, before, int(bundles), counts.by_kind(store.connection))


def _identity(shared: SharedDatabase) -> str:
    """Return what tells a server and its database from others, whatever names lead there."""
    execute = shared.connection.execute
    may, number = execute(
        "SELECT has_function_privilege('pg_control_system()', 'EXECUTE'), oid::bigint FROM pg_database"
        " WHERE datname = current_database()"
    ).fetchone()
    if not may:
        return f"/{number}"
    [system] = execute("SELECT system_identifier FROM pg_control_system()").fetchone()
    return f"{system}/{number}"


def _require_no_copy(shared: SharedDatabase) -> None:
    """Check that a server is not one that follows another, and does not know yet what that one holds."""
    [follows] = shared.connection.execute("SELECT pg_is_in_recovery()").fetchone()
    if follows:
        raise UsageError(
            "this server is a standby, which follows another one",
            where=shared.name,
            expected="the primary server, whose word it is whether it holds the ledger",
            hint="give the primary's URL, or make this one the primary first",
        )


def _require_whole(file: sqlite3.Connection, path: Path) -> None:
    """Check that a file is not damaged."""
    [said] = file.execute("PRAGMA quick_check(1)").fetchone()
    dangling = file.execute("PRAGMA foreign_key_check").fetchone()
    if said != "ok" or dangling is not None:
        raise DamagedError(
            "the ledger is damaged, and was not moved",
            where=str(path),
            expected="PRAGMA quick_check says ok, and no row refers to one that is not there",
            found=printable(str(said), 200)
            if said != "ok"
            else f"a row of {dangling[0]} that does",
            hint="restore it from a copy, together with its -wal file",
        )


def _require_room(shared: SharedDatabase) -> None:
    """Check that the server's ledger holds nothing, and keep others from it until the end.

    Whoever imports looks for the bundle first, in the transaction that takes it in, and waits there.
    """
    execute = shared.connection.execute
    [may] = execute(
        "SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class c JOIN pg_namespace n"
        " ON n.oid = c.relnamespace WHERE n.nspname = ? AND c.relname = 'bundle'",
        (SCHEMA,),
    ).fetchone()
    if not may:
        raise UsageError(
            "the database role may not fill the shared ledger",
            where=shared.name,
            expected=f"the role that made the schema {SCHEMA}",
            hint=f"{_UNTOUCHED} with that role in the URL; afterwards every role that it granted its "
            "tables to can import",
        )
    execute("LOCK TABLE bundle IN ACCESS EXCLUSIVE MODE")
    if not any(execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() for name in _tables()):
        return
    [bundles] = execute("SELECT count(*) FROM bundle").fetchone()
    sources = execute("SELECT DISTINCT source FROM bundle ORDER BY 1 LIMIT 5").fetchall()
    raise UsageError(
        "the shared ledger is not empty, and two ledgers can't be made one",
        where=shared.name,
        expected="a shared ledger into which nothing was imported yet",
        found=f"{plural(int(bundles), 'bundle')} of {', '.join(row[0] for row in sources) or 'nobody'}",
        hint="nothing was moved. Keep the file as this home's ledger, or move it into a database of its "
        "own; no bundle may be imported into both, since each would deliver it",
    )


def _tables() -> dict[str, Columns]:
    """Return the ledger's tables, in an order in which none refers to a later one, with their columns."""
    with closing(sqlite3.connect(":memory:")) as empty:
        empty.executescript(LAYOUT)
        names = empty.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid")
        return {
            name: [
                (column[1], _TYPES[column[2]])
                for column in empty.execute(f"PRAGMA table_info({name})")
            ]
            for (name,) in names.fetchall()
        }


def _copy(ledger: Ledger, shared: SharedDatabase, watcher: Watcher) -> None:
    """Copy all rows, and hold what the server has against them."""
    file, server = ledger.database, shared.connection
    tables = _tables()
    count = {n: file.connection.execute(f"SELECT count(*) FROM {n}").fetchone()[0] for n in tables}
    with watcher.moving(sum(count.values()) + 2 * count["bundle_record"]) as advance:
        for name, columns in tables.items():
            names = ", ".join(column for column, _ in columns)
            rows = iter(file.stream(f"SELECT {names} FROM {name}"))
            while shared.copy_in(name, columns, _told(islice(rows, _CHUNK), advance)):
                pass
        server.execute(f"ANALYZE {', '.join(tables)}")
        for name, column in server.execute(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = ? AND is_identity = 'YES'",
            (SCHEMA,),
        ).fetchall():
            server.execute(
                f"SELECT setval(pg_get_serial_sequence('{name}', '{column}'), max({column})) FROM {name}"
            )
        here = _totals(file, ledger.catalog, advance)
        there = _totals(shared, ledger.catalog, advance)
    lines = [
        f"{name}: {here_} rows against {there_}"
        for name, here_ in count.items()
        if here_ != (there_ := server.execute(f"SELECT count(*) FROM {name}").fetchone()[0])
    ]
    for bundle, state in sorted(here.keys() | there.keys(), key=str):
        mine, theirs = here.get((bundle, state), Totals()), there.get((bundle, state), Totals())
        lines += [f"bundle {bundle}, {state}: {line}" for line in mine.differences(theirs)]
    if lines:
        raise DamagedError(
            "totals part between the file and the shared ledger",
            where=shared.name,
            expected="equal rows, records and sums in both, per bundle, kind and state",
            found=lines[0],
            details=lines[1:_MOST_LINES],
            hint=f"nothing was moved, and the file is the ledger as before; {_LOOK}",
        )


def _told(rows: Iterator[Any], advance: Callable[[int], None]) -> Iterator[Any]:
    """Pass rows on, and tell of each thousand."""
    number = 0
    for number, row in enumerate(rows, 1):
        if not number % _TOLD:
            advance(_TOLD)
        yield row
    advance(number % _TOLD)


def _totals(
    store: Store, catalog: Catalog, advance: Callable[[int], None]
) -> dict[tuple[int, str], Totals]:
    """Return the totals of each bundle's records in each state."""
    found: dict[tuple[int, str], Totals] = {}
    for bundle, kind, state, payload in _told(store.stream(_RECORDS), advance):
        totals = found.get((bundle, state))
        if totals is None:
            totals = found[bundle, state] = Totals()
        try:
            totals.add(catalog.kind(kind), codec.decode_own(payload))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise DamagedError(
                f"a record's payload can't be read: {printable(str(error), 200)}",
                where=store.name,
                found=f"a {printable(kind)} of bundle {bundle}",
                hint=f"{_UNTOUCHED} when the ledger was restored from a copy",
            ) from None
    return found
