"""``airgap init``."""

from pathlib import Path

import click

from airgap.cli.common import Output, airgap_command
from airgap.errors import UsageError
from airgap.home import NAME, create
from airgap.text import printable


@airgap_command("init", audited=True)
@click.option("--source", help="Isolated host: name of the site whose usage is reported.")
@click.option("--workstation", help="Connected workstation: its name, as receipts will give it.")
def command(out: Output, home_path: Path, source: str | None, workstation: str | None) -> None:
    """Set up a home: configuration, and room for keys, trust store and outbox or ledger.

    \b
    Example, on the isolated host:
      airgap init --source bank-a.prod
    Example, on the workstation:
      airgap init --workstation relay-1
    """
    name = source or workstation
    if name is None or (source and workstation):
        raise UsageError(
            "say which side this is",
            expected="--source NAME on the isolated host, or --workstation NAME",
        )
    if not NAME.fullmatch(name):
        raise UsageError(
            "the name can't be used",
            expected="1 to 63 of a-z, 0-9, dot, dash and underscore, a letter or digit at both ends",
            found=printable(name),
        )
    home = create(home_path, "isolated" if source else "workstation", name)
    out.result({"home": str(home.path), "side": home.side, "name": home.name})
    out.say(f"This home is the {home.side} side, {home.name}.")
    out.say(f"Wrote {home.path / 'airgap.toml'}. Next: airgap key generate")
