"""Days of two hosts in one go: reported, carried, delivered and confirmed, with faults at every step.

Servers report all the time to two capture endpoints of one home: one lives as long as the soak, so
that its memory can be watched, the other is killed again and again. Meanwhile round follows round:
files are collected, bundles exported to one of several sticks, carried or forgotten or lost, imported
to a beacon that misbehaves, doubts decided, receipts carried back and applied, the outbox pruned.
"""

import json
import random
import re
import resource
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import second_reader
import sticks
from captures import Capture
from counting import CALM, ROUGH, CountingBeacon, identity
from crashing import KILLED, Scenario
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from forking import Forks, Kill
from reporters import NODES, RUNS, Load
from second_reader import Document
from support import LICENSE, REPOSITORY, Site, report, run, write_lines

RULES = second_reader.Rules.load(REPOSITORY / "schemas")
_CALLS = ("fsync", "fdatasync", "rename", "renameat2", "unlink", "pwrite64")
_FILES = datetime(2025, 6, 1, tzinfo=UTC)
_PER_FILE = 3
_OF_A_HOME = re.compile(
    r"(airgap\.toml|audit\.jsonl|trust\.json|keys/default\.(pem|pub)|(export|import|ledger\.sqlite)\.lock"
    r"|(outbox|ledger)\.sqlite(-wal|-shm)?|bundles/bank-a\.prod-\d{6}\.airgap"
    r"|receipts/bank-a\.prod-\d{6}(-relay-1)?-r\d+\.receipt)"
)
_CUT_OFF = re.compile(r"receipts/\.bank-a\.prod-\d{6}-r\d+\.receipt\.part")
"""What an import leaves that is killed before a receipt has its name; `doctor` says so."""
Totals = Counter[tuple[str, str]]
"""Records and sums of measures by kind; the records under the name ``records``."""


def totals_of(told: Mapping[str, Any]) -> Totals:
    """Return totals that are written as in a manifest."""
    found: Totals = Counter()
    for kind, total in told.items():
        found[kind, "records"] += total["records"]
        found.update({(kind, name): value for name, value in total["sums"].items()})
    return found


class Odds(NamedTuple):
    """How often something goes wrong.

    Args:
        commands: share of the isolated host's commands that are struck.
        imports: share of the imports that are.
        normal: weight of the beacon's good answers, where each of its fifteen faults has one of 1.
    """

    commands: float = 0.3
    imports: float = 0.5
    normal: int = 100


class Sample(NamedTuple):
    """What the capture endpoint that lives throughout held at one moment, while nobody posted.

    Args:
        posts: that it and its neighbour had answered.
        memory: resident, in KiB.
        files: open ones.
        databases: size of outbox and ledger, in KiB.
    """

    posts: int
    memory: int
    files: int
    databases: int


class Peak(NamedTuple):
    """The most memory that a command had, and the size of outbox and ledger then, in KiB."""

    memory: int
    databases: int


@dataclass
class Carried:
    """A stick: a folder, or a real file system that is unmounted on its way.

    Args:
        folder: where it is seen from both hosts.
        mounted: the file system, or None.
        away: whether it is at the workstation.
    """

    folder: Path
    mounted: sticks.Stick | None = None
    away: bool = False

    def carry(self) -> None:
        """Take it to the other host."""
        if self.mounted is not None:
            self.mounted.again()
        self.away = not self.away

    def files(self, kind: str) -> list[Path]:
        """Return its ``airgap`` or ``receipt`` files."""
        return sorted(self.folder.glob(f"*.{kind}"))

    def clear(self, but: Collection[int] = ()) -> None:
        """Take everything away from it, but what is about these bundles."""
        for path in self.folder.iterdir():
            about = re.match(r"bank-a\.prod-(\d+)", path.name)
            if about is None or int(about[1]) not in but:
                path.unlink()


