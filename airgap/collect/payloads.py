"""One documented request body into records: credential out, fingerprint in, schema held.

Accepted is the body as LangChain documents it, or an object that says more about it::

    {"kind": "api_key_verification", "payload": {}, "headers": {"X-Api-Key": "..."}}
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from airgap import credentials, jsontext, privacy
from airgap.catalog import Catalog, Dialect, JsonObject, Kind
from airgap.collect import bodies
from airgap.errors import InputRefusedError
from airgap.records import Record, check_record
from airgap.text import printable

_WRAPPER = frozenset({"kind", "payload", "headers", "dialect", "credential"})
WRAPPER_NEEDS = frozenset({"kind", "payload"})
"""An object with these says more about a body than a body does."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the site decided about collection.

    Args:
        kind: every body is of this kind; None: each says by its form.
        defaults: fingerprint by type of credential, for bodies that carry none.
        allowed: names outside the known ones that may leave, as ``kind/map/name``.
    """

    kind: str | None = None
    defaults: Mapping[str, str] = field(default_factory=dict)
    allowed: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Request:
    """A body with what its wrapper says about it."""

    kind: Kind
    body: Any
    headers: dict[str, Any]
    dialect: str | None
    credential: str | None
    as_read: bool


def records_of(
    value: object, raw: bytes, catalog: Catalog, rules: Rules, *, where: str
) -> Iterator[Record]:
    """Yield the records of one request, each checked, with occurrence 0.

    Args:
        value: the decoded body or wrapper.
        raw: the bytes that it was decoded from, which OTLP kinds keep.
        catalog: schemas and kinds.
        rules: the site's decisions.
        where: file and line, for messages.

    Raises:
        InputRefusedError: not a request of a known kind, no or two credentials, a credential
            or personal data elsewhere, a name that is not allowed, or a violated schema.
    """
    request = _unwrap(value, catalog, rules, where=where)
    dialect, fingerprint, secret = _take_credential(request, rules, where=where)
    for payload in _payloads(request, raw, where=where):
        record = Record(request.kind.name, dialect.name, fingerprint, 0, payload)
        _check(record, request.kind, secret, catalog, rules, where=where)
        yield record


def record_of(
    kind: str, payload: JsonObject, catalog: Catalog, rules: Rules, *, where: str
) -> Record:
    """Return the record of a payload that never was in a request, checked, with occurrence 0.

    Args:
        kind: its kind.
        payload: the request's body without a credential.
        catalog: schemas and kinds.
        rules: the site's decisions; its defaults say whose usage it is.
        where: file and line, for messages.

    Raises:
        InputRefusedError: see ``records_of``.
    """
    request = _Request(catalog.kind(kind), payload, {}, None, None, as_read=False)
    dialect, fingerprint = _default_credential(request, rules, where=where)
    record = Record(kind, dialect.name, fingerprint, 0, payload)
    _check(record, request.kind, None, catalog, rules, where=where)
    return record


def _check(
    record: Record,
    kind: Kind,
    secret: str | None,
    catalog: Catalog,
    rules: Rules,
    *,
    where: str,
) -> None:
    _keep_out_secrets(record, secret, catalog, where=where)
    catalog.require("record", record.as_map(), where=where)
    check_record(record, catalog, where=where)
    _refuse_unknown(record, kind, rules, where=where)


def _unwrap(value: object, catalog: Catalog, rules: Rules, *, where: str) -> _Request:
    if not isinstance(value, dict):
        raise InputRefusedError(
            "this is not a request body",
            where=where,
            expected="a JSON object",
            found="another value",
        )
    body: JsonObject = value
    if body.keys() >= WRAPPER_NEEDS:
        extra = body.keys() - _WRAPPER
        if extra:
            raise InputRefusedError(
                f"unknown field {printable(min(extra))!r} beside kind and payload",
                where=where,
                expected=", ".join(sorted(_WRAPPER)),
            )
        if not isinstance(body["kind"], str) or not isinstance(body.get("headers", {}), dict):
            raise InputRefusedError("kind is not text, or headers no object", where=where)
        return _Request(
            catalog.kind(body["kind"], where=where),
            body["payload"],
            body.get("headers", {}),
            body.get("dialect"),
            body.get("credential"),
            as_read=False,
        )
    if rules.kind is not None:
        return _Request(catalog.kind(rules.kind), body, {}, None, None, as_read=True)
    return _Request(detect(body, catalog, where=where), body, {}, None, None, as_read=True)


def detect(body: JsonObject, catalog: Catalog, *, where: str) -> Kind:
    """Return the kind of a body, by the names of its fields.

    Raises:
        InputRefusedError: it could be of none, or of several.
    """
    found = [
        kind
        for kind in catalog.kinds.values()
        if kind.detects(body) or (kind.batch_field is not None and kind.batch_field in body)
    ]
    if len(found) == 1:
        return found[0]
    keys = ", ".join(repr(printable(key, 40)) for key in list(body)[:8])
    raise InputRefusedError(
        "this is not a request of any known kind"
        if not found
        else "this could be of several kinds",
        where=where,
        expected=f"one of {', '.join(catalog.kinds)}",
        found=f"an object with {keys}" if body else "an empty object",
        hint="say which with --kind, or leave the line out",
    )


def _take_credential(
    request: _Request, rules: Rules, *, where: str
) -> tuple[Dialect, str, str | None]:
    """Remove the credential from body and headers; return dialect, fingerprint and credential."""
    headers = _headers(request, where=where)
    found: list[tuple[Dialect, object]] = []
    for dialect in request.kind.dialects.values():
        place = dialect.credential
        if place.location == "header" and place.name.lower() in headers:
            found.append((dialect, headers.pop(place.name.lower())))
        if isinstance(request.body, dict) and place.name in request.body:
            found.append((dialect, request.body[place.name]))
            request.body = {k: v for k, v in request.body.items() if k != place.name}
            request.as_read = False
    unknown = headers.keys() - {"content-type", "content-encoding"}
    if unknown:
        raise InputRefusedError(
            f"unknown header {printable(min(unknown))!r}", where=where, hint="leave it out"
        )
    # Releases that know two keys write null for the one they lack.
    present = [item for item in found if item[1] is not None]
    if found and not present:
        credentials.check(found[0][0].credential.type, None, where=where)
    if len(present) > 1:
        raise InputRefusedError(
            "the request carries more than one credential",
            where=where,
            expected=f"one of {', '.join(d.credential.name for d, _ in present)}",
            hint="leave out the one that the installation does not report with",
        )
    if not present:
        return *_default_credential(request, rules, where=where), None
    dialect, value = present[0]
    if request.dialect not in (None, dialect.name) or request.credential is not None:
        raise InputRefusedError(
            "the request carries a credential that its wrapper contradicts",
            where=where,
            expected=f"dialect {dialect.name}, or none, and no fingerprint",
            hint="leave dialect and credential out of the wrapper",
        )
    secret = credentials.check(dialect.credential.type, value, where=where)
    return dialect, credentials.fingerprint(dialect.credential.type, secret), secret


def _headers(request: _Request, *, where: str) -> dict[str, object]:
    """Return the wrapper's headers by lower-case name."""
    headers = {str(name).lower(): item for name, item in request.headers.items()}
    if len(headers) != len(request.headers):
        raise InputRefusedError("the same header twice", where=where, hint="leave one out")
    return headers


