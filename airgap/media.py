"""What goes to a stick: a whole file or none; and what lies on one."""

import errno
import os
import re
import secrets
import stat
from contextlib import suppress
from hashlib import sha256
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from airgap import mounts
from airgap.errors import InputRefusedError, MediumError, UsageError
from airgap.files import refused, sync_folder
from airgap.quarantine import not_regular, require_space
from airgap.readback import digest
from airgap.text import plural, printable, size

_BLOCK = 1024**2
SUFFIXES = (".airgap", ".receipt", ".approval", ".trust", ".succession")
"""How names of files end that travel."""

MOST_FILES = 10_000
"""Most files of one folder, or of one command line; more than a site makes in 25 years of days."""
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_LEFT_OVER = re.compile(r"\..+\.[0-9a-f]{8}\.part", re.ASCII)


def place(
    source: Path | bytes,
    folder: Path,
    name: str,
    *,
    force: bool = False,
    device: int | None = None,
) -> Path:
    """Copy a finished file to a folder under a name, whole or not at all, and read it back.

    Written under a temporary name, synced, read back from the medium (past the system's cache where
    it allows that) and compared; only then given its name. What fails on the way leaves neither a
    file of that name nor a change to one that was there. A file of that name with the same content is
    left as it is, and so is every other file.

    An empty file of that name is replaced, in one step: it is what a cut-off run leaves of a name
    where the file system knows no better (see ``_give_name``), and nothing of it can be lost.

    Args:
        source: the file in the home, or what the file is to hold.
        folder: the folder on the medium; must exist.
        name: the file's name there.
        force: whether a file of that name with other content may be replaced.
        device: what ``require_medium`` said when the command began, or None.

    Returns:
        The path on the medium.

    Raises:
        UsageError: ``folder`` is not a folder.
        MediumError: the file is there with other content, or the medium refused.
    """
    here = require_medium(folder)
    _require_same(folder, here if device is None else device, here)
    target = folder / name
    length = len(source) if isinstance(source, bytes) else source.stat().st_size
    standing = _standing(target)
    if not standing or (force and standing != length):
        _require_room(length, folder)
    expected = sha256(source).hexdigest() if isinstance(source, bytes) else digest(source)
    if standing:
        if standing == length and digest(target) == expected:
            return target
        if not force:
            raise MediumError(
                f"{name} is there already, with other content",
                where=str(folder),
                hint="use another folder, or --force if that file may go",
            )
    temporary = folder / f".{name}.{secrets.token_hex(4)}.part"
    try:
        # Exclusive and never through a link: a stick may hold one under any name.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o644)
    except OSError as error:
        raise refused("written", target, error) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            _require_same(folder, here, folder.stat().st_dev)
            _copy(source, file)
        if digest(temporary) != expected:
            raise MediumError(
                f"{name} reads back differently from what was written",
                where=str(folder),
                expected=expected,
                hint="the medium is failing: use another one; the file is safe in the home",
            )
        _give_name(temporary, target, replace=force or standing == 0)
        sync_folder(folder)
    except OSError as error:
        _remove(temporary)
        raise refused("written", target, error) from None
    except BaseException:
        _remove(temporary)
        raise
    return target


