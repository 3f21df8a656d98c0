"""What ``airgap import`` shows: each file as it comes, progress, receipts, and how it ended."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from airgap import catalog, credentials, media
from airgap.audit import record
from airgap.cli.common import Output, show_error
from airgap.errors import (
    AirgapError,
    InterruptedRunError,
    PartialDeliveryError,
    SequenceError,
    UnreachableError,
)
from airgap.findings import as_json
from airgap.replay.chain import Standing
from airgap.replay.delivery import Report
from airgap.replay.intake import Imported
from airgap.replay.ledger import Ledger
from airgap.replay.receipts import MadeReceipt
from airgap.text import plural, printable, waits
from airgap.trust.keys import fingerprint


def show_imported(out: Output, result: Imported) -> None:
    """Show what became of one file, and what is odd about it."""
    _record_file(result)
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


def _record_file(result: Imported) -> None:
    if result.bundle is None:
        record(
            "file refused",
            file=printable(str(result.path), 300),
            error=result.error.message if result.error else None,
        )
        return
    record(
        "bundle imported" if result.new else "bundle known",
        file=printable(str(result.path), 300),
        source=result.bundle.source,
        sequence=result.bundle.sequence,
        bundle_id=result.bundle.bundle_id,
        findings=[finding.code for finding in result.findings],
        **_people(result),
    )


def _people(result: Imported) -> dict[str, list[str]]:
    """Return the ids of the keys that signed and approved, for who asks later."""
    bundle = result.verified
    reviews = bundle.reviews if bundle else None
    return {
        "signed_by": [key.public.key_id for key in (bundle.signers if bundle else ())],
        "approved_by": [key.public.key_id for key in (reviews.approved if reviews else ())],
    }


def show_standings(out: Output, standings: list[Standing], *, strict: bool) -> None:
    """Name what is missing of the sources.

    Raises:
        SequenceError: something is, and ``strict`` forbids to go on.
    """
    found = [finding for standing in standings for finding in standing.findings()]
    if not (strict and found):
        out.findings(found)
        return
    raise SequenceError(
        "reports are missing, and --strict sends nothing until they are there",
        expected="every bundle, and every period covered or declared to be without usage",
        found=found[0].message,
        details=[finding.message for finding in found[1:]],
        hint="import the missing bundles too, have a time without usage declared with "
        "`airgap export --no-usage`, or go on without --strict: airgap import --resume",
    )


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
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    total = sum(states.get("waiting", 0) for states in ledger.states(scoped=True).values())
    with Progress(
        "delivering",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task("delivering", total=total)
        yield lambda count: bar.advance(task, count)


def place_receipts(
    out: Output, receipts: list[MadeReceipt], chosen: Path | None, folders: dict[int, Path]
) -> None:
    """Copy each receipt beside its own bundle, or to the folder that was chosen.

    A receipt whose bundle was not among the files stays in the home, and so does one that the
    medium refuses.
    """
    for receipt in receipts:
        folder = chosen or folders.get(receipt.bundle.number)
        if folder is None:
            if receipt.new:
                out.say(f"Wrote {receipt.path}; --receipt-to FOLDER copies it")
            continue
        try:
            path = media.place(receipt.path, folder, receipt.path.name)
            out.say(f"Wrote {path}")
        except AirgapError as error:
            out.warn(f"the receipt stays in the home: {error.message}")
            out.say(f"Wrote {receipt.path}; --receipt-to FOLDER copies it")


def finish(
    out: Output,
    ledger: Ledger,
    imported: list[Imported],
    report: Report,
    receipts: list[MadeReceipt],
    standings: list[Standing],
) -> None:
    """Show the totals by state, and end as the run ended.

    Raises:
        AirgapError: what keeps the run from being done.
    """
    states = ledger.states(scoped=True)
    columns = ("delivered", "waiting", "in_doubt", "dead")
    total = {c: sum(found.get(c, 0) for found in states.values()) for c in columns}
    problem = _problem(total, report)
    record("delivered", requests=report.requests, stopped=report.stop or None, states=states)
    for receipt in receipts:
        if receipt.new:
            record("receipt made", file=receipt.path.name, outcomes=receipt.outcomes)
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
            "stopped": report.stop or None,
            "reason": report.reason or None,
            "states": states,
            "receipts": [str(r.path) for r in receipts],
            "sources": [as_map(standing) for standing in standings],
            "error": problem.as_json() if problem else None,
        }
    )
    out.table(
        ("kind", *(f"{c.replace('_', ' ')}#" for c in columns)),
        [(kind, *(f"{found.get(c, 0):,}" for c in columns)) for kind, found in states.items()],
    )
    if problem is not None:
        raise problem
    raise_first(imported)
    out.say(
        f"{plural(total['delivered'], 'record')} delivered, none left. "
        "Next: carry the receipt back, and there: airgap receipt apply FOLDER"
    )


def _problem(total: dict[str, int], report: Report) -> AirgapError | None:
    """Return what keeps the run from being done, or None."""
    left = waits(total["waiting"])
    if report.stop == "interrupted":
        return InterruptedRunError(
            f"stopped by you; {left}", hint="go on with the same options: airgap import --resume"
        )
    if report.stop == "unreachable":
        return UnreachableError(
            f"the beacon could not be reached; {left}",
            found=report.reason,
            hint="check network, proxy and --ca-file, then with the same options: airgap import --resume",
        )
    if report.stop == "not_the_beacon":
        return UnreachableError(
            f"the answers are not the beacon's; {left}",
            found=report.reason,
            hint="check --beacon-url, --api-url and the proxy, "
            "then with the same options: airgap import --resume",
        )
    if total["dead"] or total["in_doubt"]:
        return PartialDeliveryError(
            f"{plural(total['in_doubt'], 'record')} in doubt, {plural(total['dead'], 'dead letter')}; {left}",
            found=report.reason or "left by an earlier run",
            hint="see them with `airgap ledger list`, decide them with `airgap ledger resolve`",
        )
    if report.held or total["waiting"]:
        return PartialDeliveryError(
            f"the beacon refuses a credential; {left}",
            where=", ".join(sorted(report.held)) or None,
            found=report.reason,
            hint="have the licence or key checked, then with the same options: airgap import --resume",
        )
    return None


def raise_first(imported: list[Imported]) -> None:
    """End with the exit status of the first refused file; its message was shown already."""
    for result in imported:
        if result.error is not None:
            refused = sum(1 for r in imported if r.error is not None)
            click.echo(
                f"airgap: {refused} of {plural(len(imported), 'file')} refused, see above", err=True
            )
            click.get_current_context().exit(result.error.exit_code)
