"""What a shell offers beside commands, options and files: names of keys, sources, recipients, profiles.

Whatever can't be read offers nothing: a message would stand in the middle of what is being typed.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from airgap import catalog
from airgap.home import NAME, Home, default_home, open_home

Offer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _offer(read: Callable[[Home], Iterable[str]], *, files: bool = False) -> Offer:
    """Return what offers names of a home, and files where no name fits.

    Args:
        read: returns the names.
        files: whether a file may be named as well.
    """

    def offer(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        names: list[str] = []
        with suppress(Exception):
            names = [n for n in read(_home(ctx)) if NAME.fullmatch(n) and n.startswith(incomplete)]
        if not names and files:
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(name) for name in sorted(set(names))]

    return offer


def _home(ctx: click.Context) -> Home:
    return open_home(Path(ctx.params.get("home_path") or default_home()))


def _sources(home: Home) -> Iterable[str]:
    from airgap.trust import store

    if home.side == "isolated":
        yield home.name
    for key in store.load(home.trust_path, catalog.load()).keys.values():
        yield from key.sources


def _recipients(home: Home) -> Iterable[str]:
    from airgap import unsealing

    return unsealing.names(home).values()


def _profiles(home: Home) -> Iterable[str]:
    from airgap import settings

    return settings.profile_names(home.settings, catalog.load())


keys = _offer(Home.key_names, files=True)
"""Names of this side's own keys, or key files."""

own_keys = _offer(Home.key_names)
"""Names of this side's own keys."""

sources = _offer(_sources)
"""Sources that the trust store's keys may sign for."""

recipients = _offer(_recipients)
"""Names of the keys that this home seals to or opens with."""

profiles = _offer(_profiles)
"""Names of profiles."""


def files(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer files, for an argument that may be something else too."""
    return [CompletionItem(incomplete, type="file")]


def kinds(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer kinds of records."""
    return [CompletionItem(name) for name in catalog.load().kinds if name.startswith(incomplete)]
