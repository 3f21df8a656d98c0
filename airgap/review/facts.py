"""What leaves in a bundle, as facts: one pass over its records, in bounded memory.

Only what manifest, records, schemas and catalogue prove is said.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airgap import timestamps
from airgap.catalog import Catalog, JsonObject, Kind
from airgap.charts import Series, bucketed
from airgap.coverage import Window
from airgap.credentials import redact
from airgap.dictionary import form as form_of
from airgap.records import Record, Totals, note_window
from airgap.review.tally import Field, Path, fields, path_text
from airgap.text import plural
from airgap.windows import Declaration, KindCoverage, Timeline, micros, survey

GAP = 86_400 * 1_000_000
"""A time without a report longer than this is a gap, in microseconds: as import and status say."""

MOST_FIELDS = 4096
"""So many fields of a kind are told apart; that there are others is said."""


@dataclass(frozen=True, slots=True)
class FieldFacts:
    """One field of a kind.

    Args:
        path: where it stands, as ``tags/NAME``.
        why: what the schema says of it, or why it may be there.
        form: what its schema lets it be.
        any_text: whether its schema lets it be any text.
        known: whether the schema names it; else the site allowed it.
        pseudonym: whether its values are the exporter's pseudonyms.
        in_map: whether its name is one of an open map, as that of a tag.
        tally: its values.
    """

    path: str
    why: str
    form: str
    any_text: bool
    known: bool
    pseudonym: bool
    in_map: bool
    tally: Field

    @property
    def marks(self) -> tuple[str, ...]:
        """What a reader must not miss, in capitals."""
        return tuple(
            text
            for text, holds in (
                ("UNKNOWN NAME, allowed by the site", not self.known),
                ("PSEUDONYM", self.pseudonym),
                (f"FREE TEXT of up to {self.tally.longest:,} characters", self.tally.cut),
            )
            if holds
        )

    @property
    def lists_values(self) -> bool:
        """Whether its values are worth reading one by one.

        Not those of a number or a time, nor the first hundred of thousands of UUIDs.
        """
        if self.tally.numbers is not None or self.form == "time":
            return False
        return self.any_text or not self.tally.others


@dataclass(frozen=True, slots=True)
class KindFacts:
    """What a bundle holds of one kind.

    Args:
        name: the kind.
        why: what its schema says of it.
        records: how many there are.
        sums: sum of each measure, by the manifest, which verification held to the records.
        to: the addresses to which the importer sends it.
        credentials: fingerprints of the keys that its usage is counted for, sorted.
        taken_out: where the requests carried the keys that collection took out.
        same_schema: whether the exporter validated with the very schema that this release has.
        raw: whether its records hold messages whose inside is not listed field by field.
        fields: its fields by path.
        usage: what was counted over time, by measure.
    """

    name: str
    why: str
    records: int
    sums: Mapping[str, int]
    to: tuple[str, ...]
    credentials: tuple[str, ...]
    taken_out: tuple[str, ...]
    same_schema: bool
    raw: bool
    fields: tuple[FieldFacts, ...]
    usage: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What leaves in a bundle.

    Args:
        bundle_id: its id.
        manifest: its manifest.
        signers: who signed it, a line each.
        kinds: what it holds, by kind.
        left_out: values of fields beyond the first 4,096 of a kind, which are not told.
        coverage: per kind the time that is accounted for, and its gaps.
        key_like: where a text looks like a key, as ``kind/path``; it is shown masked.
    """

    bundle_id: str
    manifest: JsonObject
    signers: tuple[str, ...]
    kinds: tuple[KindFacts, ...]
    left_out: int
    coverage: tuple[KindCoverage, ...]
    key_like: tuple[str, ...]

    @property
    def title(self) -> str:
        """The bundle for people: ``Bundle 2 of bank-a.prod``."""
        return f"Bundle {self.manifest['sequence']} of {self.manifest['source']}"

    @property
    def period(self) -> str:
        """The time that its records are about, for people."""
        period = self.manifest["period"]
        return f"{period['from']} .. {period['to']}" if period else "none"

    @property
    def credentials(self) -> str:
        """What of keys is in it, for people."""
        return f"none; {plural(len(self.manifest['credentials']), 'fingerprint')}"

    @property
    def declares(self) -> str | None:
        """What it declares to be without usage, for people."""
        told = self.manifest["no_usage"]
        if told is None:
            return None
        kinds = ", ".join(told["kinds"]) if told["kinds"] else "any kind"
        return f"no usage of {kinds} from {told['from']} to {told['to']}"

    @property
    def never(self) -> tuple[str, ...]:
        """What is not in the bundle, a sentence each: what verification and this pass prove."""
        found = [
            (
                "No field of a record is for a key: the schemas have none, and verification held "
                "every record to them."
            ),
            (
                "No field but those above: no schema lets another name pass, but in tags and "
                "measures, where each one that is not known is marked."
            ),
        ]
        if not self.key_like:
            found.append(
                "No text that looks like a key of LangChain's: each was searched"
                + (", though not within coded messages." if self.is_raw else ".")
            )
        if self.is_raw:
            found.append("Of OpenTelemetry messages no more is proved than that they are messages.")
        return tuple(found)

    @property
    def is_raw(self) -> bool:
        """Whether messages are in it whose inside is not listed."""
        return any(kind.raw for kind in self.kinds)

    @property
    def first_looks(self) -> tuple[str, ...]:
        """What deserves a look before all else, a sentence each; empty where nothing does."""
        found: list[str] = []
        if self.key_like:
            found.append(f"A text that LOOKS LIKE A KEY stands in {', '.join(self.key_like)}")
        names = self.manifest["allowed"]
        if names:
            found.append(
                f"{plural(len(names), 'name')} that the schemas do not know, allowed by the site: "
                + ", ".join(names)
            )
        for kind in self.kinds:
            long = [f.path for f in kind.fields if f.tally.cut]
            if kind.raw:
                found.append(
                    f"{kind.name} holds whole messages, whose inside is not listed here: "
                    "airgap cat BUNDLE shows them"
                )
            elif long:
                found.append(f"{kind.name} holds long free text in {', '.join(long)}")
            many = [
                f.path for f in kind.fields if f.any_text and f.tally.others and not f.tally.cut
            ]
            if many and not kind.raw:
                found.append(
                    f"{kind.name} holds more texts than are shown in {', '.join(many)}: "
                    "airgap cat BUNDLE shows all"
                )
            if not kind.same_schema:
                found.append(
                    f"{kind.name} was made by another version of its schema than this release has; "
                    "its records pass this one too"
                )
        if self.left_out:
            found.append(
                f"{plural(self.left_out, 'value')} of fields beyond the first {MOST_FIELDS:,} of a "
                "kind are NOT SHOWN: airgap cat BUNDLE shows all"
            )
        found += [one.text() for one in self.coverage if one.gaps]
        return tuple(found)


