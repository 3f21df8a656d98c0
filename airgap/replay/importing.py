"""One import from start to end: files into the ledger, delivery, receipts."""

import random
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from airgap import media, timestamps, windows
from airgap.audit import record
from airgap.catalog import Catalog
from airgap.causes import STATES, Group, grouped
from airgap.credentials import Keyring
from airgap.errors import (
    AirgapError,
    InterruptedRunError,
    PartialDeliveryError,
    SequenceError,
    UnreachableError,
    UsageError,
)
from airgap.home import Home
from airgap.replay import chain, counts, delivered, intake, tallies
from airgap.replay.chain import Standing
from airgap.replay.delivery import Delivery, Pace, Report, Surroundings
from airgap.replay.intake import Imported
from airgap.replay.ledger import Ledger
from airgap.replay.ledger_layout import LedgerBundle
from airgap.replay.receipts import MadeReceipt, make_receipt, require_newest
from airgap.replay.requests import Routes, choose_dialect
from airgap.text import plural, printable, waits
from airgap.trust.approvals import Approval, Reviews
from airgap.trust.entries import Place
from airgap.trust.keys import PrivateKey
from airgap.trust.recipients import Opener
from airgap.trust.store import TrustStore


class Watcher(Protocol):
    """Sees an import as it goes on; whoever does not care inherits and leaves all as it is."""

    def warn(self, text: str) -> None:
        """Take what somebody should know."""

    def imported(self, result: Imported) -> None:
        """See what became of one file."""

    def standing(self, standings: list[Standing]) -> None:
        """See what is missing of the sources; nothing was sent yet."""

    def delivering(self, ledger: Ledger) -> AbstractContextManager[Callable[[int], None]]:
        """Begin to watch the delivery; what is yielded is told how many records are settled."""
        ...


@dataclass(frozen=True, slots=True)
class Taken:
    """What is in the ledger now.

    Args:
        imported: one entry per file.
        bundles: the bundles that this import is about.
        standings: what is covered and missing, per source.
    """

    imported: list[Imported]
    bundles: list[LedgerBundle]
    standings: list[Standing]


@dataclass(frozen=True, slots=True)
class Plan:
    """What an import is about; a dry run has the same.

    Args:
        home: the workstation's home.
        files: to be taken in.
        catalog: schemas and kinds.
        trust: whose signatures count.
        keyring: this side's credentials.
        routes: where requests go, and in which form.
        accepted: ids of bundles, or their beginnings, that may be backdated.
        approvals: what reviewers say.
        tolerance: longest time without a record that is no gap, in microseconds.
        opener: finds the keys of sealed bundles, or None.
        resume: whether what earlier imports left is delivered too.
        strict: whether nothing is sent while a bundle or a period is missing.
        clock: the present.
    """

    home: Home
    files: list[Path]
    catalog: Catalog
    trust: TrustStore
    keyring: Keyring
    routes: Routes
    accepted: frozenset[str]
    approvals: tuple[Approval, ...]
    tolerance: int
    opener: Opener | None
    resume: bool
    strict: bool
    clock: timestamps.Clock

    def take_in(self, ledger: Ledger, watcher: Watcher) -> Taken:
        """Take files into a ledger, name what is missing, and choose what is to be sent.

        Raises:
            SequenceError: the ledger is older than the home's receipts; or something is missing, and
                ``strict`` forbids to go on.
            TrustError: a credential that what waits needs is not at hand.
            UsageError: a form that was asked for does not fit what was recorded.
        """
        ledger.claims.warn = watcher.warn
        require_newest(self.home, ledger)
        doubtful = ledger.recover()
        if doubtful:
            watcher.warn(f"{plural(doubtful, 'record')} of a run that was cut off are now in doubt")
        taker = intake.Intake(
            self.home,
            ledger,
            self.trust,
            self.keyring,
            self.catalog,
            self.clock,
            self.accepted,
            self.approvals,
            self.opener,
        )
        imported = taker.take(self.files, lambda result: _see(result, watcher))
        self._warn_of_unused(watcher, imported)
        found = {r.bundle.number: r.bundle for r in imported if r.bundle is not None}
        if self.resume:
            found |= {b.number: b for b in ledger.bundles()}
            found = {n: b for n, b in found.items() if not self._is_denied(watcher, b)}
        sources = sorted({b.source for b in found.values()})
        standings = [chain.standing(ledger, source, self.tolerance) for source in sources]
        if self.strict:
            _require_whole(standings)
        watcher.standing(standings)
        ledger.set_scope(found.values())
        self.keyring.require(ledger.credentials_waiting())
        for kind, recorded, credential in ledger.forms_waiting():
            choose_dialect(self.catalog.kind(kind), recorded, credential, self.routes)
        return Taken(imported, list(found.values()), standings)

    def _is_denied(self, watcher: Watcher, bundle: LedgerBundle) -> bool:
        """Tell whether a denial came for a bundle that an earlier import took in, and say so."""
        made_at = windows.instant(bundle.created)
        place = Place(bundle.source, made_at, bundle.sequence)
        reviews = Reviews.of(self.approvals, bundle.bundle_id, place, (), self.trust)
        if reviews.denied:
            watcher.warn(
                f"bundle {bundle.sequence} of {bundle.source} was taken in before a reviewer denied it: "
                "what waits of it is not sent in this run; what was sent before counts"
            )
        return bool(reviews.denied)

    def _warn_of_unused(self, watcher: Watcher, imported: list[Imported]) -> None:
        ids = [r.bundle.bundle_id for r in imported if r.bundle is not None]
        for prefix in sorted(self.accepted):
            if not any(identifier.startswith(prefix) for identifier in ids):
                watcher.warn(
                    f"--accept-backdated {prefix}: no bundle that was taken in has this id"
                )


