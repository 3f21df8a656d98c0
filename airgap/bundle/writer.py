"""Write a bundle or a receipt in one pass with bounded memory."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, BinaryIO

import zstandard

from airgap import limits
from airgap.bundle import codec, layout
from airgap.bundle.envelope import PAYLOAD_TYPES, Envelope, Signature
from airgap.bundle.layout import Header
from airgap.bundle.sealing import TAG_SIZE, FileKey
from airgap.catalog import JsonObject
from airgap.errors import InputRefusedError

Signer = Callable[[bytes], Signature]
"""Signs a message; carries the private key, which the format never sees."""

_ZSTD_LEVEL = 3


class Writer:
    """Writes one file: construct, ``add`` elements, ``finish`` with the manifest and a signer.

    Identical elements, header, manifest fields, file key and Ed25519 key give identical bytes, as
    long as the zstd library is the same; with compression ``none`` always.

    Args:
        stream: where the file goes; only written to, front to back.
        header: the header.
        file_key: the key that the header's sealing tells to the recipients; used for no other file.
            Exactly for a header that seals, and then for at least one element.
        show: told of each chunk before it is sealed: the chunk, its size before compression, and how many
            elements it holds.
    """

    def __init__(
        self,
        stream: BinaryIO,
        header: Header,
        file_key: FileKey | None = None,
        show: Callable[[bytes, int, int], None] | None = None,
    ) -> None:
        if (header.sealing is None) != (file_key is None):
            raise ValueError("a file key goes with a header that seals")
        self._stream = stream
        self._header = header
        self._file_key = file_key
        self._show = show
        start = layout.PREAMBLE + header.encode()
        stream.write(start)
        self._header_digest = sha256(start).hexdigest()
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._chunks: list[JsonObject] = []
        self.size = len(start)
        """Bytes written so far; what waits for its chunk is not among them."""
        self.records = 0
        """Elements added so far."""
        self._compress: Callable[[bytes], bytes] = (
            zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=False).compress
            if header.compression == "zstd"
            else lambda data: data
        )

    @property
    def size_at_most(self) -> int:
        """Upper bound of the file's size if it were finished now."""
        chunks = len(self._chunks) + 1
        tags = TAG_SIZE * chunks if self._file_key is not None else 0
        closed = self.size + 128 * chunks + tags
        return closed + self._pending_size + self._pending_size // 128 + 65_536

    def add(self, element: Mapping[str, Any]) -> None:
        """Add one element.

        Raises:
            InputRefusedError: it is larger than ``limits.MAX_RECORD_SIZE``.
        """
        self.add_all([codec.encode(element)])

    def add_all(self, encoded: Sequence[bytes]) -> None:
        """Add elements of which the encoding is at hand; see ``add``."""
        target = self._header.chunk_size
        for data in encoded:
            if len(data) > limits.MAX_RECORD_SIZE:
                raise InputRefusedError(
                    "a record is too large",
                    expected=f"at most {limits.MAX_RECORD_SIZE} bytes",
                    found=str(len(data)),
                )
            # A full chunk is kept back until another element comes: sealing marks the last one.
            if self._pending_size >= target:
                self._close_chunk(last=False)
            self._pending.append(data)
            self._pending_size += len(data)
        self.records += len(encoded)

    def finish(self, fields: Mapping[str, Any], signers: list[Signer]) -> Envelope:
        """Write envelope and footer.

        Args:
            fields: the manifest without ``header_sha256``, ``chunks`` and ``records``, which are
                the writer's own.
            signers: who signs, in this order.

        Returns:
            The envelope that was written.
        """
        if self._pending:
            self._close_chunk(last=True)
        elif self._file_key is not None:
            raise ValueError("a file without elements is not sealed")
        manifest = {
            **fields,
            "header_sha256": self._header_digest,
            "records": self.records,
            "chunks": self._chunks,
        }
        unsigned = Envelope(PAYLOAD_TYPES[self._header.file_type], codec.encode(manifest), ())
        message = unsigned.message
        envelope = Envelope(
            unsigned.payload_type, unsigned.payload, tuple(sign(message) for sign in signers)
        )
        data = envelope.encode()
        offset = self.size
        self._write(data)
        self._write(layout.footer(offset, len(data)))
        return envelope

    def _close_chunk(self, *, last: bool) -> None:
        expanded = codec.array_header(len(self._pending)) + b"".join(self._pending)
        data = self._compress(expanded)
        if self._show is not None:
            self._show(data, len(expanded), len(self._pending))
        if self._file_key is not None:
            data = self._file_key.seal(len(self._chunks), data, last=last)
        self._chunks.append(
            {
                "sha256": sha256(data).hexdigest(),
                "size": len(data),
                "expanded": len(expanded),
                "records": len(self._pending),
            }
        )
        self._pending, self._pending_size = [], 0
        self._write(layout.chunk_head(len(data)))
        self._write(data)

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self.size += len(data)
