"""The verification of a file, step by step as the specification numbers it.

``VerifiedBundle`` and ``VerifiedReceipt`` can only be made here, and everything that acts on a
file takes one of these: nothing unverified can be acted on by mistake.

    1  structure: preamble, header, footer, envelope, nothing between and nothing after
    2  payload type fits the type of file
    3  every signature is by a known key that is not wholly revoked, with that key's algorithm, and right
    4  the manifest decodes, passes its schema, and fits the file around it
    5  every signer may sign for that source, time and sequence, one has the demanded role; and, for
       whoever delivers a bundle, as many exporters signed and reviewers approved as the trust store
       demands, and none denied
    6  every chunk has its digest, opens where it is sealed, decodes, and every element passes its
       schemas
    7  totals, period, credentials and allowed names are those of the elements; who declares no
       usage holds none

A sealed bundle that nobody here can open is verified as far as it can be: steps 1 to 5, and every
chunk's digest. That makes an ``UnopenedBundle``, which nothing acts on. The same of any file, by who
does not want to wait for the records, makes an ``UnreadFile``, which is not verified at all.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, BinaryIO

from airgap import jsontext, timestamps
from airgap.blockwise import Blockwise
from airgap.bundle import reader
from airgap.bundle.envelope import PAYLOAD_TYPES, Envelope
from airgap.bundle.layout import FileType
from airgap.bundle.reader import OpenFile
from airgap.bundle.sealing import Context, FileKey, Sealing
from airgap.catalog import Catalog, JsonObject
from airgap.contents import SIGNED_SO, Contents, Vouched
from airgap.errors import DamagedError, InputRefusedError, TrustError
from airgap.records import Record, Totals, check_record, record_id
from airgap.trust import approvals as approving
from airgap.trust.approvals import Approval, Reviews
from airgap.trust.entries import Place, Role, TrustedKey
from airgap.trust.recipients import Opener, cannot_open
from airgap.trust.store import TrustStore
from airgap.windows import Declaration, Timeline, micros

_SEAL = object()
_ROLES: dict[FileType, Role] = {"bundle": "exporter", "receipt": "importer"}


class _Verified:
    """What a verified file has in common."""

    def __init__(
        self,
        seal: object,
        file: OpenFile,
        manifest: JsonObject,
        signers: tuple[TrustedKey, ...],
        catalog: Catalog,
        file_key: FileKey | None = None,
    ) -> None:
        if seal is not _SEAL:
            raise TypeError(f"{type(self).__name__} is only made by verification")
        self._file = file
        self._catalog = catalog
        self.file_key = file_key
        """What opens the chunks of a sealed bundle."""
        self.manifest = manifest
        self.signers = signers

    @property
    def document_id(self) -> str:
        """Id of the file: 64 hexadecimal digits."""
        return self._file.envelope.document_id

    @property
    def name(self) -> str:
        """What messages call the file."""
        return self._file.name

    @property
    def source(self) -> str:
        """The source that the file belongs to."""
        return str(self.manifest["source"])

    @property
    def envelope(self) -> Envelope:
        """Manifest bytes and signatures, to be kept as evidence."""
        return self._file.envelope

    @property
    def totals(self) -> Totals:
        """Totals of the manifest."""
        return Totals.from_map(self.manifest["totals"])

    @property
    def sealing(self) -> Sealing | None:
        """Who can open it, or None where it is not sealed."""
        return self._file.header.sealing


class VerifiedBundle(_Verified):
    """A bundle of which every check held."""

    warnings: tuple[str, ...] = ()
    reviews: Reviews | None = None
    """Who approved of it, where the trust store's demands were held against it; else None."""
    timeline: Timeline
    """The windows of its records."""

    @property
    def sequence(self) -> int:
        """Number in the source's chain, from 1."""
        return int(self.manifest["sequence"])

    @property
    def created_at(self) -> datetime:
        """When it was made, by the clock of the host that made it."""
        return timestamps.parse(self.manifest["created_at"])

    @property
    def no_usage(self) -> Declaration | None:
        """The time for which the source declares that there was nothing to report."""
        return declared(self.manifest)

    def records(self) -> Iterator[tuple[bytes, Record]]:
        """Yield id (16 bytes) and record, in order; chunk digests are checked again."""
        for element in reader.elements(self._file, self.manifest, self.file_key):
            record = Record.from_map(element)
            yield record_id(self.source, record, self._catalog.kind(record.kind)), record


