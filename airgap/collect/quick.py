"""The quick way for what is plain, which is nearly everything.

What it returns is exactly what the exact way (``jsontext.parse``, ``payloads.records_of``) makes of
the same. It returns None wherever it is not sure of that, or where something is wrong; then the exact
way looks again, and finds the words. A property test holds the two to each other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import orjson

from airgap import credentials, jsontext, privacy
from airgap.catalog import Catalog, JsonObject, Kind
from airgap.collect.payloads import WRAPPER_NEEDS, Rules, detect, whose
from airgap.coverage import Window
from airgap.errors import InputRefusedError
from airgap.limits import MAX_RECORD_SIZE
from airgap.sightings import Plain, SourceRow
from airgap.windows import Moments

_FLOAT = b"\xcb"
"""First byte of a double in msgpack; what holds none has no float in it."""
_MOST_SHAPES = 256
_MOST_KEPT = 16_384


class Quick:
    """Reads plain lines: one documented body each, with the credential in it or named by the site.

    Args:
        catalog: schemas and kinds.
        rules: the site's decisions.
    """

    def __init__(self, catalog: Catalog, rules: Rules) -> None:
        self._catalog = catalog
        self._rules = rules
        self._shapes: dict[tuple[str, ...], _Shape | None] = {}
        self._secrets: dict[tuple[str, str], _Secret] = {}
        self.forms = Forms(catalog, rules)

    def read(self, line: bytes) -> Sequence[Plain]:
        """Return what a line shows; nothing where the exact way has to look.

        Args:
            line: one line of JSON lines, with its end.
        """
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            return ()
        shape = self._shape(value) if type(value) is dict else None
        if shape is None:
            return ()
        taken, needle, fingerprint = 0, None, shape.credential
        if shape.name is not None:
            secret = self._secret(shape, value.pop(shape.name))
            if secret is None:
                return ()
            taken, needle, fingerprint = secret.length, secret.text, secret.fingerprint
        if shape.batch is None:
            made = self.forms.plain(shape.form, shape.dialect, fingerprint, value, None)
            if made is None or (needle is not None and needle in made.canonical):
                return ()
            taken += shape.name is not None and bool(value)
            return (made,) if same_length(line, (made.canonical,), taken) else ()
        found = self._all(value[shape.batch], shape, fingerprint)
        texts = [one.canonical for one in found]
        if needle is not None and any(needle in text for text in texts):
            return ()
        # Braces, the list's name, colon and brackets, and the commas between its elements.
        taken += 2 + len(orjson.dumps(shape.batch)) + 1 + 2 + len(found) - 1
        return found if same_length(line, texts, taken + (shape.name is not None)) else ()

    def _all(self, payloads: object, shape: "_Shape", credential: str) -> Sequence[Plain]:
        """Return what payloads show; nothing unless each is a plain one of the shape's kind."""
        found: list[Plain] = []
        for payload in payloads if isinstance(payloads, list) else ():
            made = (
                self.forms.plain(shape.form, shape.dialect, credential, payload, None)
                if type(payload) is dict
                else None
            )
            if made is None:
                return ()
            found.append(made)
        return found

    def _shape(self, value: JsonObject) -> "_Shape | None":
        names = tuple(value)
        try:
            return self._shapes[names]
        except KeyError:
            found = self._shape_of(value)
            if len(self._shapes) < _MOST_SHAPES:
                self._shapes[names] = found
            return found

    def _shape_of(self, value: JsonObject) -> "_Shape | None":
        if value.keys() >= WRAPPER_NEEDS:
            return None
        try:
            kind = (
                self._catalog.kind(self._rules.kind)
                if self._rules.kind is not None
                else detect(value, self._catalog, where="")
            )
        except InputRefusedError:
            return None
        form = self.forms.of(kind)
        if form is None:
            return None
        named = [
            d
            for d in kind.dialects.values()
            if d.credential.location == "body" and d.credential.name in value
        ]
        batch = kind.batch_field if kind.batch_field in value else None
        if batch is not None and value.keys() - {d.credential.name for d in named} != {batch}:
            return None
        if len(named) == 1:
            place = named[0].credential
            return _Shape(form, named[0].name, "", place.name, place.type, batch)
        default = None if named else whose(kind, self._rules)
        if default is None:
            return None
        return _Shape(form, default[0].name, default[1], None, "", batch)

    def _secret(self, shape: "_Shape", value: object) -> "_Secret | None":
        if type(value) is not str:
            return None
        assert shape.name is not None
        known = self._secrets.get((shape.name, value))
        if known is not None:
            return known
        try:
            secret = credentials.check(shape.type, value, where="")
        except InputRefusedError:
            return None
        text = secret.encode()
        quoted = orjson.dumps(secret)
        if quoted[1:-1] != text:
            return None
        member = len(orjson.dumps(shape.name)) + 1 + len(quoted)
        # A text that holds a key of a known form is not clean anyhow.
        patterns = self._catalog.credential_patterns.values()
        needle = None if any(pattern.search(text) for pattern in patterns) else text
        made = _Secret(credentials.fingerprint(shape.type, secret), needle, member)
        if len(self._secrets) < _MOST_SHAPES:
            self._secrets[shape.name, value] = made
        return made


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a body's names say.

    Its kind, where its credential is, or whose it is without one, and, of a body that is a list of
    payloads, where that is.
    """

    form: "Form"
    dialect: str
    credential: str
    name: str | None
    type: str
    batch: str | None


@dataclass(frozen=True, slots=True)
class _Secret:
    """A credential: its fingerprint, what to look for, and the length of its member in a body."""

    fingerprint: str
    text: bytes | None
    length: int


@dataclass(frozen=True, slots=True)
class Form:
    """What a kind's schema says about where text can stand.

    Args:
        kind: the kind.
        schema: its schema's name.
        texts: fields that hold text that the schema gives no form.
        maps: per map, the names that may leave, and whether its values are text.
    """

    kind: Kind
    schema: str
    texts: tuple[str, ...]
    maps: tuple[tuple[str, frozenset[str], bool], ...]


class Forms:
    """Checks payloads of kinds whose schema says where text can stand.

    A text that was found clean is not searched again: the same few tags are in most reports.
    """

    def __init__(self, catalog: Catalog, rules: Rules) -> None:
        self._catalog = catalog
        self._allowed = rules.allowed
        self._forms: dict[str, Form | None] = {}
        self._records: set[tuple[str, str, str]] = set()
        self._clean: set[str] = set()
        self._listed = {kind.name for kind in catalog.kinds.values() if kind.open_maps}
        """Kinds with open maps in which nothing was seen yet that their schema does not list."""
        self._moments = Moments()
        self._pack = msgpack.Packer(use_bin_type=True, strict_types=True).pack

    def of(self, kind: Kind) -> Form | None:
        """Return a kind's form, or None where its schema leaves open what it holds."""
        if kind.name not in self._forms:
            self._forms[kind.name] = self._form(kind)
        return self._forms[kind.name]

    def plain(
        self, form: Form, dialect: str, credential: str, payload: JsonObject, row: SourceRow | None
    ) -> Plain | None:
        """Return the sighting of a payload, or None where the exact way has to look.

        Args:
            form: of its kind.
            dialect: a dialect of the kind.
            credential: a fingerprint of the dialect's type.
            payload: decoded by orjson, or put together of its like.
            row: where it stood, or None.
        """
        kind = form.kind
        around = (kind.name, dialect, credential)
        if not (around in self._records or self._is_record(*around)):
            return None
        if not self._is_valid(form, payload) or not self._is_clean(form, payload):
            return None
        packed: bytes = self._pack(payload)
        if len(packed) > MAX_RECORD_SIZE - 1024 or (
            _FLOAT in packed and jsontext.holds_float(payload)
        ):
            return None
        window: Window | None = None
        if kind.period is not None:
            start, end = kind.period
            try:
                window = (self._moments.of(payload[start]), self._moments.of(payload[end]))
            except ValueError:
                return None
        canonical = orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)
        return Plain(kind, dialect, credential, payload, canonical, packed, window, row)

    def _is_valid(self, form: Form, payload: JsonObject) -> bool:
        # Nearly always all names are listed, and then none is held against a pattern.
        kind = form.kind
        if kind.name in self._listed and self._catalog.is_known_payload(kind, payload):
            return True
        if not self._catalog.is_valid(form.schema, payload):
            return False
        self._listed.discard(kind.name)
        return True

    def _is_clean(self, form: Form, payload: JsonObject) -> bool:
        """Tell whether a valid payload has only names that may leave, and nothing secret in texts."""
        clean = self._clean
        for name in form.texts:
            text = payload.get(name)
            if text is not None and text not in clean and not self._are_clean((text,)):
                return False
        for name, names, of_text in form.maps:
            held = payload[name]
            if not names.issuperset(held):
                return False
            if of_text and not (clean.issuperset(held.values()) or self._are_clean(held.values())):
                return False
        return True

    def _form(self, kind: Kind) -> Form | None:
        schema = self._catalog.schema(f"kinds/{kind.name}")
        if kind.body != "json" or schema.get("additionalProperties") is not False:
            return None
        texts: list[str] = []
        maps: list[tuple[str, frozenset[str], bool]] = []
        for name, inner in schema["properties"].items():
            types = _types(inner)
            if types == {"object"} and name in kind.open_maps:
                values = [inner["additionalProperties"], *inner.get("properties", {}).values()]
                of_text = {"string"} == set().union(*map(_types, values))
                if not of_text and {"integer"} != set().union(*map(_types, values)):
                    return None
                names = kind.open_maps[name] | self._allowed_in(kind, name)
                clean = frozenset(n for n in names if self._are_clean((n,)))
                maps.append((name, clean, of_text))
            elif types <= {"string", "null"}:
                # An id or a time has a form that no address, card number or key fits.
                if inner.get("format") not in ("uuid", "date-time"):
                    texts.append(name)
            elif not types <= {"integer", "boolean"} and inner.get("maxItems") != 0:
                return None
        required = {*(kind.period or ()), *kind.sum_fields, *kind.sum_maps, *kind.open_maps}
        if not required <= set(schema.get("required", ())):
            return None
        return Form(kind, f"kinds/{kind.name}", tuple(texts), tuple(maps))

    def _allowed_in(self, kind: Kind, field: str) -> frozenset[str]:
        start = f"{kind.name}/{field}/"
        return frozenset(n.removeprefix(start) for n in self._allowed if n.startswith(start))

    def _is_record(self, kind: str, dialect: str, credential: str) -> bool:
        """Tell whether what stands around a payload passes, which is the same for most."""
        around = {"kind": kind, "dialect": dialect, "credential": credential}
        if not self._catalog.is_valid("record", {**around, "occurrence": 0, "payload": {}}):
            return False
        if len(self._records) < _MOST_KEPT:
            self._records.add((kind, dialect, credential))
        return True

    def _are_clean(self, texts: Iterable[str]) -> bool:
        """Tell whether texts hold no credential and nothing personal, and remember those that do not."""
        for text in texts:
            if text in self._clean:
                continue
            data = orjson.dumps(text)
            try:
                credentials.guard(data, self._catalog, where="")
                privacy.guard(data, where="")
            except InputRefusedError:
                return False
            if len(self._clean) >= _MOST_KEPT:
                self._clean.clear()
            self._clean.add(text)
        return True


def _types(schema: Any) -> frozenset[str]:
    kinds = schema.get("type", ()) if isinstance(schema, dict) else ()
    return frozenset([kinds] if isinstance(kinds, str) else kinds)


def same_length(line: bytes, canonical: Sequence[bytes], taken: int) -> bool:
    """Tell whether a line is as long as the canonical form of all that was decoded from it.

    Then two readers can't understand it differently. The canonical form has each member once and
    each text in its shortest form, so it is never longer than the line without the white space
    between its parts, and shorter where a member was dropped as a duplicate, a character was
    escaped without need, or a number was ``-0``. What would be longer, a float, is not let through.
    Spaces are left out of both sides, as neither has more or fewer of them within its texts.

    Args:
        line: a line of JSON, with its end.
        canonical: the payloads' canonical JSON.
        taken: length of all that stands around them.
    """
    length = len(line) - (2 if line.endswith(b"\r\n") else line.endswith(b"\n")) - taken
    spaces = line.count(b" ")
    for text in canonical:
        length -= len(text)
        if spaces:
            length += text.count(b" ")
    return length == spaces
