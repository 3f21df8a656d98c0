"""The whole journey in any order, with deaths at any moment, against a model in plain Python.

Outbox, ledger, signed files, intake, delivery and receipts are the real ones, called in this
process; the beacon, the clock and the sending threads are drawn (``tests/model.py``). The operator
who decides doubt always says the truth, so nothing here may be counted twice.
"""

import shutil
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hosts import SCHEMAS, TRUST, Hosts, digest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from model import ADDED_UP, FAIR, FOUL, LINES, Choose, Known, totals
from support import SOURCE

from airgap import export, quarantine, verify
from airgap.bundle import codec
from airgap.collection import collect
from airgap.errors import AirgapError, InputRefusedError
from airgap.sightings import Sighting

# At which moment the process dies: before or after a commit, a request or its answer.
DIES = st.sampled_from([*[None] * 20, 0, 1, 2, 3, 4, 5, 7, 9])
STICKS = st.sampled_from(["red", "blue", "green"])
# One record, three or so, or all; the writer reckons with 64 KiB for an envelope and a record.
SIZES = st.sampled_from([2 * 1024**3, 132_500, 1])


def runs(*weather: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw how an import is run: the beacon's mood (or nothing is sent), where receipts go."""
    return st.fixed_dictionaries(
        {
            "weather": st.sampled_from(weather),
            "in_flight": st.integers(1, 3),
            "stop_after": st.sampled_from([*[None] * 7, 0, 1, 3]),
            "stick": st.sampled_from(["red", "blue", "green", "red", "blue", "green", None]),
            "with_answers": st.booleans(),
        }
    )


RUNS = runs(FOUL, FOUL, FOUL, FAIR, ())
# A round: all the way and back, with two runs, by processes that may each die.
ROUND = {
    "data": st.data(),
    "lines": LINES,
    "size": SIZES,
    "runs": st.tuples(RUNS, runs(FAIR, FAIR, FOUL)),
    "asked": st.booleans(),
    "newest_first": st.booleans(),
    "deaths": st.tuples(DIES, DIES, DIES, DIES, DIES),
}


def choosing(data: st.DataObject) -> Choose:
    """Let hypothesis choose for beacon and threads."""
    broken: list[BaseException] = []

    def choose(options: Sequence[Any]) -> Any:
        # Once hypothesis ends an example, the run's clean-up may not draw from it.
        if broken:
            raise broken[0]
        try:
            return data.draw(st.sampled_from(options))
        except BaseException as error:
            broken.append(error)
            raise

    return choose


class Journey(Hosts, RuleBasedStateMachine):
    """What may happen, and what is true whatever happened."""

    # The isolated host.

    @rule(data=st.data(), lines=LINES, grown=st.booleans(), dies=DIES)
    def collect(
        self, data: st.DataObject, lines: list[dict[str, Any]], grown: bool, dies: int | None
    ) -> None:
        if grown and self.sources:
            source = data.draw(st.integers(0, len(self.sources) - 1))
            lines = self.sources[source] + lines[1:]
        known = [r for r in self.model.records if r.kind == "trace_transactions"]
        if known and data.draw(st.integers(0, 4)) == 4:
            self.collect_a_contradiction(lines, data.draw(st.sampled_from(known)))
        else:
            self.take_over(lines, dies)

    def collect_a_contradiction(self, lines: list[dict[str, Any]], record: Known) -> None:
        other = {**record.payload, "trace_count": 99}
        bad = {"license": record.license, "trace_transactions": [other]}
        with pytest.raises(InputRefusedError):
            collect(self.outbox, map(Sighting.of, self.records([*lines, bad])), self.now)

    @precondition(lambda self: self.model.records)
    @rule(stick=STICKS, again=st.booleans(), max_size=SIZES, dies=DIES)
    def export(self, stick: str, again: bool, max_size: int, dies: int | None) -> None:
        self.export_to_a_stick(stick, again=again, max_size=max_size, dies=dies)

    # Sticks.

    @precondition(lambda self: self.lying("*"))
    @rule(
        data=st.data(),
        stick=STICKS,
        what=st.sampled_from(["copied", "lost", "damaged"]),
        minutes=st.integers(-100_000, 100_000),
    )
    def a_stick_travels(self, data: st.DataObject, stick: str, what: str, minutes: int) -> None:
        """Meanwhile somebody sets the clocks."""
        self.now += timedelta(minutes=minutes)
        other = data.draw(STICKS) if what == "copied" else stick
        for path in self.lying("*", sticks=[stick]):
            if what == "lost":
                path.unlink()
            elif what == "copied" and other != stick:
                shutil.copy(path, self.root / other)
            elif what == "damaged":
                self.hand_over_with_a_flipped_bit(path, data)

    def hand_over_with_a_flipped_bit(self, path: Path, data: st.DataObject) -> None:
        content = bytearray(path.read_bytes())
        bit = data.draw(st.integers(0, 8 * len(content) - 1))
        content[bit // 8] ^= 1 << bit % 8
        bad = self.root / path.name
        bad.write_bytes(content)
        before = [side.database.connection.total_changes for side in (self.outbox, self.ledger)]
        if path.suffix == ".airgap":
            [result] = self.take([bad])
            assert isinstance(result.error, AirgapError)
        else:
            with pytest.raises(AirgapError), quarantine.copied(bad, self.root) as stream:
                verify.verify_receipt(stream, name="bad", trust=TRUST, catalog=SCHEMAS)
        after = [side.database.connection.total_changes for side in (self.outbox, self.ledger)]
        assert after == before, "a damaged file changes nothing"
        bad.unlink()

    # The workstation.

    @precondition(lambda self: self.lying("*.airgap"))
    @rule(data=st.data(), how=RUNS, dies=DIES)
    def import_files(self, data: st.DataObject, how: dict[str, Any], dies: int | None) -> None:
        files = st.sampled_from(self.lying("*.airgap"))
        self.work(
            data.draw(st.lists(files, min_size=1, max_size=5)), choosing(data), **how, dies=dies
        )

    @precondition(lambda self: self.model.imported)
    @rule(data=st.data(), how=RUNS, dies=DIES)
    def resume(self, data: st.DataObject, how: dict[str, Any], dies: int | None) -> None:
        self.work([], choosing(data), **how, dies=dies)

    @initialize(**ROUND)
    def begin(self, **drawn: Any) -> None:
        """Begin with a round: what comes late in a journey is as much worth trying."""
        self.go_round(**drawn)

    @rule(**ROUND)
    def a_whole_round(self, **drawn: Any) -> None:
        self.go_round(**drawn)

    def go_round(
        self,
        data: st.DataObject,
        lines: list[dict[str, Any]],
        size: int,
        runs: tuple[dict[str, Any], dict[str, Any]],
        asked: bool,
        newest_first: bool,
        deaths: tuple[int | None, ...],
    ) -> None:
        self.take_over(lines, deaths[0])
        self.export_to_a_stick("red", again=True, max_size=size, dies=deaths[1])
        self.work(self.lying("*.airgap"), choosing(data), **runs[0], dies=deaths[2])
        if asked:
            self.ask_about(["in_doubt"])
        self.work([], choosing(data), **runs[1], dies=deaths[3])
        receipts = self.lying("*.receipt")[:: -1 if newest_first else 1]
        self.apply_paths(receipts, looks_first=not newest_first, dies=deaths[4])

    @precondition(lambda self: {"in_doubt", "dead"} & set(self.states().values()))
    @rule(data=st.data(), dead_too=st.booleans(), dies=DIES)
    def resolve(self, data: st.DataObject, dead_too: bool, dies: int | None) -> None:
        states = ["in_doubt", "dead"] if dead_too else ["in_doubt"]
        some = st.lists(st.booleans(), min_size=1, max_size=4)
        self.ask_about(states, data.draw(some), dies)

    # Receipts, back on the isolated host.

    @precondition(lambda self: self.lying("*.receipt"))
    @rule(data=st.data(), newest_first=st.booleans(), looks_first=st.booleans(), dies=DIES)
    def apply(
        self, data: st.DataObject, newest_first: bool, looks_first: bool, dies: int | None
    ) -> None:
        paths = self.lying("*.receipt")[::-1]
        if newest_first:
            self.apply_paths(paths, looks_first=False, dies=dies)
        else:
            some = data.draw(st.lists(st.sampled_from(paths), min_size=1, max_size=4))
            self.apply_paths(some, looks_first, dies)

    @rule(dies=DIES)
    def codes_are_read_over_the_phone(self, dies: int | None) -> None:
        self.confirm_by_codes(dies)

    # Care of the outbox.

    @rule(minutes=st.sampled_from([0, 0, 1, 1000, 100_000]), dies=DIES)
    def prune(self, minutes: int, dies: int | None) -> None:
        self.take_away(timedelta(minutes=minutes), dies)

    @rule(year=st.sampled_from([2024, 2023, 2026]), dies=DIES)
    def declare_no_usage(self, year: int, dies: int | None) -> None:
        # Clocks that were set far back don't know the year yet.
        if self.now.year >= 2026 and (year < 2026 or self.now.month > 1 or self.now.day > 7):
            self.declare(year, dies)

    # FURTHER RULES go here. A rule does one command's work within ``with self.process(dies)``,
    # tells ``self.model`` what the command promises, and leaves the judgement to the invariants. A
    # rule that may die looks afterwards how far it came (``life.dead``) and holds that against
    # the promise too: all or nothing. It may die around each transaction.
    # What a rule makes true for good (a record pruned, say) belongs in the model, so that the
    # invariants and ``ending`` know what to expect.

    # What is true after every rule.

    @invariant()
    def the_outbox_holds_what_was_collected(self) -> None:
        rows = self.rows(self.outbox, "SELECT kind, payload FROM record ORDER BY number")
        pruned = {r.id for b in self.model.bundles if b.pruned for r in b.records}
        assert [(kind, p and codec.decode_own(p)) for kind, p in rows] == [
            (r.kind, None if r.id in pruned else r.payload) for r in self.model.records
        ]
        for bundle in self.outbox.bundles():
            if not bundle.pruned:
                found = self.outbox.totals(bundle.first, bundle.last).as_map()
                assert found == totals(self.model.bundle(bundle.sequence).records)
        assert self.outbox.waiting().as_map() == totals(self.model.waiting)

    @invariant()
    def the_outbox_confirms_what_receipts_said_and_no_more(self) -> None:
        rows = self.rows(self.outbox, "SELECT outcome FROM record ORDER BY number")
        assert [row[0] for row in rows] == [r.outcome for r in self.model.records]
        confirmed = [r for r in self.model.records if r.outcome == "delivered"]
        assert self.outbox.confirmed().as_map() == totals(confirmed)
        assert all(r.counted for r in confirmed), "what is confirmed was counted by the beacon"
        for bundle in self.outbox.bundles():
            assert self.outbox.is_confirmed(bundle) == self.model.bundle(bundle.sequence).confirmed

    @invariant()
    def the_chain_has_no_gap_and_each_bundle_holds_its_records(self) -> None:
        stored = self.outbox.bundles()
        assert [b.sequence for b in stored] == list(range(1, len(self.model.bundles) + 1))
        previous, last = None, 0
        for bundle, known in zip(stored, self.model.bundles, strict=True):
            manifest = self.outbox.manifest(bundle)
            assert (manifest["sequence"], manifest["previous"]) == (bundle.sequence, previous)
            assert bundle.bundle_id == known.id
            end = known.records[-1].number if known.records else last
            assert (bundle.first, bundle.last) == (last + 1, end)
            assert manifest["totals"] == totals(known.records)
            previous, last = bundle.bundle_id, bundle.last

    @invariant()
    def the_bytes_of_a_bundle_never_change(self) -> None:
        for sequence, bundle in enumerate(self.model.bundles, 1):
            name = export.file_name(SOURCE, sequence)
            kept = self.isolated.path / "bundles" / name
            assert kept.exists() or bundle.pruned
            for path in (*([kept] if kept.exists() else []), *self.lying(name)):
                assert digest(path) == bundle.digest

    @invariant()
    def the_ledger_holds_what_was_imported_and_no_more(self) -> None:
        rows = self.rows(
            self.ledger,
            "SELECT b.sequence, r.id FROM record r LEFT JOIN bundle_record x ON x.record = r.number"
            " LEFT JOIN bundle b ON b.number = x.bundle ORDER BY 1, r.number",
        )
        expected = [(s, i) for s in sorted(self.model.imported) for i in self.model.bundle(s).ids]
        assert [(sequence, identifier.hex()) for sequence, identifier in rows] == expected
        for bundle in self.ledger.bundles():
            found = self.ledger.bundle_totals(bundle).as_map()
            assert found == totals(self.model.bundle(bundle.sequence).records)
        states = self.ledger.states(scoped=False)
        assert sum(n for kind in states.values() for n in kind.values()) == len(expected)

    @invariant()
    def each_imported_record_is_in_a_state_that_the_beacon_bears_out(self) -> None:
        settled = {"delivered", "dead", "in_doubt", "waiting"}
        for identifier, state in self.states().items():
            record = self.model.by_id[identifier]
            assert state in settled or (state == "sending" and self.cut_off)
            assert state != "delivered" or record.counted, "delivered means counted by the beacon"
            assert state == "delivered" or identifier not in self.model.delivered, "that is final"
            if state in ("waiting", "dead") and record.kind in ADDED_UP:
                assert not record.counted, "what may have been counted is not to be sent again"
            if state == "delivered":
                self.model.delivered.add(identifier)

    @invariant()
    def nothing_is_counted_twice(self) -> None:
        assert all(record.counted <= 1 for record in self.model.records)

    # The end: everything arrives, all doubt is resolved, and then nothing may be missing.

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self.ending()
        finally:
            self.clean_up()

    def ending(self) -> None:
        self.export_to_a_stick("last", again=True, max_size=2 * 1024**3, dies=None)
        if self.model.bundles:
            self.work(self.lying("*.airgap", sticks=["last"])[::-1])
        for _ in range(2):  # to send again what was in doubt can bring a doubt of its own
            self.ask_about(["in_doubt"])
            self.work([], weather=FAIR, stick="last")
        self.apply_paths(self.lying("*.receipt", sticks=["last"]))
        self.the_outbox_confirms_what_receipts_said_and_no_more()
        self.the_ledger_holds_what_was_imported_and_no_more()
        self.each_imported_record_is_in_a_state_that_the_beacon_bears_out()
        states = self.states()
        for record in self.model.records:
            if states.get(record.id) == "dead":
                assert record.outcome != "delivered"
            else:
                assert record.outcome == "delivered", f"{record} is lost"
                assert record.counted == 1


# Some 10 seconds of one core.
EXAMPLES, STEPS = 40, 12


def thorough(**changes: Any) -> settings:
    return settings(
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        **changes,
    )


def test_whatever_happens_nothing_is_lost_and_nothing_counted_twice():
    run_state_machine_as_test(
        Journey,
        settings=thorough(derandomize=True, max_examples=EXAMPLES, stateful_step_count=STEPS),
    )


@pytest.mark.soak
def test_whatever_happens_for_long_nothing_is_lost_and_nothing_counted_twice():
    run_state_machine_as_test(
        Journey, settings=thorough(max_examples=400, stateful_step_count=50, print_blob=True)
    )
