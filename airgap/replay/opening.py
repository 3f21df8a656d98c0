"""A home's ledger, wherever it is: a file, or a database that several workstations share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from airgap import moved, timestamps
from airgap.catalog import Catalog
from airgap.database import Database
from airgap.files import exclusive, is_held
from airgap.home import Home
from airgap.pgsession import Ask
from airgap.replay import moving
from airgap.replay.claims import Sharing
from airgap.replay.ledger import Ledger
from airgap.replay.shared import SharedDatabase


@contextmanager
def looked_at(
    home: Home, catalog: Catalog, clock: timestamps.Clock, ask: Ask | None = None
) -> Iterator[Ledger]:
    """Yield a home's ledger to read in; imports may run meanwhile.

    Args:
        home: the workstation's home.
        catalog: schemas and kinds.
        clock: the present.
        ask: asks a person for a database's password, or None where nobody is there.

    Raises:
        AirgapError: it can't be opened; see ``Database`` and ``SharedDatabase``.
    """
    url = home.ledger_url
    if url is None:
        moved.require_unmoved(home.ledger_path)
    place = home.ledger_path if url is None else SharedDatabase(url, ask)
    ledger = Ledger(place, catalog, clock)
    try:
        moving.require_moved_here(home, ledger.database)
        yield ledger
    finally:
        ledger.close()


@contextmanager
def held(
    home: Home, catalog: Catalog, clock: timestamps.Clock, ask: Ask | None = None
) -> Iterator[Ledger]:
    """Yield a home's ledger to import into or to decide in.

    Nobody else does so meanwhile in a file; in a shared ledger, nobody else from this home.

    Raises:
        UsageError: another process does.
        AirgapError: it can't be opened.
    """
    with (
        exclusive(home.import_lock, "import"),
        exclusive(home.ledger_lock, "import") if home.ledger_url is None else nullcontext(),
        looked_at(home, catalog, clock, ask) as ledger,
    ):
        ledger.claims.who = f"{home.name} on {os.uname().nodename}"
        yield ledger


@contextmanager
def copied(home: Home, catalog: Catalog, ask: Ask | None = None) -> Iterator[Ledger]:
    """Yield what a home's ledger holds, to be thrown away: a dry run goes by the same steps.

    A file is copied. In a shared ledger it is one transaction that is undone at the end: no row that
    another run needs is changed, and nothing is claimed; who imports a bundle of the same source
    meanwhile waits for the end.
    """
    url = home.ledger_url
    if url is not None:
        database = SharedDatabase(url, ask, dry=True)
        ledger = Ledger(database, catalog, timestamps.system_clock)
        ledger.claims = Sharing(database, catalog, timestamps.system_clock, dry=True)
        try:
            moving.require_moved_here(home, database)
            yield ledger
        finally:
            ledger.close()
        return
    moved.require_unmoved(home.ledger_path)
    with TemporaryDirectory(dir=home.folder("quarantine")) as folder:
        ledger = Ledger(Path(folder) / "ledger.sqlite", catalog, timestamps.system_clock)
        try:
            if home.ledger_path.exists() and isinstance(ledger.database, Database):
                ledger.database.copy_from(home.ledger_path)
            yield ledger
        finally:
            ledger.close()


def is_importing(home: Home, ledger: Ledger) -> bool:
    """Tell whether what is being sent is sent by a run that lives; else a run was cut off."""
    cut_off = ledger.claims.has_cut_off()
    return is_held(home.ledger_lock) if cut_off is None else not cut_off
