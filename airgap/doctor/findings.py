"""What a check says, and the table of everything that can be checked."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from airgap.errors import AirgapError

State = Literal["ok", "warning", "wrong", "not checked"]
STATES: tuple[State, ...] = ("ok", "warning", "wrong", "not checked")

GRAVITY = (5, 4, 9, 8, 7, 3, 2, 1)
"""Exit statuses, the gravest first: damaged, trust, sequence, medium, beacon, input, usage, unexpected."""


@dataclass(frozen=True, slots=True)
class Check:
    """Something that is looked at.

    Args:
        title: what is looked at, in one line.
        exit_code: exit status where it is wrong; see the README's table.
    """

    title: str
    exit_code: int


CHECKS: dict[str, Check] = {
    "home.there": Check("the home is there, and says which side it is", 2),
    "home.configuration": Check("airgap.toml can be read, and is valid", 2),
    "home.owner": Check("everything in the home belongs to whoever runs airgap", 8),
    "home.permissions": Check("nobody else can read the home: folders 0700, files 0600", 4),
    "home.writable": Check("the home can be written to", 8),
    "home.file-system": Check("the home lies on a disk of this machine", 8),
    "home.space": Check("space for bundles, receipts and databases", 8),
    "home.inodes": Check("room for new files", 8),
    "home.left-over": Check("no file of a run that was cut off", 8),
    "database.there": Check("the outbox or ledger is there, where something was done", 5),
    "database.reached": Check("--probe: a shared ledger can be reached", 7),
    "database.intact": Check("SQLite finds the database whole (--deep: index by index)", 5),
    "database.layout": Check("this airgap knows the database's layout", 2),
    "database.newest": Check("the database knows every receipt that the home holds", 9),
    "keys.present": Check("there is a key to sign with", 4),
    "keys.readable": Check("private keys can be read; which a passphrase protects", 4),
    "keys.pair": Check("each public key is its private key's", 4),
    "keys.trusted": Check("this side trusts a key of its own in its role", 4),
    "keys.expiry": Check("the time of this side's own keys is not over, nor within 30 days", 4),
    "trust.readable": Check("the trust store can be read; its version and keys", 4),
    "trust.expiry": Check("the trust store's time is not over, nor within 30 days", 4),
    "trust.keys": Check("no key of others has expired, nor will within 30 days", 4),
    "trust.peers": Check("a key of the other side is trusted", 4),
    "trust.policies": Check("there are keys enough for what policies demand", 4),
    "trust.root": Check("a root key can be lost without losing the trust store", 4),
    "clock.evidence": Check("the clock is not behind what is stored, nor far ahead of it", 9),
    "clock.beacon": Check("--probe: the clock agrees with the Date that hosts answer with", 9),
    "audit.whole": Check("the audit log ends with a whole line (--deep: every line holds)", 5),
    "media.sticks": Check("sticks that are mounted can be written to, and have room", 8),
    "media.left-over": Check("no stick, nor folder of airgap.toml, has rests or is none", 8),
    "credentials.files": Check("files of keys and passphrases in airgap.toml can be read", 4),
    "credentials.environment": Check("AIRGAP_LICENSE_KEY and AIRGAP_API_KEY hold a key", 4),
    "network.client": Check("the HTTP client is installed", 2),
    "network.proxy": Check("the proxy variables can be used", 2),
    "network.authorities": Check("the certificate authorities can be read, and are valid", 2),
    "network.urls": Check("the base URLs can be used", 2),
    "network.reachable": Check("--probe: each host answers", 7),
    "versions.python": Check("Python is one that airgap runs on", 2),
    "versions.sqlite": Check("SQLite has what the databases need", 2),
    "versions.cryptography": Check("OpenSSL, and which algorithms it brings", 2),
    "versions.libraries": Check("libraries are installed, in versions that airgap knows", 2),
    "versions.extras": Check("which optional parts are installed", 2),
    "versions.files": Check("--deep: installed files are those that the package names", 5),
    "doctor.check": Check("every check came to its end", 1),
}
"""All checks by their stable id, in the order in which they are shown."""

GROUPS = {
    "home": "Home",
    "database": "Database",
    "keys": "Own keys",
    "trust": "Trust store",
    "clock": "Clock",
    "audit": "Audit log",
    "media": "Media",
    "credentials": "Credentials",
    "network": "Network",
    "versions": "Versions",
    "doctor": "Doctor",
}
"""Headings by what an id begins with."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found of one thing.

    Args:
        id: which check; a name in ``CHECKS``.
        state: whether that is as it should be.
        found: what is there, in one sentence without a full stop; never a credential.
        where: file, host or variable, where that helps.
        expected: what should be there instead.
        cure: what to do, for each that is a warning or wrong.
    """

    id: str
    state: State
    found: str
    where: str | None = None
    expected: str | None = None
    cure: str | None = None

    @property
    def group(self) -> str:
        """What its id begins with."""
        return self.id.partition(".")[0]

    @property
    def exit_code(self) -> int:
        """Exit status that it calls for, were it wrong."""
        return CHECKS[self.id].exit_code

    def as_json(self) -> dict[str, object]:
        """Return the finding as ``--json`` prints it."""
        return {
            "id": self.id,
            "state": self.state,
            "found": self.found,
            "where": self.where,
            "expected": self.expected,
            "cure": self.cure,
            "exit_code": self.exit_code,
        }


def ok(name: str, found: str, where: str | None = None) -> Finding:
    """Return a finding of what is as it should be."""
    return Finding(name, "ok", found, where)


def not_checked(name: str, why: str, where: str | None = None) -> Finding:
    """Return a finding of what could not, or need not, be looked at."""
    return Finding(name, "not checked", why, where)


def warning(
    name: str, found: str, *, cure: str, where: str | None = None, expected: str | None = None
) -> Finding:
    """Return a finding of what will become wrong, or may be meant so."""
    return Finding(name, "warning", found, where, expected, cure)


def refused(name: str, error: AirgapError) -> Finding:
    """Return the finding of what a command would be refused with."""
    return wrong(name, error.message, where=error.where, expected=error.expected, cure=error.hint)


def wrong(
    name: str, found: str, *, cure: str, where: str | None = None, expected: str | None = None
) -> Finding:
    """Return a finding of what stops work, or lets others in."""
    return Finding(name, "wrong", found, where, expected, cure)


def counts(found: Iterable[Finding]) -> dict[str, int]:
    """Return how many findings there are of each state."""
    found = list(found)
    return {state: sum(one.state == state for one in found) for state in STATES}


def exit_code(found: Iterable[Finding], *, strict: bool = False) -> int:
    """Return the exit status of the gravest finding, or 0 where nothing is wrong.

    Args:
        found: the findings.
        strict: whether warnings count as well.
    """
    states = ("wrong", "warning") if strict else ("wrong",)
    there = {one.exit_code for one in found if one.state in states}
    return next((code for code in GRAVITY if code in there), 0)
