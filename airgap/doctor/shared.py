"""A ledger on a server, looked at only with --probe: reached, of a known layout, durable, the newest."""

from collections.abc import Iterator

from airgap.doctor.databases import receipts_in
from airgap.doctor.findings import Finding, ok, refused, warning, wrong
from airgap.doctor.scene import Scene
from airgap.errors import AirgapError, UnreachableError, UsageError
from airgap.replay.moving import require_moved_here
from airgap.replay.shared import SharedDatabase
from airgap.text import plural, printable


def look(scene: Scene) -> Iterator[Finding]:
    """Connect to a shared ledger as an import would, and look; all that is done there is undone."""
    home = scene.home
    assert home is not None
    try:
        url = home.ledger_url
    except AirgapError:
        return  # said where databases are looked at
    if url is None:
        return
    try:
        database = SharedDatabase(url, dry=True)
    except AirgapError as error:
        layout = isinstance(error, UsageError) and "layout" in (error.expected or "")
        reached = layout or not isinstance(error, UnreachableError | UsageError)
        name = "database.layout" if layout else "database.intact" if reached else "database.reached"
        yield wrong(
            name, error.message, where=error.where, expected=error.expected, cure=error.hint
        )
        return
    try:
        yield ok("database.reached", "the shared ledger answers", database.name)
        if database.made:
            yield ok("database.there", "no ledger yet: it is made when it is needed", database.name)
        else:
            yield ok("database.there", "the ledger is there", database.name)
        yield ok("database.layout", f"layout {database.version}")
        try:
            require_moved_here(home, database)
        except UsageError as error:
            yield refused("database.newest", error)
            return
        yield from _judged(scene, database)
    finally:
        database.close()


def _judged(scene: Scene, database: SharedDatabase) -> Iterator[Finding]:
    home = scene.home
    assert home is not None
    [syncs] = database.connection.execute("SELECT current_setting('fsync')").fetchone()
    if syncs != "on":
        yield warning(
            "database.intact",
            "the server does not wait for its disk: fsync is off, and what it has stored may be gone "
            "after a loss of power, and would be delivered again",
            where=database.name,
            cure="set fsync = on in the server's postgresql.conf",
        )
    receipts = receipts_in(home)
    rows = database.connection.execute("SELECT file_name FROM receipt")
    known = {row[0] for row in rows}
    unknown = [name for name in receipts if name not in known]
    if unknown:
        yield wrong(
            "database.newest",
            "the ledger is older than this home's receipts: it does not know "
            f"{printable(unknown[-1], 100)}",
            where=database.name,
            expected="the newest ledger: what an old copy has forgotten would be delivered again",
            cure="restore the newest one; until then import nothing",
        )
    else:
        said = plural(len(receipts), "receipt") if receipts else "no receipt yet"
        yield ok("database.newest", f"{said} in the home, and the ledger knows all")
