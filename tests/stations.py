"""Several workstations that share a ledger in PostgreSQL, each a home with a key of its own."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
from counting import CountingBeacon, identity
from crashing import KILLED, Row, Scenario
from forking import Forks, Kill
from postgres import PostgresServer
from support import Site, trusted

from airgap import catalog, home
from airgap.bundle import codec
from airgap.trust import keys
from airgap.trust import store as trust_store


def add_stations(site: Site, count: int) -> list[Path]:
    """Make so many workstations beside the site's own, whose keys everybody trusts."""
    schemas = catalog.load()
    signers = [keys.generate() for _ in range(count)]
    homes = [home.create(site.root / f"station-{n}", "workstation", f"relay-{n}") for n in range(2, count + 2)]  # fmt: skip
    for one, key in zip(homes, signers, strict=True):
        one.add_key("default", key, None)
    everybody = [home.open_home(path) for path in (site.isolated, site.workstation)] + homes
    store = trust_store.load(site.workstation / "trust.json", schemas)
    for key in signers:
        store = store.with_key(trusted(key, "importer"))
    for one in everybody:
        trust_store.save(one.trust_path, store)
    return [one.path for one in homes]


class Crowd(Scenario):
    """A scenario in which several importers run at a time, on homes of their own.

    Args:
        site: two homes, and a stick with bundles.
        bundles: each bundle's records and their kinds.
        beacon: lives through all runs.
        forks: starts commands, one for each workstation.
        homes: the workstations.
        server: where the ledger is.
        die: all choices are made with it.
    """

    def __init__(
        self,
        site: Site,
        bundles: dict[int, dict[str, str]],
        beacon: CountingBeacon,
        forks: list[Forks],
        homes: list[Path],
        server: PostgresServer,
        die: random.Random,
    ) -> None:
        super().__init__(site, bundles, beacon, forks[0], die, Counter())
        self.crowd, self.homes, self.server = forks, homes, server
        self.said: list[str] = []

    def import_together(
        self, kills: dict[int, Kill], *, timeout: float = 20, attempts: int = 3, in_flight: int = 2
    ) -> list[int]:
        """Let every workstation import at the same time, and kill some of them; return how each ended.

        Args:
            kills: by the workstation's place, when it is killed.
            timeout: seconds without an answer.
            attempts: per request.
            in_flight: requests at a time.
        """

        def one(place: int) -> int:
            path = self.site.root / f"output-{place}.txt"
            status = self.crowd[place].run(
                "import", "--resume", self.site.stick, "--home", self.homes[place],
                "--ledger", self.server.url,
                "--license-file", self.site.license_file, "--license-file", self.site.root / "other.key",
                "--beacon-url", self.beacon.url, "--api-url", self.beacon.url,
                "--timeout", timeout, "--attempts", attempts, "--in-flight", in_flight,
                output=path, kill=kills.get(place),
            )  # fmt: skip
            # It may be killed before it could say anything.
            said = path.read_text(errors="replace") if path.exists() else ""
            assert status in (0, 6, 7, KILLED), said
            assert status == KILLED or "Traceback" not in said, said
            self.said.append(said)
            return status

        with ThreadPoolExecutor(len(self.homes)) as pool:
            found = list(pool.map(one, range(len(self.homes))))
        self.totals["kills"] += found.count(KILLED)
        self.check(cut_off=KILLED in found)
        return found

    def rows(self, where: str = "TRUE") -> dict[str, Row]:
        """Read the ledger as it stands, which settles nothing."""
        if self.server.execute("SELECT to_regclass('airgap_ledger.record') IS NULL") == "t":
            return {}
        with psycopg.connect(self.server.url) as connection:
            found = connection.execute(
                "SELECT payload, id, kind, state, attempts, doubted FROM airgap_ledger.record_state"
                f" WHERE {where}"
            )
            return {
                identity(codec.decode_own(payload)): Row(identifier.hex(), *rest)
                for payload, identifier, *rest in found
            }

    def senders(self) -> set[int]:
        """Return the numbers of the runs that sent something."""
        found = self.server.execute(
            "SELECT claimed_by FROM airgap_ledger.open_record WHERE claimed_by IS NOT NULL"
            " UNION SELECT claimed_by FROM airgap_ledger.delivered_record WHERE claimed_by IS NOT NULL"
        )
        return set(map(int, found.split()))

    def _command(self, *arguments: object, kill: Kill | None) -> int:
        return super()._command(*arguments, "--ledger", self.server.url, kill=kill)


def forks_for(stack: ExitStack, count: int) -> list[Forks]:
    """Return so many fork servers, which the stack ends."""
    return [stack.enter_context(Forks()) for _ in range(count)]
