"""What inspect, cat and verify share: a file opened in quarantine, verified or only looked at."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airgap import media, verify
from airgap.bundle import reader
from airgap.catalog import Catalog, JsonObject
from airgap.cli.trusting import trust_of
from airgap.errors import TrustError
from airgap.home import open_home
from airgap.jsontext import NotExactError
from airgap.records import Record, record_id
from airgap.text import printable
from airgap.trust import keys
from airgap.trust.approvals import Approval, Reviews
from airgap.trust.entries import TrustedKey


@dataclass(frozen=True, slots=True)
class Document:
    """A file to be shown.

    Args:
        file: its parts.
        manifest: its manifest.
        signers: whose signatures hold; empty where nobody asked.
        warnings: what verification wants said.
        reviews: whose approvals count, where they were asked for.
    """

    file: reader.OpenFile
    manifest: JsonObject
    signers: tuple[TrustedKey, ...]
    warnings: tuple[str, ...]
    reviews: Reviews | None = None

    @property
    def is_bundle(self) -> bool:
        """Whether it is a bundle, else a receipt."""
        return self.file.header.file_type == "bundle"

    def elements(self, catalog: Catalog) -> Iterator[JsonObject]:
        """Yield records with their ids, or outcomes."""
        for element in reader.elements(self.file, self.manifest):
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
        return {
            "id": self.file.envelope.document_id,
            "manifest": {**manifest, "chunks": len(self.manifest["chunks"])},
            "signatures": [
                {"key_id": s.key_id, "algorithm": s.algorithm}
                for s in self.file.envelope.signatures
            ],
            "verified": bool(self.signers),
            "signers": [
                {"fingerprint": k.public.fingerprint, "roles": list(k.roles), "comment": k.comment}
                for k in self.signers
            ],
            "approved_by": [
                {"fingerprint": k.public.fingerprint, "comment": k.comment}
                for k in (self.reviews.approved if self.reviews else ())
            ],
            "warnings": list(self.warnings),
        }


@contextmanager
def opened(
    path: Path,
    home_path: Path,
    catalog: Catalog,
    *,
    unverified: bool = False,
    approvals: Sequence[Approval] | None = None,
) -> Iterator[Document]:
    """Copy a file into quarantine, verify it, and yield it.

    Args:
        path: the file.
        home_path: the home whose trust store counts.
        catalog: schemas and kinds.
        unverified: look at it whoever signed it; digests are still checked.
        approvals: what was found beside it, to be held against what the trust store demands.

    Raises:
        AirgapError: what verification says; with a hint at ``--unverified`` for a key that is
            not trusted.
    """
    home = open_home(home_path)
    name = printable(str(path), 300)
    with media.quarantine(path, home.folder("quarantine")) as stream:
        if unverified:
            file, manifest = verify.peek(stream, name=name, catalog=catalog)
            for _ in reader.elements(file, manifest):
                pass
            yield Document(file, manifest, (), ())
            return
        trust = trust_of(home, catalog)
        file = reader.open_file(stream, name=name, catalog=catalog)
        if file.header.file_type == "bundle":
            bundle = verify.verify_bundle(
                stream, name=name, trust=trust, catalog=catalog, approvals=approvals
            )
            yield Document(file, bundle.manifest, bundle.signers, bundle.warnings, bundle.reviews)
        else:
            receipt = verify.verify_receipt(stream, name=name, trust=trust, catalog=catalog)
            yield Document(file, receipt.manifest, receipt.signers, ())


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
        *(f"Approved by {_person(key, 'reviewer')}" for key in reviews.approved),
        *(f"Does not count: {line}" for line in reviews.passed_over),
    ]


def _person(key: TrustedKey, roles: str) -> str:
    comment = f", {printable(key.comment)}" if key.comment else ""
    return f"{key.public.fingerprint} ({roles}{comment})"


def with_hint(error: TrustError) -> TrustError:
    """Return the error with a hint at ``--unverified``."""
    error.hint = f"{error.hint}; to look at it all the same: --unverified"
    return error
