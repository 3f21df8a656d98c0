"""The outbox or ledger, looked at without a trace: SQLite is asked to read and to make nothing."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

from airgap import moved, timestamps
from airgap.database import quietly, tells, translate
from airgap.doctor.findings import Finding, not_checked, ok, refused, warning, wrong
from airgap.doctor.scene import Scene
from airgap.errors import AirgapError, UsageError
from airgap.home import Home
from airgap.text import plural, printable

_RECEIPT_SUFFIX = ".receipt"
_RESTORE = "restore it from a copy, together with its -wal file; until then start no airgap on it"
_MOST_WORDS = 200
_MOMENTS = {
    "isolated": (
        "SELECT max(created_at) FROM bundle",
        "SELECT max(applied_at) FROM receipt",
        "SELECT collected_at FROM record ORDER BY number DESC LIMIT 1",
    ),
    "workstation": (
        "SELECT max(imported_at) FROM bundle",
        "SELECT max(created_at) FROM receipt",
        "SELECT max(changed_at) FROM open_record",
        (
            "SELECT max(changed_at) FROM"
            " (SELECT changed_at FROM delivered_record ORDER BY record DESC LIMIT 10000)"
        ),
    ),
}


def path_of(home: Home) -> Path:
    """Return where a home's database is.

    Raises:
        UsageError: airgap.toml names a ledger that can't be meant.
    """
    return home.outbox_path if home.side == "isolated" else home.ledger_path


def look(scene: Scene) -> Iterator[Finding]:
    """Look at a home's database."""
    home = scene.home
    assert home is not None
    try:
        if home.side == "workstation" and home.ledger_url is not None:
            yield not_checked(
                "database.there",
                "the ledger is on a server: --probe connects to it",
                home.ledger_name,
            )
            return
        path = path_of(home)
    except AirgapError as error:
        yield refused("database.there", error)
        return
    what = "outbox" if home.side == "isolated" else "ledger"
    receipts = receipts_in(home) if home.side == "workstation" else []
    if not os.path.lexists(path):
        yield _absent(home, path, what, receipts)
        return
    if not path.is_file():
        yield wrong(
            "database.there",
            f"the {what} is not a regular file",
            where=str(path),
            cure="look at what it is before you remove it; then restore the file from a copy",
        )
        return
    if not os.access(path, os.R_OK):
        yield not_checked("database.intact", f"the {what} can't be read by this user", str(path))
        return
    # Twice: whoever opens it just now makes a -wal file, in which is then what seems to be missing.
    for _ in range(2):
        alone = not _wal(path).exists()
        found = list(_opened(scene, home, path, what, receipts))
        if not alone or not _wal(path).exists() or all(one.state == "ok" for one in found):
            break
    yield from found


