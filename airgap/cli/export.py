"""``airgap export``."""

from pathlib import Path

import click

from airgap import catalog, export, timestamps
from airgap.bundle.layout import Compression
from airgap.cli.common import (
    Output,
    airgap_command,
    ask_passphrase,
    key_option,
    on_side,
    passphrase_option,
)
from airgap.errors import UsageError
from airgap.files import exclusive
from airgap.home import Home
from airgap.outbox import Outbox, StoredBundle
from airgap.text import plural, size
from airgap.trust import store as trust_store


class _Size(click.ParamType[int]):
    """A size in bytes, or with KiB, MiB or GiB."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """See click.ParamType."""
        if isinstance(value, int):
            return value
        text = str(value).strip().lower()
        number = text.rstrip("kmgib ")
        factor = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}.get(text[len(number) :].strip()[:1])
        if not number.isdecimal() or factor is None or int(number) * factor < export.MIN_MAX_SIZE:
            self.fail(f"give at least {size(export.MIN_MAX_SIZE)}, for instance 700MiB", param, ctx)
        return int(number) * factor


@airgap_command("export")
@click.option("--to", required=True, type=click.Path(path_type=Path), help="Folder on the stick.")
@click.option("--again", is_flag=True, help="Write bundles again that no receipt has confirmed.")
@click.option(
    "--max-size",
    type=_Size(),
    default=export.DEFAULT_MAX_SIZE,
    show_default="2GiB",
    help="Largest file; more records give more bundles.",
)
@click.option(
    "--compression", type=click.Choice(["zstd", "none"]), default="zstd", show_default=True
)
@click.option("--force", is_flag=True, help="Replace files of the same name with other content.")
@key_option
@passphrase_option
def command(
    out: Output,
    home_path: Path,
    to: Path,
    max_size: int,
    compression: Compression,
    key_choice: str | None,
    passphrase_file: Path | None,
    *,
    again: bool,
    force: bool,
) -> None:
    """Put what waits in the outbox into signed bundles, and write them to a folder.

    A bundle stays in the home as well. One that never reached a medium is written by the next
    export; --again writes all that are not confirmed, byte for byte as before, for a stick that
    was lost. Nothing counts as sent until a receipt is applied.

    \b
    Example:
      airgap export --to /media/stick
    """
    home = on_side(home_path, "isolated")
    schemas = catalog.load()
    trust = trust_store.load(home.trust_path, schemas)
    if not to.is_dir():
        raise UsageError(
            "this is not a folder", where=str(to), hint="mount the medium, or make the folder first"
        )
    now = timestamps.system_clock()
    outbox = Outbox(home.outbox_path, home.name, schemas)
    try:
        with exclusive(home.path / "export.lock", "export"):
            made = []
            if outbox.has_waiting():
                key = home.private_key(key_choice, ask_passphrase(passphrase_file))
                made = export.make_bundles(
                    home,
                    outbox,
                    key,
                    trust,
                    schemas,
                    now,
                    compression=compression,
                    max_size=max_size,
                )
            chosen = [b for b in outbox.bundles() if _is_due(outbox, b, again=again)]
            paths = [
                export.write_bundle(home, outbox, bundle, to, now, force=force) for bundle in chosen
            ]
    finally:
        outbox.close()
    out.result(
        {
            "made": [
                {
                    "bundle_id": m.bundle.bundle_id,
                    "sequence": m.bundle.sequence,
                    "totals": m.totals.as_map(),
                    "period": m.period,
                    "size": m.size,
                }
                for m in made
            ],
            "written": [str(path) for path in paths],
        }
    )
    for one in made:
        period = f"{one.period['from']} .. {one.period['to']}" if one.period else "no period"
        out.say(f"Bundle {one.bundle.sequence} of {home.name}, {size(one.size)}, {period}")
        out.totals(one.totals)
    _say_end(out, home, paths, again=again)


def _is_due(outbox: Outbox, bundle: StoredBundle, *, again: bool) -> bool:
    if bundle.written_to is None:
        return True
    return again and outbox.outcomes(bundle).keys() != {"delivered"}


def _say_end(out: Output, home: Home, paths: list[Path], *, again: bool) -> None:
    if not paths:
        out.say(
            "Nothing to write: every bundle is confirmed."
            if again
            else "Nothing to write: no record waits. A bundle that got lost is written by --again."
        )
        return
    for path in paths:
        out.say(f"Wrote {path}, read back and compared")
    out.say(
        f"{plural(len(paths), 'file')} for {home.name}. "
        f"Next: carry to the workstation, and there: airgap import {paths[0].parent}"
    )
