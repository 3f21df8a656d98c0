"""``airgap media``: the sticks that are plugged in."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from airgap import mounts
from airgap.cli.common import Output, airgap_command
from airgap.errors import UsageError
from airgap.media import SUFFIXES
from airgap.mounts import Mount
from airgap.text import plural, printable, size


@click.group("media")
def command() -> None:
    """Show the sticks that are plugged in."""


@airgap_command("list", home=False)
def _list(out: Output) -> None:
    """Show the removable media that are mounted, and which of airgap's files are on them.

    \b
    Example:
      airgap media list
    """
    found = [_described(mount) for mount in mounts.sticks(mounts.read())]
    out.result({"media": found})
    if not found:
        out.say(
            "No removable medium is mounted. Next: plug one in and mount it, or name a folder with --to"
        )
        return
    out.table(
        ("mounted at", "file system", "size#", "free#", "writable", "files of airgap"),
        [
            (
                medium["path"],
                medium["file_system"],
                _size(medium["size"]),
                _size(medium["free"]),
                "yes" if medium["writable"] else "no",
                ", ".join(medium["files"][:3])
                + (f" and {len(medium['files']) - 3:,} more" if len(medium["files"]) > 3 else ""),
            )
            for medium in found
        ],
    )
    out.say(
        f"{plural(len(found), 'medium', 'media')}. Next: airgap export, or airgap import FOLDER"
    )


def only_stick(out: Output) -> Path:
    """Return the one removable medium that is mounted and can be written to, and say which it is.

    Raises:
        UsageError: there is none, or more than one: nobody guesses.
    """
    there = mounts.sticks(mounts.read())
    writable = [mount for mount in there if not mount.read_only]
    if len(writable) != 1:
        raise UsageError(
            "there is no stick to write to" if not writable else "there are several sticks",
            expected="--to FOLDER, or exactly one removable medium that can be written to",
            found=", ".join(_name(mount) for mount in there) or "no removable medium is mounted",
            hint="mount the stick, or name its folder: airgap export --to FOLDER; "
            "airgap media list shows what is plugged in",
        )
    out.say(f"To the only stick: {_name(writable[0])}")
    return writable[0].point


def _described(mount: Mount) -> dict[str, Any]:
    total: int | None = None
    free: int | None = None
    files: list[str] = []
    with suppress(OSError):
        total, free = mounts.space(mount.point)
        files = sorted(
            printable(p.name, 100)
            for p in mount.point.iterdir()
            if p.name.lower().endswith(SUFFIXES) and not p.name.startswith(".")
        )
    return {
        "path": str(mount.point),
        "file_system": mount.kind,
        "size": total,
        "free": free,
        "largest_file": mount.largest_file,
        "writable": not mount.read_only,
        "files": files,
    }


def _name(mount: Mount) -> str:
    return f"{printable(str(mount.point), 300)} ({mount.kind}{', read-only' if mount.read_only else ''})"


def _size(count: int | None) -> str:
    return "not said" if count is None else size(count)


command.add_command(_list)
