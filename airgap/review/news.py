"""What a bundle has that the one before did not have: kinds, fields, texts, keys, names, totals."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airgap.review.facts import Facts
from airgap.review.tally import digest
from airgap.text import plural

FORMAT = "airgap-review/1"
_MOST_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a bundle's facts to compare a later one with; of values only digests.

    Args:
        bundle_id: its id.
        source: its source.
        sequence: its number.
        totals: its totals, as the manifest has them.
        fields: per kind and field the digests of its values, sorted; None where there were more
            than are kept.
        credentials: fingerprints.
        allowed: names that the site let through.
    """

    bundle_id: str
    source: str
    sequence: int
    totals: Mapping[str, Any]
    fields: Mapping[str, Mapping[str, tuple[str, ...] | None]]
    credentials: tuple[str, ...]
    allowed: tuple[str, ...]

    @classmethod
    def of(cls, facts: Facts) -> "Kept":
        """Return what is kept of a bundle's facts."""
        manifest = facts.manifest
        return cls(
            facts.bundle_id,
            manifest["source"],
            manifest["sequence"],
            manifest["totals"],
            {kind.name: {f.path: f.tally.digests() for f in kind.fields} for kind in facts.kinds},
            tuple(manifest["credentials"]),
            tuple(manifest["allowed"]),
        )

    def to_bytes(self) -> bytes:
        """Return it as a file."""
        value = {
            "format": FORMAT,
            "bundle_id": self.bundle_id,
            "source": self.source,
            "sequence": self.sequence,
            "totals": self.totals,
            "fields": self.fields,
            "credentials": self.credentials,
            "allowed": self.allowed,
        }
        return (json.dumps(value, sort_keys=True, indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Kept | None":
        """Return what a file holds, or None where it is not one that this release can use."""
        try:
            value = json.loads(data)
            if value["format"] != FORMAT:
                return None
            return cls(
                str(value["bundle_id"]),
                str(value["source"]),
                int(value["sequence"]),
                {
                    kind: {
                        "records": int(t["records"]),
                        "sums": {n: int(s) for n, s in t["sums"].items()},
                    }
                    for kind, t in value["totals"].items()
                },
                {
                    kind: {path: None if d is None else tuple(d) for path, d in found.items()}
                    for kind, found in value["fields"].items()
                },
                tuple(value["credentials"]),
                tuple(value["allowed"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


@dataclass(frozen=True, slots=True)
class Change:
    """A total beside the one before; None where there was or is none."""

    kind: str
    what: str
    before: int | None
    now: int | None


@dataclass(frozen=True, slots=True)
class News:
    """What a bundle was compared with, and what that did not have.

    Args:
        told: what it was compared with, or that it was not and how to; a sentence or two.
        since: the other bundle's number, or None where it was not compared.
        groups: what is new: heading and lines; a group without lines has nothing new.
        unknown: of which fields new texts can't be told, since there are too many.
        changes: totals of both.
    """

    told: str
    since: int | None = None
    since_id: str | None = None
    groups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    unknown: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()

    @property
    def count(self) -> int:
        """How many new things there are."""
        return sum(len(lines) for _, lines in self.groups)


def compare(facts: Facts, kept: Kept | None) -> News:
    """Return what is new in a bundle.

    Args:
        facts: the bundle's.
        kept: what is kept of an earlier bundle of its source, or None.
    """
    manifest = facts.manifest
    if kept is None:
        return News(_not_compared(manifest))
    if kept.bundle_id == manifest["previous"]:
        told = f"Compared with bundle {kept.sequence}, the one before: {kept.bundle_id}."
    else:
        told = (
            f"Compared with bundle {kept.sequence}, which is NOT the one before it: {kept.bundle_id}. "
            f"The one before is {manifest['previous']}."
        )
    kinds = [kind.name for kind in facts.kinds if kind.name not in kept.fields]
    paths: list[str] = []
    values: list[str] = []
    unknown: list[str] = []
    for kind in facts.kinds:
        before = kept.fields.get(kind.name, {})
        for one in kind.fields:
            name = f"{kind.name}/{one.path}"
            if one.path not in before:
                if kind.name in kept.fields:
                    paths.append(name)
                continue
            if not one.any_text or kind.raw:
                continue
            held = before[one.path]
            if held is None or one.tally.others:
                unknown.append(name)
            if held is not None:
                values.extend(
                    f"{name} = {value.shown}"
                    for known_by, value in one.tally.values.items()
                    if digest(known_by) not in held
                )
    groups = (
        ("Kinds", tuple(kinds)),
        ("Fields, tags and measures", tuple(paths)),
        ("Texts", _bounded(values)),
        ("Keys, by fingerprint", _missing(manifest["credentials"], kept.credentials)),
        ("Unknown names allowed", _missing(manifest["allowed"], kept.allowed)),
    )
    return News(
        told,
        kept.sequence,
        kept.bundle_id,
        groups,
        tuple(unknown),
        _changes(kept.totals, manifest["totals"]),
    )


def _not_compared(manifest: Mapping[str, Any]) -> str:
    if manifest["previous"] is None:
        return "This is the first bundle of its source: there is none to compare it with."
    return (
        "NOT COMPARED with the bundle before, which was not reviewed in this home. "
        "To compare: airgap review BUNDLE --since THE_BUNDLE_BEFORE, which is "
        f"bundle {manifest['sequence'] - 1}, {manifest['previous']}."
    )


def _bounded(lines: list[str]) -> tuple[str, ...]:
    if len(lines) <= _MOST_SHOWN:
        return tuple(lines)
    rest = plural(len(lines) - _MOST_SHOWN, "more new text")
    return (*lines[:_MOST_SHOWN], f"and {rest}; the fields below list them")


def _missing(now: list[str], before: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(one for one in now if one not in before)


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[Change, ...]:
    found: list[Change] = []
    for kind in sorted(before.keys() | now.keys()):
        old, new = before.get(kind), now.get(kind)
        found.append(Change(kind, "records", old and old["records"], new and new["records"]))
        sums = ((old or {}).get("sums", {}), (new or {}).get("sums", {}))
        found.extend(
            Change(kind, name, sums[0].get(name), sums[1].get(name))
            for name in sorted(sums[0].keys() | sums[1].keys())
        )
    return tuple(found)
