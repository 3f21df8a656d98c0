"""The journey in plain Python: what must be true, and a beacon that knows what it counted.

Nothing here asks the product what it thinks. The model learns from it only the ids that it gave
to records and bundles; everything else it works out from the lines that were collected.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hypothesis import strategies as st
from support import LICENSE, report, transaction

from airgap.replay.answers import Answer, DoubtfulError, NotSentError, Outcome
from airgap.replay.requests import Request

LICENSES = (LICENSE, "lcl_EXAMPLE_another_made_up_key")
# Few different lines, so that they come again within a file and in other files.
REPORTS = st.builds(
    lambda n, hour, key: report(n, hour, license=key),
    st.integers(1, 2),
    st.integers(0, 1),
    st.sampled_from(LICENSES),
)
# A transaction keeps its licence and its count; how often it failed to be sent may change.
TRANSACTIONS = st.builds(
    lambda which, numbers, tries: {
        "license": LICENSES[which],
        "trace_transactions": [
            transaction(2 * n + which, trace_count=n + 1, num_failed_send_attempts=tries)
            for n in numbers
        ],
    },
    st.integers(0, 1),
    st.lists(st.integers(0, 5), min_size=1, max_size=4),
    st.integers(0, 2),
)
VERIFICATIONS = st.builds(lambda key: {"license": key}, st.sampled_from(LICENSES))
SOME_LINE = st.sampled_from([REPORTS] * 10 + [TRANSACTIONS] * 5 + [VERIFICATIONS]).flatmap(
    lambda strategy: strategy
)
LINES = st.lists(SOME_LINE, min_size=1, max_size=5)

# What the endpoint adds up again when it comes a second time; it tells the others apart.
ADDED_UP = {"usage_report"}
_KIND_BY_PATH = {
    "/v1/metadata/submit": "usage_report",
    "/v1/beacon/ingest-traces": "trace_transactions",
    "/v1/beacon/verify": "license_verification",
}
FAIR = ("counted",)
FOUL = (
    *["counted"] * 5,
    *["counted, answer lost"] * 2,
    *["counted, then failed"] * 2,
    *["counted, then the sender dies"] * 2,
    "counted, answer garbled",
    "lost before it was counted",
    "failed",
    "the sender dies",
    "garbled",
    "not sent",
    "busy",
    "try later",
    "refused",
    "redirected",
    "forbidden",
)


class Killed(BaseException):
    """The process is gone. No handler of the product's may take this for an error."""


@dataclass
class Life:
    """One process: it may die at its n-th moment, and does nothing any more from then on."""

    left: int | None = None
    dead: bool = False

    def moment(self) -> None:
        if self.left == 0:
            self.die()
        if self.dead:
            raise Killed
        if self.left is not None:
            self.left -= 1

    def die(self) -> None:
        self.dead = True
        raise Killed


@dataclass(eq=False)
class Known:
    """A record as the model knows it."""

    kind: str
    license: str
    payload: dict[str, Any]
    id: str = ""
    number: int = 0  # in the outbox; ascending, with gaps
    counted: int = 0  # by the beacon
    outcome: str | None = None  # by the receipts that were applied


@dataclass
class Bundle:
    """A bundle as the model knows it."""

    id: str
    records: list[Known]
    digest: str  # of the file's bytes
    created: datetime
    answered: datetime | None = None  # when a receipt or a code was last applied
    coded: bool = False
    pruned: bool = False

    @property
    def ids(self) -> list[str]:
        return [record.id for record in self.records]

    @property
    def confirmed(self) -> bool:
        return self.answered is not None and all(r.outcome == "delivered" for r in self.records)

    def take_code(self, now: datetime) -> None:
        for record in self.records:
            record.outcome = "delivered"
        if not self.coded:
            # The same code once more says nothing new.
            self.answer(now)
        self.coded = True

    def answer(self, now: datetime) -> None:
        self.answered = now if self.answered is None else max(now, self.answered)


Key = tuple[object, ...]
Choose = Callable[[Sequence[Any]], Any]


@dataclass
class Model:
    """What was collected, where it is, and what the receipts said about it."""

    keys: dict[Key, Known] = field(default_factory=dict)  # in the order of collection
    bundles: list[Bundle] = field(default_factory=list)
    imported: set[int] = field(default_factory=set)
    delivered: set[str] = field(default_factory=set)  # by the ledger; never taken back
    receipts: dict[tuple[int, int], dict[str, str]] = field(default_factory=dict)
    applied: dict[int, set[int]] = field(default_factory=dict)  # numbers, by sequence

    @property
    def records(self) -> list[Known]:
        return list(self.keys.values())

    @property
    def by_id(self) -> dict[str, Known]:
        return {record.id: record for record in self.keys.values()}

    @property
    def waiting(self) -> list[Known]:
        """The records that are in no bundle."""
        return self.records[sum(len(bundle.records) for bundle in self.bundles) :]

    def bundle(self, sequence: int) -> Bundle:
        return self.bundles[sequence - 1]

    @property
    def dated_back(self) -> set[str]:
        """Ids of bundles whose time does not fit their place, as the clock was set back."""
        return {
            one.id
            for early, before in enumerate(self.bundles)
            for after in self.bundles[early + 1 :]
            if after.created < before.created
            for one in (before, after)
        }

    def new_in(self, lines: Iterable[dict[str, Any]]) -> dict[Key, Known]:
        """Return the records of a file that are not known yet."""
        found: dict[Key, Known] = {}
        for key, record in read(lines):
            if key not in self.keys:
                found.setdefault(key, record)
        return found

    def apply(self, sequence: int, number: int, now: datetime) -> dict[str, int]:
        """Take over a receipt; return how many records newly have which outcome."""
        changed = {"delivered": 0, "dead": 0, "in_doubt": 0, "waiting": 0}
        said = self.receipts[sequence, number]
        for record in self.bundle(sequence).records:
            if record.outcome not in ("delivered", said[record.id]):
                record.outcome = said[record.id]
                changed[record.outcome] += 1
        self.applied.setdefault(sequence, set()).add(number)
        self.bundle(sequence).answer(now)
        return changed