@dataclass(frozen=True, slots=True)
class Sending:
    """How requests leave.

    Args:
        in_flight: most requests at a time; fewer while the beacon is busy or slow.
        rate: most requests per second.
        attempts: most attempts per request.
        timeout: seconds without an answer.
        ca_file: certificate authorities, PEM; None: by environment and system.
        stopping: set by whoever wants the run to end in order.
    """

    in_flight: int = 8
    rate: float = 50.0
    attempts: int = 6
    timeout: float = 30.0
    ca_file: Path | None = None
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self, plan: Plan, ledger: Ledger, watcher: Watcher) -> Report:
        """Deliver what waits in the ledger's scope.

        Raises:
            UsageError: the HTTP client is not installed, or the proxy's settings can't be used.
        """
        if not ledger.credentials_waiting():
            return Report()
        try:
            from airgap.replay.transport import HttpTransport
        except ImportError:
            raise UsageError(
                "delivery needs the HTTP client, which is not installed",
                expected="PycURL, which the workstation's installation has",
                hint="install airgap with --workstation, or the pycurl that requirements.lock names; "
                "then go on with the same options: airgap import --resume",
            ) from None

        def pause(seconds: float) -> None:
            self.stopping.wait(seconds)

        around = Surroundings(time.monotonic, pause, random.random, self.stopping.is_set)
        pace = Pace(
            in_flight=self.in_flight,
            rate=self.rate,
            attempts=self.attempts,
            deadline=max(60.0, 4 * self.timeout),
        )
        with (
            HttpTransport(
                timeout=self.timeout,
                in_flight=self.in_flight,
                ca_file=self.ca_file,
                clock=plan.clock,
            ) as transport,
            watcher.delivering(ledger) as progress,
        ):
            return Delivery(
                ledger,
                plan.catalog,
                plan.keyring,
                plan.routes,
                transport,
                pace,
                around,
                progress,
            ).run()