def _wal(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _opened(
    scene: Scene, home: Home, path: Path, what: str, receipts: list[str]
) -> Iterator[Finding]:
    target = quietly(path)
    if target is None:
        yield not_checked(
            "database.intact",
            f"the {what}'s -shm file is missing beside its -wal file, as in a copy; the next command "
            "that opens it, for instance airgap status, makes it again",
            str(path),
        )
        return
    try:
        with closing(sqlite3.connect(target, uri=True, timeout=5)) as connection:
            yield from _judged(connection, scene, home, path, receipts)
    except sqlite3.Error as error:
        said = translate(error, path)
        if isinstance(said, UsageError):
            yield not_checked("database.intact", f"{said.message}; run this again", str(path))
            return
        yield wrong("database.intact", said.message, where=str(path), cure=said.hint)


def newest(scene: Scene) -> Iterator[tuple[datetime, str]]:
    """Yield when a home's database was last told something, and what; nothing where it can't be read."""
    home = scene.home
    if home is None:
        return
    try:
        if home.side == "workstation" and home.ledger_url is not None:
            return
        path = path_of(home)
        target = quietly(path) if path.is_file() else None
        if target is None:
            return
        with closing(sqlite3.connect(target, uri=True, timeout=5)) as connection:
            for statement in _MOMENTS[home.side]:
                [found] = connection.execute(statement).fetchone() or (None,)
                if isinstance(found, str) and timestamps.is_date_time(found):
                    yield timestamps.parse(found), f"an entry of {path.name}"
    except (sqlite3.Error, AirgapError, OSError):
        return


def _absent(home: Home, path: Path, what: str, receipts: list[str]) -> Finding:
    left = receipts or _names(home.path / "bundles", ".airgap")
    if not left:
        return ok("database.there", f"no {what} yet: it is made when it is needed", str(path))
    return wrong(
        "database.there",
        f"the {what} is gone, and the home has {plural(len(left), 'file')} that it made",
        where=str(path),
        expected=f"the {what} that made {left[-1]}",
        cure="restore it from a copy"
        + (
            "; if there is none, begin anew with the receipts: airgap outbox continue RECEIPT..."
            if what == "outbox"
            else ": what a ledger has forgotten would be delivered again"
        ),
    )


def _judged(
    connection: sqlite3.Connection, scene: Scene, home: Home, path: Path, receipts: list[str]
) -> Iterator[Finding]:
    what, application, told_by, layouts = _known(home)
    whose = int(connection.execute("PRAGMA application_id").fetchone()[0])
    layout = int(connection.execute("PRAGMA user_version").fetchone()[0])
    yield ok("database.there", f"the {what} is there", str(path))
    pragma = "integrity_check" if scene.deep else "quick_check"
    said = [str(row[0]) for row in connection.execute(f"PRAGMA {pragma}(10)")]
    if said != ["ok"]:
        yield wrong(
            "database.intact",
            f"the {what} is damaged: {printable('; '.join(said), _MOST_WORDS)}",
            where=str(path),
            expected=f"PRAGMA {pragma} says ok",
            cure=_RESTORE,
        )
        return
    yield ok("database.intact", f"PRAGMA {pragma} says ok")
    if layout == 0:
        yield warning(
            "database.layout",
            f"the {what} is empty: a run was cut off while it made it",
            where=str(path),
            cure="the next command makes its tables; if it should hold something, restore it from a copy",
        )
        return
    mark = moved.of(connection)
    if mark is not None:
        yield refused("database.layout", moved.refusal(mark, path))
        return
    is_ours = whose == int.from_bytes(application.encode()) if whose else tells(connection, told_by)
    if not is_ours:
        yield wrong(
            "database.layout",
            f"this database is no {what}",
            where=str(path),
            expected=f"a database that airgap made as its {what}",
            cure="correct `ledger` in airgap.toml; an outbox is no ledger",
        )
        return
    if layout not in layouts:
        yield wrong(
            "database.layout",
            f"layout {layout}, made by another release of airgap",
            where=str(path),
            expected=f"layout {' or '.join(map(str, layouts))}",
            cure="use the airgap release that made it, or a newer one",
        )
        return
    older = layout != layouts[-1]
    yield ok(
        "database.layout",
        f"layout {layout}" + (f", made {layouts[-1]} at next use" if older else ""),
    )
    if home.side == "workstation":
        yield _newest(connection, path, receipts)


def _newest(connection: sqlite3.Connection, path: Path, receipts: list[str]) -> Finding:
    known = {row[0] for row in connection.execute("SELECT file_name FROM receipt")}
    unknown = [name for name in receipts if name not in known]
    if not unknown:
        said = plural(len(receipts), "receipt") if receipts else "no receipt yet"
        return ok("database.newest", f"{said} in the home, and the ledger knows all")
    return wrong(
        "database.newest",
        f"the ledger is older than this home's receipts: it does not know {printable(unknown[-1], 100)}",
        where=str(path),
        expected="the newest ledger: what an old copy has forgotten would be delivered again",
        cure="put the newest ledger back, with its -wal file; until then import nothing",
    )


def _known(home: Home) -> tuple[str, str, tuple[str, str], tuple[int, ...]]:
    """Return what the database is, its four letters, what tells it without, and its layouts, oldest first."""
    if home.side == "isolated":
        from airgap import outbox_layout

        layout = outbox_layout
        return "outbox", layout.APPLICATION, layout.TOLD_BY, layout.LAYOUTS
    from airgap.replay import ledger_layout

    known = ledger_layout
    return "ledger", known.APPLICATION, known.TOLD_BY, known.LAYOUTS


def receipts_in(home: Home) -> list[str]:
    """Return the names of the receipts in a home."""
    return _names(home.path / "receipts", _RECEIPT_SUFFIX)


def _names(folder: Path, suffix: str) -> list[str]:
    try:
        found = [path.name for path in folder.iterdir()]
    except OSError:
        return []
    return sorted(n for n in found if n.endswith(suffix) and not n.startswith("."))
