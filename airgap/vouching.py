"""Chunks decoded, checked and added up by a process of its own, while the bundle is being written.

What is written is verified before the outbox stores that it exists, and most of that is looking into the
records. It needs their chunks and the schemas, no key, no trust store and no outbox: so a second process
does it meanwhile, on a second core. It is a new program and no fork, and inherits neither open files nor
the environment's secrets. It gets each chunk as it stands before it is sealed, and at the end answers with
their digests and with what all records add up to.

It only ever vouches. Where something is odd, or the process ends early, whatever the reason, there is no
answer; then the whole file is verified as if there had been no such process. And an answer counts only
for chunks that have the same digests in the file, which verification reads and checks itself.
"""

import os
import struct
import subprocess
import sys
from contextlib import suppress
from hashlib import sha256
from typing import BinaryIO, Self

import msgpack

from airgap import __version__, catalog
from airgap.blockwise import Blockwise
from airgap.bundle.blocks import decode_blocks, expand
from airgap.bundle.layout import Compression
from airgap.contents import Chunk, Contents, Vouched
from airgap.errors import AirgapError
from airgap.limits import MAX_CHUNK_SIZE

WORTH_IT = 20_000
"""Records from which on it is worth starting a process, which takes as long as some 10,000 of them."""
_HEAD = struct.Struct(">III")
"""Before each chunk: its size, its size after decompression, its records. All 0: there are no more."""
_INHERITED = ("PATH", "HOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")


class Voucher:
    """The process that vouches, seen from outside; a context manager that ends it.

    Args:
        compression: of the chunks.
    """

    def __init__(self, compression: Compression) -> None:
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        # The same code as here, wherever it comes from, and nothing from the folder that is the present one.
        environment["PYTHONPATH"] = os.pathsep.join(filter(os.path.isabs, sys.path))
        self._process: subprocess.Popen[bytes] | None = None
        with suppress(OSError):
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", "airgap.vouching", __version__, compression],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=environment,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def show(self, data: bytes, expanded: int, records: int) -> None:
        """Show the next chunk.

        Args:
            data: the chunk before it is sealed.
            expanded: bytes after decompression.
            records: how many it holds.
        """
        self._write(_HEAD.pack(len(data), expanded, records) + data)

    def answer(self) -> Vouched | None:
        """Return what was seen in all chunks that were shown, or None where that has to be looked for."""
        self._write(_HEAD.pack(0, 0, 0))
        process = self._process
        if process is None:
            return None
        said, _ = process.communicate()
        if process.returncode or not said:
            return None
        # What a host's own start-up code wrote there (sitecustomize) is no answer.
        with suppress(msgpack.UnpackException, ValueError, TypeError):
            chunks, contents = msgpack.unpackb(said, raw=False)
            return Vouched([tuple(chunk) for chunk in chunks], Contents.of_list(contents))
        return None

    def _write(self, data: bytes) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except OSError:
            self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with suppress(OSError):
                stream.close()
        process.wait()


def can_help() -> bool:
    """Tell whether there is a second core for it."""
    return bool(sys.executable) and len(os.sched_getaffinity(0)) > 1


def vouch(source: BinaryIO, compression: Compression) -> bytes | None:
    """Return the answer about chunks, or None where one can't be vouched for.

    Args:
        source: where they come from, each with its head.
        compression: of the chunks.
    """
    contents, blockwise = Contents(), Blockwise(catalog.load())
    chunks: list[Chunk] = []
    while len(head := source.read(_HEAD.size)) == _HEAD.size:
        size, expanded, records = _HEAD.unpack(head)
        if not size:
            packed: bytes = msgpack.packb((chunks, contents.to_list()))
            return packed
        data = source.read(size)
        if len(data) != size or max(size, expanded) > MAX_CHUNK_SIZE:
            return None
        opened = expand(data, expanded, compression, where="a chunk")
        for block in decode_blocks(opened, records, where="a chunk"):
            if not (block.is_exact and blockwise.add(block.elements, contents)):
                return None
        chunks.append((sha256(data).digest(), expanded, records))
    return None


def main() -> None:
    """Answer about what comes from standard input; exit status 1 where there is no answer."""
    version, compression = sys.argv[1:]
    said = None
    if version == __version__:
        with suppress(AirgapError):
            said = vouch(sys.stdin.buffer, "zstd" if compression == "zstd" else "none")
    if said is None:
        raise SystemExit(1)
    sys.stdout.buffer.write(said)


if __name__ == "__main__":
    main()
