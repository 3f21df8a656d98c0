"""What comes from and goes to a stick: a bounded copy in, a whole file out."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from airgap.errors import DamagedError, InputRefusedError, MediumError, UsageError
from airgap.files import refused, sync_folder
from airgap.limits import MAX_FILE_SIZE
from airgap.text import printable

_BLOCK = 1024**2


@contextmanager
def quarantine(path: Path, folder: Path, most: int = MAX_FILE_SIZE) -> Iterator[BinaryIO]:
    """Copy a file into a private folder and yield the copy; the medium is read once, and no more.

    The copy has no name, so nothing is left behind. Symbolic links, devices and pipes are not
    opened; a file that grows while it is read is refused.

    Args:
        path: the file on the medium.
        folder: private folder on this machine's own disk.
        most: largest size in bytes.

    Raises:
        InputRefusedError: not a regular file, or larger than ``most``.
        DamagedError: the file changed while it was copied.
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
        try:
            left = status.st_size + 1
            while left and (block := medium.read(min(_BLOCK, left))):
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

    Written under a temporary name, synced, given its name, read back from the medium and
    compared. A file of that name with the same content is left as it is.

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
    if not folder.is_dir():
        raise UsageError(
            "this is not a folder",
            where=printable(str(folder), 300),
            hint="mount the medium, or make the folder first",
        )
    target = folder / name
    expected = _digest(source)
    if _is_taken(target):
        if _digest(target) == expected:
            return target
        if not force:
            raise MediumError(
                f"{name} is there already, with other content",
                where=str(folder),
                hint="use another folder, or --force if that file may go",
            )
    temporary = folder / f".{name}.{secrets.token_hex(4)}.part"
    try:
        _copy(source, temporary)
        _give_name(temporary, target, force=force)
        sync_folder(folder)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise refused("written", target, error) from None
    if _digest(target) != expected:
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
    return found


def _is_taken(target: Path) -> bool:
    """Tell whether a file of this name is there; an empty one is what a crash left of a name.

    Raises:
        MediumError: something of this name is there that is not a regular file.
    """
    try:
        status = target.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(status.st_mode):
        raise MediumError(
            f"{target.name} is there already, and is not a regular file",
            where=str(target.parent),
            expected="a regular file, or nothing",
            hint="look at what it is before you remove it; a link would lead the bundle elsewhere",
        )
    if status.st_size == 0:
        target.unlink()
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    # Exclusive and never through a link: a stick may hold one under any name.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with source.open("rb") as reading, os.fdopen(os.open(target, flags, 0o644), "wb") as writing:
        while block := reading.read(_BLOCK):
            writing.write(block)
        writing.flush()
        os.fsync(writing.fileno())


def _give_name(temporary: Path, target: Path, *, force: bool) -> None:
    """Rename without replacing: by a hard link, or where there are none by an exclusive name."""
    if force:
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


def _digest(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            with suppress(OSError, AttributeError):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            digest = sha256()
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise refused("read", path, error) from None
    return digest.hexdigest()


def _not_regular(where: str, found: str) -> InputRefusedError:
    return InputRefusedError(
        "this is not a regular file", where=where, expected="a regular file", found=found
    )
