"""What is mounted on this Linux machine, and which of it is a stick.

Everything is read from proc(5) ``mountinfo`` and from sysfs; nothing is opened on a medium.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

_MOUNTINFO = Path("/proc/self/mountinfo")
_SYSFS = Path("/sys")
_FOR_STICKS = (Path("/media"), Path("/run/media"))
_MAYBE_STICKS = (*_FOR_STICKS, Path("/mnt"))
_FAT = frozenset({"vfat", "msdos", "fuse.fusefat"})
_FAT_MOST = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system.

    Args:
        device: major and minor number, ``8:1``.
        point: where it is mounted.
        kind: the file system's type, as the kernel calls it.
        read_only: whether nothing can be written there.
    """

    device: str
    point: Path
    kind: str
    read_only: bool

    @property
    def largest_file(self) -> int | None:
        """Size in bytes of the largest file that the file system holds, where there is a bound.

        FAT: 4 GiB less one byte (Microsoft, FAT32 File System Specification, DIR_FileSize).
        """
        return _FAT_MOST if self.kind in _FAT else None


def parse(text: str) -> list[Mount]:
    """Return the mounts that the text of a ``mountinfo`` file lists, in its order.

    Lines that are not as proc(5) describes them are passed over.
    """
    found: list[Mount] = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, more = left.split(" "), right.split(" ")
        if len(fields) < 6 or len(more) < 3:
            continue
        read_only = "ro" in fields[5].split(",") or "ro" in more[2].split(",")
        found.append(Mount(fields[2], Path(_unescaped(fields[4])), more[0], read_only))
    return found


def of(path: Path, mounts: list[Mount]) -> Mount | None:
    """Return the mount that a path lies on, or None where none is known; later mounts hide earlier ones."""
    resolved = Path(os.path.realpath(path))
    best: Mount | None = None
    for mount in mounts:
        if resolved.is_relative_to(mount.point) and (
            best is None or len(mount.point.parts) >= len(best.point.parts)
        ):
            best = mount
    return best


def is_removable(mount: Mount, sysfs: Path = _SYSFS) -> bool:
    """Tell whether a mount is a stick: by its device, or by where desktops mount sticks.

    Args:
        mount: the mount.
        sysfs: where sysfs is.
    """
    if any(mount.point.is_relative_to(folder) for folder in _FOR_STICKS):
        return True
    device = sysfs / "dev" / "block" / mount.device
    real = Path(os.path.realpath(device))
    if re.search(r"/usb\d", str(real)):
        return True
    for place in (real, real.parent):
        try:
            if (place / "removable").read_text().strip() == "1":
                return True
        except OSError:
            continue
    return False


def is_left_empty(path: Path, mounts: list[Mount]) -> bool:
    """Tell whether a folder is where sticks are mounted, and none is: it lies on the root's file system."""
    resolved = Path(os.path.realpath(path))
    here = of(resolved, mounts)
    return (
        here is not None
        and here.point == Path("/")
        and any(resolved.is_relative_to(folder) for folder in _MAYBE_STICKS)
    )


def read() -> list[Mount]:
    """Return this machine's mounts; none where ``mountinfo`` can't be read."""
    try:
        return parse(_MOUNTINFO.read_text("utf-8", "surrogateescape"))
    except OSError:
        return []


def sticks() -> list[Mount]:
    """Return the removable media that are mounted, by where they are."""
    by_point = {mount.point: mount for mount in read() if is_removable(mount)}
    return [by_point[point] for point in sorted(by_point)]


def space(path: Path) -> tuple[int | None, int | None]:
    """Return a file system's size and what is free there, in bytes; None where the driver says nothing.

    Some drivers report a file system of no blocks. That says nothing about what is free.

    Raises:
        OSError: the medium does not answer.
    """
    status = os.statvfs(path)
    if status.f_blocks == 0:
        return None, None
    return status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize


def _unescaped(text: str) -> str:
    """Return a mount point as it is: blanks, tabs, line feeds and backslashes are octal in it."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
