"""What the capture endpoint receives, on its way into the outbox's records.

A LangGraph server that gets no answer sends the same window again: with the same start, a later end,
and counts that hold the earlier ones. The later one stands in the place of the earlier. So such
reports wait apart until an export takes them, and what is a record never changes. Where the earlier
one was taken already, the later one becomes the rest: from its end on, and the counts beyond it.

Replicas that report at the same time start at other instants, to the microsecond, or their counts do
not contain each other; they stay apart. So do reports whose start has no fraction of a second: that
is a round time, which two producers may share, and to take one for the other would lose usage.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Literal

from airgap import jsontext, timestamps
from airgap.batches import Collected
from airgap.bundle import codec
from airgap.catalog import Cumulative, JsonObject, Kind
from airgap.collection import Collection
from airgap.errors import AirgapError, InputRefusedError
from airgap.outbox import Outbox
from airgap.records import Record, Totals
from airgap.sightings import Sighting

_REMEMBERED = timedelta(days=1)
_WAITS = "(taken IS NULL OR taken != reported)"

Fate = Literal["new", "known", "replaced"]


@dataclass(frozen=True, slots=True)
class Received:
    """What became of one request's records.

    Args:
        new: records that were not known.
        known: records that were.
        replaced: records that stand in the place of earlier ones.
    """

    new: int = 0
    known: int = 0
    replaced: int = 0


def receive(
    outbox: Outbox, requests: Sequence[Sequence[Sighting]], now: datetime
) -> list[Received | AirgapError]:
    """Keep several requests in one transaction, each wholly or not at all.

    Args:
        outbox: the outbox.
        requests: the checked records of each.
        now: the present.

    Returns:
        Per request what became of it, or why it was refused; on disk when this returns.

    Raises:
        MediumError: the file system refused; nothing of any request is kept.
    """
    answers: list[Received | AirgapError] = []
    with outbox.database.transaction() as connection:
        for sightings in requests:
            connection.execute("SAVEPOINT request")
            try:
                answers.append(_receive(outbox, sightings, now))
            except InputRefusedError as error:
                connection.execute("ROLLBACK TO request")
                answers.append(error)
            connection.execute("RELEASE request")
    return answers


def take(outbox: Outbox, now: datetime) -> Collected | None:
    """Make records of the reports that wait apart; return what is new, or None without any.

    Raises:
        DamagedError: the outbox does not hold what was taken.
    """
    with outbox.database.transaction() as connection:
        rows = list(_waiting(outbox))
        if not rows:
            return None
        collection = Collection(outbox, now)
        for number, sighting in rows:
            collection.take(sighting)
            connection.execute("UPDATE captured SET taken = reported WHERE number = ?", (number,))
        limit = timestamps.to_text(now - _REMEMBERED)
        connection.execute(
            "DELETE FROM captured WHERE taken = reported AND received_at < ? AND EXISTS"
            " (SELECT 1 FROM captured AS later WHERE later.start = captured.finish"
            " AND later.kind = captured.kind AND later.credential = captured.credential"
            " AND later.server = captured.server)",
            (limit,),
        )
        return collection.finish()


def waiting(outbox: Outbox) -> list[Record]:
    """Return the records that an export would take now."""
    return [sighting.record for _, sighting in _waiting(outbox)]


def waiting_totals(outbox: Outbox) -> Totals:
    """Return the totals of ``waiting``."""
    totals = Totals()
    for record in waiting(outbox):
        totals.add(outbox.catalog.kind(record.kind), record.payload)
    return totals


def oldest(outbox: Outbox) -> str | None:
    """Return when the first of the reports that wait apart was first received, or None."""
    row = outbox.database.connection.execute(
        f"SELECT min(received_at) FROM captured WHERE {_WAITS}"
    ).fetchone()
    return None if row is None else row[0]


def _receive(outbox: Outbox, sightings: Sequence[Sighting], now: datetime) -> Received:
    fates: list[Fate] = []
    collection: Collection | None = None
    for sighting in sightings:
        kind = outbox.catalog.kind(sighting.record.kind)
        if kind.cumulative is not None:
            fates.append(_keep_apart(outbox, sighting, kind, kind.cumulative, now))
            continue
        collection = collection or Collection(outbox, now)
        fates.append("new" if collection.take(sighting) else "known")
    if collection is not None:
        collection.finish()
    return Received(fates.count("new"), fates.count("known"), fates.count("replaced"))


def _keep_apart(
    outbox: Outbox, sighting: Sighting, kind: Kind, cumulative: Cumulative, now: datetime
) -> Fate:
    assert kind.period is not None
    record, at = sighting.record, timestamps.to_text(now)
    start, finish = (record.payload[name] for name in kind.period)
    server = _server(sighting.plain, cumulative)
    exact = "." in start
    connection = outbox.database.connection
    rows = connection.execute(
        "SELECT number, reported FROM captured WHERE start = ? AND kind = ? AND dialect = ?"
        " AND credential = ? AND server = ? ORDER BY number",
        (start, record.kind, record.dialect, record.credential, server),
    ).fetchall()
    names = "\n".join(sighting.pseudonymised)
    for number, reported in rows:
        held = codec.decode_own(reported)
        if held != record.payload and not exact:
            continue
        fate = _compared(held, record.payload, kind, cumulative)
        if fate == "replaced":
            connection.execute(
                "UPDATE captured SET reported = ?, finish = ?, pseudonymised = ? WHERE number = ?",
                (codec.encode(record.payload), finish, names, number),
            )
        if fate != "new":
            return fate
    connection.execute(
        "INSERT INTO captured (kind, dialect, credential, server, start, finish, reported,"
        " pseudonymised, received_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(record.kind, record.dialect, record.credential, server, start, finish),
            *(codec.encode(record.payload), names, at),
        ),
    )
    return "new"


def _compared(held: JsonObject, payload: JsonObject, kind: Kind, cumulative: Cumulative) -> Fate:
    """Tell what a report is to one with the same start: the same, its successor, or another's."""
    if held == payload:
        return "known"
    assert kind.period is not None
    ends = [timestamps.parse(one[kind.period[1]]) for one in (held, payload)]
    counts = [_counts(one, cumulative) for one in (held, payload)]
    if ends[1] > ends[0] and _contains(counts[1], counts[0]):
        return "replaced"
    if ends[1] <= ends[0] and _contains(counts[0], counts[1]):
        return "known"
    return "new"


