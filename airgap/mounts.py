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
_SYSTEM = frozenset(map(Path, ("/", "/boot", "/boot/efi", "/efi", "/home", "/srv", "/usr", "/var")))
"""What a system on a USB disk mounts of that disk; nobody means these by "the stick"."""
_NO_FILES = frozenset({"autofs"})
"""Types that only stand for what will be mounted there."""
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
    for line in text.split("\n"):
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
    """Tell whether a mount is a stick: by where desktops mount sticks, or by its device.

    Args:
        mount: the mount.
        sysfs: where sysfs is (sysfs(5)). A device is a stick's where a disk below it, also below
            encryption, has the flag ``removable`` or hangs on USB.
    """
    if mount.kind in _NO_FILES or mount.point in _SYSTEM:
        return False
    if any(folder in mount.point.parents for folder in _FOR_STICKS):
        return True
    return any(_is_pluggable(disk) for disk in disks(mount.device, sysfs))


def disks(device: str, sysfs: Path = _SYSFS) -> set[Path]:
    """Return the folders in sysfs of the whole disks that a device lies on; none where it has none.

    Args:
        device: major and minor number, ``8:1``.
        sysfs: where sysfs is.
    """
    return _below(Path(os.path.realpath(sysfs / "dev" / "block" / device)))


def _below(device: Path) -> set[Path]:
    if not device.is_dir():
        return set()
    slaves = device / "slaves"
    under = [*slaves.iterdir()] if slaves.is_dir() else []
    if under:
        return {disk for one in under for disk in _below(Path(os.path.realpath(one)))}
    return {device.parent if (device / "partition").exists() else device}


def _is_pluggable(disk: Path) -> bool:
    if re.search(r"/usb\d", str(disk)):
        return True
    try:
        return (disk / "removable").read_text().strip() == "1"
    except OSError:
        return False


def is_left_empty(path: Path, mounts: list[Mount]) -> bool:
    """Tell whether a folder is where sticks are mounted, and none is: files there stay on this machine.

    It lies then on the root's file system, or, under /run, in memory.
    """
    resolved = Path(os.path.realpath(path))
    here = of(resolved, mounts)
    if here is None or not any(folder in resolved.parents for folder in _MAYBE_STICKS):
        return False
    # Many mount a stick at /mnt itself; nobody does at /media or /run/media.
    return here.point != Path("/mnt") and not any(
        folder in here.point.parents for folder in _MAYBE_STICKS
    )


def read() -> list[Mount]:
    """Return this machine's mounts; none where ``mountinfo`` can't be read."""
    try:
        return parse(_MOUNTINFO.read_text("utf-8", "surrogateescape"))
    except OSError:
        return []


def sticks(mounts: list[Mount], sysfs: Path = _SYSFS) -> list[Mount]:
    """Return the removable media among mounts, by where they are mounted.

    A mount point that is mounted over counts as what lies on top. Files that a container mounts one
    by one are no media, and neither is another part of the disk that the system itself runs from,
    unless it is mounted where desktops mount sticks.
    """
    by_point = {mount.point: mount for mount in mounts}
    root = by_point.get(Path("/"))
    own = disks(root.device, sysfs) if root is not None else set()
    return [
        by_point[point]
        for point in sorted(by_point)
        if is_removable(by_point[point], sysfs)
        and (
            any(folder in point.parents for folder in _FOR_STICKS)
            or not disks(by_point[point].device, sysfs) & own
        )
        and not point.is_file()
    ]


def link_on_stick(path: Path, mounts: list[Mount], sysfs: Path = _SYSFS) -> Path | None:
    """Return the first link among a path's folders that lies on a stick, or None.

    Such a link leads wherever the stick's maker wants. Links of this machine are the operator's own.
    """
    absolute = path.absolute()
    for one in (*reversed(absolute.parents), *([absolute] if absolute.is_dir() else [])):
        if one.is_symlink():
            mount = of(one.parent, mounts)
            if mount is not None and is_removable(mount, sysfs):
                return one
    return None


def space(path: Path) -> tuple[int | None, int | None]:
    """Return a file system's size and what is free there, in bytes; None where the driver says nothing.

    Some drivers report a file system of no blocks. That says nothing about what is free.

    Raises:
        OSError: the medium does not answer.
    """
    return said(os.statvfs(path))


def said(status: os.statvfs_result) -> tuple[int | None, int | None]:
    """Return size and free space in bytes as a driver said them; see ``space``."""
    if status.f_blocks == 0:
        return None, None
    return status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize


def _unescaped(text: str) -> str:
    """Return a mount point as it is: blanks, tabs, line feeds and backslashes are octal in it."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
