"""SIGKILL during delivery, and a beacon that misbehaves: nothing lost, nothing counted twice.

The suite runs a short form. The long form takes minutes, and prints its totals with ``-s``:

    .venv/bin/pytest -m soak -n 0 -s tests/hostile/test_crash.py
"""

import http.client
import json
import random
import shutil
import sqlite3
from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import pytest
from counting import ROUGH, CountingBeacon
from crashing import KILLED, TOLD, Scenario, Size, copy_of, stick_of
from forking import Forks, Kill
from support import Site

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
# strace counts each system call by itself, so each has a sweep of its own.
SYNCS = ("fsync", "fdatasync", "rename", "renameat2", "link", "unlink")
JOURNAL_CALLS = (*SYNCS, "pwrite64")
_MOST_STEPS = 2000


@dataclass
class World:
    """What scenarios share: where they start, who starts commands, what was done."""

    site: Site
    forks: Forks
    totals: Counter[str]
    bundles: dict[int, dict[str, str]] = field(default_factory=dict)
    copies: int = 0

    def fill(self, size: Size) -> None:
        self.bundles = stick_of(self.site, size)

    @contextmanager
    def scenario(self, seed: object):
        """Start anew: fresh copies of both homes and of the stick, and a beacon of its own."""
        print("seed:", seed)  # noqa: T201 - to do it again
        self.copies += 1
        root = self.site.root / "copies" / str(self.copies)
        die = random.Random(str(seed))
        with CountingBeacon(die) as beacon:
            site = copy_of(self.site, root)
            yield Scenario(site, self.bundles, beacon, self.forks, die, self.totals)
        shutil.rmtree(root)


@pytest.fixture
def world(site, forks):
    made = World(site, forks, Counter())
    yield made
    print("\n" + "\n".join(f"{n:8,} {name}" for name, n in sorted(made.totals.items())))  # noqa: T201 - the totals


def kill_at_every(world, call, steps, *, in_flight=1, again=False, finish_every=1):
    """Kill a first import at each of these steps, each time from the start, and go on from there."""
    for number in steps:
        with world.scenario(f"{call} {number}") as scenario:
            stick, die = scenario.site.stick, scenario.die
            status = scenario.import_(stick, kill=Kill(call=call, when=number), in_flight=in_flight)
            if status != KILLED:
                # A whole run has fewer such calls: it could have died at each one of them.
                assert status == 0
                scenario.finish()
                return
            world.totals[f"killed at {call}"] += 1
            second = Kill(call=die.choice(JOURNAL_CALLS), when=die.randint(1, 8)) if again else None
            scenario.import_(stick, kill=second, in_flight=in_flight)
            if world.totals[f"killed at {call}"] % finish_every == 0:
                scenario.finish()
    pytest.fail(f"no end of {call}")


@needs_strace
def test_kill_9_at_every_journal_step_sends_no_usage_report_twice(world):
    world.fill(Size(2, 0, 2, bundles=1))
    for call in SYNCS:
        kill_at_every(world, call, range(1, _MOST_STEPS), finish_every=10)
    # Between two syncs lie many writes to the journal: here some, in the long form each.
    kill_at_every(world, "pwrite64", range(3, _MOST_STEPS, 17), finish_every=10)
    totals = world.totals
    assert totals["killed at fdatasync"] >= 10
    assert totals["killed at fsync"] >= 4
    assert totals["killed at pwrite64"] >= 4
    assert min(totals[f"killed at {call}"] for call in ("rename", "renameat2", "unlink")) >= 1
    assert totals["kills"] >= 25


@pytest.mark.soak
@needs_strace
@pytest.mark.parametrize("in_flight", [1, 4])
@pytest.mark.parametrize("call", JOURNAL_CALLS)
def test_kill_9_at_every_journal_step_and_again_at_another(world, call, in_flight):
    world.fill(Size(4, 2, 6))
    kill_at_every(world, call, range(1, _MOST_STEPS), in_flight=in_flight, again=True)
    assert world.totals[f"killed at {call}"] >= (100 if call == "pwrite64" else 2)


@needs_strace
def test_kill_9_on_a_slow_disk_finds_each_request_that_left_in_the_ledger(world):
    world.fill(Size(2, 0, 2, bundles=1))
    for number in (1, 3):
        with world.scenario(f"slow {number}") as scenario:
            scenario.kill_at("received", number, before_it_goes_on=True)
            slow = Kill(call="pwrite64", delay=10_000)
            assert scenario.import_(scenario.site.stick, kill=slow) == KILLED


