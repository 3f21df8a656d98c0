"""One scenario of the crash test: a ledger, a beacon that counts, many runs, and what must hold."""

import random
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from counting import CALM, CountingBeacon, identity
from forking import Forks, Kill
from support import LICENSE, Site, report, transaction

from airgap.bundle import codec

OTHER_LICENSE = "lcl_EXAMPLE_another_not_a_real_key"
KILLED = -9
TOLD = "trace_transactions"
"""The kind whose duplicates the beacon tells; each record of any other kind counts again."""


class Row(NamedTuple):
    """A record in the ledger."""

    id: str
    kind: str
    state: str
    attempts: int
    doubted: int


@dataclass(frozen=True)
class Size:
    """How many records of each kind, dealt out to so many bundles."""

    reports: int
    snapshots: int
    transactions: int
    bundles: int = 2


def stick_of(site: Site, size: Size) -> dict[int, dict[str, str]]:
    """Collect made-up records and export bundles; return each one's records and their kinds."""
    (site.root / "other.key").write_text(OTHER_LICENSE + "\n")
    bundles: dict[int, dict[str, str]] = {}
    values: list[dict] = []
    for first in range(size.bundles):
        kinds: dict[str, str] = {}
        for n in range(first, size.reports + size.snapshots, size.bundles):
            moment = f"2026-01-06T{n // 60:02d}:{n % 60:02d}:59Z"
            value = report(n + 1, to_timestamp=moment)
            if n >= size.reports:
                value = {name: value[name] for name in ("from_timestamp", "to_timestamp")}
                value |= {"license_key": LICENSE, "measures": {"users": n + 1}}
            values.append(value)
            kinds[moment] = "usage_report" if n < size.reports else "usage_snapshot"
        for n in range(first, size.transactions, size.bundles):
            # Another licence every second time: neighbours then leave in requests of their own.
            one = transaction(n)
            license_ = LICENSE if n // 4 % 2 else OTHER_LICENSE
            values.append({"license": license_, "trace_transactions": [one]})
            kinds[one["id"]] = TOLD
        site.collect(values)
        site.export()
        bundles[first + 1] = kinds
    return bundles


def copy_of(site: Site, root: Path) -> Site:
    """Copy both homes and the stick, so that a scenario can start where another started."""
    root.mkdir(parents=True)
    for name in ("isolated", "workstation", "stick"):
        shutil.copytree(site.root / name, root / name)
    for name in ("license.key", "api.key", "other.key"):
        if (site.root / name).exists():
            shutil.copy(site.root / name, root)
    return Site(
        root, root / "isolated", root / "workstation", root / "stick", site.exporter, site.importer,
        root / "license.key", root / "api.key",
    )  # fmt: skip