def files(paths: list[Path], suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files to read: those named, and those with one of ``suffixes`` in named folders.

    Raises:
        UsageError: a path does not exist, or a folder holds no such file.
        InputRefusedError: there are too many, or a link on a stick leads to them.
    """
    found: list[Path] = []
    mounted = mounts.read()
    for path in paths:
        link = mounts.link_on_stick(path, mounted)
        if link is not None:
            raise not_regular(printable(str(path), 300), f"{printable(str(link), 300)} is a link")
        if path.is_dir():
            # A stick from Windows may hold it in capital letters.
            there = (
                p
                for p in path.iterdir()
                if p.name.lower().endswith(suffixes) and not p.name.startswith(".")
            )
            inside = sorted(islice(there, MOST_FILES + 1))
            if not inside:
                raise UsageError(
                    f"there is no {' or '.join(suffixes)} file in this folder",
                    where=printable(str(path), 300),
                    found=_instead(path, suffixes),
                    hint="if it is another stick than you thought: airgap media list shows what is on "
                    "which; subfolders are not searched: name the folder itself",
                )
            found.extend(inside)
        elif not os.path.lexists(path):
            raise UsageError(
                "there is no such file or folder",
                where=printable(str(path), 300),
                hint="check the path, and that the medium is mounted",
            )
        else:
            found.append(path)
    if len(found) > MOST_FILES:
        raise InputRefusedError(
            "there are too many files",
            where=printable(str(paths[0]), 300),
            expected=f"at most {MOST_FILES:,} at a time",
            found="more",
            hint="name the files of one source, or put them into several folders",
        )
    return found


def _instead(folder: Path, suffixes: tuple[str, ...]) -> str:
    """Return what lies in a folder that holds no such file, the first that helps: one level is looked at."""
    there = sorted(p for p in islice(folder.iterdir(), MOST_FILES) if not p.name.startswith("."))
    with suppress(OSError):
        for inner in (p for p in there if p.is_dir() and not p.is_symlink()):
            for one in islice(inner.iterdir(), MOST_FILES):
                if one.name.lower().endswith(suffixes):
                    return f"{printable(inner.name)}/{printable(one.name)}"
    ours = [p for p in there if p.name.lower().endswith(SUFFIXES)]
    shown = ", ".join(printable(p.name) for p in (ours or there)[:3])
    more = len(ours or there) - 3
    return f"{shown} and {more:,} more" if more > 0 else shown or "nothing"


def is_file(path: Path) -> bool:
    """Tell whether a regular file is there, and no link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def is_other(path: Path, content: bytes) -> bool:
    """Tell whether something is there that is not a file of this content, nor an empty one.

    Raises:
        MediumError: it can't be read.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise refused("read", path, error) from None
    if not stat.S_ISREG(status.st_mode) or status.st_size not in (0, len(content)):
        return True
    return status.st_size > 0 and digest(path) != sha256(content).hexdigest()


def largest_file(folder: Path) -> int | None:
    """Return the size in bytes of the largest file that a folder's file system holds, where it is known."""
    mount = mounts.of(folder, mounts.read())
    return None if mount is None else mount.largest_file


def require_medium(folder: Path) -> int:
    """Check before anything is made that a folder is there and can be written to.

    Returns:
        The number of its device (``st_dev``), by which it is known again.

    Raises:
        UsageError: it is not a folder.
        MediumError: its file system is read-only, or does not answer, or a link on it leads there.
    """
    try:
        status = folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        status = None
    except OSError as error:
        raise refused("written to", folder, error) from None
    if status is None or not stat.S_ISDIR(status.st_mode):
        raise UsageError(
            "this is not a folder",
            where=printable(str(folder), 300),
            hint="mount the medium, or make the folder first",
        )
    mounted = mounts.read()
    link = mounts.link_on_stick(folder, mounted)
    if link is not None:
        raise MediumError(
            "a link on the medium leads elsewhere",
            where=printable(str(link), 300),
            expected="a folder of the medium itself",
            found=printable(os.path.realpath(folder), 300),
            hint="look at what it is before you remove it; nothing was written",
        )
    mount = mounts.of(folder, mounted)
    if mount is not None and mount.read_only:
        raise MediumError(
            "the medium is read-only",
            where=printable(str(folder), 300),
            expected="a medium that can be written to",
            found=f"{mount.kind}, mounted read-only at {printable(str(mount.point), 300)}",
            hint="look at the stick's switch, or mount it again: mount -o remount,rw; nothing was written",
        )
    return status.st_dev


def odd(folder: Path) -> list[str]:
    """Return what a person should know about a folder on a medium: nothing is changed there.

    That no medium is mounted where one should be, and what interrupted runs left.
    """
    said: list[str] = []
    if mounts.is_left_empty(folder, mounts.read()):
        said.append(
            f"no medium is mounted at {printable(str(folder), 300)}: files there stay on this machine"
        )
    left: list[tuple[str, int]] = []
    with suppress(OSError):
        found = sorted(p for p in folder.iterdir() if _LEFT_OVER.fullmatch(p.name))
        left = [(printable(p.name, 300), p.lstat().st_size) for p in found]
    said.extend(
        f"{name} ({size(length)}) was left by a run that was cut off; it is no bundle, and can be removed"
        for name, length in left[:5]
    )
    if len(left) > 5:
        said.append(f"and {plural(len(left) - 5, 'more file')} like that")
    return said


def _require_room(length: int, folder: Path) -> None:
    """Check that a file of a size fits on a medium, as far as its driver says.

    Raises:
        MediumError: it does not.
    """
    most = largest_file(folder)
    if most is not None and length > most:
        raise MediumError(
            "the file is larger than this file system can hold",
            where=printable(str(folder), 300),
            expected=f"at most {size(most)} (FAT)",
            found=size(length),
            hint="use a stick with exFAT; bundles made from now on can be smaller: --max-size 2GiB",
        )
    require_space(
        folder,
        length,
        what="on the medium",
        hint="make room there, or name another stick, and run the command again; nothing is lost",
    )


def _standing(target: Path) -> int | None:
    """Return the size of the file that has a name already, or None where none has.

    Raises:
        MediumError: something of this name is there that is not a regular file.
    """
    try:
        status = target.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise MediumError(
            f"{target.name} is there already, and is not a regular file",
            where=str(target.parent),
            expected="a regular file, or nothing",
            hint="look at what it is before you remove it; a link would lead the bundle elsewhere",
        )
    return status.st_size


def _copy(source: Path | bytes, target: BinaryIO) -> None:
    with BytesIO(source) if isinstance(source, bytes) else source.open("rb") as reading:
        while block := reading.read(_BLOCK):
            target.write(block)
    target.flush()
    os.fsync(target.fileno())


def _require_same(folder: Path, before: int, now: int) -> None:
    """Check that the medium was not unmounted: its folder would still be there, on another device.

    Raises:
        MediumError: it was.
    """
    if before != now:
        raise MediumError(
            "the medium is no longer the one that the command began with",
            where=printable(str(folder), 300),
            hint="it was unmounted or changed: mount it, then run the command again; nothing is lost",
        )


def _remove(temporary: Path) -> None:
    """Remove what this run began, as far as the medium still lets it."""
    with suppress(OSError):
        temporary.unlink(missing_ok=True)


def _give_name(temporary: Path, target: Path, *, replace: bool) -> None:
    """Rename without replacing, by the best that the file system knows.

    The kernel's FAT and exFAT can rename so; where that is missing there may be hard links; drivers
    in user space have neither, and there the name is taken first, by an empty file.
    """
    if replace:
        temporary.replace(target)
        return
    if _renamed(temporary, target):
        return
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        try:
            temporary.replace(target)
        except OSError:
            if target.stat().st_size == 0:
                target.unlink()
            raise
    else:
        temporary.unlink()


def _renamed(old: Path, new: Path) -> bool:
    """Rename by renameat2(2) with RENAME_NOREPLACE; return False where it is not known.

    Raises:
        FileExistsError: the new name is taken.
        OSError: the file system refused.
    """
    import ctypes

    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), _RENAME_NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(new))