class UnreadFile(_Verified):
    """A bundle or receipt whose signatures and digests hold, and none of whose elements was read.

    Its totals, period and names are what the signer says.
    """

    reviews: Reviews | None = None
    """Who approved of it, where the trust store's demands were held against it; else None."""


class UnopenedBundle(UnreadFile):
    """A sealed bundle of which everything held that can be checked without opening it."""


class VerifiedReceipt(_Verified):
    """A receipt of which every check held."""

    def outcomes(self) -> Iterator[JsonObject]:
        """Yield one map per record (``schemas/outcome.schema.json``), in order."""
        yield from reader.elements(self._file, self.manifest)


def verify_bundle(
    stream: BinaryIO,
    *,
    name: str,
    trust: TrustStore,
    catalog: Catalog,
    approvals: Sequence[Approval] | None = None,
    opener: Opener | None = None,
    vouched: Vouched | None = None,
) -> VerifiedBundle:
    """Return a bundle after all seven steps.

    Args:
        stream: the file, seekable, and not to change while the result is used.
        name: what messages call it.
        trust: whose signatures count.
        catalog: schemas and kinds.
        approvals: what was found beside it, to be held against what the trust store demands; None
            leaves that out, for who does not deliver it.
        opener: finds the key of a sealed bundle; asked only once its signatures hold.
        vouched: what this program saw in chunks of which every record passed; where they are those of
            the file, their records are not looked into again.

    Raises:
        DamagedError: it is damaged or contradicts itself.
        TrustError: a signature does not count, one that is demanded is missing, or the bundle is
            sealed to others.
        InputRefusedError: a schema is violated.
    """
    file, manifest, signers = _verify_manifest(stream, name, "bundle", trust, catalog)
    reviews = _reviewed(file, manifest, signers, trust, approvals)
    file_key = open_sealing(file, manifest, opener)
    if vouched is not None and reader.seen_chunks(file, manifest, file_key) == vouched.chunks:
        contents = vouched.contents
    else:
        contents = _read_contents(file, manifest, catalog, file_key)
    _check_declaration(manifest, where=name)
    bundle = VerifiedBundle(_SEAL, file, manifest, signers, catalog, file_key)
    bundle.reviews = reviews
    bundle.timeline = contents.timeline
    bundle.warnings = _compare(manifest, contents.as_map(catalog), where=name)
    return bundle


def verify_unopened(
    stream: BinaryIO,
    *,
    name: str,
    trust: TrustStore,
    catalog: Catalog,
    approvals: Sequence[Approval] | None = None,
) -> UnopenedBundle:
    """Return a sealed bundle after all that can be checked without its key.

    Arguments and errors as ``verify_bundle``.

    Raises:
        ValueError: it is not sealed.
    """
    file, manifest, signers = _verify_manifest(stream, name, "bundle", trust, catalog)
    if file.header.sealing is None:
        raise ValueError("the bundle is not sealed")
    reviews = _reviewed(file, manifest, signers, trust, approvals)
    _check_unread(file, manifest)
    unopened = UnopenedBundle(_SEAL, file, manifest, signers, catalog)
    unopened.reviews = reviews
    return unopened


def verify_digests(
    stream: BinaryIO,
    *,
    name: str,
    trust: TrustStore,
    catalog: Catalog,
    approvals: Sequence[Approval] | None = None,
) -> UnreadFile:
    """Return a bundle or a receipt after steps 1 to 5, and a check of every chunk's digest.

    No element is looked into. Arguments and errors as ``verify_bundle``.
    """
    file, manifest, signers = _verify_manifest(stream, name, None, trust, catalog)
    unread = UnreadFile(_SEAL, file, manifest, signers, catalog)
    if file.header.file_type == "bundle":
        unread.reviews = _reviewed(file, manifest, signers, trust, approvals)
    _check_unread(file, manifest)
    return unread


def _check_unread(file: OpenFile, manifest: JsonObject) -> None:
    """Check every chunk's digest, and what a manifest says of itself.

    Raises:
        DamagedError: a chunk is not the one that was signed, or the manifest contradicts itself.
    """
    for _ in reader.chunks(file, manifest):
        pass
    if file.header.file_type == "bundle":
        _check_declaration(manifest, where=file.name)
        counted = sum(total["records"] for total in manifest["totals"].values())
    else:
        _check_numbers(manifest, where=file.name)
        counted = sum(manifest["outcomes"].values())
    if counted != manifest["records"]:
        raise DamagedError(
            "the manifest's totals count another number of records than its chunks",
            where=file.name,
            expected=str(manifest["records"]),
            found=str(counted),
            hint=SIGNED_SO,
        )


