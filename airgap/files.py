"""Files in a home: written whole or not at all, and durable when the call returns."""

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from airgap.errors import MediumError, UsageError
from airgap.text import printable


def write_atomically(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file so that after a crash the old content or the new one is there, never half.

    Raises:
        MediumError: the file system refused.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise refused("written", path, error) from None


def make_folder(folder: Path, hint: str) -> None:
    """Make a folder that was asked for, and those above it, where they are not there.

    Args:
        folder: the folder.
        hint: what to do where that fails.

    Raises:
        UsageError: it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the folder can't be made: {error.strerror}",
            where=printable(str(folder), 300),
            hint=hint,
        ) from None


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Yield a stream to write and read; it is the file ``path``, durable, only when all went well.

    Raises:
        MediumError: the file system refused.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("w+b") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise refused("written", path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable; does nothing where folders can't be synced."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def refused(done: str, path: Path, error: OSError) -> MediumError:
    """Return the error for a file that could not be ``done`` (written, read)."""
    return MediumError(
        f"{printable(path.name, 300)} can't be {done}: {error.strerror or error}",
        where=printable(str(path.parent), 300),
        hint="check space, permissions and that the medium is still there, then run the command again",
    )


def is_held(path: Path) -> bool:
    """Tell whether a process holds a lock file."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file; a second process is refused instead of waiting.

    Raises:
        UsageError: another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"another airgap {what} is running on this home",
                where=str(path.parent),
                hint="wait for it to end, then run the command again",
            ) from None
        yield
    finally:
        os.close(descriptor)
