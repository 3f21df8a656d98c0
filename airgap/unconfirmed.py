"""What of an outbox is not confirmed: what its receipts say about each record, and for which time."""

from collections.abc import Iterator

from airgap import verify, windows
from airgap.bundle import codec
from airgap.calendars import Spans
from airgap.causes import Undelivered, endpoint
from airgap.coverage import Window
from airgap.errors import AirgapError
from airgap.home import Home
from airgap.outbox import Outbox, StoredBundle
from airgap.overview import BundleLine, Overview
from airgap.records import window
from airgap.trust.store import TrustStore
from airgap.verify import declared

_MARKS = {"dead": "dead", "in_doubt": "in_doubt", "delivered": "delivered"}


def undelivered(
    home: Home, outbox: Outbox, lines: list[BundleLine], trust: TrustStore
) -> Iterator[Undelivered]:
    """Yield the records of which a receipt says that they are not delivered, and why.

    The outbox keeps what became of a record, and the home keeps the receipt that says why. Where that
    one is gone, or its key is not trusted any more, the reason is not known.
    """
    for line in lines:
        if not line.outcomes.keys() & {"dead", "in_doubt", "waiting"}:
            continue
        said = _reasons(home, outbox, line.bundle, trust)
        rows = outbox.database.connection.execute(
            "SELECT id, kind, dialect, outcome, payload FROM record WHERE number BETWEEN ? AND ?"
            " AND outcome IN ('dead', 'in_doubt', 'waiting') ORDER BY number",
            (line.bundle.first, line.bundle.last),
        )
        for identifier, kind, dialect, outcome, payload in rows:
            status, reason = said.get(identifier.hex(), (None, None))
            if outcome == "waiting" and reason is None:
                continue
            yield Undelivered(
                identifier.hex(),
                outbox.source,
                kind,
                endpoint(outbox.catalog.kind(kind), dialect),
                outcome,
                status,
                reason,
                None if payload is None else codec.decode_own(payload),
            )


def _reasons(
    home: Home, outbox: Outbox, bundle: StoredBundle, trust: TrustStore
) -> dict[str, tuple[int | None, str | None]]:
    """Return status and reason of what the newest receipt of a bundle calls not delivered."""
    row = outbox.database.connection.execute(
        "SELECT importer, number FROM receipt WHERE sequence = ? AND proof = 'receipt'"
        " ORDER BY applied_at DESC, number DESC LIMIT 1",
        (bundle.sequence,),
    ).fetchone()
    if row is None:
        return {}
    name = f"{outbox.source}-{bundle.sequence:06d}-{row[0]}-r{row[1]}.receipt"
    try:
        with (home.path / "receipts" / name).open("rb") as stream:
            receipt = verify.verify_receipt(stream, name=name, trust=trust, catalog=outbox.catalog)
            return {
                one["id"]: (one["status"], one["detail"])
                for one in receipt.outcomes()
                if one["outcome"] != "delivered"
            }
    except (OSError, AirgapError):
        return {}


def spans(outbox: Outbox, seen: Overview) -> dict[str, Spans]:
    """Return per kind the spans of the calendar.

    A bundle that is confirmed, or unanswered, is known by its windows; of the others each record is
    looked at.
    """
    found: dict[str, Spans] = {kind.kind: {"gap": kind.gaps} for kind in seen.covered}
    for line in seen.bundles:
        covered = outbox.covered(line.bundle)[0]
        if line.confirmed:
            _add_all(found, "delivered", covered)
        elif line.outcomes.keys() <= {"unknown"}:
            _add_all(found, "on_its_way" if line.bundle.written_to else "waiting", covered)
        else:
            for name, mark, one in _windows(outbox, line.bundle):
                _add(found, name, mark, [one])
    _add_all(found, "waiting", seen.covered_by_waiting)
    for line in seen.bundles:
        told = declared({"no_usage": line.no_usage})
        if told is not None:
            for name in found if told.kinds is None else told.kinds:
                _add(found, name, "no_usage", [(told.start, told.end)])
    return found


def _add_all(found: dict[str, Spans], mark: str, covered: windows.Covered) -> None:
    for kind, spans in covered.items():
        _add(found, kind, mark, spans)


def _add(found: dict[str, Spans], kind: str, mark: str, spans: list[Window]) -> None:
    found.setdefault(kind, {}).setdefault(mark, []).extend(spans)


def _windows(outbox: Outbox, bundle: StoredBundle) -> Iterator[tuple[str, str, Window]]:
    """Yield kind, mark and window of each record of a bundle that has one."""
    rows = outbox.database.connection.execute(
        "SELECT kind, outcome, payload FROM record WHERE number BETWEEN ? AND ?"
        " AND payload IS NOT NULL",
        (bundle.first, bundle.last),
    )
    for name, outcome, payload in rows:
        times = window(
            outbox.catalog.kind(name), codec.decode_own(payload), where="a record of the outbox"
        )
        if times is not None:
            start, end = sorted(map(windows.micros, times))
            yield name, _MARKS.get(outcome, "on_its_way"), (start, max(end, start + 1))
