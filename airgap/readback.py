"""What is truly on a medium: files read past the system's memory of them."""

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from io import FileIO
from pathlib import Path

from airgap.files import refused

_BLOCK = 1024**2


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
