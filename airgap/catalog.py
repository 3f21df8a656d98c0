"""Schemas and the endpoint catalogue: loaded once, compiled once, the only place that knows them.

The files in ``schemas/`` are the single source. They are read from the installed package, or
from the checkout that the package is run from; never from anywhere else.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import islice
from typing import Any, Literal, cast

from airgap import timestamps
from airgap.errors import AirgapError, InputRefusedError
from airgap.text import printable

JsonObject = dict[str, Any]
"""A decoded JSON object: str keys; str, int, bool, None, list and dict values; no floats."""

_MAX_PROBLEMS = 20
_MOST_ERRORS = 1000
_SAFE_TO_SHOW = re.compile(r"[0-9T:Z+\-. /]{1,35}", re.ASCII)


@dataclass(frozen=True, slots=True)
class CredentialPlace:
    """Where a request carries its credential: ``type`` license or api_key, in body or header."""

    type: str
    location: Literal["body", "header"]
    name: str


@dataclass(frozen=True, slots=True)
class Dialect:
    """One documented form of a kind's request."""

    name: str
    base: str
    path: str
    credential: CredentialPlace


@dataclass(frozen=True, slots=True)
class Success:
    """The answer that means delivered."""

    status: frozenset[int]
    answer: JsonObject | None
    count: str | None
    keep: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cumulative:
    """How a request is known again that its producer sends anew, with more in it.

    Args:
        server: paths of the payload (``map/name``) that tell producers apart.
        counts: the map of counts.
        gauges: names in it that are no counts.
    """

    server: tuple[tuple[str, str], ...]
    counts: str
    gauges: frozenset[str]


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the endpoint catalogue, with what its schema says about known names."""

    name: str
    order: int
    gate: bool
    detect_all: frozenset[str]
    detect_none: frozenset[str]
    detect_only: frozenset[str]
    body: Literal["json", "raw"]
    identity: str | None
    volatile: frozenset[str]
    period: tuple[str, str] | None
    sum_fields: tuple[str, ...]
    sum_maps: tuple[str, ...]
    batch_field: str | None
    batch_max: int
    regular: bool
    duplicates_told: bool
    success: Success
    capture: Literal["always", "asked", "never"]
    cumulative: Cumulative | None
    dialects: Mapping[str, Dialect]
    open_maps: Mapping[str, frozenset[str]]

    def detects(self, body: Mapping[str, object]) -> bool:
        """Tell whether a documented request body is of this kind."""
        keys = body.keys()
        if self.detect_only:
            return keys == self.detect_only
        return self.detect_all <= keys and not self.detect_none & keys

    def unknown_names(self, payload: Mapping[str, Any]) -> list[str]:
        """Return the names in open maps that the schema does not list, as ``map/name``."""
        return [
            f"{field}/{name}"
            for field, known in self.open_maps.items()
            for name in payload[field].keys() - known
        ]


class Catalog:
    """The schemas and endpoints of one installation.

    Args:
        root: folder that holds ``endpoints.json``, ``*.schema.json`` and ``kinds/``.
    """

    def __init__(self, root: Traversable) -> None:
        self._root = root
        self._bytes: dict[str, bytes] = {}
        self._schemas: dict[str, JsonObject] = {}
        self._fast: dict[str, Any] = {}
        self._endpoints: JsonObject = json.loads(root.joinpath("endpoints.json").read_bytes())
        self.bases: Mapping[str, str] = self._endpoints["bases"]

    @cached_property
    def kinds(self) -> Mapping[str, Kind]:
        """All kinds by name, in the order in which they are delivered."""
        rows = sorted(self._endpoints["kinds"].items(), key=lambda item: item[1]["order"])
        return {name: self._kind(name, row) for name, row in rows}

    @cached_property
    def credential_patterns(self) -> Mapping[str, re.Pattern[bytes]]:
        """Per type of credential: a pattern that finds one in UTF-8 text."""
        return {
            name: re.compile("|".join(entry["patterns"]).encode())
            for name, entry in self._endpoints["credentials"].items()
        }

    def kind(self, name: str, *, where: str | None = None) -> Kind:
        """Return a kind.

        Raises:
            InputRefusedError: the catalogue has no such kind.
        """
        try:
            return self.kinds[name]
        except KeyError:
            raise InputRefusedError(
                f"unknown kind {printable(name)!r}",
                where=where,
                expected=", ".join(self.kinds),
                hint="a newer airgap may know it; else the file was not made by airgap",
            ) from None

    def schema(self, name: str) -> JsonObject:
        """Return a schema by name, for instance ``record`` or ``kinds/usage_report``."""
        if name not in self._schemas:
            self._schemas[name] = json.loads(self.schema_bytes(name))
        return self._schemas[name]

    def schema_bytes(self, name: str) -> bytes:
        """Return a schema file as it was on disk when it was first asked for."""
        if name not in self._bytes:
            self._bytes[name] = self._root.joinpath(*f"{name}.schema.json".split("/")).read_bytes()
        return self._bytes[name]

    def schema_digest(self, name: str) -> str:
        """Return the SHA-256 of a schema file, as hexadecimal."""
        return sha256(self.schema_bytes(name)).hexdigest()

    def sample_bytes(self) -> bytes:
        """Return sample requests with made-up keys, as JSON lines."""
        return self._root.joinpath("samples.jsonl").read_bytes()

    def prepare(self) -> None:
        """Read and compile now what verification would read and compile when it first needs it.

        After that the verification of a file opens no other one and imports nothing, so it can run
        where neither is possible (``keys/README.md``, "What verification needs of the system").
        """
        names = ("header", "bundle-manifest", "receipt-manifest", "record", "outcome")
        for name in (*names, *(f"kinds/{kind}" for kind in self.kinds)):
            self.is_valid(name, None)
            self.problems(name, None)
        self.all_pass("outcome", [])
        for kind in self.kinds.values():
            self.payloads_pass(kind, [], known_names=True)
            self.payloads_pass(kind, [], known_names=False)

    @property
    def tables(self) -> Mapping[str, JsonObject]:
        """LangSmith's own tables by name, as ``tables.json`` describes them."""
        found: JsonObject = json.loads(self._root.joinpath("tables.json").read_bytes())["tables"]
        return found

    @cached_property
    def profiles(self) -> Mapping[str, JsonObject]:
        """The profiles that airgap brings along, by name, as ``profiles.json`` describes them."""
        found: JsonObject = json.loads(self._root.joinpath("profiles.json").read_bytes())
        return cast("Mapping[str, JsonObject]", found["profiles"])

    @property
    def regular(self) -> frozenset[str]:
        """The kinds that an installation that runs reports at all times."""
        return frozenset(kind.name for kind in self.kinds.values() if kind.regular)

    def is_valid(self, name: str, instance: object) -> bool:
        """Tell whether a value passes a schema; the fast validator decides."""
        return self._passes(name, lambda: self.schema(name), instance)

    def all_pass(self, name: str, instances: list[Any]) -> bool:
        """Tell whether each of many values passes a schema."""
        return self._passes(f"{name} each", lambda: _each(self.schema(name)), instances)

    def is_known_payload(self, kind: Kind, payload: object) -> bool:
        """Tell whether a value passes the schema of a kind, and has only names that the schema lists."""
        name = f"{kind.name} with known names"
        return self._passes(name, lambda: self._payload_schema(kind, known_names=True), payload)

    def payloads_pass(self, kind: Kind, payloads: list[Any], *, known_names: bool) -> bool:
        """Tell whether each of many values passes the schema of a kind.

        Args:
            kind: the kind.
            payloads: the values.
            known_names: whether names that the kind's schema does not list fail, in maps that are
                open to them.
        """
        return self._passes(
            f"{kind.name} {known_names}",
            lambda: _each(self._payload_schema(kind, known_names=known_names)),
            payloads,
        )

    def _payload_schema(self, kind: Kind, *, known_names: bool) -> JsonObject:
        payload = self.schema(f"kinds/{kind.name}")
        payload = {**payload, "properties": dict(payload["properties"])}
        for field in kind.open_maps if known_names else ():
            closed = {**payload["properties"][field], "additionalProperties": False}
            # The names that are listed pass as names; a test holds the schemas to that.
            closed.pop("propertyNames", None)
            payload["properties"][field] = closed
        return payload

    def _passes(self, key: str, schema: Callable[[], JsonObject], instance: object) -> bool:
        validator = self._fast.get(key)
        if validator is None:
            validator = self._fast[key] = _fast_validator(schema())
        try:
            return bool(validator.is_valid(instance))
        except ValueError:
            # Not a value of JSON at all, such as bytes.
            return False

    def require(self, name: str, instance: object, *, where: str, hint: str | None = None) -> None:
        """Check a value against a schema.

        Args:
            name: the schema's name.
            instance: the decoded value; no bytes, no floats.
            where: file, and line or position in it, for the message.
            hint: the next step, for the message.

        Raises:
            InputRefusedError: with one line per violation (path, expected, found); values are
                shown only where they can't be a credential.
        """
        if self.is_valid(name, instance):
            return
        problems = self.problems(name, instance)
        first = problems[0]
        raise InputRefusedError(
            f"schema {name} is violated at {first.path}",
            where=where,
            expected=first.expected,
            found=first.found,
            hint=hint
            or "correct the record at its source, or leave it out; nothing was taken over",
            details=[f"{p.path}: expected {p.expected}, found {p.found}" for p in problems[1:]],
        )

    def problems(self, name: str, instance: object) -> list["Problem"]:
        """Return the violations in words that the reference validator finds, at least one."""
        errors = islice(_reference_validator(self.schema(name)).iter_errors(instance), _MOST_ERRORS)
        found = sorted({_problem(e) for e in errors}, key=lambda p: (p.path, p.expected))
        return found[:_MAX_PROBLEMS] or [
            Problem("/", f"a value that passes {name}", "one that does not")
        ]

    def _kind(self, name: str, row: JsonObject) -> Kind:
        detect, success, batch = row["detect"], row["success"], row["batch"]
        return Kind(
            name=name,
            order=row["order"],
            gate=row["gate"],
            detect_all=frozenset(detect.get("all", ())),
            detect_none=frozenset(detect.get("none", ())),
            detect_only=frozenset(detect.get("only", ())),
            body=row["body"],
            identity=row["identity"],
            volatile=frozenset(row["volatile"]),
            period=(row["period"]["from"], row["period"]["to"]) if row["period"] else None,
            sum_fields=tuple(row["sums"]["fields"]),
            sum_maps=tuple(row["sums"]["maps"]),
            batch_field=batch["field"] if batch else None,
            batch_max=batch["max"] if batch else 1,
            regular=row["regular"],
            duplicates_told=row["duplicates"] == "told",
            success=Success(
                frozenset(success["status"]), success["answer"], success["count"], success["keep"]
            ),
            capture=row["capture"],
            cumulative=_cumulative(row["cumulative"]),
            dialects={
                key: Dialect(
                    key,
                    value["base"],
                    value["path"],
                    CredentialPlace(
                        value["credential"]["type"],
                        value["credential"]["in"],
                        value["credential"]["name"],
                    ),
                )
                for key, value in row["dialects"].items()
            },
            open_maps={
                field: frozenset(schema.get("properties", ()))
                for field, schema in self.schema(f"kinds/{name}")["properties"].items()
                if isinstance(schema.get("additionalProperties"), dict)
            },
        )


