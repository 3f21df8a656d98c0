"""Every check in its turn. One that breaks is a finding, and the others go on."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

from airgap import credentials
from airgap.catalog import Catalog
from airgap.doctor import (
    clocks,
    databases,
    homes,
    own_keys,
    programs,
    secretfiles,
    sticks,
    trusting,
)
from airgap.doctor.findings import CHECKS, GROUPS, Finding, not_checked, wrong
from airgap.doctor.scene import Connection, Scene
from airgap.text import printable

Look = Callable[[Scene], Iterable[Finding]]

_MOST_WORDS = 1000
_OF_A_FOLDER: tuple[tuple[str, Look], ...] = (
    ("home.permissions", homes.private),
    ("home.space", homes.disk),
)
_OF_A_HOME: tuple[tuple[str, Look], ...] = (
    ("database.there", databases.look),
    ("keys.present", own_keys.look),
    ("keys.trusted", own_keys.look_at_trust),
    ("trust.readable", trusting.look),
    ("audit.whole", clocks.log),
)
_OF_THE_MACHINE: tuple[tuple[str, Look], ...] = (
    ("clock.evidence", clocks.look),
    ("media.sticks", sticks.look),
    ("credentials.files", secretfiles.look),
    ("credentials.environment", secretfiles.variables),
    ("versions.python", programs.look),
)


def examine(scene: Scene, connection: Connection | None = None) -> list[Finding]:
    """Return what every check found, in the order of the table of checks.

    Args:
        scene: what there is to look at.
        connection: how the workstation reaches the beacon; None: the network is not looked at.
    """
    looks: list[tuple[str, Look]] = [("home.there", homes.there)]
    found: list[Finding] = []
    if scene.path.is_dir():
        looks.extend(_OF_A_FOLDER)
    if scene.home is not None:
        looks.extend(_OF_A_HOME)
    else:
        why = "there is no home with a valid airgap.toml"
        found += [not_checked(name, why) for name, _ in (*_OF_A_HOME, ("network.client", None))]
    looks.extend(_OF_THE_MACHINE)
    for name, look in looks:
        found += _isolated(name, partial(look, scene))
    if scene.home is not None:
        found += _isolated("network.client", partial(_network, scene, connection))
        if connection is not None and connection.probe:
            found += _isolated("database.reached", partial(_shared, scene))
    order = list(CHECKS)
    headings = list(GROUPS)
    found.sort(key=lambda one: (headings.index(one.group), order.index(one.id)))
    return [_clean(one, scene.catalog) for one in found]


def _network(scene: Scene, connection: Connection | None) -> Iterator[Finding]:
    if not scene.is_workstation or connection is None:
        yield not_checked("network.client", "the isolated side opens no connection")
        return
    try:
        from airgap.doctor import network
    except ImportError as error:
        yield wrong(
            "network.client",
            f"the HTTP client is not installed: {error}",
            expected="PycURL",
            cure="install all of requirements.lock: pip install --require-hashes -r requirements.lock",
        )
        return
    yield from network.look(scene, connection)


def _shared(scene: Scene) -> Iterator[Finding]:
    from airgap.doctor import shared

    yield from shared.look(scene)


def _isolated(name: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield what a check finds, and that it broke where it does."""
    try:
        yield from look()
    except Exception as error:  # noqa: BLE001 - one check that breaks must not hide the others
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        yield wrong(
            "doctor.check",
            f"the check {name} broke: {type(error).__name__}: {printable(said, 200)}",
            where=str(error.filename) if isinstance(error, OSError) and error.filename else None,
            expected="that it comes to its end",
            cure="if a file can't be read, run this as the home's user; else report it with this line",
        )


def _clean(one: Finding, catalog: Catalog) -> Finding:
    """Return a finding whose words are safe to show, and hold no key."""

    def safe(text: str | None) -> str | None:
        return None if text is None else credentials.redact(printable(text, _MOST_WORDS), catalog)

    return replace(
        one,
        found=safe(one.found) or "",
        where=safe(one.where),
        expected=safe(one.expected),
        cure=safe(one.cure),
    )