class Scenario:
    """Runs imports, kills them, plays the operator, and checks after each step.

    Args:
        site: two homes, and a stick with bundles.
        bundles: each bundle's records and their kinds.
        beacon: lives through all runs.
        forks: starts commands.
        die: all choices are made with it.
        totals: counts what was done, over scenarios.
    """

    def __init__(
        self,
        site: Site,
        bundles: dict[int, dict[str, str]],
        beacon: CountingBeacon,
        forks: Forks,
        die: random.Random,
        totals: Counter[str],
    ) -> None:
        self.site, self.bundles, self.beacon = site, bundles, beacon
        self.forks, self.die, self.totals = forks, die, totals
        # How often the beacon may have counted a record before a person had it sent again.
        self.decided: Counter[str] = Counter()
        self.kinds = {one: kind for kinds in bundles.values() for one, kind in kinds.items()}

    def import_(
        self,
        *paths: Path,
        kill: Kill | None = None,
        timeout: float = 20,
        attempts: int = 6,
        in_flight: int = 4,
        resume: bool = True,
        also: int | None = None,
    ) -> int:
        """Run ``airgap import --resume``, with or without paths, and check what must hold.

        Without ``resume`` it is about the bundles at the paths alone; ``also`` is one more exit status
        that may be.
        """
        folder = () if paths else ("--receipt-to", self.site.stick)
        status = self._command(
            "import", *(["--resume"] if resume else []), *paths, *folder,
            "--license-file", self.site.license_file, "--license-file", self.site.root / "other.key",
            "--api-key-file", self.site.api_key_file,
            "--beacon-url", self.beacon.url, "--api-url", self.beacon.url,
            "--timeout", timeout, "--attempts", attempts, "--in-flight", in_flight,
            kill=kill,
        )  # fmt: skip
        # 0 done, 6 partly delivered, 7 unreachable or not the beacon.
        assert status in (0, 6, 7, KILLED, also), self.output
        assert status == KILLED or "Traceback" not in self.output
        self.totals["import runs"] += 1
        self.totals["import runs killed"] += status == KILLED
        self.totals["runs that met a refused connection"] += "ConnectError" in self.output
        self.check(cut_off=status == KILLED)
        return status

    def kill_at(self, stage: str, number: int, *, before_it_goes_on: bool) -> None:
        """Kill the next run when the beacon comes to a stage, and let the beacon wait or race."""

        def action() -> None:
            self.forks.kill()
            if before_it_goes_on:
                assert self.forks.over.wait(60)

        self.beacon.at(stage, number, action)

    def decide(self, *, share: float = 1.0, kill_share: float = 0.0) -> None:
        """Be the operator: decide doubts and dead letters by what the beacon truly counted."""
        for record, row in self.rows("state IN ('in_doubt', 'dead')").items():
            if self.die.random() >= share:
                continue
            choice = "--delivered" if self.beacon.counted[record] else "--resend"
            kill = Kill(after=self.die.uniform(0, 0.1)) if self.die.random() < kill_share else None
            words = ("ledger", "resolve", row.id, choice, "--reason", "case 4711")
            status = self._command(*words, kill=kill)
            if status == 6:
                # A run was cut off: first it says what is newly in doubt, and decides nothing.
                assert "nothing was decided" in self.output
                status = self._command(*words, kill=kill)
            assert status in (0, KILLED), self.output
            self.totals["resolve runs"] += 1
            self.totals["resolve runs killed"] += status == KILLED
            left = self.rows("state != 'delivered'").get(record)
            state = "delivered" if left is None else left.state
            assert status == KILLED or state == (
                "delivered" if choice == "--delivered" else "waiting"
            )
            if state == "waiting":
                self.decided[record] = self.beacon.possible[record]
                self.totals["records sent again by decision"] += 1
        self.check(cut_off=True)

    def check(self, *, cut_off: bool) -> None:
        """Check what must hold at any time when no command runs."""
        self.beacon.quiet()
        rows = self.rows()
        # Each bundle is there with all of its records, or not at all: none lost, none added.
        imported = [s for s, kinds in self.bundles.items() if kinds.keys() & rows.keys()]
        expected = {one: kind for s in imported for one, kind in self.bundles[s].items()}
        assert {record: row.kind for record, row in rows.items()} == expected
        assert set(self.beacon.received) <= set(expected)
        self.check_each(rows, cut_off=cut_off)

    def check_each(self, rows: dict[str, Row], *, cut_off: bool) -> None:
        """Check that the beacon bears out what the ledger says of these records."""
        beacon = self.beacon
        for record, row in rows.items():
            said = f"{record}: {row}"
            # "sending" was on disk before each request left, and only a cut-off run leaves it.
            assert beacon.received[record] <= row.attempts, said
            assert cut_off or row.state != "sending", said
            if row.state == "delivered":
                assert beacon.counted[record] == 1, said
            if row.state == "dead":
                assert beacon.counted[record] == 0, said
            if row.kind != TOLD:
                assert beacon.counted[record] <= 1, said
                # Since nobody decided otherwise: possibly counted once, and then never sent again.
                times = beacon.possible[record] - self.decided[record]
                assert times <= 1, said
                assert times == 0 or row.state != "waiting", said
                assert beacon.keys.get(record, {row.id}) == {row.id}, said

    def finish(self) -> None:
        """Resolve all doubt, resume in peace, carry the receipts back: all counted exactly once."""
        self.beacon.weights = CALM
        for _ in range(3):
            status = self.import_(self.site.stick)
            if status == 0:
                break
            self.decide()
        assert status == 0, self.output
        requests = self.beacon.requests
        assert self.import_() == 0
        assert self.beacon.requests == requests
        rows = self.rows()
        assert {row.state for row in rows.values()} == {"delivered"}
        assert self.beacon.counted == Counter(self.kinds.keys())
        self.site.apply()
        after = self.site.status()
        assert after["confirmed"] == self.collected
        assert [b["outcomes"] for b in after["bundles"]] == [
            {"delivered": len(kinds)} for kinds in self.bundles.values()
        ]
        self.totals["records delivered in the end"] += len(rows)
        self.totals["requests"] += self.beacon.requests
        self.totals.update({f"fault: {name}": n for name, n in self.beacon.faults.items()})

    def rows(self, where: str = "TRUE") -> dict[str, Row]:
        """Read the ledger from a copy: reading must not repair what the next run has to."""
        with TemporaryDirectory(dir=self.site.root) as folder:
            for name in ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-journal"):
                if (self.site.workstation / name).exists():
                    shutil.copy(self.site.workstation / name, folder)
            with closing(sqlite3.connect(Path(folder) / "ledger.sqlite")) as connection:
                if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                    return {}  # killed before there were tables
                found = connection.execute(
                    f"SELECT payload, id, kind, state, attempts, doubted FROM record_state WHERE {where}"
                )
                return {
                    identity(codec.decode_own(payload)): Row(identifier.hex(), *rest)
                    for payload, identifier, *rest in found
                }

    @property
    def output(self) -> str:
        """What the last command said; nothing where it was killed before it could."""
        path = self.site.root / "output.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def collected(self) -> dict:
        """The totals that the isolated side has to see confirmed."""
        totals: dict[str, dict] = {}
        for kind in set(self.kinds.values()):
            records = [one for one, k in self.kinds.items() if k == kind]
            # stick_of made the n-th report end at minute n, with n + 1 runs or users.
            runs = sum(
                int(one[11:13]) * 60 + int(one[14:16]) + 1 for one in records if kind != TOLD
            )
            sums = {
                TOLD: {"trace_count": 5 * len(records)},
                "usage_report": {
                    "langgraph.platform.runs": runs,
                    "langgraph.platform.nodes": 3 * runs,
                },
                "usage_snapshot": {"users": runs},
            }[kind]
            totals[kind] = {"records": len(records), "sums": sums}
        return totals

    def _command(self, *arguments: object, kill: Kill | None) -> int:
        self.totals["runs"] += 1
        status = self.forks.run(
            *arguments, "--home", self.site.workstation, output=self.site.root / "output.txt", kill=kill
        )  # fmt: skip
        self.totals["kills"] += status == KILLED
        return status
