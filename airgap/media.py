"""What comes from and goes to a stick: a bounded copy in, a whole file out."""

import errno
import fcntl
import mmap
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from io import FileIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from airgap import mounts
from airgap.bundle import layout
from airgap.errors import DamagedError, InputRefusedError, MediumError, UsageError
from airgap.files import refused, sync_folder
from airgap.limits import MAX_FILE_SIZE
from airgap.text import plural, printable, size

_BLOCK = 1024**2
_MOST_FILES = 10_000
_LEFT_OVER = re.compile(r"\..+\.[0-9a-f]{8}\.part", re.ASCII)


@contextmanager
def quarantine(path: Path, folder: Path, most: int = MAX_FILE_SIZE) -> Iterator[BinaryIO]:
    """Copy a file into a private folder and yield the copy; the medium is read once, and no more.

    The copy has no name, so nothing is left behind. Symbolic links, devices and pipes are not
    opened; a file that grows while it is read is refused, and so is a large one that does not begin as
    airgap's files do.

    Args:
        path: the file on the medium.
        folder: private folder on this machine's own disk.
        most: largest size in bytes.

    Raises:
        InputRefusedError: not a regular file, or larger than ``most``.
        DamagedError: the file changed while it was copied, or is large and none of airgap's.
        MediumError: it can't be read, or the copy can't be written.
    """
    shown = printable(str(path), 300)
    try:
        source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if path.is_symlink():
            raise _not_regular(shown, "a symbolic link") from None
        raise refused("read", path, error) from None
    status = os.fstat(source)
    if not stat.S_ISREG(status.st_mode):
        os.close(source)
        raise _not_regular(shown, "a folder, device or pipe")
    with os.fdopen(source, "rb", buffering=0) as medium, TemporaryFile(dir=folder) as copy:
        if status.st_size > most:
            raise InputRefusedError(
                "the file is too large",
                where=shown,
                expected=f"at most {most} bytes",
                found=f"{status.st_size} bytes",
            )
        _require_space(folder, status.st_size, "quarantine")
        try:
            left = status.st_size + 1
            while left and (block := medium.read(min(_BLOCK, left))):
                if most == MAX_FILE_SIZE and left == status.st_size + 1 and len(block) == _BLOCK:
                    layout.check_preamble(block[: len(layout.PREAMBLE)], where=shown)
                copy.write(block)
                left -= len(block)
            copy.flush()
        except OSError as error:
            raise refused("copied", path, error) from None
        if left != 1:
            raise DamagedError(
                "the file changed while it was copied",
                where=shown,
                expected=f"{status.st_size} bytes",
                hint="wait until nothing writes to the medium, then import it again",
            )
        copy.seek(0)
        yield copy


def place(source: Path, folder: Path, name: str, *, force: bool = False) -> Path:
    """Copy a finished file to a folder under a name, whole or not at all, and read it back.

    Written under a temporary name, synced, given its name, read back from the medium (past the
    system's cache where it allows that) and compared. A file of that name with the same content is
    left as it is, and so is every other file.

    Args:
        source: the file in the home.
        folder: the folder on the medium; must exist.
        name: the file's name there.
        force: whether a file of that name with other content may be replaced.

    Returns:
        The path on the medium.

    Raises:
        UsageError: ``folder`` is not a folder.
        MediumError: the file is there with other content, or the medium refused.
    """
    require_medium(folder)
    target = folder / name
    expected = digest(source)
    standing = _standing(target)
    if standing:
        if digest(target) == expected:
            return target
        if not force:
            raise MediumError(
                f"{name} is there already, with other content",
                where=str(folder),
                hint="use another folder, or --force if that file may go",
            )
    _require_room(source.stat().st_size, folder)
    temporary = folder / f".{name}.{secrets.token_hex(4)}.part"
    try:
        _copy(source, temporary)
        # An empty file is what a crash left of a name (see _give_name): it may be replaced.
        _give_name(temporary, target, replace=force or standing == 0)
        sync_folder(folder)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise refused("written", target, error) from None
    if digest(target) != expected:
        raise MediumError(
            f"{name} reads back differently from what was written",
            where=str(folder),
            expected=expected,
            hint="the medium is failing: use another one; the bundle is safe in the home",
        )
    return target


