"""Several importers on one ledger, killed at any moment: nothing lost, nothing sent twice, doubt said aloud."""

import random
from contextlib import ExitStack

import pytest
from counting import CALM, ROUGH, CountingBeacon
from crashing import KILLED, Size, copy_of, stick_of
from forking import Kill
from stations import Crowd, add_stations, forks_for
from support import Site


@pytest.fixture
def crowd_of(tmp_path, postgres):
    """Return what makes a crowd of so many workstations, and so many records."""
    with ExitStack() as stack:
        forks = []

        def make(seed: str, count: int, size: Size) -> Crowd:
            forks.extend(forks_for(stack, count - len(forks)))
            site = Site.build(tmp_path / seed / "first")
            bundles = stick_of(site, size)
            site = copy_of(site, tmp_path / seed / "site")
            die = random.Random(seed)
            homes = [site.workstation, *add_stations(site, count - 1)]
            beacon = stack.enter_context(CountingBeacon(die))
            postgres.reset()
            return Crowd(site, bundles, beacon, forks[:count], homes, postgres, die)

        yield make


def test_importers_share_the_work_and_what_a_killed_one_held_is_taken_over(crowd_of):
    crowd = crowd_of("short", 2, Size(700, 0, 40))
    # The one whose request it is, or the other: each time one dies with requests in flight.
    crowd.beacon.at("received", 120, crowd.crowd[1].kill)
    first, second = crowd.import_together({})
    assert second == KILLED
    # The other one delivers all that waits, also what the dead one had claimed and not sent.
    assert first in (0, 6)
    rows = crowd.rows().values()
    assert {row.state for row in rows} <= {"delivered", "in_doubt"}
    assert len(crowd.senders()) == 2
    doubtful = sum(row.state == "in_doubt" for row in rows)
    assert doubtful <= 2, "no more than was in flight"
    assert (first == 6) == (doubtful > 0)
    assert "now in doubt" in crowd.said[0] + crowd.said[1] or not doubtful
    crowd.finish()


def rough(crowd, rounds):
    """Let importers run together, kill most at random moments, and decide some doubts."""
    die = crowd.die
    for _ in range(rounds):
        kills = {
            place: Kill(after=die.uniform(0.05, 1.5))
            for place in range(len(crowd.homes))
            if die.random() < 0.8
        }
        if die.random() < 0.5:
            stage = die.choice(("received", "counted", "answered"))
            crowd.beacon.at(stage, die.randint(1, 30), die.choice(crowd.crowd).kill)
        crowd.import_together(kills, timeout=die.choice((0.3, 0.5)), in_flight=die.choice((1, 3)))
        if die.random() < 0.4:
            crowd.decide(share=0.5, kill_share=0.2)
    crowd.finish()


@pytest.mark.soak
@pytest.mark.parametrize("weights", [CALM, ROUGH], ids=["calm", "rough"])
def test_three_importers_killed_over_and_over_count_every_record_once(crowd_of, weights):
    crowd = crowd_of("long", 3, Size(400, 10, 300, bundles=3))
    crowd.beacon.weights = weights
    rough(crowd, 15)
    assert crowd.totals["kills"] >= 10
    assert crowd.totals["records delivered in the end"] == 710
