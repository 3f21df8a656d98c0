"""What ``airgap import`` shows: each file as it comes, progress, receipts, and how it ended."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from airgap import media
from airgap.cli.common import Output, show_error
from airgap.errors import (
    AirgapError,
    InterruptedRunError,
    PartialDeliveryError,
    UnreachableError,
)
from airgap.replay import chain
from airgap.replay.delivery import Report
from airgap.replay.intake import Imported
from airgap.replay.ledger import Ledger
from airgap.replay.receipts import MadeReceipt
from airgap.text import plural


def show_imported(out: Output, ledger: Ledger, result: Imported) -> None:
    """Show what became of one file, and what is missing in its source's chain."""
    if result.error is not None:
        out.say(f"{result.path}: REFUSED")
        show_error(result.error, as_json=False)
        return
    assert result.verified is not None
    manifest = result.verified.manifest
    title = f"{result.path}: bundle {manifest['sequence']} of {manifest['source']}"
    if result.new:
        known = f", {result.known:,} of them known from another bundle" if result.known else ""
        out.say(f"{title}: verified, {plural(manifest['records'], 'record')}{known}")
    else:
        out.say(f"{title}: imported before; nothing of it is delivered twice")
    for warning in result.verified.warnings:
        out.warn(warning)
    missing = chain.missing(ledger, manifest["source"])
    if missing:
        names = ", ".join(map(str, missing[:10])) + (" and more" if len(missing) > 10 else "")
        out.warn(f"not seen of {manifest['source']}: bundle {names}")


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
) -> None:
    """Show the totals by state, and end as the run ended.

    Raises:
        AirgapError: what keeps the run from being done.
    """
    states = ledger.states(scoped=True)
    columns = ("delivered", "waiting", "in_doubt", "dead")
    total = {c: sum(found.get(c, 0) for found in states.values()) for c in columns}
    problem = _problem(total, report)
    out.result(
        {
            "files": [
                {
                    "path": str(r.path),
                    "new": r.new,
                    "bundle_id": r.bundle.bundle_id if r.bundle else None,
                    "error": r.error.as_json() if r.error else None,
                }
                for r in imported
            ],
            "requests": report.requests,
            "stopped": report.stop or None,
            "reason": report.reason or None,
            "states": states,
            "receipts": [str(r.path) for r in receipts],
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
    left = f"{plural(total['waiting'], 'record')} wait"
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
