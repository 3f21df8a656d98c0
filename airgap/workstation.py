"""The connected workstation for scripts: what ``import`` and ``status`` do."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from airgap import catalog, timestamps
from airgap.arrivals import approvals_beside, files_to_read, trust_of
from airgap.audit import Script
from airgap.credentials import Keyring, read_all
from airgap.errors import UsageError
from airgap.export import BUNDLE_SUFFIX
from airgap.home import open_home, passphrase_from
from airgap.replay import importing, opening, overview
from airgap.replay.chain import Standing
from airgap.replay.importing import Done, Plan, Sending
from airgap.replay.intake import Imported
from airgap.replay.ledger import Ledger
from airgap.replay.overview import WorkstationOverview
from airgap.replay.receipts import check_key
from airgap.replay.requests import routes_of
from airgap.timestamps import Clock
from airgap.unsealing import Unsealer


class Workstation:
    """A workstation's home, made by ``airgap init`` and ``airgap key generate``.

    Each method does what the command of its name does: the same checks, the same files, a run of its
    own in the home's audit log. None asks anything or prints anything.

    Args:
        home: the home's folder.
        clock: the present; None: the system's clock.
        ledger: the ledger, where it is another than ``airgap.toml`` says: a file, or
            ``postgresql://USER@HOST/DATABASE``.

    Raises:
        UsageError: there is no home there, or it is an isolated host's.
    """

    def __init__(
        self, home: Path | str, *, clock: Clock | None = None, ledger: str | None = None
    ) -> None:
        self._home = open_home(Path(home)).with_ledger(ledger)
        self._home.require("workstation")
        self._clock = clock or timestamps.system_clock
        self._catalog = catalog.load()
        self._script = Script(self._home.audit_path, self._clock)

    def import_bundles(
        self,
        *paths: Path | str,
        license_files: Sequence[Path | str] = (),
        api_key_files: Sequence[Path | str] = (),
        resume: bool = False,
        strict: bool = False,
        gap_over: timedelta = timedelta(days=1),
        accept_backdated: Sequence[str] = (),
        receipt_to: Path | str | None = None,
        with_answers: bool = False,
        urls: Mapping[str, str] | None = None,
        dialects: Sequence[str] = (),
        sending: Sending | None = None,
        key: str | None = None,
        passphrase: str | bytes | None = None,
        sealing_passphrase: str | bytes | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> Done:
        """Verify bundles, deliver their records, and sign receipts; nothing is delivered twice.

        Args:
            paths: bundles, and folders that hold them.
            license_files: files with the licences whose usage it is.
            api_key_files: the same with API keys.
            resume: whether what earlier imports left is delivered too.
            strict: whether nothing is sent while a bundle or a period is missing.
            gap_over: longest time without a record that is no gap.
            accept_backdated: ids, or at least 16 digits of them, of bundles that may be backdated.
            receipt_to: folder for receipts; None: where the bundles lie.
            with_answers: whether tokens and organization ids go into receipts.
            urls: base URLs by name, ``beacon`` and ``api``, where they are not the documented ones.
            dialects: ``KIND=DIALECT``, for kinds that are to be sent in another documented form.
            sending: how many requests at a time, attempts, time-outs, certificate authorities, and an
                event that ends the delivery in order.
            key: name or file of the key that signs receipts; None: the only one that fits.
            passphrase: of that key.
            sealing_passphrase: of the key that opens sealed bundles.
            warn: takes what somebody should know.

        Returns:
            What was taken in and delivered. ``problem`` is None when nothing is left;
            ``taken.imported`` says of each file whether it was refused, and why.

        Raises:
            UsageError: there is nothing to import, or an option can't be used.
            TrustError: the trust store, the key, or a credential that is needed.
            SequenceError: something is missing under ``strict``, or the ledger is an old copy.
            MediumError: the home's file system refused.
        """
        if not paths and not resume:
            raise UsageError("name the files or folders to import", hint="or resume=True")
        accepted = importing.backdated(accept_backdated)
        given = [Path(path) for path in paths]
        now = self._clock()
        plan = Plan(
            self._home,
            files_to_read(given, (BUNDLE_SUFFIX,)) if given else [],
            self._catalog,
            trust_of(self._home, self._catalog, now),
            Keyring.of(read_all(license_files, api_key_files)),
            routes_of(self._catalog, urls or {}, dialects),
            accepted,
            tuple(approvals_beside(self._home, self._catalog, given, warn)),
            gap_over // timedelta(microseconds=1),
            Unsealer(self._home, _secret(sealing_passphrase)),
            resume=resume,
            strict=strict,
            clock=self._clock,
        )
        signer = self._home.private_key(key, _secret(passphrase), plan.trust.is_for("importer"))
        check_key(signer, plan.trust, now)
        with (
            self._script.run("import_bundles"),
            opening.held(self._home, self._catalog, self._clock) as ledger,
        ):
            return importing.run(
                plan,
                ledger,
                signer,
                sending or Sending(),
                _Watcher(warn),
                receipt_to=None if receipt_to is None else Path(receipt_to),
                with_answers=with_answers,
            )

    def status(
        self, *, gap_over: timedelta = timedelta(days=1), max_age: timedelta = timedelta(days=35)
    ) -> WorkstationOverview:
        """Return what came, what is missing, and what is left to deliver.

        Args:
            gap_over: longest time without a record that is no gap.
            max_age: how old what was reported may be.

        Raises:
            UnreachableError: a shared ledger is out of reach.
        """
        with opening.looked_at(self._home, self._catalog, self._clock) as ledger:
            importing = opening.is_importing(self._home, ledger)
            with ledger.database.snapshot():
                return overview.look(
                    ledger,
                    self._clock(),
                    gap_over=gap_over,
                    max_age=max_age,
                    importing=importing,
                )


class _Watcher:
    """Passes warnings on."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn

    def warn(self, text: str) -> None:
        self._warn(text)

    def imported(self, result: Imported) -> None:
        for finding in result.findings:
            self._warn(finding.message)

    def standing(self, standings: list[Standing]) -> None:
        for standing in standings:
            for finding in standing.findings():
                self._warn(finding.message)

    @contextmanager
    def delivering(self, ledger: Ledger) -> Iterator[Callable[[int], None]]:
        del ledger
        yield lambda _: None


def _secret(value: str | bytes | None) -> Callable[[str], bytes | None]:
    data = value.encode() if isinstance(value, str) else value
    return passphrase_from(file=None, environment=data, prompt=None)