def _default_credential(request: _Request, rules: Rules, *, where: str) -> tuple[Dialect, str]:
    given = request.credential if isinstance(request.credential, str) else None
    found = whose(request.kind, rules, dialect=request.dialect, given=given)
    if found is not None:
        return found
    names = sorted({d.credential.name for d in request.kind.dialects.values()})
    raise InputRefusedError(
        f"the {request.kind.name} carries no credential, so nobody can tell whose it is",
        where=where,
        expected=f"one of {', '.join(names)}",
        found="none",
        hint="name the installation's key with --license-file FILE (only its fingerprint is kept)",
    )


def whose(
    kind: Kind, rules: Rules, *, dialect: str | None = None, given: str | None = None
) -> tuple[Dialect, str] | None:
    """Return under which dialect and fingerprint a body without a credential is counted, if any.

    Args:
        kind: the body's kind.
        rules: the site's decisions.
        dialect: the only one that may be meant, or None.
        given: the fingerprint that the body's wrapper says, or None.
    """
    for one in kind.dialects.values():
        if dialect is not None and one.name != dialect:
            continue
        of = one.credential.type
        fingerprint = given if given and given.startswith(f"{of}:") else rules.defaults.get(of)
        if fingerprint is not None:
            return one, fingerprint
    return None


def _payloads(request: _Request, raw: bytes, *, where: str) -> Iterator[JsonObject]:
    body, kind = request.body, request.kind
    if kind.body == "raw":
        yield _raw_payload(request, raw, where=where)
    elif kind.batch_field is not None and isinstance(body, dict) and kind.batch_field in body:
        items = body[kind.batch_field]
        if body.keys() != {kind.batch_field} or not isinstance(items, list):
            raise InputRefusedError(
                f"the request is not a list of {kind.name}",
                where=where,
                expected=f"the credential and a list {kind.batch_field}, nothing else",
                found=f"fields {', '.join(printable(k, 40) for k in list(body)[:8])}",
            )
        for item in items:
            yield _object(item, where=where)
    else:
        yield _object(body, where=where)


