"""``airgap import``."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from airgap import catalog, timestamps, windows
from airgap.cli import import_view as view
from airgap.cli.common import (
    Output,
    airgap_command,
    ask_passphrase,
    credential_options,
    gap_option,
    key_option,
    on_side,
    passphrase_option,
    read_credentials,
    sealing_passphrase_option,
    unsealer,
)
from airgap.cli.trusting import approvals_beside, files_to_read, trust_of
from airgap.credentials import Keyring
from airgap.errors import (
    UsageError,
)
from airgap.export import BUNDLE_SUFFIX
from airgap.files import exclusive
from airgap.home import Home
from airgap.replay import chain, intake
from airgap.replay.delivery import Delivery, Pace, Report, Surroundings
from airgap.replay.intake import Imported
from airgap.replay.ledger import Ledger
from airgap.replay.ledger_layout import LedgerBundle
from airgap.replay.receipts import MadeReceipt, check_key, make_receipt, require_newest
from airgap.replay.requests import Batch, Request, Routes, check_base, choose_dialect
from airgap.text import plural, printable
from airgap.trust import store as trust_store
from airgap.trust.approvals import Approval, Reviews
from airgap.trust.entries import Place
from airgap.trust.keys import PrivateKey
from airgap.unsealing import Unsealer


@airgap_command("import", audited=True)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
@click.option("--resume", is_flag=True, help="Deliver what earlier imports left waiting.")
@click.option("--strict", is_flag=True, help="Send nothing while a bundle or a period is missing.")
@gap_option
@click.option(
    "--accept-backdated",
    multiple=True,
    metavar="ID",
    help="Take a bundle that was made, by its own word, at another time than its place allows.",
)
@click.option(
    "--dry-run", is_flag=True, help="Show every request that would leave; send and keep nothing."
)
@click.option(
    "--receipt-to",
    type=click.Path(path_type=Path),
    help="Folder for receipts; default: where the bundles lie.",
)
@click.option(
    "--with-answers", is_flag=True, help="Put tokens and organization ids into the receipt."
)
@click.option(
    "--beacon-url",
    envvar="AIRGAP_BEACON_URL",
    help="Base URL of the beacon, where it is not the documented one.",
)
@click.option(
    "--api-url",
    envvar="AIRGAP_API_URL",
    help="Base URL of the API, for instance https://eu.api.smith.langchain.com.",
)
@click.option(
    "--dialect",
    multiple=True,
    metavar="KIND=DIALECT",
    help="Send a kind in another of its documented forms.",
)
@click.option(
    "--in-flight",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Requests at a time.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 600),
    default=30.0,
    show_default=True,
    help="Seconds without an answer.",
)
@click.option(
    "--attempts",
    type=click.IntRange(1, 50),
    default=6,
    show_default=True,
    help="Attempts per request.",
)
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path),
    help="Certificate authorities, PEM; else SSL_CERT_FILE, REQUESTS_CA_BUNDLE, system.",
)
@credential_options
@key_option
@passphrase_option
@sealing_passphrase_option
def command(
    out: Output,
    home_path: Path,
    paths: tuple[Path, ...],
    receipt_to: Path | None,
    beacon_url: str | None,
    api_url: str | None,
    dialect: tuple[str, ...],
    in_flight: int,
    timeout: float,
    attempts: int,
    ca_file: Path | None,
    license_file: tuple[Path, ...],
    api_key_file: tuple[Path, ...],
    key_choice: str | None,
    passphrase_file: Path | None,
    sealing_passphrase_file: Path | None,
    gap_over: timedelta,
    accept_backdated: tuple[str, ...],
    *,
    resume: bool,
    strict: bool,
    dry_run: bool,
    with_answers: bool,
) -> None:
    """Verify bundles, deliver their records to the beacon, and sign receipts.

    Files are copied to quarantine and verified there; a file that fails is refused whole, and
    the others go on. Sealed bundles are opened with this home's keys (`airgap recipient list`).
    Importing a bundle a second time delivers nothing twice: it goes on where
    it stopped. What is missing in a source's chain or periods is named. Ctrl-C waits for the
    requests in flight; a second one does not.

    \b
    Example:
      airgap import /media/stick --license-file /etc/airgap/license.key
      airgap import /media/stick --license-file /etc/airgap/license.key --dry-run
    """
    home = on_side(home_path, "workstation")
    _check_options(paths, timeout, receipt_to, resume=resume)
    accepted = _accepted(accept_backdated)
    schemas = catalog.load()
    plan = _Plan(
        home,
        files_to_read(paths, (BUNDLE_SUFFIX,)) if paths else [],
        schemas,
        trust_of(home, schemas),
        Keyring.of(read_credentials(license_file, api_key_file)),
        _routes(schemas, beacon_url, api_url, dialect),
        accepted,
        tuple(approvals_beside(home, schemas, paths, out.warn)),
        gap_over // timedelta(microseconds=1),
        unsealer(home, sealing_passphrase_file),
        resume=resume,
        strict=strict,
    )
    out.findings(plan.trust.findings(timestamps.system_clock()))
    if dry_run:
        _dry_run(out, plan)
        return
    key = home.private_key(
        key_choice, ask_passphrase(passphrase_file), plan.trust.is_for("importer")
    )
    check_key(key, plan.trust, timestamps.system_clock())
    with exclusive(home.ledger_lock, "import"):
        ledger = Ledger(home.ledger_path, schemas, timestamps.system_clock)
        try:
            imported, bundles, standings = plan.take_in(out, ledger)
            pace = Pace(in_flight=in_flight, attempts=attempts, deadline=max(60.0, 4 * timeout))
            report = _deliver(
                out, ledger, schemas, plan.keyring, plan.routes, pace, timeout, ca_file
            )
            receipts = _receipts(
                home, ledger, bundles, key, plan.trust, schemas, with_answers=with_answers
            )
            view.place_receipts(out, receipts, receipt_to, _folders(imported))
            view.finish(out, ledger, imported, report, receipts, standings)
        finally:
            ledger.close()


@dataclass(frozen=True, slots=True)
class _Plan:
    """What an import is about; a dry run has the same."""

    home: Home
    files: list[Path]
    schemas: catalog.Catalog
    trust: trust_store.TrustStore
    keyring: Keyring
    routes: Routes
    accepted: frozenset[str]
    approvals: tuple[Approval, ...]
    tolerance: int
    opener: Unsealer
    resume: bool
    strict: bool

    def take_in(
        self, out: Output, ledger: Ledger
    ) -> tuple[list[Imported], list[LedgerBundle], list[chain.Standing]]:
        """Take files into a ledger, name what is missing, and choose what is to be sent."""
        require_newest(self.home, ledger)
        doubtful = ledger.recover()
        if doubtful:
            out.warn(f"{plural(doubtful, 'record')} of a run that was cut off are now in doubt")
        taker = intake.Intake(
            self.home,
            ledger,
            self.trust,
            self.keyring,
            self.schemas,
            timestamps.system_clock,
            self.accepted,
            self.approvals,
            self.opener,
        )
        imported = taker.take(self.files, lambda result: view.show_imported(out, result))
        self._warn_of_unused(out, imported)
        found = {r.bundle.number: r.bundle for r in imported if r.bundle is not None}
        if self.resume:
            found |= {b.number: b for b in ledger.bundles()}
            found = {n: b for n, b in found.items() if not self._is_denied(out, b)}
        sources = sorted({b.source for b in found.values()})
        standings = [chain.standing(ledger, source, self.tolerance) for source in sources]
        view.show_standings(out, standings, strict=self.strict)
        ledger.set_scope(found.values())
        self.keyring.require(ledger.credentials_waiting())
        for kind, recorded, credential in ledger.forms_waiting():
            choose_dialect(self.schemas.kind(kind), recorded, credential, self.routes)
        return imported, list(found.values()), standings

    def _is_denied(self, out: Output, bundle: LedgerBundle) -> bool:
        """Tell whether a denial came for a bundle that an earlier import took in, and say so."""
        made_at = windows.instant(bundle.created)
        place = Place(bundle.source, made_at, bundle.sequence)
        reviews = Reviews.of(self.approvals, bundle.bundle_id, place, (), self.trust)
        if reviews.denied:
            out.warn(
                f"bundle {bundle.sequence} of {bundle.source} was taken in before a reviewer denied it: "
                "what waits of it is not sent in this run; what was sent before counts"
            )
        return bool(reviews.denied)

    def _warn_of_unused(self, out: Output, imported: list[Imported]) -> None:
        ids = [r.bundle.bundle_id for r in imported if r.bundle is not None]
        for prefix in sorted(self.accepted):
            if not any(identifier.startswith(prefix) for identifier in ids):
                out.warn(f"--accept-backdated {prefix}: no bundle that was taken in has this id")


def _check_options(
    paths: tuple[Path, ...], timeout: float, receipt_to: Path | None, *, resume: bool
) -> None:
    if not paths and not resume:
        raise UsageError("name the files or folders to import", hint="or --resume without any")
    if not timeout > 0:
        raise UsageError("the time-out is not a number of seconds", found=str(timeout))
    if receipt_to is not None and not receipt_to.is_dir():
        raise UsageError(
            "the receipts' folder is not there", where=str(receipt_to), hint="make it, or mount it"
        )


def _accepted(given: tuple[str, ...]) -> frozenset[str]:
    for prefix in given:
        if len(prefix) < 16 or prefix.lower().strip("0123456789abcdef"):
            raise UsageError(
                "name the bundle by at least 16 digits of its id",
                where="--accept-backdated",
                found=printable(prefix),
                hint="the message that refused it gives them",
            )
    return frozenset(prefix.lower() for prefix in given)


def _routes(
    schemas: catalog.Catalog, beacon_url: str | None, api_url: str | None, dialects: tuple[str, ...]
) -> Routes:
    given = {"beacon": beacon_url, "api": api_url}
    bases = {name: check_base(given.get(name) or url) for name, url in schemas.bases.items()}
    chosen: dict[str, str] = {}
    for item in dialects:
        kind, _, name = item.partition("=")
        if name not in schemas.kind(kind).dialects:
            raise UsageError(
                f"{kind} has no such dialect",
                expected=", ".join(schemas.kind(kind).dialects),
                found=name or "none",
            )
        chosen[kind] = name
    return Routes(bases, chosen)


def _dry_run(out: Output, plan: _Plan) -> None:
    shown: list[dict[str, Any]] = []

    def show(batch: Batch, request: Request) -> None:
        body = _readable(request)
        shown.append(
            {
                "method": "POST",
                "url": request.url,
                "headers": dict(request.headers),
                "body": body,
                "kind": batch.kind.name,
                "records": len(batch.entries),
            }
        )
        out.say(f"POST {request.url}")
        for name, value in request.headers.items():
            out.say(f"{name}: {value}")
        # A body's further lines are set in: none of them can pass for the next request.
        first, *further = body.split("\n")
        out.say(*(("", first, *(f"  {line}" for line in further), "") if body else ()))

    with intake.copy_of_ledger(plan.home, plan.schemas) as ledger:
        imported, _, standings = plan.take_in(out, ledger)
        intake.would_send(ledger, plan.keyring, plan.schemas, plan.routes, show)
    out.result(
        {
            "requests": shown,
            "refused": [
                {"path": str(r.path), **r.error.as_json()} for r in imported if r.error is not None
            ],
            "sources": [view.as_map(standing) for standing in standings],
        }
    )
    view.raise_first(imported)
    records = sum(item["records"] for item in shown)
    out.say(
        f"{plural(len(shown), 'request')} with {plural(records, 'record')} would leave; "
        "keys are masked. Nothing was sent or written. Next: the same command without --dry-run"
    )


def _readable(request: Request) -> str:
    try:
        return request.body.decode()
    except UnicodeDecodeError:
        return f"({len(request.body)} bytes, not text)"


def _deliver(
    out: Output,
    ledger: Ledger,
    schemas: catalog.Catalog,
    keyring: Keyring,
    routes: Routes,
    pace: Pace,
    timeout: float,
    ca_file: Path | None,
) -> Report:
    if not ledger.credentials_waiting():
        return Report()
    try:
        from airgap.replay.transport import HttpTransport
    except ImportError:
        raise UsageError(
            "delivery needs the HTTP client, which is not installed",
            expected="httpx, which the workstation's installation has",
            hint="install the httpx that requirements.lock names; "
            "then go on with the same options: airgap import --resume",
        ) from None

    stopping = threading.Event()

    def pause(seconds: float) -> None:
        stopping.wait(seconds)

    around = Surroundings(time.monotonic, pause, random.random, stopping.is_set)
    with (
        HttpTransport(
            timeout=timeout,
            in_flight=pace.in_flight,
            ca_file=ca_file,
            clock=timestamps.system_clock,
        ) as transport,
        _stop_on_signal(out, stopping),
        view.progress(out, ledger) as progress,
    ):
        return Delivery(ledger, schemas, keyring, routes, transport, pace, around, progress).run()


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


def _receipts(
    home: Home,
    ledger: Ledger,
    bundles: list[LedgerBundle],
    key: PrivateKey,
    trust: trust_store.TrustStore,
    schemas: catalog.Catalog,
    *,
    with_answers: bool,
) -> list[MadeReceipt]:
    now = timestamps.system_clock()
    return [
        make_receipt(home, ledger, bundle, key, trust, schemas, now, with_answers=with_answers)
        for bundle in bundles
    ]


def _folders(imported: list[Imported]) -> dict[int, Path]:
    """Return where each bundle's file lies, by the bundle's number in the ledger."""
    return {r.bundle.number: r.path.parent for r in imported if r.bundle is not None}
