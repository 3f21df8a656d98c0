"""The passphrase of a key that is made now: none only where a person wants none."""

import os
import sys
from pathlib import Path

import click

from airgap.errors import UsageError
from airgap.home import passphrase_from

_LONGEST = 1023


def new_passphrase(file: Path | None, variable: str, what: str) -> bytes | None:
    """Return the passphrase for a key that is made now, or None where a person wants none.

    Args:
        file: its first line is it; or None.
        variable: the environment variable that may hold it.
        what: what it is for, for the question on a terminal.

    Raises:
        UsageError: nobody was there to be asked, or what should hold it is empty; or it is longer
            than key files take, 1,023 bytes.
    """

    def ask(_: str) -> str:
        return str(
            click.prompt(
                f"Passphrase for {what} (empty: none)",
                default="",
                show_default=False,
                hide_input=True,
                confirmation_prompt="Once more",
                err=True,
            )
        )

    on_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    value = os.environ.get(variable)
    environment = None if value is None else os.fsencode(value)
    asked = on_terminal and file is None and environment is None
    found = passphrase_from(
        file=file, environment=environment, prompt=ask if on_terminal else None
    )(what)
    if found is None and not asked:
        option = variable.removeprefix("AIRGAP_").lower().replace("_", "-")
        raise UsageError(
            f"no passphrase was given for {what}",
            where=str(file) if file is not None else None if environment is None else variable,
            found=None if file is None and environment is None else "nothing in it",
            hint=f"give --{option}-file FILE or {variable}; "
            "or --no-passphrase, for a key file that is not protected",
        )
    if found is not None and len(found) > _LONGEST:
        raise UsageError("the passphrase is too long", expected=f"at most {_LONGEST} bytes")
    return found
