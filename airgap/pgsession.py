"""A session with a PostgreSQL server, as the operator's URL says, and nowhere else.

Needs psycopg 3 (the extra ``[postgres]``), loaded only where a database is named. What a library says
about a connection is repeated without a password, however that came in (see ``pgurl``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airgap import pgurl
from airgap.errors import UsageError
from airgap.text import printable

Ask = Callable[[str], str]
"""Asks a person for the password of what is named."""


@dataclass(frozen=True, slots=True, repr=False)
class Target:
    """Where to connect to. Its ``repr`` shows no password.

    Args:
        name: the URL as it may be shown.
        options: what the URL says, and what holds where it says nothing.
    """

    name: str
    options: dict[str, Any]

    def __repr__(self) -> str:
        return f"Target({self.name})"

    def words(self, error: BaseException) -> str:
        """Return a library's message as one line, without a password."""
        text = str(error)
        for secret in (self.options.get("password"), self.options.get("sslpassword")):
            if secret:
                text = text.replace(secret, "***")
        return printable(" ".join(text.split()), 300) or type(error).__name__


def library(what: str) -> Any:
    """Return psycopg.

    Args:
        what: what needs it, at the beginning of a sentence.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import psycopg
        import psycopg.conninfo
        import psycopg.sql
    except ImportError as error:
        raise UsageError(
            f"{what} needs psycopg 3: {printable(str(error), 200)}",
            hint="install the extra: pip install 'airgap[postgres]', or requirements-sources.lock",
        ) from None
    return psycopg


def target(psycopg: Any, url: str) -> Target:
    """Return where a URL leads.

    Raises:
        UsageError: it is none, or not one that can be read in one way only.
    """
    name = pgurl.shown(url)
    try:
        said = psycopg.conninfo.conninfo_to_dict(url) if pgurl.is_plain(url) else None
    except psycopg.Error:
        said = None  # libpq's words quote the part that it can't read: a password, often
    if said is None:
        raise UsageError(
            "the database's URL can't be read",
            where=name,
            expected="postgresql://USER@HOST:PORT/DATABASE?NAME=VALUE",
            hint="give the password by PGPASSWORD, ~/.pgpass or a service file; in a URL, write % "
            "as %25, @ as %40, / as %2F, : as %3A, a space as %20",
        )
    # What PGCLIENTENCODING or a URL says would change, or refuse, what is read.
    defaults = {"application_name": "airgap", "connect_timeout": 10}
    return Target(name, {**defaults, **said, "client_encoding": "UTF8"})


def connect(psycopg: Any, target: Target, ask: Ask | None) -> Any:
    """Return a new connection; a password that is missing is asked for where somebody is there.

    Raises:
        psycopg.Error: the database can't be reached.
    """
    try:
        return psycopg.connect(**target.options)
    except psycopg.OperationalError as error:
        if ask is None or "no password supplied" not in str(error):
            raise
    return psycopg.connect(**{**target.options, "password": ask(target.name)})
