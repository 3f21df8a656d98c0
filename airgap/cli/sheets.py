"""What review and countersign share: a bundle's facts, and what it can be compared with."""

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

from airgap.bundle import reader
from airgap.catalog import Catalog
from airgap.cli.looking import Document, opened
from airgap.errors import UsageError
from airgap.home import Home
from airgap.records import Record
from airgap.review.facts import Facts, gather
from airgap.review.news import Kept, compare
from airgap.review.text import sheet
from airgap.text import printable

MOST_BYTES = 64 * 1024**2
"""No review sheet is larger."""


def facts_of(document: Document, schemas: Catalog) -> Facts:
    """Return what leaves in a bundle that was verified and opened."""
    lines = [f"{key.public.fingerprint} ({key.public.algorithm})" for key in document.signers]
    identifier = document.file.envelope.document_id
    return gather(document.manifest, identifier, _records(document), schemas, lines)


def _records(document: Document) -> Iterator[Record]:
    for element in reader.elements(document.file, document.manifest, document.file_key):
        yield Record.from_map(element)


def keep(home: Home, facts: Facts) -> None:
    """Keep in the home what the next bundle of the source is compared with."""
    from airgap.files import write_atomically

    path = home.folder("reviews") / f"{facts.bundle_id}.json"
    write_atomically(path, Kept.of(facts).to_bytes(), mode=0o600)


def kept_before(home: Home, facts: Facts) -> Kept | None:
    """Return what this home kept of the bundle before, or None where it kept nothing of use."""
    previous, source = facts.manifest["previous"], facts.manifest["source"]
    if previous is None:
        return None
    path = home.folder("reviews") / f"{previous}.json"
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        kept = Kept.from_bytes(path.read_bytes())
    except OSError:
        return None
    if kept is None or (kept.bundle_id, kept.source) != (previous, source):
        return None
    return kept


def since(
    path: Path, home_path: Path, schemas: Catalog, passphrase_file: Path | None, facts: Facts
) -> Kept:
    """Return what there is to compare with in the bundle that ``--since`` names.

    Raises:
        UsageError: it is no earlier bundle of the same source.
    """
    with opened(path, home_path, schemas, passphrase_file, needs_key=True) as document:
        require_bundle(document, path)
        found = Kept.of(facts_of(document, schemas))
    here = facts.manifest
    if found.source != here["source"] or found.sequence >= here["sequence"]:
        raise UsageError(
            "this is no earlier bundle of the same source",
            where=printable(str(path), 300),
            expected=f"a bundle of {here['source']} before number {here['sequence']}, best of all "
            f"{here['previous'] or 'none: this is the first'}",
            found=f"bundle {found.sequence} of {found.source}",
            hint="name the one before it, or leave --since out",
        )
    return found


def require_sheet(
    path: Path, facts: Facts, home: Home, earlier: Callable[[Facts], Kept] | None
) -> str:
    """Check that a file is a review sheet of a bundle, to the byte, and return its SHA-256.

    Args:
        path: the text or the page that was read.
        facts: the bundle's.
        home: what it kept of the bundle before is tried.
        earlier: returns what another bundle is compared by, where one was named.

    Raises:
        UsageError: it is not what this release makes of the bundle.
    """
    from airgap.review.html import page

    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    candidates = [kept_before(home, facts), None] if earlier is None else [earlier(facts)]
    for kept in candidates:
        news = compare(facts, kept)
        if data in (page(facts, news), sheet(facts, news).encode()):
            return sha256(data).hexdigest()
    raise UsageError(
        "this is not the review sheet of this bundle",
        where=printable(str(path), 300),
        expected="the file that this release of airgap makes of it, unchanged to the byte",
        found=f"a file with the SHA-256 {sha256(data).hexdigest()}",
        hint="make it again with airgap review BUNDLE --html FILE, and read that; if it was compared "
        "with a bundle that this home did not review, name that one with --since",
    )


def require_bundle(document: Document, path: Path) -> None:
    """Check that a file is a bundle.

    Raises:
        UsageError: it is a receipt.
    """
    if not document.is_bundle:
        raise UsageError(
            "this is a receipt",
            where=printable(str(path), 300),
            expected="a bundle",
            hint="name the .airgap file; airgap inspect shows what a receipt says",
        )
