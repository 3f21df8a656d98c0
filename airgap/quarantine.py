"""What comes from a stick: a bounded copy, of a file that is opened once and read once."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, FileIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from airgap import mounts
from airgap.bundle import layout
from airgap.errors import DamagedError, InputRefusedError, MediumError
from airgap.files import refused
from airgap.limits import MAX_FILE_SIZE
from airgap.text import printable, size

_BLOCK = 1024**2


@contextmanager
def copied(path: Path, folder: Path, most: int = MAX_FILE_SIZE) -> Iterator[BinaryIO]:
    """Copy a file into a private folder and yield the copy; the medium is read once, and no more.

    The copy has no name, so nothing is left behind. Symbolic links, devices, sockets and pipes
    are not opened; a file that grows while it is read is refused, and so is a large one that does
    not begin as airgap's files do.

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
    with _opened(path, most) as (medium, length), TemporaryFile(dir=folder) as copy:
        require_space(
            folder,
            length,
            what="to copy the file into quarantine",
            hint="make room on this machine's disk, and run the command again; nothing is lost",
        )
        try:
            left = length + 1
            while left and (block := medium.read(min(_BLOCK, left))):
                first = left > length
                if (
                    first
                    and most == MAX_FILE_SIZE
                    and len(layout.PREAMBLE) <= len(block) < left - 1
                ):
                    # More is to come: a sparse file of 8 GiB is not worth copying to find it is none.
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
                expected=f"{length} bytes",
                hint="wait until nothing writes to the medium, then import it again",
            )
        copy.seek(0)
        yield copy


@contextmanager
def in_place(path: Path) -> Iterator[BinaryIO]:
    """Yield a file as it lies on its medium, to be looked at and not acted on.

    Raises:
        InputRefusedError: not a regular file, or larger than any of airgap's.
        MediumError: it can't be read.
    """
    with _opened(path, MAX_FILE_SIZE) as (medium, _):
        try:
            yield BufferedReader(medium)
        except OSError as error:
            raise refused("read", path, error) from None


@contextmanager
def _opened(path: Path, most: int) -> Iterator[tuple[FileIO, int]]:
    """Open a regular file for ``copied`` and ``in_place``; yield it and its size."""
    shown = printable(str(path), 300)
    try:
        # Looked at before it is opened: to open a device can be to act on it.
        _require_regular(path.lstat(), shown)
        source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise refused("read", path, error) from None
    with FileIO(source, "rb") as medium:
        status = os.fstat(source)
        _require_regular(status, shown)
        if status.st_size > most:
            raise InputRefusedError(
                "the file is too large",
                where=shown,
                expected=f"at most {most} bytes",
                found=f"{status.st_size} bytes",
                hint="no file of airgap's is that large: see that it is the right one",
            )
        yield medium, status.st_size


def require_space(folder: Path, length: int, *, what: str, hint: str) -> None:
    """Check that a folder's file system says it has room, where it says anything.

    Args:
        folder: where something is to be written.
        length: bytes that are needed.
        what: what can't be done without, for the message.
        hint: what to do.

    Raises:
        MediumError: there is not enough, or the folder can't be asked.
    """
    try:
        _, free = mounts.space(folder)
    except OSError as error:
        raise refused("written", folder, error) from None
    if free is not None and free < length:
        raise MediumError(
            f"there is not enough space {what}",
            where=printable(str(folder), 300),
            expected=f"{size(length)} free",
            found=size(free),
            hint=hint,
        )


def _require_regular(status: os.stat_result, where: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        found = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "a folder, device or pipe"
        raise not_regular(where, found)


def not_regular(where: str, found: str) -> InputRefusedError:
    """Return the refusal of what is no file by itself."""
    return InputRefusedError(
        "this is not a regular file",
        where=where,
        expected="a regular file",
        found=found,
        hint="name the file itself: links and devices on a medium are not followed",
    )