def open_sealing(file: OpenFile, manifest: JsonObject, opener: Opener | None) -> FileKey | None:
    """Return what opens a file's chunks, or None where they are not sealed.

    Raises:
        TrustError: nobody here can open them.
        DamagedError: what the header tells the recipient is not right.
    """
    sealing = file.header.sealing
    if sealing is None:
        return None
    if opener is None:
        raise cannot_open(sealing, [], where=file.name)
    return opener(sealing, Context(manifest["source"], manifest["sequence"]), file.name)


def declared(manifest: JsonObject) -> Declaration | None:
    """Return the time for which a manifest declares that there was no usage, or None."""
    told = manifest["no_usage"]
    if told is None:
        return None
    start, end = (micros(timestamps.parse(told[name])) for name in ("from", "to"))
    return Declaration(start, end, None if told["kinds"] is None else frozenset(told["kinds"]))


def verify_receipt(
    stream: BinaryIO, *, name: str, trust: TrustStore, catalog: Catalog
) -> VerifiedReceipt:
    """Return a receipt after all seven steps; arguments and errors as ``verify_bundle``."""
    file, manifest, signers = _verify_manifest(stream, name, "receipt", trust, catalog)
    found = dict.fromkeys(manifest["outcomes"], 0)
    position = 0
    for block in reader.blocks(file, manifest):
        if not (block.is_exact and catalog.all_pass("outcome", block.elements)):
            for place, element in enumerate(block.checked(), position):
                where = f"{name}, outcome {place}"
                _require_exact(element, where=where)
                catalog.require("outcome", element, where=where)
        for element in block.elements:
            found[element["outcome"]] += 1
        position += len(block.elements)
    if found != manifest["outcomes"]:
        raise DamagedError(
            "the receipt's outcomes are not those that its manifest counts",
            where=name,
            expected=json.dumps(manifest["outcomes"]),
            found=json.dumps(found),
            hint=SIGNED_SO,
        )
    _check_numbers(manifest, where=name)
    return VerifiedReceipt(_SEAL, file, manifest, signers, catalog)


def counts(stream: BinaryIO, *, name: str, trust: TrustStore, catalog: Catalog) -> bool:
    """Tell whether a file's signatures count (steps 1 to 5); of its contents this says nothing.

    Raises:
        DamagedError: it is damaged.
        InputRefusedError: manifest or header break their schema.
    """
    try:
        _verify_manifest(stream, name, None, trust, catalog)
    except TrustError:
        return False
    return True


def _check_numbers(manifest: JsonObject, *, where: str) -> None:
    """Check that a receipt and the bundle that it answers follow one exactly where they are not first."""
    for number, previous in (("number", "previous"), ("bundle_sequence", "bundle_previous")):
        if (manifest[number] == 1) != (manifest[previous] is None):
            raise DamagedError(
                f"the receipt's {previous} does not fit its {number}",
                where=where,
                expected="none for number 1, and for no other",
                found=f"{number} {manifest[number]}, {previous} {manifest[previous] or 'none'}",
                hint=SIGNED_SO,
            )


def peek(stream: BinaryIO, *, name: str, catalog: Catalog) -> tuple[OpenFile, JsonObject]:
    """Return a file and its manifest without asking who signed: to be looked at, not acted on.

    Raises:
        DamagedError: it is damaged.
        InputRefusedError: manifest or header break their schema.
    """
    file = reader.open_file(stream, name=name, catalog=catalog)
    return file, reader.decode_manifest(file, catalog)


def _verify_manifest(
    stream: BinaryIO, name: str, file_type: FileType | None, trust: TrustStore, catalog: Catalog
) -> tuple[OpenFile, JsonObject, tuple[TrustedKey, ...]]:
    """Take steps 1 to 5, of a file of any type where none is named."""
    file = reader.open_file(stream, name=name, catalog=catalog)
    file_type = file_type or file.header.file_type
    if file.header.file_type != file_type:
        raise InputRefusedError(
            f"this is a {file.header.file_type}, not a {file_type}",
            where=name,
            hint="`airgap receipt apply` takes receipts, `airgap import` takes bundles",
        )
    if file.envelope.payload_type != PAYLOAD_TYPES[file_type]:
        raise DamagedError(
            "the signed payload is of another type than the file",
            where=name,
            expected=PAYLOAD_TYPES[file_type],
            found="another type",
        )
    trust.check_signatures(file.envelope, where=name)
    manifest = reader.decode_manifest(file, catalog)
    signers = trust.verify(file.envelope, _ROLES[file_type], _place(manifest), where=name)
    return file, manifest, signers


