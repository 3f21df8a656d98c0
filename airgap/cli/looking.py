"""What inspect, cat and verify share: a file opened in quarantine, verified or only looked at."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from airgap import quarantine, timestamps, unsealing, verify
from airgap.arrivals import trust_of
from airgap.bundle import reader
from airgap.bundle.sealing import FileKey
from airgap.catalog import Catalog, JsonObject
from airgap.cli.common import unsealer
from airgap.errors import TrustError
from airgap.home import open_home
from airgap.jsontext import NotExactError
from airgap.records import Record, record_id
from airgap.text import printable
from airgap.trust import keys
from airgap.trust.approvals import Approval, Reviews
from airgap.trust.entries import TrustedKey
from airgap.trust.recipients import Opener


@dataclass(frozen=True, slots=True)
class Document:
    """A file to be shown.

    Args:
        file: its parts.
        manifest: its manifest.
        signers: whose signatures hold; empty where nobody asked.
        warnings: what verification wants said.
        reviews: whose approvals count, where they were asked for.
        file_key: what opens its chunks, where they are sealed and it was opened.
        names: what this home calls the recipients of a sealed file, by key id.
        is_read: whether its elements were looked into, if they could be.
    """

    file: reader.OpenFile
    manifest: JsonObject
    signers: tuple[TrustedKey, ...]
    warnings: tuple[str, ...]
    reviews: Reviews | None = None
    file_key: FileKey | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    is_read: bool = True

    @property
    def is_open(self) -> bool:
        """Whether its elements can be read; else it is sealed, and no key was there."""
        return self.file.header.sealing is None or self.file_key is not None

    @property
    def is_bundle(self) -> bool:
        """Whether it is a bundle, else a receipt."""
        return self.file.header.file_type == "bundle"

    def elements(self, catalog: Catalog) -> Iterator[JsonObject]:
        """Yield records with their ids, or outcomes; of a file that is open."""
        for element in reader.elements(self.file, self.manifest, self.file_key):
            if not self.is_bundle:
                yield element
            elif not catalog.is_valid("record", element) or element["kind"] not in catalog.kinds:
                yield {"id": None, "invalid": True, "element": element}
            else:
                yield self._with_id(Record.from_map(element), catalog)

    def _with_id(self, record: Record, catalog: Catalog) -> JsonObject:
        kind = catalog.kind(record.kind)
        try:
            identifier = record_id(self.manifest["source"], record, kind).hex()
        except (NotExactError, KeyError):
            return {"id": None, "invalid": True, "element": record.as_map()}
        return {"id": identifier, **record.as_map()}

    def describe(self) -> dict[str, Any]:
        """Return the file for ``--json``: manifest without the chunk list, signatures, id."""
        manifest = {key: value for key, value in self.manifest.items() if key != "chunks"}
        reviews = self.reviews or Reviews()
        return {
            "id": self.file.envelope.document_id,
            "manifest": {**manifest, "chunks": len(self.manifest["chunks"])},
            "signatures": [
                {"key_id": s.key_id, "algorithm": s.algorithm}
                for s in self.file.envelope.signatures
            ],
            "verified": bool(self.signers) and self.is_read,
            "sealed_to": [
                {
                    "key_id": r.key_id,
                    "fingerprint": keys.fingerprint(r.key_id),
                    "suite": r.suite,
                }
                for r in (self.file.header.sealing.recipients if self.file.header.sealing else ())
            ],
            "opened": self.is_open and self.is_read,
            "signers": [
                {"fingerprint": k.public.fingerprint, "roles": list(k.roles), "comment": k.comment}
                for k in self.signers
            ],
            "approved_by": [
                {
                    "fingerprint": k.public.fingerprint,
                    "comment": k.comment,
                    "review_sha256": reviews.sheets.get(k.public.key_id),
                }
                for k in reviews.approved
            ],
            "warnings": list(self.warnings),
        }


@contextmanager
def opened(
    path: Path,
    home_path: Path,
    catalog: Catalog,
    sealing_passphrase_file: Path | None,
    *,
    unverified: bool = False,
    needs_key: bool = False,
    approvals: Sequence[Approval] | None = None,
    digests_only: bool = False,
) -> Iterator[Document]:
    """Copy a file into quarantine, verify it, and yield it.

    Args:
        path: the file.
        home_path: the home whose trust store and sealing keys count.
        catalog: schemas and kinds.
        sealing_passphrase_file: holds the passphrase of the home's sealing key, or None.
        unverified: look at it whoever signed it; digests are still checked.
        needs_key: refuse a sealed bundle that this home can't open; else it is verified as far as
            it can be without opening.
        approvals: what was found beside it, to be held against what the trust store demands.
        digests_only: look into no record, and read the file where it lies, since nothing is acted on.

    Raises:
        AirgapError: what verification says; with a hint at ``--unverified`` for a key that is
            not trusted.
    """
    home = open_home(home_path)
    name = printable(str(path), 300)
    opener = unsealer(home, sealing_passphrase_file)
    how = (
        quarantine.in_place(path)
        if digests_only
        else quarantine.copied(path, home.folder("quarantine"))
    )
    with how as stream:
        file = reader.open_file(stream, name=name, catalog=catalog)
        sealing = file.header.sealing
        names = unsealing.names(home) if sealing is not None else {}
        leave_shut = sealing is not None and not needs_key and not opener.fits(sealing)
        if unverified:
            peeked = _peeked(stream, name, catalog, None if leave_shut else opener)
            yield replace(peeked, names=names)
            return
        trust = trust_of(home, catalog, timestamps.system_clock())
        if digests_only:
            unread = verify.verify_digests(
                stream, name=name, trust=trust, catalog=catalog, approvals=approvals
            )
            yield Document(
                file,
                unread.manifest,
                unread.signers,
                (),
                unread.reviews,
                None,
                names,
                is_read=False,
            )
        elif file.header.file_type == "receipt":
            receipt = verify.verify_receipt(stream, name=name, trust=trust, catalog=catalog)
            yield Document(file, receipt.manifest, receipt.signers, ())
        elif leave_shut:
            shut = verify.verify_unopened(
                stream, name=name, trust=trust, catalog=catalog, approvals=approvals
            )
            yield Document(file, shut.manifest, shut.signers, (), shut.reviews, None, names)
        else:
            bundle = verify.verify_bundle(
                stream,
                name=name,
                trust=trust,
                catalog=catalog,
                opener=opener,
                approvals=approvals,
            )
            yield Document(
                file,
                bundle.manifest,
                bundle.signers,
                bundle.warnings,
                bundle.reviews,
                bundle.file_key,
                names,
            )


def _peeked(stream: BinaryIO, name: str, catalog: Catalog, opener: Opener | None) -> Document:
    """Return a file that is looked at whoever signed it, after a check of its digests."""
    file, manifest = verify.peek(stream, name=name, catalog=catalog)
    file_key = None if opener is None else verify.open_sealing(file, manifest, opener)
    document = Document(file, manifest, (), (), None, file_key)
    chunks = (
        reader.elements(file, manifest, file_key)
        if document.is_open
        else reader.chunks(file, manifest)
    )
    for _ in chunks:
        pass
    return document


def sealing_lines(document: Document) -> list[str]:
    """Return who can open a file, and whether it was opened; nothing where it is not sealed."""
    sealing = document.file.header.sealing
    if sealing is None:
        return []
    lines = [
        f"Sealed to {keys.fingerprint(r.key_id)} ({', '.join((r.suite, *known))})"
        for r in sealing.recipients
        for known in [[document.names[r.key_id]] if r.key_id in document.names else []]
    ]
    if not document.is_read:
        return [*lines, "Not opened"]
    if document.is_open:
        return [*lines, "Opened with a key of this home"]
    how = "verified as far as it can be" if document.signers else "looked at"
    shut = f"Not opened: no key of this home fits; {how} without opening"
    return [*lines, f"{shut}, and what it holds is what its signer says"]


def signature_lines(document: Document) -> list[str]:
    """Return one line per signature, for people."""
    if not document.signers:
        return [
            f"Signed by {keys.fingerprint(printable(s.key_id, 64))} ({printable(s.algorithm)}), NOT CHECKED"
            for s in document.file.envelope.signatures
        ] or ["NOT SIGNED"]
    reviews = document.reviews or Reviews()
    return [
        *(f"Signed by {_person(key, ', '.join(key.roles))}" for key in document.signers),
        *(
            line
            for key in reviews.approved
            for line in (f"Approved by {_person(key, 'reviewer')}", *_sheet_line(reviews, key))
        ),
        *(f"Does not count: {line}" for line in reviews.passed_over),
    ]


def _sheet_line(reviews: Reviews, key: TrustedKey) -> list[str]:
    read = reviews.sheets.get(key.public.key_id)
    return [] if read is None else [f"  having read the review sheet with SHA-256 {read}"]


def _person(key: TrustedKey, roles: str) -> str:
    comment = f", {printable(key.comment)}" if key.comment else ""
    return f"{key.public.fingerprint} ({roles}{comment})"


def with_hint(error: TrustError) -> TrustError:
    """Return the error with a hint at ``--unverified``."""
    if "--unverified" not in error.hint:
        error.hint = f"{error.hint}; to look at it all the same: --unverified"
    return error
