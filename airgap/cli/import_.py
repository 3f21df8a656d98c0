"""``airgap import``."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from airgap import catalog, timestamps
from airgap.arrivals import approvals_beside, files_to_read, trust_of
from airgap.cli import completing, ledgers
from airgap.cli import import_view as view
from airgap.cli.common import (
    Output,
    airgap_command,
    ask_passphrase,
    credential_options,
    gap_option,
    key_option,
    ledger_option,
    passphrase_option,
    read_credentials,
    sealing_passphrase_option,
    unsealer,
)
from airgap.credentials import Keyring
from airgap.errors import (
    UsageError,
)
from airgap.export import BUNDLE_SUFFIX
from airgap.replay import importing, intake
from airgap.replay.importing import Plan, Sending
from airgap.replay.receipts import check_key
from airgap.replay.requests import Batch, Request, routes_of
from airgap.text import plural


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
    "--profile",
    metavar="NAME",
    shell_complete=completing.profiles,
    help="Where the beacon is and how it is reached: us, eu, or one of airgap.toml.",
)
@click.option(
    "--beacon-url",
    envvar="AIRGAP_BEACON_URL",
    help="Base URL of the beacon, where it is not the documented one.",
)
@click.option(
    "--api-url",
    envvar="AIRGAP_API_URL",
    help="Base URL of the API, where it is not the documented one.",
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
    default=8,
    show_default=True,
    help="Most requests at a time; fewer while the beacon is busy or slow.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0.01, 100_000),
    default=50.0,
    show_default=True,
    help="Most requests per second.",
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
@ledger_option
def command(
    out: Output,
    home_path: Path,
    ledger: str | None,
    paths: tuple[Path, ...],
    receipt_to: Path | None,
    profile: str | None,
    beacon_url: str | None,
    api_url: str | None,
    dialect: tuple[str, ...],
    in_flight: int,
    rate: float,
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
    home = ledgers.workstation(home_path, ledger, out.warn)
    _check_options(paths, timeout, rate, receipt_to, resume=resume)
    accepted = importing.backdated(accept_backdated)
    schemas = catalog.load()
    plan = Plan(
        home,
        files_to_read(paths, (BUNDLE_SUFFIX,)) if paths else [],
        schemas,
        trust_of(home, schemas, timestamps.system_clock()),
        Keyring.of(read_credentials(license_file, api_key_file)),
        routes_of(schemas, {"beacon": beacon_url, "api": api_url}, dialect),
        accepted,
        tuple(approvals_beside(home, schemas, paths, out.warn)),
        gap_over // timedelta(microseconds=1),
        unsealer(home, sealing_passphrase_file),
        resume=resume,
        strict=strict,
        clock=timestamps.system_clock,
    )
    out.findings(plan.trust.findings(timestamps.system_clock()))
    if profile is not None:
        out.say(f"Profile {profile}: {', '.join(plan.routes.bases.values())}")
    watcher = view.Watcher(out)
    if dry_run:
        _dry_run(out, plan, watcher)
        return
    key = home.private_key(
        key_choice, ask_passphrase(passphrase_file), plan.trust.is_for("importer")
    )
    check_key(key, plan.trust, timestamps.system_clock())
    sending = Sending(
        in_flight=in_flight,
        rate=rate,
        attempts=attempts,
        timeout=timeout,
        ca_file=ca_file,
        stopping=watcher.stopping,
    )
    with _kept(out), ledgers.held(home) as opened:
        done = importing.run(
            plan, opened, key, sending, watcher, receipt_to=receipt_to, with_answers=with_answers
        )
    view.finish(out, done)


@contextmanager
def _kept(out: Output) -> Iterator[None]:
    """Say to who ends an import at once that nothing of it is lost."""
    try:
        yield
    except KeyboardInterrupt:
        out.warn("what was verified is kept. Next, with the same options: airgap import --resume")
        raise


def _check_options(
    paths: tuple[Path, ...], timeout: float, rate: float, receipt_to: Path | None, *, resume: bool
) -> None:
    if not paths and not resume:
        raise UsageError(
            "name the files or folders to import",
            hint="airgap import FOLDER; or airgap import --resume, for what earlier imports left waiting",
        )
    if not timeout > 0:
        raise UsageError("the time-out is not a number of seconds", found=str(timeout))
    if not rate > 0:
        raise UsageError("the rate is not a number of requests per second", found=str(rate))
    if receipt_to is not None and not receipt_to.is_dir():
        raise UsageError(
            "the receipts' folder is not there", where=str(receipt_to), hint="make it, or mount it"
        )


def _dry_run(out: Output, plan: Plan, watcher: view.Watcher) -> None:
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

    with ledgers.copied(plan.home) as ledger:
        taken = plan.take_in(ledger, watcher)
        intake.would_send(ledger, plan.keyring, plan.catalog, plan.routes, show)
    out.result(
        {
            "requests": shown,
            "refused": [
                {"path": str(r.path), **r.error.as_json()}
                for r in taken.imported
                if r.error is not None
            ],
            "sources": [view.as_map(standing) for standing in taken.standings],
        }
    )
    view.raise_first(taken.imported)
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
