"""A soak: capture, export, import and receipts under faults for long; memory flat, totals conserved."""

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
import sticks
from captures import capture
from counting import CountingBeacon
from forking import Forks
from reporters import NODES, RUNS, Load, Pace, Rations, Reporter, Steady
from soaking import Carried, Odds, Peak, Sample, Soak, Watch
from support import Site

MINUTES = float(os.environ.get("AIRGAP_SOAK_MINUTES", "60"))
SEED = os.environ.get("AIRGAP_SOAK_SEED", "1")
REPORTERS, STICKS = 4, ("red", "blue", "green")
POSTS, SECONDS = 20, 4
"""Posts a second of all reporters, and seconds between two rounds."""


@contextmanager
def soaked(
    site: Site, seed: str, pace: Pace, go_on: Callable[[int], bool], every: int, odds: Odds
) -> Iterator[Soak]:
    """Soak a site: rounds with a check point after so many, until all has arrived; say the figures."""
    say(f"AIRGAP_SOAK_SEED={seed}")
    with ExitStack() as stack:
        beacon = stack.enter_context(CountingBeacon(random.Random(f"{seed} beacon")))
        forks = stack.enter_context(Forks())
        lasting, struck = (stack.enter_context(capture(site)) for _ in range(2))
        reporters = [
            Reporter(n, (lasting, struck)[n % 2], random.Random(f"{seed} {n}"))
            for n in range(REPORTERS)
        ]
        load = Load(reporters, pace)
        carried = [
            Carried(site.root / name, real_stick(stack, site.root / name)) for name in STICKS
        ]
        soak = Soak(site, beacon, forks, seed, (lasting, struck), load, carried, odds)
        try:
            with load:
                while go_on(soak.rounds):
                    soak.round()
                    if soak.rounds % every == 0:
                        soak.check_point()
            soak.finish()
            yield soak
        finally:
            say(soak.figures())


def real_stick(stack: ExitStack, folder: Path) -> sticks.Stick | None:
    """Mount a real exFAT stick at a folder; where that can't be had, make the folder a stick."""
    if folder.name == STICKS[0]:
        with suppress(pytest.skip.Exception):
            return stack.enter_context(sticks.stick("exfat", folder, 64 * sticks.MIB))
    folder.mkdir(exist_ok=True)
    return None


def say(text: str) -> None:
    print(text)  # noqa: T201 - to do it again, and for the figures


def assert_the_checks_see(soak: Soak) -> None:
    """Make each hop say something else, and hold that this is seen."""
    one = next(iter(soak.kinds))
    for counter, name in (
        (soak.beacon.counted, one),
        (soak.beacon.sums, RUNS),
        (soak.bundled, ("usage_snapshot", "records")),
        (soak.filed, ("usage_report", NODES)),
        (soak.load.reporters[0].transactions, "records"),
    ):
        for change in (-1, 1):
            counter[name] += change
            with pytest.raises(AssertionError):
                soak.check_whole()
            counter[name] -= change
    for database, change in (
        (
            soak.site.workstation / "ledger.sqlite",
            (
                "INSERT INTO open_record (record, kind, state, attempts, changed_at)"
                " SELECT number, kind, 'waiting', attempts, changed_at FROM record_state WHERE number = 2;"
                " DELETE FROM delivered_record WHERE record = 2"
            ),
        ),
        (soak.site.isolated / "outbox.sqlite", "UPDATE captured SET taken = NULL"),
    ):
        before = database.read_bytes()
        with closing(sqlite3.connect(database)) as connection:
            connection.executescript(change)
        with pytest.raises(AssertionError):
            soak.check_whole()
        database.write_bytes(before)
    soak.check_whole()


def test_while_everything_is_struck_what_is_reported_arrives_once_and_is_confirmed(site):
    with soaked(
        site, "short 14", Rations(REPORTERS, 8), lambda done: done < 4, 2, Odds(0.5, 0.8, 30)
    ) as soak:
        assert soak.totals["kills"] >= 4
        assert_the_checks_see(soak)


@pytest.mark.soak
def test_for_an_hour_totals_are_conserved_and_memory_stays_flat(site):
    end = time.monotonic() + 60 * MINUTES
    pace = Steady(REPORTERS, between=REPORTERS / POSTS, rounds=SECONDS)
    with soaked(site, SEED, pace, lambda _: time.monotonic() < end, 5, Odds()) as soak:
        soak.watch.check()
        assert soak.totals["kills"] >= soak.rounds / 2


def test_the_watch_itself_sees_memory_and_open_files_that_grow():
    flat = [Sample(n, 49_000 + n % 3 * 100, 12, 1000) for n in range(9)]
    Watch(flat).check()
    Watch(flat, {"import": [Peak(one.memory, 1000) for one in flat]}).check()
    for more in ({"memory": 2000}, {"files": 3}):
        grown = flat[-1]._replace(**{name: getattr(flat[-1], name) + n for name, n in more.items()})
        with pytest.raises(AssertionError):
            Watch([*flat[:-1], grown]).check()
    with pytest.raises(AssertionError):
        Watch(flat, {"import": [Peak(49_000 + 500 * n, 1000) for n in range(9)]}).check()
