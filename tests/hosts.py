"""Two hosts, three sticks and a clock: the commands as calls, each held against its promise.

A command does what ``airgap/cli`` does, in this process and without its words. Each runs as a
process that may die around any lasting step; afterwards the model takes over how far it came.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import pytest
from model import LICENSES, Beacon, Bundle, Choose, Killed, Life, Model, Scheduler, read, totals
from support import SOURCE, trusted, write_lines

from airgap import catalog, confirmation, export, home, media, quarantine, verify
from airgap.bundle.layout import Header
from airgap.collect import jsonfiles
from airgap.collect.payloads import Rules
from airgap.collection import collect
from airgap.credentials import Keyring
from airgap.database import Database
from airgap.errors import InputRefusedError, SequenceError
from airgap.exporting import is_due
from airgap.outbox import Outbox
from airgap.records import Record
from airgap.replay import decisions
from airgap.replay.delivery import Delivery, Pace, Surroundings
from airgap.replay.intake import Imported, Intake
from airgap.replay.ledger import Ledger
from airgap.replay.ledger_layout import LedgerBundle
from airgap.replay.receipts import make_receipt
from airgap.replay.requests import Routes
from airgap.sightings import Sighting
from airgap.trust import keys
from airgap.trust.store import TrustStore

SCHEMAS = catalog.load()
KEYRING = Keyring.of([("license", one) for one in LICENSES])
ROUTES = Routes({"beacon": "http://beacon", "api": "http://beacon"}, {})
EXPORTER, IMPORTER = keys.generate(), keys.generate()
TRUST = (
    TrustStore({}).with_key(trusted(EXPORTER, "exporter")).with_key(trusted(IMPORTER, "importer"))
)


def sequence_of(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def choose_first(options: Sequence[Any]) -> Any:
    return options[0]


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


class Hosts:
    """Two hosts that trust each other, and what the model says about them."""

    def __init__(self) -> None:
        super().__init__()
        self.temporary = TemporaryDirectory()
        self.root = Path(self.temporary.name)
        self.isolated = home.create(self.root / "isolated", "isolated", SOURCE)
        self.workstation = home.create(self.root / "workstation", "workstation", "relay-1")
        self.now = datetime(2026, 2, 1, tzinfo=UTC)
        self.life = Life()
        self.cut_off = False
        self.model = Model()
        self.sources: list[list[dict[str, Any]]] = []
        for name in ("red", "blue", "green", "last"):
            (self.root / name).mkdir()
        # A process that dies here leaves what it wrote; syncs are for a machine that loses power.
        self.no_syncs = mock.patch("os.fsync")
        self.no_syncs.start()
        self.open()

    # Processes: each rule is one, and may die between any two of its lasting steps.

    def open(self) -> None:
        self.outbox = Outbox(self.isolated.outbox_path, SOURCE, SCHEMAS)
        self.ledger = Ledger(self.workstation.ledger_path, SCHEMAS, lambda: self.now)
        for side in (self.outbox, self.ledger):
            side.database.connection.execute("PRAGMA synchronous = OFF")
            self.make_mortal(side.database)

    def make_mortal(self, database: Database) -> None:
        """Let the process die before each transaction, and between its commit and what follows."""
        transaction = database.transaction

        @contextmanager
        def mortal() -> Iterator[sqlite3.Connection]:
            self.life.moment()
            with transaction() as connection:
                yield connection
            self.life.moment()

        database.transaction = mortal  # type: ignore[method-assign]

    def close(self) -> None:
        self.outbox.close()
        self.ledger.close()

    def clean_up(self) -> None:
        self.close()
        self.no_syncs.stop()
        self.temporary.cleanup()

    @contextmanager
    def process(self, dies: int | None = None) -> Iterator[Life]:
        """Run a command; when it dies, the databases are opened again as the next one would."""
        self.life = life = Life(dies)
        try:
            yield life
        except Killed:
            self.close()
            self.open()
        finally:
            self.life = Life()

    def recover(self) -> None:
        """Settle what the last process left, as each command of the workstation first does."""
        self.ledger.recover()
        self.cut_off = False

    # The isolated host.

    def take_over(self, lines: list[dict[str, Any]], dies: int | None) -> None:
        self.sources.append(lines)
        new, before = self.model.new_in(lines), len(self.model.records)
        with self.process(dies) as life:
            found = collect(self.outbox, map(Sighting.of, self.records(lines)), self.now)
            assert found.read.as_map() == totals(record for _, record in read(lines))
            assert found.new.as_map() == totals(new.values())
        rows = self.rows(self.outbox, "SELECT number, id FROM record ORDER BY number")
        if not life.dead or len(rows) > before:
            self.model.keys |= new
            assert len(rows) == len(self.model.keys), "a file is taken over whole or not at all"
            for record, (number, identifier) in zip(self.model.records, rows, strict=True):
                known = (number, identifier.hex())
                assert not record.id or (record.number, record.id) == known, "a record keeps its id"
                record.number, record.id = known

    def records(self, lines: list[dict[str, Any]]) -> Iterator[Record]:
        path = write_lines(self.root / "usage.jsonl", lines)
        for record in jsonfiles.read(path, SCHEMAS, Rules()):
            self.life.moment()
            yield record

    def export_to_a_stick(self, stick: str, again: bool, max_size: int, dies: int | None) -> None:
        chosen = []
        with self.process(dies) as life:
            assert self.outbox.has_waiting() == bool(self.model.waiting)
            if self.outbox.has_waiting():
                self.look_at_the_clock()
                list(export.make_bundles(self.maker(), max_size))
            chosen = [b for b in self.outbox.bundles() if is_due(self.outbox, b, again=again)]
            for bundle in chosen:
                export.write_bundle(
                    self.isolated, self.outbox, bundle, self.root / stick, self.now, force=False
                )
        self.note_bundles()
        if not life.dead:
            assert not self.model.waiting, "an export leaves no record behind"
            for known, stored in zip(self.model.bundles, self.outbox.bundles(), strict=True):
                assert stored.written_to or known.confirmed
            assert not [b for b in chosen if b.pruned]
        if again and not life.dead:
            due = {n for n, b in enumerate(self.model.bundles, 1) if not b.confirmed}
            assert due <= {b.sequence for b in chosen}, "--again writes all that is not confirmed"

    def maker(self) -> export.Maker:
        return export.Maker(
            self.isolated,
            self.outbox,
            (EXPORTER,),
            TRUST,
            SCHEMAS,
            self.now,
            Header("bundle"),
            None,
        )

    def look_at_the_clock(self) -> None:
        behind = bool(self.model.bundles) and self.model.bundles[-1].created > self.now
        with pytest.raises(SequenceError) if behind else nullcontext():
            export.check_clock(self.outbox, self.now, backdated=False)
        assert len(export.check_clock(self.outbox, self.now, backdated=True)) == behind

    def declare(self, year: int, dies: int | None) -> None:
        """Declare a day without usage; what was collected is from January 2026."""
        period = datetime(year, 1, 6, tzinfo=UTC), datetime(year, 1, 7, tzinfo=UTC)
        used = [r for r in self.model.records if r.kind == "usage_report"]
        with self.process(dies):
            if used and year == 2026:
                with pytest.raises(InputRefusedError):
                    export.check_no_usage(self.outbox, period, None, self.now)
                return
            export.check_no_usage(self.outbox, period, None, self.now)
            list(export.make_bundles(self.maker()))
            export.declare_no_usage(self.maker(), period, None)
        self.note_bundles()

    def take_away(self, older_than: timedelta, dies: int | None) -> None:
        """Prune, and hold what went against what may go."""
        expected = {
            number
            for number, bundle in enumerate(self.model.bundles, 1)
            if bundle.confirmed and not bundle.pruned and bundle.answered <= self.now - older_than
        }
        before = {n for n, bundle in enumerate(self.model.bundles, 1) if bundle.pruned}
        with self.process(dies) as life:
            folder = self.isolated.path / "bundles"
            done = confirmation.prune(self.outbox, folder, older_than, self.now)
            assert {bundle.sequence for bundle in done} == expected
        there = {bundle.sequence for bundle in self.outbox.bundles() if bundle.pruned}
        assert before <= there <= before | expected
        assert life.dead or there == before | expected
        for number in there:
            self.model.bundle(number).pruned = True

    def confirm_by_codes(self, dies: int | None) -> None:
        """Type in a code for every bundle that was delivered as a whole."""
        states = self.states()
        with self.process(dies):
            for bundle in self.ledger.bundles():
                known = self.model.bundle(bundle.sequence)
                whole = all(states[one] == "delivered" for one in known.ids)
                assert self.ledger.is_delivered(bundle) == whole
                if whole:
                    self.enter_code(known, bundle.sequence)

    def enter_code(self, known: Bundle, sequence: int) -> None:
        [stored] = [b for b in self.outbox.bundles() if b.sequence == sequence]
        try:
            confirmation.confirm_by_code(self.outbox, stored, "relay-1", self.now)
        except Killed:
            self.close()
            self.open()
            if not self.outbox.is_confirmed(stored):
                raise
            known.take_code(self.now)
            raise
        known.take_code(self.now)

    def note_bundles(self) -> None:
        for stored in self.outbox.bundles()[len(self.model.bundles) :]:
            records = [r for r in self.model.records if stored.first <= r.number <= stored.last]
            path = self.isolated.path / "bundles" / stored.file_name
            manifest = self.outbox.manifest(stored)
            created = datetime.fromisoformat(manifest["created_at"])
            bundle = Bundle(stored.bundle_id, records, digest(path), created)
            assert records or manifest["no_usage"], "a bundle has records, or says why not"
            assert records == self.model.waiting[: len(records)], "a record is in one bundle"
            self.model.bundles.append(bundle)

    def lying(self, *patterns: str, sticks: Iterable[str] = ("red", "blue", "green")) -> list[Path]:
        return sorted(p for s in sticks for one in patterns for p in (self.root / s).glob(one))

    # The workstation.

    def take(self, paths: list[Path], accepted: Iterable[str] = ()) -> list[Imported]:
        intake = Intake(
            self.workstation,
            self.ledger,
            TRUST,
            KEYRING,
            SCHEMAS,
            lambda: self.now,
            frozenset(accepted),
        )
        return intake.take(paths, lambda _: None)

    def work(
        self,
        paths: list[Path],
        choose: Choose = choose_first,
        *,
        weather: tuple[str, ...] = (),
        in_flight: int = 2,
        stop_after: int | None = None,
        stick: str | None = None,
        with_answers: bool = False,
        dies: int | None = None,
    ) -> None:
        """Do what an import does: take files in, deliver, and write receipts."""
        before, coming = set(self.model.imported), {sequence_of(path) for path in paths}
        with self.process(dies) as life:
            self.recover()
            bundles = self.take_in(paths) if paths else self.ledger.bundles()
            if weather:
                self.deliver(bundles, choose, weather, in_flight, stop_after)
            if stick is not None:
                self.write_receipts(bundles, stick, with_answers=with_answers)
        there = {bundle.sequence for bundle in self.ledger.bundles(SOURCE)}
        assert before <= there <= before | coming
        assert life.dead or there == before | coming
        self.model.imported = there
        for bundle in self.ledger.bundles():
            if (bundle.sequence, self.last_receipt(bundle)) not in self.model.receipts:
                self.note_receipt(bundle, new=True)

    def take_in(self, paths: list[Path]) -> list[LedgerBundle]:
        known, bundles = set(self.model.imported), {}
        dated_back = self.model.dated_back
        for result in self.take(paths) if dated_back else []:
            if result.error is not None:
                assert isinstance(result.error, SequenceError)
                assert self.model.bundle(sequence_of(result.path)).id in dated_back
            else:
                known.add(sequence_of(result.path))
        for path, result in zip(paths, self.take(paths, dated_back), strict=True):
            assert result.error is None, "a whole file is taken, in any order, however often"
            assert (result.new, result.known) == (sequence_of(path) not in known, 0)
            known.add(sequence_of(path))
            if result.bundle is not None:
                bundles[result.bundle.number] = result.bundle
        return list(bundles.values())

    def deliver(
        self,
        bundles: list[LedgerBundle],
        choose: Choose,
        weather: tuple[str, ...],
        in_flight: int,
        stop_after: int | None,
    ) -> None:
        beacon = Beacon(self.model, choose, self.life, weather)
        network = Scheduler(beacon)
        self.ledger.set_scope(bundles)
        around = Surroundings(
            lambda: network.time,
            network.sleep,
            lambda: 1.0,
            lambda: stop_after is not None and beacon.sent >= stop_after,
        )
        pace = Pace(in_flight, attempts=3, first_wait=1.0, longest_wait=60.0)
        try:
            Delivery(
                self.ledger, SCHEMAS, KEYRING, ROUTES, network, pace, around, lambda _: None
            ).run()
        finally:
            self.cut_off = self.life.dead
            network.end()
        assert not beacon.complaints

    def write_receipts(
        self, bundles: list[LedgerBundle], stick: str, *, with_answers: bool
    ) -> None:
        for bundle in bundles:
            made = make_receipt(
                self.workstation,
                self.ledger,
                bundle,
                IMPORTER,
                TRUST,
                SCHEMAS,
                self.now,
                with_answers=with_answers,
            )
            self.note_receipt(bundle, new=made.new)
            media.place(made.path, self.root / stick, made.path.name)

    def note_receipt(self, bundle: LedgerBundle, *, new: bool) -> None:
        number, states = self.last_receipt(bundle), self.states()
        said = {one: states[one] for one in self.model.bundle(bundle.sequence).ids}
        key = bundle.sequence, number
        if number:
            assert new == (key not in self.model.receipts)
            assert self.model.receipts.setdefault(key, said) == said, "a receipt says what is so"

    def last_receipt(self, bundle: LedgerBundle) -> int:
        last = self.ledger.last_receipt(bundle)
        return last.number if last else 0

    def ask_about(
        self, states: list[str], which: Sequence[bool] = (True,), dies: int | None = None
    ) -> None:
        """Let the operator ask the beacon's side and decide as it is; ``which`` goes round."""
        with self.process(dies):
            self.recover()
            found = [one for one, state in self.states().items() if state in states]
            for chosen, identifier in zip(cycle(which), found, strict=False):
                counted = self.model.by_id[identifier].counted
                state = "delivered" if counted else "waiting"
                if chosen:
                    changed = decisions.decide(
                        self.ledger, identifier, ("in_doubt", "dead"), state, "they said so"
                    )
                    assert changed == [identifier]

    # Receipts, back on the isolated host.

    def apply_paths(
        self, paths: list[Path], looks_first: bool = True, dies: int | None = None
    ) -> None:
        """Apply receipts; the command looks first whether one is old, and without that none harms."""
        with self.process(dies):
            for path in paths:
                with quarantine.copied(path, self.root) as stream:
                    receipt = verify.verify_receipt(
                        stream, name=path.name, trust=TRUST, catalog=SCHEMAS
                    )
                    self.apply_one(receipt, looks_first)

    def apply_one(self, receipt: verify.VerifiedReceipt, looks_first: bool) -> None:
        sequence, number = receipt.manifest["bundle_sequence"], receipt.manifest["number"]
        applied = self.model.applied.get(sequence, set())
        assert confirmation.is_applied(self.outbox, receipt) == (number in applied)
        assert confirmation.is_stale(self.outbox, receipt) == (number < max(applied, default=0))
        if looks_first and number <= max(applied, default=0):
            return
        if number in applied:
            changed = confirmation.apply(self.outbox, receipt, self.now)
            assert not any(changed.values()), "once is enough"
            return
        try:
            changed = confirmation.apply(self.outbox, receipt, self.now)
        except Killed:
            self.close()
            self.open()
            if confirmation.is_applied(self.outbox, receipt):
                self.model.apply(sequence, number, self.now)
            raise
        expected = self.model.apply(sequence, number, self.now)
        assert changed == expected, "exactly its records change"

    # What is stored, by the tables themselves.

    def rows(self, side: Outbox | Ledger, statement: str) -> list[tuple[Any, ...]]:
        return side.database.connection.execute(statement).fetchall()

    def states(self) -> dict[str, str]:
        rows = self.rows(self.ledger, "SELECT id, state FROM record_state ORDER BY number")
        return {identifier.hex(): state for identifier, state in rows}
