"""A ledger's move killed at any step: one of the two is the ledger, or nobody imports until it is ended."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from forking import Forks, Kill
from postgres import PostgresServer
from servers import always, answer, serving
from support import Site, run

from airgap import moved

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

CALLS = ("sendto", "recvfrom", "fdatasync", "fsync", "pwrite64", "ftruncate", "unlink")


@dataclass
class Mover:
    """A site whose ledger is moved, each time from the same start.

    Args:
        site: its homes.
        server: where the ledger goes.
        forks: starts commands.
    """

    site: Site
    server: PostgresServer
    forks: Forks

    @property
    def words(self) -> tuple[object, ...]:
        return ("ledger", "move", "--home", self.site.workstation, self.server.url)

    @property
    def file(self) -> Path:
        return self.site.workstation / "ledger.sqlite"

    def keep(self) -> None:
        shutil.copytree(self.site.workstation, self.site.root / "kept")

    def back(self) -> None:
        shutil.rmtree(self.site.workstation)
        shutil.copytree(self.site.root / "kept", self.site.workstation)
        self.server.reset()

    def move(self, *options: object, kill: Kill | None = None) -> tuple[int, str]:
        output = self.site.root / "output.txt"
        output.unlink(missing_ok=True)
        status = self.forks.run(*self.words, *options, output=output, kill=kill)
        return status, output.read_text() if output.exists() else ""

    def calls(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return how many calls of each sort a move takes, and how many had begun up to its COMMIT."""
        log = self.site.root / "strace.txt"
        trace = ["strace", "-f", "-s", "40", "-o", str(log), "-e", f"trace={','.join(CALLS)}"]
        command = [*trace, sys.executable, "-m", "airgap", *map(str, self.words)]
        subprocess.run(command, check=True, capture_output=True)
        count, before = dict.fromkeys(CALLS, 0), {}
        for line in log.read_text().splitlines():
            found = re.search(r" (\w+)\(", line)
            if found is None:
                continue
            count[found[1]] += 1
            if found[1] == "sendto" and "COMMIT" in line:
                before = dict(count)
        self.back()
        return count, before

    def holds(self) -> bool:
        """Tell whether the server's ledger holds the bundle, for whoever looks from now on."""
        with psycopg.connect(self.server.url) as connection:
            # Once no session of the killed move is left.
            connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended('airgap_ledger layout', 0))"
            )
            there = connection.execute("SELECT to_regclass('airgap_ledger.bundle')").fetchone()
            if there == (None,):
                return False
            return connection.execute("SELECT 1 FROM airgap_ledger.bundle").fetchone() is not None

    def check(self, undo: bool) -> None:
        """Check that there are never two ledgers, and that the next move, or its undoing, ends it."""
        mark, holds = moved.read(self.file), self.holds()
        assert mark is not None or not holds, "two ledgers"
        status = run("status", "--home", self.site.workstation, code=None)
        assert status.exit_code == (0 if mark is None else 2), status.output
        if mark is not None and not holds:
            # Neither is imported into.
            assert mark.moved_at is None
            assert "a move of it did not end" in status.output
            there = ("--ledger", self.server.url)
            said = run("status", "--home", self.site.workstation, *there, code=2).output
            assert "a move of it did not end" in said
        if undo:
            code, said = self.move("--undo")
            # There is nothing to take back, or there is, or the server has it.
            assert code == (0 if mark is not None and not holds else 2), said
            assert (moved.read(self.file) is None) == (not holds)
        code, said = self.move()
        assert code == 0, said
        assert "3 records: " in said
        last = moved.read(self.file)
        assert last is not None
        assert last.moved_at is not None
        assert self.holds()


@pytest.fixture
def mover(exported, postgres, beacon):
    exported.import_(beacon.url)
    with Forks() as forks:
        made = Mover(exported, postgres, forks)
        made.keep()
        yield made


def strike(mover, moments):
    struck = 0
    for call, number in moments:
        mover.back()
        status, said = mover.move(kill=Kill(call=call, when=number))
        assert "Traceback" not in said
        assert status in (-9, 0), said
        struck += status == -9
        mover.check(undo=bool(number % 2))
    # All that was delivered is known to the server.
    with serving(always(answer(204))) as server:
        mover.site.import_(server.url, "--ledger", mover.server.url)
    assert not server.bodies
    assert struck >= 0.9 * len(moments)


def test_a_move_killed_at_any_step_leaves_one_ledger_or_none_and_is_ended_by_the_next(mover):
    count, before = mover.calls()
    commit = before["sendto"]
    assert count["sendto"] > commit > 100
    moments = [("sendto", n) for n in (commit - 41, commit - 1, commit, commit + 1)]
    moments += [("recvfrom", n) for n in (before["recvfrom"] + 1, count["recvfrom"])]
    moments += [("fdatasync", n) for n in range(1, count["fdatasync"] + 1, 2)]
    moments += [("fsync", count["fsync"])]
    strike(mover, moments)


@pytest.mark.soak
@pytest.mark.parametrize("call", CALLS)
def test_a_move_killed_at_every_call_leaves_one_ledger_or_none(mover, call):
    count, _ = mover.calls()
    strike(mover, [(call, n) for n in range(1, count[call] + 1)])