@dataclass
class Watch:
    """What processes need as the soak goes on, and how much more that may become.

    Memory of all but pages of the databases is not to grow. How many of those a process holds is up
    to SQLite: at most 64 MiB of each database, of those that it needs. Capture needs few, at the ends
    of tables; commands look at each bundle's records; ``prune`` makes a copy of the outbox as well.
    """

    samples: list[Sample] = field(default_factory=list)
    peaks: dict[str, list[Peak]] = field(default_factory=dict)
    """Most memory of each command that ran to its end undisturbed, in order."""

    def sample(self, process: int, posts: int, databases: int) -> None:
        """Look at a process."""
        status = Path(f"/proc/{process}/status").read_text()
        memory = int(status.partition("VmRSS:")[2].split()[0])
        files = sum(1 for _ in Path(f"/proc/{process}/fd").iterdir())
        self.samples.append(Sample(posts, memory, files, databases))

    def peak(self, name: str, memory: int, databases: int) -> None:
        """Note what a command needed."""
        self.peaks.setdefault(name, []).append(Peak(memory, databases))

    def check(self) -> None:
        """Compare the last third with the first, which is for warming up."""
        first, last = _ends(self.samples)
        # A connection whose client is gone may be open for a moment.
        assert max(one.files for one in last) <= max(one.files for one in first) + 2, self.samples
        _check_flat("capture", first, last, 0.1)
        for name, peaks in self.peaks.items():
            _check_flat(name, *_ends(peaks), 2 if name == "outbox prune" else 1)


