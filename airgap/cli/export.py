"""``airgap export``."""

import shlex
from datetime import datetime
from pathlib import Path

import click

from airgap import catalog, export, exporting, media, timestamps, unsealing
from airgap.bundle.layout import Compression
from airgap.cli import completing
from airgap.cli.common import (
    Output,
    airgap_command,
    ask_passphrase,
    on_side,
    passphrase_option,
)
from airgap.cli.media import only_stick
from airgap.cli.types import Period, Size
from airgap.errors import UsageError
from airgap.export import Made
from airgap.exporting import Exported, Order
from airgap.findings import as_json
from airgap.home import Home
from airgap.text import plural, size
from airgap.trust.keys import fingerprint


@airgap_command("export", audited=True)
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    show_default="the one stick that is mounted",
    help="Folder on the stick.",
)
@click.option("--again", is_flag=True, help="Write bundles again that no receipt has confirmed.")
@click.option(
    "--sign-again",
    is_flag=True,
    help="With --again: sign them with another key, after the old one was lost or revoked.",
)
@click.option(
    "--max-size",
    type=Size(),
    default=export.DEFAULT_MAX_SIZE,
    show_default="2GiB",
    help="Largest file, as far as the stick holds such; more records give more bundles.",
)
@click.option(
    "--compression",
    type=click.Choice(["zstd", "none"]),
    default="zstd",
    show_default=True,
    help="How records are compressed.",
)
@click.option(
    "--no-usage",
    type=Period(),
    metavar="FROM..TO",
    help="Declare, signed, that there was nothing to report in this time (UTC).",
)
@click.option(
    "--of",
    "kinds",
    multiple=True,
    metavar="KIND",
    shell_complete=completing.kinds,
    help="With --no-usage: only this kind.",
)
@click.option(
    "--seal-to",
    multiple=True,
    shell_complete=completing.recipients,
    metavar="RECIPIENT",
    help="Encrypt new bundles to a key of `airgap recipient list`, by name or fingerprint; may be "
    "repeated.",
)
@click.option("--force", is_flag=True, help="Replace files of the same name with other content.")
@click.option("--no-note", is_flag=True, help="Write no note for the carrier beside a bundle.")
@click.option("--message-in-bundle", is_flag=True, help="Put --message into the bundles as well.")
@click.option(
    "--backdated",
    is_flag=True,
    help="The clock was wrong when the last bundle was made; the importer must accept it too.",
)
@click.option(
    "--key",
    "key_choices",
    multiple=True,
    shell_complete=completing.keys,
    help="Key to sign with: a name from `airgap key list`, or a key file; may be repeated.",
)
@passphrase_option
def command(
    out: Output,
    home_path: Path,
    to: Path | None,
    max_size: int,
    compression: Compression,
    key_choices: tuple[str, ...],
    passphrase_file: Path | None,
    no_usage: tuple[datetime, datetime] | None,
    kinds: tuple[str, ...],
    seal_to: tuple[str, ...],
    *,
    again: bool,
    sign_again: bool,
    force: bool,
    no_note: bool,
    message_in_bundle: bool,
    backdated: bool,
) -> None:
    """Put what waits in the outbox into signed bundles, and write them to a folder.

    A bundle stays in the home as well. One that never reached a medium is written by the next
    export; --again writes all that are not confirmed, byte for byte as before, for a stick that
    was lost. Nothing counts as sent until a receipt is applied. --no-usage adds an empty bundle
    that declares a time without usage, so that a quiet site is not taken for a missing one.
    --seal-to encrypts the records of new bundles; the manifest with source, period and totals stays
    readable.
    Without --to, the one stick that is mounted is written to; with none or two of them, nothing is.
    A note for the carrier goes beside each bundle; `contact` in airgap.toml is named there.

    \b
    Example:
      airgap export --to /media/stick
      airgap export
      airgap export --to /media/stick --seal-to relay-1
      airgap export --to /media/stick --no-usage 2026-03-01..2026-03-04
    """
    home = on_side(home_path, "isolated")
    folder, device = _medium(out, to)
    order = Order(
        folder,
        ask_passphrase(passphrase_file),
        device,
        again=again,
        sign_again=sign_again,
        max_size=max_size,
        compression=compression,
        no_usage=no_usage,
        kinds=kinds,
        seal_to=seal_to,
        message=_words(out, wanted=message_in_bundle),
        force=force,
        note=not no_note,
        backdated=backdated,
        keys=key_choices,
        aside=True,
    )
    done = exporting.run(home, catalog.load(), order, timestamps.system_clock())
    _say_in_the_way(out, done)
    _finish(out, home, done, again=again)


def _medium(out: Output, to: Path | None) -> tuple[Path, int]:
    """Return the folder to write to and its device, and say what a person should know about it."""
    folder = to or only_stick(out)
    device = media.require_medium(folder)
    for text in media.odd(folder):
        out.warn(text)
    return folder, device


def _say_in_the_way(out: Output, done: Exported) -> None:
    for one in done.written:
        if one.in_the_way is not None:
            out.warn(
                f"{one.in_the_way} is another file, and was left as it is; it is not this bundle's note "
                "(--force replaces it)"
            )


def _words(out: Output, *, wanted: bool) -> str | None:
    """Return what the bundles are to say."""
    if wanted and out.message is None:
        raise UsageError("there is no message to put into the bundles", hint="give --message TEXT")
    return out.message if wanted else None


def _finish(out: Output, home: Home, done: Exported, *, again: bool) -> None:
    out.result(
        {
            "made": [
                {
                    "bundle_id": m.bundle.bundle_id,
                    "sequence": m.bundle.sequence,
                    "totals": m.totals.as_map(),
                    "period": m.period,
                    "no_usage": m.no_usage,
                    "size": m.size,
                    "sealed_to": list(m.sealed_to),
                }
                for m in done.made
            ],
            "written": [str(path) for path in done.paths],
            "findings": as_json(done.findings),
        }
    )
    for one in done.made:
        _say_made(out, home, one)
    out.findings(done.findings)
    _say_end(out, home, done.paths, again=again)


def _say_made(out: Output, home: Home, one: Made) -> None:
    title = f"Bundle {one.bundle.sequence} of {home.name}, {size(one.size)}"
    if one.no_usage:
        of = f" of {', '.join(one.no_usage['kinds'])}" if one.no_usage["kinds"] else ""
        out.say(f"{title}: declares no usage{of} {one.no_usage['from']} .. {one.no_usage['to']}")
        return
    period = f"{one.period['from']} .. {one.period['to']}" if one.period else "no period"
    out.say(f"{title}, {period}")
    names = unsealing.names(home) if one.sealed_to else {}
    for key_id in one.sealed_to:
        out.say(f"Sealed to {fingerprint(key_id)} ({names[key_id]})")
    out.totals(one.totals)


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
        f"Next: carry to the workstation, and there: airgap import {shlex.quote(str(paths[0].parent))}"
    )