def _cumulative(row: JsonObject | None) -> Cumulative | None:
    if row is None:
        return None
    server = tuple(cast("tuple[str, str]", tuple(path.split("/", 1))) for path in row["server"])
    return Cumulative(server, row["map"], frozenset(row["gauges"]))


@dataclass(frozen=True, slots=True)
class Problem:
    """One violation: a JSON pointer, what was expected there, and what was found."""

    path: str
    expected: str
    found: str


@cache
def load() -> Catalog:
    """Return the catalogue of this installation.

    Raises:
        AirgapError: the schemas are missing: the installation is broken.
    """
    package = resources.files("airgap")
    packaged = package.joinpath("schemas")
    if packaged.is_dir():
        return Catalog(packaged)
    checkout = package.joinpath("..")
    if checkout.joinpath("pyproject.toml").is_file():
        return Catalog(checkout.joinpath("schemas"))
    raise AirgapError(
        "the schemas are missing from this installation",
        where=str(packaged),
        hint="install airgap again from a complete wheel or source archive",
    )


def _each(schema: JsonObject) -> JsonObject:
    return {"type": "array", "items": schema}


def _fast_validator(schema: JsonObject) -> Any:
    import jsonschema_rs

    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True, offline=True)


def _reference_validator(schema: JsonObject) -> Any:
    import jsonschema
    from referencing import Registry

    checker = jsonschema.FormatChecker(["uuid"])
    checker.checks("date-time")(timestamps.is_date_time)
    return _reference_class()(schema, registry=Registry(), format_checker=checker)