def _place(manifest: JsonObject) -> Place:
    """Return where a bundle stands in its chain, or the one that a receipt answers."""
    made_at: datetime = timestamps.parse(manifest["created_at"])
    sequence = manifest["sequence" if manifest["file_type"] == "bundle" else "bundle_sequence"]
    return Place(manifest["source"], made_at, sequence)


def _reviewed(
    file: OpenFile,
    manifest: JsonObject,
    signers: tuple[TrustedKey, ...],
    trust: TrustStore,
    approvals: Sequence[Approval] | None,
) -> Reviews | None:
    """Hold a bundle against what the trust store demands, where that is asked.

    Raises:
        TrustError: signatures are missing, or a reviewer denied it.
    """
    if approvals is None:
        return None
    source = manifest["source"]
    identifier = file.envelope.document_id
    reviews = Reviews.of(approvals, identifier, _place(manifest), signers, trust)
    approving.require(trust.policy(source), signers, reviews, source, trust, where=file.name)
    return reviews


def _read_contents(
    file: OpenFile, manifest: JsonObject, catalog: Catalog, file_key: FileKey | None
) -> Contents:
    contents, blockwise = Contents(), Blockwise(catalog)
    position = 0
    for block in reader.blocks(file, manifest, file_key):
        if not (block.is_exact and blockwise.add(block.elements, contents)):
            for place, element in enumerate(block.checked(), position):
                _read_record(element, contents, catalog, where=f"{file.name}, record {place}")
        position += len(block.elements)
    return contents


def _read_record(element: Any, contents: Contents, catalog: Catalog, *, where: str) -> None:
    """Check one element, and count it.

    Raises:
        InputRefusedError: it is not a record of the catalogue.
        DamagedError: the records name more than a manifest can list.
    """
    _require_exact(element, where=where)
    catalog.require("record", element, where=where)
    record = Record.from_map(element)
    contents.add(record, check_record(record, catalog, where=where), where=where)
    contents.require_listable(kind=record.kind, where=where)


def _check_declaration(manifest: JsonObject, *, where: str) -> None:
    """Check that who declares no usage reports none, and for a time that is one."""
    told = declared(manifest)
    if told is None:
        return
    if manifest["records"]:
        raise DamagedError(
            "the bundle declares that there was no usage, and holds records",
            where=where,
            expected="0 records",
            found=str(manifest["records"]),
            hint=SIGNED_SO,
        )
    if told.end <= told.start:
        raise DamagedError(
            "the time without usage ends before it starts",
            where=where,
            expected=f"later than {manifest['no_usage']['from']}",
            found=manifest["no_usage"]["to"],
            hint=SIGNED_SO,
        )


def _require_exact(element: object, *, where: str) -> None:
    """Refuse floats and bytes, which JSON Schema can't (1.0 is an integer to it)."""
    try:
        jsontext.canonical(element)
    except jsontext.NotExactError as error:
        raise InputRefusedError(f"not an exact record: {error}", where=where) from None


def _compare(manifest: JsonObject, contents: JsonObject, *, where: str) -> tuple[str, ...]:
    Totals.from_map(manifest["totals"]).require_equal(
        Totals.from_map(contents["totals"]), here="the manifest", there=f"the records of {where}"
    )
    for part in ("period", "credentials", "allowed"):
        if manifest[part] != contents[part]:
            raise DamagedError(
                f"the manifest's {part} are not those of its records",
                where=where,
                expected=json.dumps(manifest[part])[:200],
                found=json.dumps(contents[part])[:200],
                hint=SIGNED_SO,
            )
    if manifest["schemas"].keys() != contents["schemas"].keys():
        raise DamagedError(
            "the manifest's schemas are not those of its kinds", where=where, hint=SIGNED_SO
        )
    return tuple(
        f"{kind} was exported with another version of its schema; it passes this one too"
        for kind, digest in manifest["schemas"].items()
        if digest != contents["schemas"][kind]
    )
