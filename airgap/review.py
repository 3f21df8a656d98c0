"""The review sheet: everything that leaves in a bundle, for a person who is to say yes or no.

The sheet is plain text and follows from the bundle alone, so two people who review the same bundle
with the same release read the same sheet, and its SHA-256 can stand in their approvals.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256

from airgap.catalog import Catalog, JsonObject
from airgap.records import Record, Totals
from airgap.text import plural, printable

_MOST_FIELDS = 4096
_MOST_VALUES = 100
_SHOWN_VALUES = 4
_LONG = 64
_WHOLE = 10 * _LONG


@dataclass(slots=True)
class Field:
    """What one field of a kind holds over a whole bundle.

    Args:
        count: in how many places it stands.
        values: different values, as shown, by what tells them apart (type and value, of a long text
            its SHA-256); at most 100, and ``more`` says that there are others.
        numbers: smallest and largest integer, and the exact sum.
        texts: smallest and largest text by code point, shortened.
        longest: length of the longest text.
        cut: whether a text was too long to be shown.
    """

    count: int = 0
    values: dict[tuple[str, object], str] = field(default_factory=dict[tuple[str, object], str])
    more: bool = False
    numbers: tuple[int, int, int] | None = None
    texts: tuple[str, str] | None = None
    longest: int = 0
    cut: bool = False

    def add(self, value: object) -> None:
        """Count a value: text, integer, boolean, nothing, or an empty map or list."""
        self.count += 1
        if isinstance(value, str):
            short = value[:_LONG]
            low, high = self.texts or (short, short)
            self.texts = (min(low, short), max(high, short))
            self.longest = max(self.longest, len(value))
            self.cut = self.cut or printable(value, _LONG) != printable(value, _WHOLE)
        elif isinstance(value, int) and not isinstance(value, bool):
            low_n, high_n, total = self.numbers or (value, value, 0)
            self.numbers = (min(low_n, value), max(high_n, value), total + value)
        known = _known_by(value)
        if known not in self.values:
            if len(self.values) < _MOST_VALUES:
                self.values[known] = _shown(value)
            else:
                self.more = True

    def line(self) -> str:
        """Return what the values are, in a line."""
        if len(self.values) == 1:
            told = f"always {next(iter(self.values.values()))}"
        else:
            number = f"more than {_MOST_VALUES}" if self.more else str(len(self.values))
            told = f"{number} different values"
            if len(self.values) <= _SHOWN_VALUES:
                told += f": {', '.join(self.values.values())}"
            elif self.numbers is not None:
                told += f", {self.numbers[0]:,} .. {self.numbers[1]:,}"
            elif self.texts is not None:
                told += f", {_shown(self.texts[0])} .. {_shown(self.texts[1])}"
        if self.numbers is not None:
            told += f"; sum {self.numbers[2]:,}"
        if self.cut:
            told += f"; FREE TEXT of up to {self.longest:,} characters"
        return told


def fields(payload: JsonObject) -> Iterator[tuple[str, object]]:
    """Yield every value of a payload with its path: ``tags/NAME``, ``logs[]``."""
    pending: list[tuple[str, object]] = [(name, value) for name, value in payload.items()]
    pending.reverse()
    while pending:
        path, value = pending.pop()
        if isinstance(value, dict) and value:
            pending.extend((f"{path}/{name}", inner) for name, inner in reversed(value.items()))
        elif isinstance(value, list) and value:
            pending.extend((f"{path}[]", inner) for inner in reversed(value))
        else:
            yield path, value


def sheet(
    manifest: JsonObject,
    document_id: str,
    records: Iterable[Record],
    catalog: Catalog,
    signers: Iterable[str],
) -> str:
    """Return a bundle's review sheet.

    Args:
        manifest: its manifest.
        document_id: its id.
        records: its records, in order.
        catalog: schemas and kinds: where each kind goes.
        signers: who signed, a line each.

    Returns:
        Lines of text, each ended by a line feed; nothing in it can drive a terminal.
    """
    kinds: dict[str, dict[str, Field]] = {}
    credentials: dict[str, set[str]] = {}
    left_out = 0
    for record in records:
        found = kinds.setdefault(record.kind, {})
        credentials.setdefault(record.kind, set()).add(record.credential)
        for path, value in fields(record.payload):
            if path not in found and len(found) >= _MOST_FIELDS:
                left_out += 1
            else:
                found.setdefault(path, Field()).add(value)
    lines = [*_head(manifest, document_id), *(f"Signed by     {line}" for line in signers)]
    totals = Totals.from_map(manifest["totals"])
    unknown = set(manifest["allowed"])
    for name, found in sorted(kinds.items()):
        kind = catalog.kind(name)
        wheres = sorted({f"{catalog.bases[d.base]}{d.path}" for d in kind.dialects.values()})
        lines += [
            "",
            f"{name}: {plural(totals.kinds[name].records, 'record')}, to {' or '.join(wheres)}",
            "  whose usage (fingerprints; no key is in the bundle):",
            *(f"      {one}" for one in sorted(credentials[name])),
        ]
        for path, values in sorted(found.items()):
            note = " [UNKNOWN NAME, allowed by the site]" if f"{name}/{path}" in unknown else ""
            note += " [pseudonym]" if f"{name}/{path}" in manifest["pseudonymised"] else ""
            lines.append(f"  {path}{note}")
            lines.append(f"      {plural(values.count, 'time')}; {values.line()}")
    if left_out:
        lines += [
            "",
            f"NOT SHOWN: {plural(left_out, 'value')} of fields beyond the first {_MOST_FIELDS}",
        ]
    if not kinds:
        lines += ["", "No record is in it."]
    return "".join(f"{printable(line, 1000)}\n" for line in lines)


def _head(manifest: JsonObject, document_id: str) -> list[str]:
    period, told = manifest["period"], manifest["no_usage"]
    lines = [
        f"Bundle        {manifest['sequence']} of {manifest['source']}",
        f"Id            {document_id}",
        f"Made          {manifest['created_at']} by {manifest['producer']}",
        f"Period        {period['from']} .. {period['to']}" if period else "Period        none",
        f"Records       {manifest['records']:,}",
        f"Credentials   none; {plural(len(manifest['credentials']), 'fingerprint')}",
    ]
    if told is not None:
        kinds = ", ".join(told["kinds"]) if told["kinds"] else "any kind"
        lines.append(f"Declares      no usage of {kinds} from {told['from']} to {told['to']}")
    if manifest["message"] is not None:
        lines.append(f"Says          {manifest['message']}")
    return lines


def _known_by(value: object) -> tuple[str, object]:
    """Return what tells a value from others, short whatever its length."""
    if isinstance(value, str) and len(value) > _LONG:
        return "long", sha256(value.encode(errors="surrogatepass")).digest()
    # 1 and true are equal to Python, and every empty map or list is shown alike.
    return type(value).__name__, value if isinstance(value, str | int | None) else None


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f'"{printable(value, _LONG)}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:,}"
    return "empty" if value is not None else "nothing"
