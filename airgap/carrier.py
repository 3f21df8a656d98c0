"""The note for whoever carries the stick: what lies there, and what to do with it."""

from airgap.text import printable, size

SUFFIX = ".txt"


def note(
    *,
    name: str,
    length: int,
    sha256: str,
    bundle_id: str,
    source: str,
    sequence: int,
    contact: str | None,
) -> bytes:
    """Return the note beside a bundle: the same for the same bundle, for a person on any system.

    Args:
        name: the bundle's file name.
        length: its size in bytes.
        sha256: the file's SHA-256, 64 hexadecimal digits.
        bundle_id: the bundle's id.
        source: whose bundle it is.
        sequence: its number.
        contact: whom to ask, or None.

    Returns:
        UTF-8 text without a control character but CR LF at the ends of lines; ASCII but for ``contact``.
    """
    whom = printable(contact, 200) if contact else "whoever gave you this stick"
    text = f"""\
{name}
{"=" * len(name)}

This file holds usage numbers of a LangSmith or LangGraph installation that has
no network, for LangChain. It is signed, so a change to it is noticed. It holds
no licence key and no API key.

  File      {name}
  Size      {length} bytes ({size(length)})
  SHA-256   {sha256}
  Bundle    {sequence} of {source}
  Id        {bundle_id}

To the carrier
  Carry the file as it is: do not open, rename or pack it. Files whose names
  begin with {name.removesuffix(".airgap")} belong to it.
  If the stick is lost, say so. Nothing is lost with it: the file can be written
  again. Bring back the .receipt file that you are given for it.

On the connected workstation
  airgap verify {name}
  airgap import {name}

To look for damage without airgap (this proves nothing about who made it)
  sha256sum {name}
  certutil -hashfile {name} SHA256        (on Windows)

Whom to ask: {whom}

This note is not signed. What airgap verify says counts, not what stands here.
"""
    return text.replace("\n", "\r\n").encode()