def read(lines: Iterable[dict[str, Any]]) -> list[tuple[Key, Known]]:
    """Return the records of a file: two equal lines are two, a transaction is known by its id."""
    found: list[tuple[Key, Known]] = []
    seen: dict[str, int] = {}
    for line in lines:
        rest = {name: value for name, value in line.items() if name != "license"}
        if "trace_transactions" in rest:
            found += [
                (("trace", item["id"]), Known("trace_transactions", line["license"], item))
                for item in rest["trace_transactions"]
            ]
            continue
        text = json.dumps(line, sort_keys=True)
        seen[text] = seen.get(text, 0) + 1
        kind = "usage_report" if "measures" in rest else "license_verification"
        found.append(((kind, text, seen[text]), Known(kind, line["license"], rest)))
    return found


def totals(records: Iterable[Known]) -> dict[str, Any]:
    """Return totals in the form of a manifest."""
    found: dict[str, Any] = {}
    for record in records:
        total = found.setdefault(record.kind, {"records": 0, "sums": {}})
        total["records"] += 1
        measures = record.payload.get("measures", {})
        if record.kind == "trace_transactions":
            measures = {"trace_count": record.payload["trace_count"]}
        for name, value in measures.items():
            total["sums"][name] = total["sums"].get(name, 0) + value
    return found


@dataclass
class Beacon:
    """A transport with the beacon behind it. What it does with a request is chosen
    for it."""

    model: Model
    choose: Choose
    life: Life
    weather: tuple[str, ...]
    sent: int = 0
    late: bool = False  # nobody waits for the answer any more
    complaints: list[str] = field(default_factory=list)

    def send(self, request: Request) -> Answer:
        if self.late or self.life.dead:
            if self.choose((False, True)):
                self._count(request)
            raise DoubtfulError("nobody waits for this")
        self.life.moment()
        self.sent += 1
        answer = self._answer(self.choose(self.weather), request)
        self.life.moment()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _answer(self, what: str, request: Request) -> Answer | Exception:
        success = self._count(request) if what.startswith("counted") else None
        if what.endswith("dies"):
            self.life.die()
        if what == "counted" and success is not None:
            return success
        answers: dict[str, Answer | Exception] = {
            "counted, answer lost": DoubtfulError("reset"),
            "lost before it was counted": DoubtfulError("reset"),
            "not sent": NotSentError("refused"),
            "busy": Answer(429, b"", retry_after=2.0),
            "try later": Answer(503, b"", retry_after=600.0),
            "refused": Answer(400, b"no"),
            "counted, then failed": Answer(500, b""),
            "failed": Answer(500, b""),
            "counted, answer garbled": Answer(200, b"<html>"),
            "garbled": Answer(200, b"<html>"),
            "redirected": Answer(302, b""),
            "forbidden": Answer(403, b""),
        }
        return answers[what]

    def _count(self, request: Request) -> Answer:
        kind = _KIND_BY_PATH[request.url.removeprefix("http://beacon")]
        records = self._records(kind, request)
        fresh = [r for r in records if r.kind in ADDED_UP or not r.counted]
        for record in fresh:
            record.counted += 1
        if kind == "usage_report":
            return Answer(204, b"")
        if kind == "license_verification":
            return Answer(200, b'{"token":"t"}')
        return Answer(200, json.dumps({"inserted_count": len(fresh)}).encode())

    def _records(self, kind: str, request: Request) -> list[Known]:
        body = json.loads(request.body)
        license_key = body.pop("license")
        if kind == "trace_transactions":
            found = [(self.model.keys["trace", p["id"]], p) for p in body["trace_transactions"]]
        else:
            found = [(self.model.by_id[request.headers["Idempotency-Key"]], body)]
        for record, payload in found:
            if (record.kind, record.license, record.payload) != (kind, license_key, payload):
                self.complaints.append(f"the beacon got {payload}, not {record.payload}")
        return [record for record, _ in found]


@dataclass
class Scheduler:
    """Stands in for the network, so that a run repeats itself.

    Which of the requests in flight is answered next is drawn, and whether the deadline comes
    first. Time is a number.
    """

    beacon: Beacon
    time: float = 0.0
    pending: list[tuple[int, Request]] = field(default_factory=list)
    lost: list[Request] = field(default_factory=list)

    def begin(self, flight: int, request: Request) -> None:
        self.pending.append((flight, request))

    def landed(self, seconds: float) -> list[tuple[int, Outcome]]:
        life, choose = self.beacon.life, self.beacon.choose
        if life.dead:
            raise Killed
        if self.beacon.weather != FAIR and choose(range(10)) == 9:
            self.time += seconds
            return []
        item = choose(self.pending)
        self.pending.remove(item)
        flight, request = item
        try:
            return [(flight, self.beacon.send(request))]
        except (NotSentError, DoubtfulError) as error:
            return [(flight, error)]

    def give_up(self, flight: int) -> None:
        [request] = [request for number, request in self.pending if number == flight]
        self.pending.remove((flight, request))
        self.lost.append(request)

    def end(self) -> None:
        """Let what is still on its way arrive or be lost."""
        self.beacon.late = True
        for request in [*self.lost, *(request for _, request in self.pending)]:
            with suppress(DoubtfulError):
                self.beacon.send(request)
        self.pending, self.lost = [], []

    def sleep(self, seconds: float) -> None:
        self.time += seconds
