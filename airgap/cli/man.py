"""``airgap man``: manual pages."""

from pathlib import Path
from shlex import quote

import click

from airgap import catalog
from airgap.cli.common import Output, airgap_command
from airgap.files import make_folder, write_atomically
from airgap.text import plural


@airgap_command("man", home=False)
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder that is or gets a manual: pages go to man1 and man5 in it.",
)
@click.pass_context
def command(ctx: click.Context, out: Output, to: Path) -> None:
    """Write manual pages: one for each command, and airgap.toml(5).

    They are made from the commands themselves, so they fit this release. Pages that are there are
    written anew; nothing else is touched.

    \b
    Example:
      airgap man --to ~/.local/share/man
    """
    from airgap.cli.manpage import pages

    made: list[Path] = []
    for name, text in pages(ctx.find_root().command, catalog.load()).items():
        folder = to / f"man{name[-1]}"
        make_folder(folder, "choose another: airgap man --to FOLDER")
        write_atomically(folder / name, text.encode(), mode=0o644)
        made.append(folder / name)
    out.result({"written": [str(path) for path in made]})
    out.say(f"Wrote {plural(len(made), 'page')} below {to}. Next: man -M {quote(str(to))} airgap")
