"""What ``airgap import`` shows: each file as it comes, progress, receipts, and how it ended."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from airgap import catalog, credentials
from airgap.cli.common import Output, show_error
from airgap.cli.standing_view import groups_as_json, show_groups, show_tally, tally_as_json
from airgap.findings import as_json
from airgap.replay.chain import Standing
from airgap.replay.importing import Done, Placed
from airgap.replay.intake import Imported
from airgap.replay.ledger import Ledger
from airgap.text import plural, printable
from airgap.trust.keys import fingerprint


class Watcher:
    """Shows an import as it goes on.

    Args:
        out: where to.
    """

    def __init__(self, out: Output) -> None:
        self._out = out
        self.stopping = threading.Event()
        """Set by the first Ctrl-C during delivery."""

    def warn(self, text: str) -> None:
        """See ``importing.Watcher``."""
        self._out.warn(text)

    def imported(self, result: Imported) -> None:
        """See ``importing.Watcher``."""
        show_imported(self._out, result)

    def standing(self, standings: list[Standing]) -> None:
        """See ``importing.Watcher``."""
        for standing in standings:
            self._out.findings(standing.findings())

    @contextmanager
    def delivering(self, ledger: Ledger) -> Iterator[Callable[[int], None]]:
        """See ``importing.Watcher``; Ctrl-C ends the delivery in order meanwhile."""
        with _stop_on_signal(self._out, self.stopping), progress(self._out, ledger) as seen:
            yield seen


@contextmanager
def _stop_on_signal(out: Output, stopping: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM end the run in order; the second one ends it at once."""

    def stop(_number: int, _frame: object) -> None:
        if stopping.is_set():
            # What is in flight is in the ledger as being sent, and will be in doubt.
            os._exit(130)
        stopping.set()
        out.warn("stopping: waiting for requests in flight; again to stop at once")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def show_imported(out: Output, result: Imported) -> None:
    """Show what became of one file, and what is odd about it."""
    if result.error is not None:
        out.say(f"{printable(str(result.path), 300)}: REFUSED")
        show_error(result.error, as_json=False)
        return
    assert result.verified is not None
    manifest = result.verified.manifest
    title = (
        f"{printable(str(result.path), 300)}: bundle {manifest['sequence']} of {manifest['source']}"
    )
    declared = manifest["no_usage"]
    if result.new and declared:
        of = f" of {', '.join(declared['kinds'])}" if declared["kinds"] else ""
        out.say(f"{title}: verified, declares no usage{of} {declared['from']} .. {declared['to']}")
    elif result.new:
        known = f", {result.known:,} of them known from another bundle" if result.known else ""
        out.say(f"{title}: verified, {plural(manifest['records'], 'record')}{known}")
    else:
        out.say(f"{title}: imported before; nothing of it is delivered twice")
    people = _people(result)
    if people["approved_by"]:
        out.say(f"  approved by {', '.join(map(fingerprint, people['approved_by']))}")
    for warning in result.verified.warnings:
        out.warn(warning)
    if manifest["message"]:
        words = credentials.redact(manifest["message"], catalog.load())
        out.say(f"  its message: {printable(words, 300)}")
    out.findings(result.findings)


def _people(result: Imported) -> dict[str, list[str]]:
    """Return the ids of the keys that signed and approved, for who asks later."""
    return {"signed_by": result.signed_by, "approved_by": result.approved_by}


def as_map(standing: Standing) -> dict[str, Any]:
    """Return a source's standing as ``--json`` prints it."""
    return {
        "source": standing.source,
        "missing": standing.missing,
        "covered": [kind.as_json() for kind in standing.kinds],
        "findings": as_json(standing.findings()),
    }


@contextmanager
def progress(out: Output, ledger: Ledger) -> Iterator[Callable[[int], None]]:
    """Show progress on a terminal, and nothing elsewhere."""
    if out.quiet or out.as_json or not sys.stderr.isatty():
        yield lambda _: None
        return
    from airgap.cli.progress import shown

    total = sum(states.get("waiting", 0) for states in ledger.states(scoped=True).values())
    with shown(total) as advance:
        yield advance


def show_receipts(out: Output, placed: list[Placed]) -> None:
    """Say where each receipt is."""
    for one in placed:
        if one.copy is not None:
            out.say(f"Wrote {one.copy}")
        if one.error is not None:
            at = f" ({one.error.where})" if one.error.where else ""
            out.warn(f"the receipt stays in the home: {one.error.message}{at}")
        if one.error is not None or (one.copy is None and one.receipt.new):
            out.say(f"Wrote {one.receipt.path}")
            out.say("To copy it to a stick: airgap import --resume --receipt-to FOLDER")


def finish(out: Output, done: Done) -> None:
    """Show what became of the records and why, then what was written, and end as the run ended.

    Raises:
        AirgapError: what keeps the run from being done.
    """
    states, report, imported = done.states, done.report, done.taken.imported
    problem = done.problem
    out.result(
        {
            "files": [
                {
                    "path": str(r.path),
                    "new": r.new,
                    "bundle_id": r.bundle.bundle_id if r.bundle else None,
                    "error": r.error.as_json() if r.error else None,
                    "findings": as_json(r.findings),
                    **_people(r),
                }
                for r in imported
            ],
            "requests": report.requests,
            "busy": report.busy,
            "in_flight": report.limit or None,
            "stopped": report.stop or None,
            "reason": report.reason or None,
            "states": states,
            "by_source": tally_as_json(done.by_source),
            "undelivered": groups_as_json(done.undelivered),
            "receipts": [str(one.receipt.path) for one in done.receipts],
            "sources": [as_map(standing) for standing in done.taken.standings],
            "error": problem.as_json() if problem else None,
        }
    )
    show_tally(out, done.by_source, ("delivered", "waiting", "in_doubt", "dead"))
    show_groups(out, done.undelivered)
    show_receipts(out, done.receipts)
    if problem is not None:
        raise problem
    raise_first(imported)
    count = sum(1 for one in done.receipts if one.copy is not None or one.receipt.new)
    wrote = f"Wrote {plural(count, 'receipt')}. " if count else ""
    it = "the receipts" if len(done.receipts) > 1 else "the receipt"
    out.say(
        f"{plural(done.count('delivered'), 'record')} delivered, none left. "
        f"{wrote}Next: carry {it} back, and there: airgap receipt apply FOLDER"
    )


def raise_first(imported: list[Imported]) -> None:
    """End with the exit status of the first refused file; its message was shown already."""
    for result in imported:
        if result.error is not None:
            refused = sum(1 for r in imported if r.error is not None)
            click.echo(
                f"airgap: {refused} of {plural(len(imported), 'file')} refused, see above", err=True
            )
            click.get_current_context().exit(result.error.exit_code)