def files(paths: list[Path], suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files to read: those named, and those with one of ``suffixes`` in named folders.

    Raises:
        UsageError: a path does not exist, or a folder holds no such file.
        InputRefusedError: there are thousands.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(
                p
                for p in path.iterdir()
                if p.name.endswith(suffixes) and not p.name.startswith(".")
            )
            if not inside:
                raise UsageError(
                    f"there is no {' or '.join(suffixes)} file in this folder",
                    where=printable(str(path), 300),
                    hint="name the folder or the file that holds it; subfolders are not searched",
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
    if len(found) > _MOST_FILES:
        raise InputRefusedError(
            "there are too many files",
            where=printable(str(paths[0]), 300),
            expected=f"at most {_MOST_FILES:,} at a time",
            found=f"{len(found):,}",
            hint="name the files of one source, or put them into several folders",
        )
    return found


def largest_file(folder: Path) -> int | None:
    """Return the size in bytes of the largest file that a folder's file system holds, where it is known."""
    mount = mounts.of(folder, mounts.read())
    return None if mount is None else mount.largest_file


def require_medium(folder: Path) -> None:
    """Check before anything is made that a folder is there and can be written to.

    Raises:
        UsageError: it is not a folder.
        MediumError: its file system is read-only.
    """
    if not folder.is_dir():
        raise UsageError(
            "this is not a folder",
            where=printable(str(folder), 300),
            hint="mount the medium, or make the folder first",
        )
    mount = mounts.of(folder, mounts.read())
    if mount is not None and mount.read_only:
        raise MediumError(
            "the medium is read-only",
            where=printable(str(folder), 300),
            expected="a medium that can be written to",
            found=f"{mount.kind}, mounted read-only at {printable(str(mount.point), 300)}",
            hint="look at the stick's switch, or mount it again: mount -o remount,rw; nothing was written",
        )


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
    _require_space(folder, length, "the medium")


def _require_space(folder: Path, length: int, what: str) -> None:
    try:
        _, free = mounts.space(folder)
    except OSError as error:
        raise refused("written", folder, error) from None
    if free is not None and free < length:
        raise MediumError(
            f"there is not enough space on {what}"
            if what == "the medium"
            else f"there is not enough space to copy the file into {what}",
            where=printable(str(folder), 300),
            expected=f"{size(length)} free",
            found=size(free),
            hint="make room, or use another one; nothing is lost",
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


def _copy(source: Path, target: Path) -> None:
    # Exclusive and never through a link: a stick may hold one under any name.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with source.open("rb") as reading, os.fdopen(os.open(target, flags, 0o644), "wb") as writing:
        while block := reading.read(_BLOCK):
            writing.write(block)
        writing.flush()
        os.fsync(writing.fileno())


def _give_name(temporary: Path, target: Path, *, replace: bool) -> None:
    """Rename without replacing: by a hard link, or where there are none by an exclusive name."""
    if replace:
        temporary.replace(target)
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
            target.unlink()
            raise
    else:
        temporary.unlink()


def digest(path: Path) -> str:
    """Return a file's SHA-256, read from the medium and not from memory where the system allows.

    Returns:
        64 hexadecimal digits.

    Raises:
        MediumError: it can't be read, or is a link.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            found = sha256()
            for block in _blocks(file):
                found.update(block)
    except OSError as error:
        raise refused("read", path, error) from None
    return found.hexdigest()


def _blocks(file: FileIO) -> Iterator[memoryview]:
    """Yield a file's content, read from the medium and not from memory where the system allows.

    O_DIRECT (open(2)) wants an aligned buffer, and some file systems refuse it: then the cache is
    dropped first, as far as posix_fadvise(2) does.
    """
    descriptor = file.fileno()
    with suppress(OSError):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    with mmap.mmap(-1, _BLOCK) as buffer, memoryview(buffer) as view:
        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
        while True:
            try:
                count = file.readinto(view)
            except OSError as error:
                if (
                    error.errno != errno.EINVAL
                    or not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT
                ):
                    raise
                fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
                continue
            if not count:
                return
            with view[:count] as part:
                yield part


def _not_regular(where: str, found: str) -> InputRefusedError:
    return InputRefusedError(
        "this is not a regular file", where=where, expected="a regular file", found=found
    )