@cache
def _reference_class() -> Any:
    """Return jsonschema's validator with ECMA-262's ``$``, which a line feed does not precede."""
    from jsonschema import Draft202012Validator, ValidationError, validators

    def pattern(_: object, value: str, instance: object, __: object) -> Iterable[Any]:
        if isinstance(instance, str) and not re.search(
            re.sub(r"(?<!\\)\$", r"\\Z", value), instance
        ):
            yield ValidationError(f"does not match {value!r}")

    def unique(_: object, value: object, instance: object, __: object) -> Iterable[Any]:
        # jsonschema compares each element with each other one: hours for a list that fits a file.
        if value and isinstance(instance, list):
            items = cast("list[object]", instance)
            if len({json.dumps(item, sort_keys=True, default=repr) for item in items}) < len(items):
                yield ValidationError("has an element twice")

    extend: Any = validators.extend
    return extend(Draft202012Validator, {"pattern": pattern, "uniqueItems": unique})


def _problem(error: Any) -> Problem:
    path = "/" + "/".join(printable(str(part)) for part in error.absolute_path)
    keyword, value, instance = error.validator, error.validator_value, error.instance
    if keyword == "additionalProperties" and value is False:
        known = set(error.schema.get("properties", ()))
        unknown = ", ".join(repr(printable(str(k))) for k in sorted(set(instance) - known)[:5])
        return Problem(path, "only known fields", f"unknown {unknown}")
    if keyword == "required":
        missing = ", ".join(repr(k) for k in value if k not in instance)
        return Problem(path, f"fields {missing}", "none")
    if keyword == "pattern" and "T(" in value:
        return Problem(path, "a date-time such as 2026-01-31T09:00:00Z", describe(instance))
    expected = {
        "type": " or ".join([value] if isinstance(value, str) else map(str, value))
        if keyword == "type"
        else "",
        "format": f"a {value}",
        "pattern": f"text that matches {value}",
        "minimum": f"at least {value}",
        "maximum": f"at most {value}",
        "maxLength": f"at most {value} characters",
        "maxItems": "an empty list" if value == 0 else f"at most {value} elements",
        "enum": f"one of {value}",
        "const": f"{value!r}",
    }.get(keyword, f"{keyword} {value}" if not isinstance(value, dict | list) else str(keyword))
    return Problem(path, expected, describe(instance))


def describe(value: object) -> str:
    """Return a value for a message; text is shown only where it can't be a credential."""
    if value is None or isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, str):
        if _SAFE_TO_SHOW.fullmatch(value):
            return json.dumps(value)
        return f"text of {len(value)} characters"
    if isinstance(value, list):
        return f"a list of {len(cast('list[object]', value))}"
    if isinstance(value, dict):
        return f"an object of {len(cast('dict[str, object]', value))} fields"
    return f"a {type(value).__name__}"


def matches(schema: JsonObject, instance: object) -> bool:
    """Tell whether a value passes a schema that is part of the catalogue itself."""
    return bool(_fast_validator(schema).is_valid(instance))