def _object(value: object, *, where: str) -> JsonObject:
    if not isinstance(value, dict):
        raise InputRefusedError(
            "a payload is not an object",
            where=where,
            expected="a JSON object",
            found="another value",
        )
    return value


def _raw_payload(request: _Request, raw: bytes, *, where: str) -> JsonObject:
    """Return an OTLP payload: as the wrapper gives it, or the JSON text of the body.

    The text is the one that was read, unless a credential had to be taken out of it or it stood
    in a wrapper; then it is written anew.
    """
    body = _object(request.body, where=where)
    if "content_type" in body:
        return body
    if body.keys() != request.kind.detect_all:
        raise InputRefusedError(
            f"this is not a body of {request.kind.name}",
            where=where,
            expected=f"an object with {', '.join(request.kind.detect_all)} and nothing else",
            found=", ".join(printable(k, 40) for k in list(body)[:8]) or "an empty object",
        )
    return {
        "content_type": "application/json",
        "content_encoding": "identity",
        "encoding": "utf-8",
        "body": (raw.strip() if request.as_read else orjson.dumps(body)).decode(),
    }


def _keep_out_secrets(record: Record, secret: str | None, catalog: Catalog, *, where: str) -> None:
    """Refuse a record that holds a credential or personal data, in its body or elsewhere."""
    secrets = [secret] if secret else []
    raw = catalog.kind(record.kind).body == "raw"
    try:
        text = jsontext.canonical(record.payload)
    except jsontext.NotExactError as error:
        raise InputRefusedError(
            str(error), where=where, expected="integers", hint="correct the record at its source"
        ) from None
    credentials.guard(text, catalog, where=where, secrets=secrets)
    if not raw:
        privacy.guard(text, where=where)
        return
    # The body is left out here: as a string it would hide what is a number in it.
    rest = {name: value for name, value in record.payload.items() if name != "body"}
    privacy.guard(jsontext.canonical(rest), where=where)
    is_json = record.payload.get("content_type") == "application/json"
    for form in _readings(record.payload, where=where):
        credentials.guard(form, catalog, where=where, secrets=secrets)
        privacy.guard(bodies.without_numbers(form) if is_json else form, where=where)


def _readings(payload: JsonObject, *, where: str) -> Iterator[bytes]:
    """Yield a raw body's forms in which a credential would be seen.

    Raises:
        InputRefusedError: it is not what its encoding says, so nobody can look into it.
    """
    if not isinstance(payload.get("body"), str):
        return
    try:
        data = bodies.unpacked(payload)
        yield data
        if payload.get("content_type") == "application/json":
            yield orjson.dumps(orjson.loads(data))
    except ValueError:
        raise bodies.unreadable(where) from None


def _refuse_unknown(record: Record, kind: Kind, rules: Rules, *, where: str) -> None:
    unknown = sorted(
        name
        for name in (f"{kind.name}/{n}" for n in kind.unknown_names(record.payload))
        if name not in rules.allowed
    )
    if unknown:
        shown = [printable(name, 120) for name in unknown[:8]]
        raise InputRefusedError(
            f"unknown name{'s' if len(shown) > 1 else ''} {', '.join(shown)}",
            where=where,
            expected="names that are known to leave, or allowed by you",
            found=f"{len(unknown)} unknown",
            hint="if this may leave: " + " ".join(f"--allow {n}" for n in shown),
        )