@dataclass(frozen=True, slots=True)
class Placed:
    """A receipt, and where its copy is.

    Args:
        receipt: the receipt, in the home.
        copy: its copy beside the bundle or in the chosen folder, or None.
        error: why the medium refused it, or None.
    """

    receipt: MadeReceipt
    copy: Path | None = None
    error: AirgapError | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What an import did.

    Args:
        taken: what was taken in.
        report: what the delivery did.
        receipts: one per bundle.
        states: how many records of each kind are in which state.
        by_source: the same per source and kind.
        undelivered: what is not delivered, by cause.
        address: where requests went, and through which proxy.
    """

    taken: Taken
    report: Report
    receipts: list[Placed]
    states: dict[str, dict[str, int]]
    by_source: dict[tuple[str, str], dict[str, int]]
    undelivered: list[Group]
    address: str | None = None

    def count(self, state: str) -> int:
        """Return how many records of all kinds are in a state."""
        return sum(found.get(state, 0) for found in self.states.values())

    @property
    def problem(self) -> AirgapError | None:
        """What keeps the delivery from being done, or None; a refused file is told by its own."""
        left = waits(self.count("waiting"))
        if self.report.stop == "interrupted":
            return InterruptedRunError(
                f"stopped by you; {left}",
                hint="go on with the same options: airgap import --resume",
            )
        if self.report.stop == "unreachable":
            return UnreachableError(
                f"the beacon could not be reached; {left}",
                where=self.address,
                found=self.report.reason,
                hint=next(
                    (group.cause.cure for group in self.undelivered if group.state == "waiting"),
                    "check network, proxy and --ca-file, "
                    "then with the same options: airgap import --resume",
                ),
            )
        if self.report.stop == "not_the_beacon":
            return UnreachableError(
                f"the answers are not the beacon's; {left}",
                where=self.address,
                found=self.report.reason,
                hint="check --beacon-url, --api-url and the proxy, "
                "then with the same options: airgap import --resume",
            )
        if self.count("dead") or self.count("in_doubt"):
            doubt, dead = self.count("in_doubt"), self.count("dead")
            return PartialDeliveryError(
                f"{plural(doubt, 'record')} in doubt, {plural(dead, 'dead letter')}"
                + (f"; {left}" if self.count("waiting") else ""),
                found=self.report.reason or "left by an earlier run",
                hint="airgap ledger list shows them, and the next step for each",
            )
        if self.report.held or self.count("waiting"):
            return PartialDeliveryError(
                f"the beacon refuses a credential; {left}",
                where=", ".join(sorted(self.report.held)) or None,
                found=self.report.reason,
                hint="have the licence or key checked, then with the same options: airgap import --resume",
            )
        return None


def backdated(given: Iterable[str]) -> frozenset[str]:
    """Return the beginnings of ids of bundles that may be backdated, in lower case.

    Raises:
        UsageError: one has fewer than 16 digits.
    """
    given = tuple(given)
    for prefix in given:
        if len(prefix) < 16 or prefix.lower().strip("0123456789abcdef"):
            raise UsageError(
                "name the bundle by at least 16 digits of its id",
                where="--accept-backdated",
                found=printable(prefix),
                hint="the message that refused it gives them",
            )
    return frozenset(prefix.lower() for prefix in given)


def run(
    plan: Plan,
    ledger: Ledger,
    key: PrivateKey,
    sending: Sending,
    watcher: Watcher,
    *,
    receipt_to: Path | None = None,
    with_answers: bool = False,
) -> Done:
    """Take files in, deliver, and sign receipts.

    Args:
        plan: what it is about.
        ledger: the home's ledger, as ``opening.held`` gives it.
        key: signs receipts.
        sending: how requests leave.
        watcher: sees how it goes.
        receipt_to: folder for receipts; None: where the bundles lie.
        with_answers: whether tokens and organization ids go into receipts.

    Raises:
        AirgapError: see ``Plan.take_in``, ``Sending.run`` and ``make_receipt``. What a file or the
            beacon refuses is no error here, but in the result.
    """
    taken = plan.take_in(ledger, watcher)
    report = sending.run(plan, ledger, watcher)
    now = plan.clock()
    receipts = [
        make_receipt(
            plan.home,
            ledger,
            bundle,
            key,
            plan.trust,
            plan.catalog,
            now,
            with_answers=with_answers,
        )
        for bundle in taken.bundles
    ]
    seen = [(r.bundle, r.digest) for r in receipts if r.is_whole and r.digest is not None]
    if seen:
        delivered.note(ledger, seen, with_answers=with_answers)
    folders = {r.bundle.number: r.path.parent for r in taken.imported if r.bundle is not None}
    placed = [_place(r, receipt_to or folders.get(r.bundle.number)) for r in receipts]
    by_source = tallies.by_source(ledger, scoped=True)
    states = counts.per_kind(by_source)
    record(
        "delivered",
        requests=report.requests,
        busy=report.busy,
        stopped=report.stop or None,
        states=states,
    )
    for receipt in receipts:
        if receipt.new:
            record("receipt made", file=receipt.path.name, outcomes=receipt.outcomes)
    found = tallies.undelivered(ledger, STATES, scoped=True, dialects=plan.routes.dialects)
    return Done(
        taken,
        report,
        placed,
        states,
        by_source,
        grouped(found, plan.catalog),
        _address(plan.routes) if report.stop in ("unreachable", "not_the_beacon") else None,
    )


def _address(routes: Routes) -> str:
    """Return where requests go, and through which proxies; only where the HTTP client is installed."""
    from airgap.replay.network import proxy_of
    from airgap.replay.probe import masked

    found: list[str] = []
    for url in dict.fromkeys(routes.bases.values()):
        proxy = proxy_of(url)
        found.append(f"{url} through the proxy {masked(proxy)}" if proxy else url)
    return ", ".join(found)


def _place(receipt: MadeReceipt, folder: Path | None) -> Placed:
    """Copy a receipt to a folder; one that the medium refuses stays in the home."""
    if folder is None:
        return Placed(receipt)
    try:
        return Placed(receipt, media.place(receipt.path, folder, receipt.path.name))
    except AirgapError as error:
        return Placed(receipt, error=error)


def _require_whole(standings: list[Standing]) -> None:
    found = [finding for standing in standings for finding in standing.findings()]
    if found:
        raise SequenceError(
            "reports are missing, and --strict sends nothing until they are there",
            expected="every bundle, and every period covered or declared to be without usage",
            found=found[0].message,
            details=[finding.message for finding in found[1:]],
            hint="import the missing bundles too, have a time without usage declared with "
            "`airgap export --no-usage FROM..TO`, or go on without --strict: airgap import --resume",
        )


def _see(result: Imported, watcher: Watcher) -> None:
    name = printable(str(result.path), 300)
    if result.bundle is None:
        record("file refused", file=name, error=result.error.message if result.error else None)
    else:
        record(
            "bundle imported" if result.new else "bundle known",
            file=name,
            source=result.bundle.source,
            sequence=result.bundle.sequence,
            bundle_id=result.bundle.bundle_id,
            findings=[finding.code for finding in result.findings],
            signed_by=result.signed_by,
            approved_by=result.approved_by,
        )
    watcher.imported(result)
