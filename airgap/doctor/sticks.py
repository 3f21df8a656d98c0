"""Removable media that are mounted, and the folders on them that airgap.toml names."""

from collections.abc import Iterator
from pathlib import Path

from airgap import media, mounts
from airgap.doctor.findings import Finding, not_checked, ok, warning
from airgap.doctor.scene import Scene
from airgap.mounts import Mount
from airgap.text import printable, size

LEAST_SPACE = 16 * 1024**2
"""Free bytes on a stick below which even a small site's bundle may not fit."""
_NAMED = ("export.to", "import.receipt_to")


def look(scene: Scene) -> Iterator[Finding]:
    """Look at every stick that is mounted."""
    found = mounts.sticks(scene.mounts)
    for mount in found:
        try:
            _, free = mounts.space(mount.point)
        except OSError as error:
            yield warning(
                "media.sticks",
                f"the medium does not answer: {error.strerror or error}",
                where=printable(str(mount.point), 300),
                cure="unmount it, plug it in again, and mount it; if that fails, use another one",
            )
            continue
        yield stick(mount, free)
        yield from rests(mount.point)
    if not found:
        yield ok("media.sticks", "no removable medium is mounted")
    for folder in named(scene):
        if not any(folder == mount.point for mount in found):
            yield from rests(folder)
    yield from missing(scene)


def stick(mount: Mount, free: int | None) -> Finding:
    """Judge one stick.

    Args:
        mount: where it is mounted.
        free: free bytes, or None where its driver says nothing.
    """
    where = printable(str(mount.point), 300)
    if mount.read_only:
        return warning(
            "media.sticks",
            f"the medium is mounted read-only ({mount.kind})",
            where=where,
            expected="one that can be written to: bundles and receipts go there",
            cure="look at the stick's switch, or mount it again: mount -o remount,rw",
        )
    if free is not None and free < LEAST_SPACE:
        return warning(
            "media.sticks",
            f"only {size(free)} are free on the medium",
            where=where,
            expected=f"{size(LEAST_SPACE)} or more",
            cure="take away what was imported and is confirmed, or use another stick",
        )
    room = "free space not said" if free is None else f"{size(free)} free"
    most = f", files up to {size(mount.largest_file)}" if mount.largest_file else ""
    return ok("media.sticks", f"{mount.kind}, {room}{most}", where)


def rests(folder: Path) -> Iterator[Finding]:
    """Look for what interrupted runs left in a folder, and whether a medium is mounted there."""
    said = media.odd(folder)
    for line in said:
        yield warning(
            "media.left-over",
            line,
            where=printable(str(folder), 300),
            cure="mount the medium before export or import"
            if line.startswith("no medium")
            else "remove it, while no airgap writes to this medium",
        )
    if not said:
        yield ok("media.left-over", "nothing was left by a run that was cut off", str(folder))


def named(scene: Scene) -> list[Path]:
    """Return the folders for bundles and receipts that settings name, where they are."""
    return [folder for folder, _ in _folders(scene) if folder.is_dir()]


def missing(scene: Scene) -> Iterator[Finding]:
    """Say which folders that settings name are not there: perhaps no stick is plugged in."""
    for folder, path in _folders(scene):
        if not folder.is_dir():
            yield not_checked(
                "media.sticks",
                f"the folder that {path} names is not there: plug the stick in and mount it",
                printable(str(folder), 300),
            )


def _folders(scene: Scene) -> list[tuple[Path, str]]:
    """Return the folders for bundles and receipts that settings name, each with the setting."""
    return [
        (Path(setting.value), setting.path)
        for setting in scene.settings
        if setting.path in _NAMED and isinstance(setting.value, str)
    ]
