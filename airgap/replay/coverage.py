"""Which time of a source is delivered, waiting, in doubt, missing: the spans of its calendar."""

from collections.abc import Iterator

from airgap import windows
from airgap.bundle import codec
from airgap.calendars import Spans
from airgap.catalog import Kind
from airgap.coverage import Window
from airgap.records import window
from airgap.replay.chain import Standing
from airgap.replay.ledger import Ledger
from airgap.replay.ledger_layout import LedgerBundle
from airgap.windows import Declaration

_MARKS = {"sending": "in_doubt", "dead": "dead", "in_doubt": "in_doubt", "waiting": "waiting"}


def spans(ledger: Ledger, standing: Standing) -> dict[str, Spans]:
    """Return per kind the spans of a source's calendar.

    A bundle that was delivered as a whole is known by the windows that the ledger keeps for it; of
    the others each record is looked at.
    """
    found: dict[str, Spans] = {kind.kind: {"gap": kind.gaps} for kind in standing.kinds}
    declarations: list[Declaration] = []
    for report in ledger.reports(standing.source):
        if report.delivered:
            for name, covered in report.covered.items():
                _add(found, name, "delivered", covered)
        else:
            for name, state, one in _windows(ledger, report.bundle):
                _add(found, name, state, [one])
        if report.no_usage is not None:
            declarations.append(report.no_usage.until(report.end))
    for told in declarations:
        if told.start < told.end:
            for name in found if told.kinds is None else told.kinds:
                _add(found, name, "no_usage", [(told.start, told.end)])
    return found


def _add(found: dict[str, Spans], kind: str, mark: str, spans: list[Window]) -> None:
    found.setdefault(kind, {}).setdefault(mark, []).extend(spans)


def _windows(ledger: Ledger, bundle: LedgerBundle) -> Iterator[tuple[str, str, Window]]:
    """Yield kind, mark and window of each record of a bundle that has one."""
    rows = ledger.database.stream(
        "SELECT r.kind, CASE WHEN b.conflict IS NULL THEN r.state ELSE 'dead' END,"
        " coalesce(b.conflict, r.payload) FROM bundle_record b JOIN record_state r ON r.number = b.record"
        " WHERE b.bundle = ?",
        (bundle.number,),
    )
    kinds: dict[str, Kind] = {}
    for name, state, payload in rows:
        kind = kinds.get(name) or kinds.setdefault(name, ledger.catalog.kind(name))
        if kind.period is None:
            continue
        times = window(kind, codec.decode_own(payload), where="a record of the ledger")
        if times is not None:
            start, end = sorted(map(windows.micros, times))
            yield name, _MARKS.get(state, "delivered"), (start, max(end, start + 1))