def test_kill_9_when_the_beacon_has_a_request_leaves_doubt_and_never_a_second_report(world):
    world.fill(Size(3, 0, 2))
    for stage, number in (("received", 2), ("received", 4), ("counted", 3), ("answered", 2)):
        with world.scenario(f"{stage} {number}") as scenario:
            scenario.kill_at(stage, number, before_it_goes_on=True)
            status = scenario.import_(scenario.site.stick, in_flight=2)
            # After the last answer the client may be quicker than the kill.
            assert status == KILLED or stage == "answered"
            scenario.import_(scenario.site.stick)
            rows = scenario.rows().values()
            assert {row.state for row in rows if row.kind == TOLD} == {"delivered"}
            if stage != "answered" and number <= 3:  # the reports come first
                assert "in_doubt" in {row.state for row in rows}
            scenario.finish()
    assert world.totals["kills"] >= 3


@pytest.mark.parametrize("kill", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_each_fault_by_itself_makes_no_run_send_what_may_have_been_counted(world, kill):
    world.fill(Size(2, 1, 2, bundles=1))
    for fault in ROUGH:
        with world.scenario(f"{fault} {kill}") as scenario:
            scenario.beacon.weights = {fault: 1}
            if kill:
                scenario.kill_at("counted", 2, before_it_goes_on=False)
                scenario.import_(scenario.site.stick, timeout=0.2, attempts=1)
            scenario.import_(scenario.site.stick, timeout=0.2, attempts=1)
            assert scenario.beacon.faults[fault] >= 1
            world.totals[f"fault: {fault}"] += scenario.beacon.faults[fault]


def rough_run(scenario):
    """Import from a beacon that does its worst, and kill it in one of many ways or not at all."""
    die, kill = scenario.die, None
    way = die.choice(("not", "moment", "moment", "request", "request", "request"))
    if way == "moment":
        kill = Kill(after=die.uniform(0, 0.3))
    elif way == "request":
        stage = die.choice(("received", "received", "counted", "answered"))
        scenario.kill_at(stage, die.randint(1, 8), before_it_goes_on=die.random() < 0.5)
    paths = (scenario.site.stick,) if die.random() < 0.3 or not scenario.rows() else ()
    status = scenario.import_(
        *paths,
        kill=kill,
        timeout=die.choice((0.2, 0.3, 0.5)),
        attempts=die.choice((1, 2, 2, 3)),
        in_flight=die.choice((1, 2, 4, 8)),
    )
    scenario.totals[f"killed by {way}"] += status == KILLED


def rough_scenario(world, seed, runs):
    with world.scenario(seed) as scenario:
        scenario.beacon.weights = ROUGH
        for _ in range(runs):
            rough_run(scenario)
            if scenario.die.random() < 0.4:
                scenario.decide(share=0.5, kill_share=0.3)
            rows = scenario.rows()
            if rows and {row.state for row in rows.values()} == {"delivered"}:
                break
        scenario.finish()


def test_kill_9_at_random_moments_under_every_fault_loses_nothing_and_counts_nothing_twice(world):
    world.fill(Size(16, 2, 16))
    rough_scenario(world, "short 1", runs=12)
    assert world.totals["kills"] >= 3
    assert world.totals["requests"] >= 20  # many; how many depends on the machine
    assert sum(name.startswith("fault: ") for name in world.totals) >= 8


@pytest.mark.soak
def test_hundreds_of_kills_under_every_fault_lose_nothing_and_count_nothing_twice(world):
    world.fill(Size(60, 8, 80))
    for seed in range(12):
        rough_scenario(world, f"long {seed}", runs=60)
    totals = world.totals
    assert totals["kills"] >= 200
    assert totals["resolve runs killed"] >= 10
    assert totals["runs that met a refused connection"] >= 5
    assert {f"fault: {name}" for name in ROUGH} <= set(totals)
    assert totals["records delivered in the end"] == 12 * (60 + 8 + 80)


def test_the_checks_themselves_see_a_second_report_and_a_lost_record(world):
    world.fill(Size(2, 0, 2))
    with world.scenario("checks") as scenario:
        scenario.finish()
        ledger = scenario.site.workstation / "ledger.sqlite"
        for change in (
            *(
                "INSERT INTO open_record (record, kind, state, attempts, changed_at)"
                f" SELECT number, kind, '{state}', attempts, changed_at FROM record_state;"
                " DELETE FROM delivered_record"
                for state in ("waiting", "sending", "dead")
            ),
            "UPDATE delivered_record SET attempts = 0",
            "DELETE FROM bundle_record; DELETE FROM record WHERE number = 1",
        ):
            before = ledger.read_bytes()
            with closing(sqlite3.connect(ledger)) as connection:
                connection.executescript(change)
            with pytest.raises(AssertionError):
                scenario.check(cut_off=False)
            ledger.write_bytes(before)
            scenario.check(cut_off=False)
        [moment] = [one for one, kind in scenario.bundles[1].items() if kind == "usage_report"]
        connection = http.client.HTTPConnection(scenario.beacon.url.removeprefix("http://"))
        key = {"Idempotency-Key": scenario.rows()[moment].id}
        connection.request("POST", "/v1/metadata/submit", json.dumps({"to_timestamp": moment}), key)
        assert connection.getresponse().status == 204
        connection.close()
        with pytest.raises(AssertionError):
            scenario.check(cut_off=False)