def _ends(found: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    third = max(1, len(found) // 3)
    return found[:third], found[-third:]


def _check_flat(name: str, first: Sequence[Any], last: Sequence[Any], share: float) -> None:
    """Check that memory grew by at most 1 MiB and a share of what the databases did, as far as held."""
    grown = max(one.memory for one in last) - max(one.memory for one in first)
    databases = max(0, min(last[-1].databases - first[0].databases, 64 * 1024))
    assert grown <= 1024 + share * databases, f"{name}: {grown} KiB more, {first}, {last}"


class Soak(Scenario):
    """Rounds, and what must hold after each.

    Args:
        site: two homes.
        beacon: lives throughout.
        forks: starts commands.
        seed: all choices are made by it.
        captures: the endpoint that lives throughout, and the one that is killed.
        load: servers that report to them.
        carried: the sticks.
        odds: how often something goes wrong.
    """

    def __init__(
        self,
        site: Site,
        beacon: CountingBeacon,
        forks: Forks,
        seed: str,
        captures: tuple[Capture, Capture],
        load: Load,
        carried: Sequence[Carried],
        odds: Odds,
    ) -> None:
        super().__init__(site, {}, beacon, forks, random.Random(seed), Counter())
        self.seed = seed
        self.lasting, self.struck = captures
        self.load, self.carried, self.odds = load, carried, odds
        self.watch = Watch()
        self.rounds = 0
        self.bundled: Totals = Counter()
        self.filed: Totals = Counter()
        self._open: dict[int, Document] = {}
        """Bundles that no receipt has confirmed whole."""
        self._brought: set[int] = set()
        self._digests: dict[int, str] = {}
        self._answers: set[str] = set()
        self._ids: set[str] = set()
        self._settled = 0
        self._lost = False
        self._calls = shutil.which("strace") is not None
        (site.root / "other.key").write_text("lcl_EXAMPLE_another_not_a_real_key\n")
        beacon.weights = ROUGH | {"normal": odds.normal}
        self._keys = [
            _key(home / "keys" / "default.pub", role)
            for home, role in ((site.isolated, "exporter"), (site.workstation, "importer"))
        ]

    # A round.

    def round(self) -> None:
        """Collect, export, carry, deliver, carry back, confirm and prune, each with its faults."""
        self.rounds += 1
        self.load.pace.begin()
        with self._capture_is_struck():
            for step in (
                self.collect,
                self.export,
                self.carry,
                self.deliver,
                self.carry_back,
                self.apply,
                self.prune,
            ):
                # So that what happens in a step does not depend on how the ones before it went.
                self.die = random.Random(f"{self.seed} {self.rounds} {step.__name__}")
                step()
        self.load.pace.finish()
        self.load.check()

    def collect(self) -> None:
        """Collect a file of its own; now and then an earlier one once more, which adds nothing."""
        self.isolated("collect", self._file(self.rounds, self.rounds))
        for number in _numbers(self.rounds):
            self.filed[("usage_report", "records")] += 1
            self.filed[("usage_report", RUNS)] += number
            self.filed[("usage_report", NODES)] += 3 * number
            self.filed[("usage_snapshot", "records")] += 1
            self.filed[("usage_snapshot", "users")] += number
        if self.happens(0.3, "files collected a second time"):
            earlier = self.die.randint(1, self.rounds)
            self.isolated("collect", self._file(earlier, earlier))

    def _file(self, first: int, last: int) -> Path:
        """Write the file of a round, or of several."""
        numbers = (n for number in range(first, last + 1) for n in _numbers(number))
        lines = (one for n in numbers for one in _lines(n))
        return write_lines(self.site.root / "usage.jsonl", lines)

    def export(self) -> None:
        """Export to one of the sticks that are at hand; again, where one was lost."""
        here = [one for one in self.carried if not one.away]
        if not here:
            self.totals["rounds without a stick at hand"] += 1
            return
        stick = self.die.choice(here)
        self.isolated("export", "--to", stick.folder, *(["--again"] if self._lost else []))
        self._lost = False
        self.learn_bundles(stick)

    def carry(self) -> None:
        """Carry sticks to the workstation; forget some, lose what is on one."""
        for stick in self.carried:
            if stick.away:
                continue
            if self.happens(0.04, "sticks lost on their way out", when=bool(stick.files("airgap"))):
                stick.clear()
                self._lost = True
            if not self.happens(0.25, "sticks forgotten at the isolated host"):
                stick.carry()

    def deliver(self) -> None:
        """Import what came, decide some doubts, import once more."""
        paths = [one.folder for one in self.carried if one.away and one.files("airgap")]
        with self._a_bad_copy() as spoilt:
            for _ in range(2):
                if paths:
                    status = self._import_roughly(paths, spoilt)
                    assert status or not spoilt, "a truncated bundle was taken"
                    self.decide(share=0.8, kill_share=0.15)
        if paths and spoilt:
            self._import_roughly(paths, spoilt=False)
        away = [one for one in self.carried if one.away]
        if away and self.happens(0.1, "resumed without a stick"):
            self.site.stick = away[0].folder
            self.import_(timeout=0.3, attempts=2)

    def carry_back(self) -> None:
        """Carry sticks back; forget some, lose what is on one, and with it the receipts."""
        for stick in self.carried:
            if not stick.away:
                continue
            if self.happens(
                0.04, "sticks lost on their way back", when=bool(stick.files("airgap"))
            ):
                stick.clear()
                self._lost = True
            if not self.happens(0.25, "sticks forgotten at the workstation"):
                stick.carry()

    def apply(self) -> None:
        """Apply the receipts that came, and clear sticks whose bundles are all confirmed."""
        for stick in self.carried:
            if not stick.away and stick.files("receipt"):
                empty = self.learn_receipts(stick)
                self.isolated("receipt", "apply", stick.folder, code=5 if empty else 0)
                stick.clear(self._open.keys())

    def prune(self) -> None:
        """Make room in the outbox."""
        self.isolated("outbox", "prune", "--older-than", "0s")

    # What happens in a round.

    def happens(self, share: float, what: str, *, when: bool = True) -> bool:
        """Decide whether a fault happens, and count it."""
        found = when and self.die.random() < share
        self.totals[what] += found
        return found

    def isolated(self, *words: object, code: int = 0, calm: bool = False) -> None:
        """Run a command of the isolated host, which ends with ``code``; struck, run it again."""
        name = " ".join(map(str, words[:2])) if words[0] in ("receipt", "outbox") else str(words[0])
        kill = None if calm or self.die.random() >= self.odds.commands else self._strike()
        status = self._isolated(name, words, kill)
        if status != code:
            assert kill is not None, self.output
            assert status == (8 if kill.error else KILLED), self.output
            self.totals[f"{name} {'met a failing disk' if kill.error else 'killed'}"] += 1
            assert self._isolated(name, words, None) == code, self.output

    def _isolated(self, name: str, words: Sequence[object], kill: Kill | None) -> int:
        output = self.site.root / "output.txt"
        output.unlink(missing_ok=True)
        status = self.forks.run(*words, "--home", self.site.isolated, output=output, kill=kill)
        assert "Traceback" not in self.output, self.output
        self.totals["runs"] += 1
        self.totals["kills"] += status == KILLED
        if kill is None:
            self.watch.peak(name, self.forks.peak, self._databases())
        return status

    def _command(self, *arguments: object, kill: Kill | None) -> int:
        status = super()._command(*arguments, kill=kill)
        if kill is None and status != KILLED:
            self.watch.peak(str(arguments[0]), self.forks.peak, self._databases())
        return status

    def _databases(self) -> int:
        paths = (self.site.isolated / "outbox.sqlite", self.site.workstation / "ledger.sqlite")
        return sum(path.stat().st_size for path in paths if path.exists()) // 1024

    def _strike(self) -> Kill:
        """Return a kill at some moment, or at some system call, or a disk that begins to fail."""
        die = self.die
        if not self._calls or die.random() < 0.3:
            return Kill(after=die.uniform(0, 0.12))
        if die.random() < 0.3:
            return Kill(
                call=die.choice(("fsync", "fdatasync")), when=die.randint(1, 4), error="EIO"
            )
        return Kill(call=die.choice(_CALLS), when=die.randint(1, 6))

    @contextmanager
    def _capture_is_struck(self) -> Iterator[None]:
        """Kill one endpoint and start it anew, let the other's disk be full, or neither, meanwhile."""
        self.die = random.Random(f"{self.seed} {self.rounds}")
        killer = None
        if self.happens(0.3, "capture killed"):
            killer = threading.Thread(target=self._kill_capture)
            killer.start()
        full = self.happens(0.15, "capture met a full disk")
        if full:
            _limit(self.lasting, 1000)
        try:
            yield
        finally:
            if full:
                _limit(self.lasting, resource.RLIM_INFINITY)
            if killer is not None:
                killer.join()
        assert self.struck.runs

    def _kill_capture(self) -> None:
        self.struck.end(signal.SIGKILL)
        self.struck.start()

    @contextmanager
    def _a_bad_copy(self) -> Iterator[bool]:
        """Cut a bundle at the workstation short, and bring the whole one afterwards; or do nothing."""
        there = [path for one in self.carried if one.away for path in one.files("airgap")]
        if not self.happens(0.15, "bundles truncated by a copy", when=bool(there)):
            yield False
            return
        path = self.die.choice(there)
        whole = path.read_bytes()
        path.write_bytes(whole[: self.die.randrange(len(whole))])
        yield True
        path.write_bytes(whole)

    def _import_roughly(self, paths: list[Path], spoilt: bool) -> int:
        """Import, killed in one of several ways or not at all."""
        die, kill = self.die, None
        way = die.choice(("moment", "call", "request", "request"))
        if die.random() >= self.odds.imports:
            way = "not"
        if way == "moment" or (way == "call" and not self._calls):
            kill = Kill(after=die.uniform(0, 0.3))
        elif way == "call":
            kill = Kill(call=die.choice(_CALLS), when=die.randint(1, 12))
        elif way == "request":
            stage = die.choice(("received", "counted", "answered"))
            self.kill_at(stage, die.randint(1, 6), before_it_goes_on=die.random() < 0.8)
        there = {_sequence(path) for folder in paths for path in folder.glob("*.airgap")}
        self.totals["bundles that came once more"] += len(there & self._brought)
        status = self.import_(
            *paths,
            kill=kill,
            timeout=0.3,
            attempts=2,
            in_flight=die.choice((1, 4, 8)),
            resume=False,
            also=5 if spoilt else None,
        )
        if status != KILLED and not spoilt:
            self._brought |= there
        return status

    # What is learnt on the way, by a reader that shares no code with airgap.

    def learn_bundles(self, stick: Carried) -> None:
        """Read the bundles that are new on a stick; one that is known must not have changed."""
        for path in stick.files("airgap"):
            sequence, digest = _sequence(path), sha256(path.read_bytes()).hexdigest()
            assert self._digests.setdefault(sequence, digest) == digest, "a bundle changed"
            if sequence in self.bundles:
                continue
            document = second_reader.read(path, self._keys, RULES)
            kinds = {identity(one["payload"]): one["kind"] for one in document.elements}
            assert len(kinds) == len(document.elements)
            assert not kinds.keys() & self.kinds.keys(), "a record left in two bundles"
            assert not self._ids & set(document.record_ids)
            self.bundles[sequence] = kinds
            self.kinds |= kinds
            self._ids |= set(document.record_ids)
            self.bundled += totals_of(second_reader.totals(document.elements, RULES))
            self._open[sequence] = document
            self.totals["bundles"] += 1

    def learn_receipts(self, stick: Carried) -> bool:
        """Check each receipt that is new on a stick against its bundle; tell whether one is empty.

        exFAT's driver can't rename without replacing, so a name is taken first, by an empty file.
        """
        empty = False
        for path in stick.files("receipt"):
            if path.stat().st_size == 0:
                assert stick.mounted is not None
                empty = True
                self.totals["names on a stick that a kill left empty"] += 1
                continue
            receipt = second_reader.read(path, self._keys, RULES)
            document = self._open.get(receipt.manifest["bundle_sequence"])
            if receipt.id in self._answers:
                continue
            self._answers.add(receipt.id)
            self.totals["receipts"] += 1
            if document is None:
                continue  # an earlier one said already that all of it was delivered
            second_reader.check_answer(receipt, document, RULES)
            if receipt.manifest["outcomes"]["delivered"] == len(document.elements):
                del self._open[receipt.manifest["bundle_sequence"]]
        return empty

    # What must hold.

    def check(self, *, cut_off: bool) -> None:
        """Check what must hold when no command of the workstation runs.

        The first records, all of which are delivered, are looked at again at the end only.
        """
        self.beacon.quiet()
        rows = self.rows(f"TRUE ORDER BY number LIMIT -1 OFFSET {self._settled}")
        assert rows.keys() <= self.kinds.keys()
        self.check_each(rows, cut_off=cut_off)
        for row in rows.values():
            if row.state != "delivered":
                break
            self._settled += 1

    def check_point(self) -> None:
        """Compare neighbouring hops, and look at processes and files, while nobody posts."""
        with self.load.still():
            status = self.site.status()
            answered, counted = self.reported()
            collected = self.bundled + totals_of(status["waiting"])
            process = self.lasting.process
            assert process is not None
            self.watch.sample(process.pid, self.load.seen["posts acknowledged"], self._databases())
        delivered = self.delivered()
        for less, more in (
            (answered, collected),
            (collected, counted),
            (self.bundled, collected),
            (delivered, self.bundled),
            (summed(delivered), self.beacon.sums),
            (self.beacon.sums, summed(self.bundled)),
            (totals_of(status["confirmed"]), delivered),
        ):
            assert all(value <= more[name] for name, value in less.items()), (less, more)
        left = self.leftovers()
        assert all(_CUT_OFF.fullmatch(name) for name in left), left
        assert len(left) <= self.totals["import runs killed"]

    def reported(self) -> tuple[Totals, Totals]:
        """Return the totals of what has a good answer, and of all that may have been taken in.

        How many usage reports there are is the endpoint's choice: what was exported before the rest of
        its window came is a report of its own.
        """
        low, high = Counter(self.filed), Counter(self.filed)
        for one in self.load.reporters:
            for found, runs in ((low, one.acknowledged), (high, one.runs)):
                found["usage_report", RUNS] += runs
                found["usage_report", NODES] += 3 * runs
            low["usage_report", "records"] += one.seen["windows"]
            high["usage_report", "records"] += one.seen["windows tried"]
            for name, value in one.transactions.items():
                high["trace_transactions", name] += value
                low["trace_transactions", name] += value - one.unanswered[name]
        return low, high

    def delivered(self) -> Totals:
        """Return the totals that the ledger calls delivered."""
        shown = run("report", "--home", self.site.workstation, "--json").stdout
        return totals_of(json.loads(shown)["totals"]["delivered"])

    def leftovers(self) -> list[str]:
        """Return the files in both homes that are neither of a home nor of a bundle."""
        found = []
        for home in (self.site.isolated, self.site.workstation):
            names = (str(p.relative_to(home)) for p in home.rglob("*") if p.is_file())
            found += [name for name in names if not _OF_A_HOME.fullmatch(name)]
        return found

    def figures(self) -> str:
        """Return what was done and what it took, a line each."""
        counts = self.totals + self.load.seen
        counts.update({f"fault of the beacon: {n}": k for n, k in self.beacon.faults.items()})
        counts |= {"rounds": self.rounds, "files that killed imports left": len(self.leftovers())}
        counts.update({f"{kind}: {name}": n for (kind, name), n in self.bundled.items()})
        lines = [f"{n:8,} {name}" for name, n in sorted(counts.items())]
        lines += map(str, self.watch.samples)
        for name, peaks in self.watch.peaks.items():
            first, last = (max(one.memory for one in part) for part in _ends(peaks))
            lines.append(f"{name}, most KiB in the first and the last third: {first:,}, {last:,}")
        return "\n".join(lines)

    def finish(self) -> None:
        """Let everything arrive in peace: every hop holds what was reported, exactly once."""
        for one in self.load.reporters:
            one.end()
        self.load.check()
        self.check_point()
        for endpoint in (self.lasting, self.struck):
            assert endpoint.end() == 0
            assert "Traceback" not in endpoint.said, endpoint.said
        for stick in self.carried:
            if stick.away:
                stick.carry()
        last = self.carried[0]
        self.isolated("export", "--again", "--to", last.folder, calm=True)
        self.learn_bundles(last)
        last.carry()
        self.beacon.weights = CALM
        for _ in range(3):
            status = self.import_(last.folder)
            if status == 0:
                break
            self.decide()
        assert status == 0, self.output
        last.carry()
        self.learn_receipts(last)
        self.isolated("receipt", "apply", last.folder, calm=True)
        self.isolated("outbox", "prune", "--older-than", "0s", calm=True)
        # All files at once, which takes more memory than one does: not to be compared.
        everything = ("collect", self._file(1, self.rounds))
        assert self._isolated("collect", everything, Kill()) == 0, self.output
        self.check_whole()

    def check_whole(self) -> None:
        """Check that everything that was reported is at every hop, exactly once."""
        Scenario.check(self, cut_off=False)
        low, high = self.reported()
        status = self.site.status()
        assert status["waiting"] == {}
        assert totals_of(status["confirmed"]) == self.delivered() == self.bundled
        assert self.beacon.counted == Counter(self.kinds.keys())
        assert self.beacon.sums == summed(self.bundled)
        assert self._open == {}, "bundles that no receipt confirms whole"
        reports = ("usage_report", "records")
        assert low[reports] <= self.bundled[reports] <= high[reports]
        high[reports] = low[reports] = self.bundled[reports]
        assert low == high == self.bundled


def summed(totals: Totals) -> Counter[str]:
    """Return sums by measure, whatever the kind."""
    found: Counter[str] = Counter()
    for (_, name), value in totals.items():
        if name != "records":
            found[name] += value
    return found


def _numbers(number: int) -> range:
    """Return the numbers of the windows in the file of a round."""
    return range(number * _PER_FILE, (number + 1) * _PER_FILE)


def _lines(number: int) -> list[dict[str, Any]]:
    """Return a usage report and a usage snapshot of a window of their own."""
    start, end = ((_FILES + timedelta(minutes=number + n)).isoformat() for n in (0, 1))
    later = (_FILES + timedelta(minutes=number + 1, seconds=1)).isoformat()
    snapshot = {"license_key": LICENSE, "from_timestamp": start, "to_timestamp": later}
    return [
        report(number, from_timestamp=start, to_timestamp=end),
        {**snapshot, "measures": {"users": number}},
    ]


def _key(path: Path, role: str) -> second_reader.TrustedKey:
    public = load_pem_public_key(path.read_bytes())
    return second_reader.TrustedKey(public, frozenset({role}), frozenset({"*"}))


def _sequence(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _limit(endpoint: Capture, size: int) -> None:
    """Let an endpoint write no file beyond so many bytes."""
    assert endpoint.process is not None
    limits = (size, resource.RLIM_INFINITY)
    resource.prlimit(endpoint.process.pid, resource.RLIMIT_FSIZE, limits)
