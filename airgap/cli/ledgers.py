"""The workstation's ledger as commands open it, with the password that it may need."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from airgap import catalog, pgurl, timestamps
from airgap.cli.asking import password_prompt
from airgap.cli.common import on_side
from airgap.home import Home
from airgap.replay import opening
from airgap.replay.ledger import Ledger


def workstation(home_path: Path, ledger: str | None, warn: Callable[[str], None]) -> Home:
    """Return the workstation's home with the ledger that was chosen.

    Args:
        home_path: the home's folder.
        ledger: what ``--ledger`` says, or None.
        warn: takes what somebody should know.
    """
    home = on_side(home_path, "workstation").with_ledger(ledger)
    url = home.ledger_url
    if ledger and url is not None:
        warn_of_password(url, warn)
    return home


def warn_of_password(url: str, warn: Callable[[str], None]) -> None:
    """Warn of a URL that holds a password, where it was typed."""
    if pgurl.has_password(url):
        warn(
            "the ledger's URL holds a password, which other users of this machine can see while the "
            "command runs: use PGPASSWORD, ~/.pgpass or a service file"
        )


def looked_at(home: Home) -> AbstractContextManager[Ledger]:
    """Open a home's ledger to read in."""
    return opening.looked_at(home, catalog.load(), timestamps.system_clock, password_prompt())


def held(home: Home) -> AbstractContextManager[Ledger]:
    """Open a home's ledger to import into or to decide in."""
    return opening.held(home, catalog.load(), timestamps.system_clock, password_prompt())


def copied(home: Home) -> AbstractContextManager[Ledger]:
    """Open what a home's ledger holds, to be thrown away."""
    return opening.copied(home, catalog.load(), password_prompt())