@dataclass(slots=True)
class _Seen:
    """What has come by of one kind."""

    fields: dict[Path, Field] = field(default_factory=dict[Path, Field])
    credentials: set[str] = field(default_factory=set[str])
    usage: dict[str, list[int]] = field(default_factory=dict[str, list[int]])


@dataclass(slots=True)
class _Axis:
    """The bars of a bundle's charts: start, step (both in microseconds) and number."""

    start: int
    step: int
    count: int

    @classmethod
    def of(cls, manifest: JsonObject) -> "_Axis | None":
        period = manifest["period"]
        if period is None:
            return None
        ends = [micros(timestamps.parse(period[name])) for name in ("from", "to")]
        return cls(*bucketed(min(ends), max(ends)))

    def bar(self, moment: int) -> int:
        return min(max(0, (moment - self.start) // self.step), self.count - 1)


def gather(
    manifest: JsonObject,
    bundle_id: str,
    records: Iterable[Record],
    catalog: Catalog,
    signers: Iterable[str],
) -> Facts:
    """Return what leaves in a bundle that was verified.

    Args:
        manifest: its manifest.
        bundle_id: its id.
        records: its records, in order; read once.
        catalog: schemas and kinds.
        signers: who signed, a line each.
    """
    seen: dict[str, _Seen] = {}
    timeline, axis, left_out = Timeline(), _Axis.of(manifest), 0
    key_like: set[str] = set()
    for record in records:
        mine = seen.get(record.kind)
        if mine is None:
            mine = seen[record.kind] = _Seen()
        mine.credentials.add(record.credential)
        for path, value in fields(record.payload):
            known = mine.fields.get(path)
            if known is None:
                if len(mine.fields) >= MOST_FIELDS:
                    left_out += 1
                    continue
                known = mine.fields[path] = Field()
            if isinstance(value, str) and not known.knows(value):
                masked = redact(value, catalog)
                if masked != value:
                    key_like.add(f"{record.kind}/{path_text(path)}")
                    value = masked  # noqa: PLW2901 - no key is shown, not even a stranger's
            known.add(value)
        kind = catalog.kind(record.kind)
        times = note_window(timeline, record, kind, where=bundle_id)
        if times is not None and axis is not None:
            _count(mine, kind, record.payload, axis, micros(min(times)))
    told = _declarations(manifest)
    coverage = survey([timeline.covered()], told, GAP, regular=catalog.regular)
    gaps = {one.kind: tuple(one.gaps) for one in coverage}
    totals = Totals.from_map(manifest["totals"])
    return Facts(
        bundle_id,
        manifest,
        tuple(signers),
        tuple(
            _kind_facts(catalog, name, mine, totals, manifest, axis, gaps.get(name, ()))
            for name, mine in sorted(seen.items())
        ),
        left_out,
        tuple(coverage),
        tuple(sorted(key_like)),
    )


def _count(seen: _Seen, kind: Kind, payload: JsonObject, axis: _Axis, moment: int) -> None:
    bar = axis.bar(moment)
    counts: list[tuple[str, int]] = [(name, payload[name]) for name in kind.sum_fields]
    for mapping in kind.sum_maps:
        counts.extend(payload[mapping].items())
    for name, value in counts:
        values = seen.usage.get(name)
        if values is None:
            values = seen.usage[name] = [0] * axis.count
        values[bar] += value


def _declarations(manifest: JsonObject) -> list[Declaration]:
    told = manifest["no_usage"]
    if told is None:
        return []
    start, end = (micros(timestamps.parse(told[name])) for name in ("from", "to"))
    return [Declaration(start, end, None if told["kinds"] is None else frozenset(told["kinds"]))]


def _kind_facts(
    catalog: Catalog,
    name: str,
    seen: _Seen,
    totals: Totals,
    manifest: JsonObject,
    axis: _Axis | None,
    gaps: tuple[Window, ...],
) -> KindFacts:
    kind, schema = catalog.kind(name), catalog.schema(f"kinds/{name}")
    places = sorted({d.credential for d in kind.dialects.values()}, key=repr)
    return KindFacts(
        name=name,
        why=str(schema["description"]),
        records=totals.kinds[name].records,
        sums=totals.kinds[name].sums,
        to=tuple(sorted({f"{catalog.bases[d.base]}{d.path}" for d in kind.dialects.values()})),
        credentials=tuple(sorted(seen.credentials)),
        taken_out=tuple(f"{place.location} {place.name}" for place in places),
        same_schema=manifest["schemas"].get(name) == catalog.schema_digest(f"kinds/{name}"),
        raw=kind.body == "raw",
        fields=tuple(
            _field_facts(schema, name, path, tally, manifest)
            for path, tally in sorted(seen.fields.items(), key=lambda item: path_text(item[0]))
        ),
        usage=()
        if axis is None
        else tuple(
            Series(measure, axis.start, axis.step, tuple(values), gaps)
            for measure, values in sorted(seen.usage.items())
        ),
    )


def _field_facts(
    schema: JsonObject, kind: str, path: Path, tally: Field, manifest: JsonObject
) -> FieldFacts:
    found: Any = schema
    named, in_map = True, False
    for part in path:
        if part is None:
            found = found.get("items", {})
            continue
        rest = found.get("additionalProperties")
        in_map = isinstance(rest, dict)
        named = part in found.get("properties", {})
        found = found["properties"][part] if named else rest if isinstance(rest, dict) else {}
    text = path_text(path)
    form, any_text = form_of(found)
    return FieldFacts(
        path=text,
        why=str(found.get("description", ""))
        if named
        else "No schema describes it; the site let it leave by its name.",
        form=form,
        any_text=any_text,
        known=named and f"{kind}/{text}" not in manifest["allowed"],
        pseudonym=f"{kind}/{text}" in manifest["pseudonymised"],
        in_map=in_map,
        tally=tally,
    )
