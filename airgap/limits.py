"""Every bound that decoding holds, in one place. Sizes are bytes, counts are elements.

The specification (``schemas/README.md``, section Limits) gives the same numbers; a test compares.
"""

MAX_FILE_SIZE = 8 * 1024**3
"""Largest bundle or receipt file."""

MAX_HEADER_SIZE = 32 * 1024
"""Largest encoded header map; a recipient takes up to 2.5 KiB of it."""

MAX_RECIPIENTS = 8
"""Most recipients of a sealed file; the header's schema holds it."""

MAX_ENVELOPE_SIZE = 16 * 1024**2
"""Largest encoded envelope, the manifest included."""

MAX_CHUNK_SIZE = 16 * 1024**2
"""Largest chunk, as it stands in the file and after decompression; the manifests' schemas hold it."""

MAX_CHUNKS = 65_536
"""Most chunks in a file."""

MAX_SIGNATURES = 8
"""Most signatures in an envelope."""

MAX_DEPTH = 8
"""Deepest nesting of maps and arrays in a decoded object; the object itself is depth 1."""

MAX_MAP_ENTRIES = 4_096
"""Most entries in one map."""

MAX_STRING_LENGTH = 4 * 1024**2
"""Longest string, in bytes of UTF-8."""

CHUNK_TARGET = 1024**2
"""A chunk is closed when its records reach this size before compression."""

MAX_RECORD_SIZE = 6 * 1024**2
"""Largest single record, before compression."""

MAX_INTEGER = 2**63 - 1
"""Largest integer anywhere; the smallest is its negative less one."""

MAX_INPUT_LINE = 6 * 1024**2
"""Longest line of a JSON lines file."""

MAX_INPUT_DOCUMENT = 64 * 1024**2
"""Largest JSON document that is not line by line."""

MAX_KEY_FILE = 64 * 1024
"""Largest key, credential or passphrase file."""

MAX_TRUST_STORE = 8 * 1024**2
"""Largest trust store."""
