"""Bundles whose every byte is the test's: rightly signed, whatever is in them."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import zstandard
from support import bundle_fields

from airgap.bundle import codec, envelope, layout
from airgap.bundle.layout import Header
from airgap.trust import keys


def forged(
    path: Path, key: keys.PrivateKey, chunks: list[tuple[int, bytes]], **fields: Any
) -> Path:
    """Write a bundle of chunks (number of elements, expanded bytes), whatever is in them."""
    listed, size = [], 0
    with path.open("wb") as stream:
        start = layout.PREAMBLE + Header("bundle").encode()
        size += stream.write(start)
        for count, expanded in chunks:
            data = zstandard.ZstdCompressor(level=3).compress(expanded)
            size += stream.write(layout.chunk_head(len(data)) + data)
            digest = sha256(data).hexdigest()
            listed.append(
                {"sha256": digest, "size": len(data), "expanded": len(expanded), "records": count}
            )
        manifest = codec.encode(
            {
                **bundle_fields(**fields),
                "header_sha256": sha256(start).hexdigest(),
                "records": sum(count for count, _ in chunks),
                "chunks": listed,
            }
        )
        message = envelope.pre_authentication_encoding(envelope.BUNDLE_TYPE, manifest)
        data = envelope.Envelope(envelope.BUNDLE_TYPE, manifest, (key.sign(message),)).encode()
        stream.write(data + layout.footer(size, len(data)))
    return path