def _counts(payload: JsonObject, cumulative: Cumulative) -> dict[str, int]:
    counts: dict[str, int] = payload[cumulative.counts]
    return {name: value for name, value in counts.items() if name not in cumulative.gauges}


def _contains(larger: dict[str, int], smaller: dict[str, int]) -> bool:
    return all(larger.get(name, -1) >= value for name, value in smaller.items())


def _waiting(outbox: Outbox) -> Iterator[tuple[int, Sighting]]:
    rows = outbox.database.connection.execute(
        "SELECT number, kind, dialect, credential, reported, pseudonymised, taken FROM captured"
        f" WHERE {_WAITS} ORDER BY number"
    ).fetchall()
    for number, name, dialect, credential, reported, names, taken in rows:
        kind = outbox.catalog.kind(name)
        payload = codec.decode_own(reported)
        if taken is not None:
            payload = _rest(codec.decode_own(taken), payload, kind)
        record = Record(name, dialect, credential, 0, payload)
        yield (
            number,
            replace(Sighting.of(record), pseudonymised=tuple(filter(None, names.split("\n")))),
        )


def _rest(taken: JsonObject, reported: JsonObject, kind: Kind) -> JsonObject:
    """Return what a report holds beyond one that was taken before."""
    assert kind.cumulative is not None
    assert kind.period is not None
    start, end = kind.period
    before = _counts(taken, kind.cumulative)
    counts: dict[str, Any] = {
        name: value - before.get(name, 0)
        for name, value in reported[kind.cumulative.counts].items()
    }
    return {**reported, start: taken[end], kind.cumulative.counts: counts}


def _server(plain: Record, cumulative: Cumulative) -> bytes:
    """Return 16 bytes that tell producers apart."""
    values = [plain.payload[field].get(name) for field, name in cumulative.server]
    return sha256(jsontext.canonical(values)).digest()[:16]
