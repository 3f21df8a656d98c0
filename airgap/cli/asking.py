"""Questions that a command asks a person, where one is there."""

import sys
from collections.abc import Callable

import click


def password_prompt() -> Callable[[str], str] | None:
    """Return how a database's password is asked for, once, or None where nobody is there."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    known: dict[str, str] = {}

    def ask(what: str) -> str:
        if what not in known:
            known[what] = str(click.prompt(f"Password for {what}", hide_input=True, err=True))
        return known[what]

    return ask
