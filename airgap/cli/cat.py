"""``airgap cat``."""

import json
from pathlib import Path

import click

from airgap import catalog
from airgap.cli.common import Output, airgap_command, sealing_passphrase_option
from airgap.cli.looking import opened, with_hint
from airgap.errors import SealedError, TrustError


@airgap_command("cat")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--unverified", is_flag=True, help="Print it whoever signed it.")
@sealing_passphrase_option
def command(
    out: Output,
    home_path: Path,
    file: Path,
    sealing_passphrase_file: Path | None,
    *,
    unverified: bool,
) -> None:
    """Print a bundle's records, or a receipt's outcomes, as JSON lines.

    A sealed bundle needs one of the keys that it is sealed to (`airgap recipient list`).
    With --json they are printed as one object, {"records": [...]}.

    \b
    Example:
      airgap cat /media/stick/bank-a.prod-000001.airgap | head -1
    """
    schemas = catalog.load()
    try:
        with opened(
            file,
            home_path,
            schemas,
            sealing_passphrase_file,
            unverified=unverified,
            needs_key=True,
        ) as document:
            if unverified:
                out.warn("not verified: anyone may have written this")
            if out.as_json:
                out.result({"records": list(document.elements(schemas))})
                return
            for element in document.elements(schemas):
                click.echo(json.dumps(element, default=repr))
    except SealedError:
        raise
    except TrustError as error:
        raise with_hint(error) from None
