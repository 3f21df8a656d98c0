"""Delivery: waiting records out, several requests in flight, every step on disk before it counts.

One thread does all of it. One commit holds all answers that came and all requests that are about to
leave; while it is waited for, further answers come, so commits hold more the faster they come.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, groupby
from typing import Literal, cast

from airgap.catalog import Catalog, Kind
from airgap.credentials import Keyring
from airgap.errors import AirgapError
from airgap.replay.answers import Answer, NotSentError, Outcome, Transport
from airgap.replay.ledger import Ledger
from airgap.replay.ledger_layout import Settled, State
from airgap.replay.rate import Rate
from airgap.replay.requests import Batch, Request, Routes, batches, build
from airgap.replay.throttle import Throttle
from airgap.replay.verdict import Meaning, Verdict, judge

Stop = Literal["", "unreachable", "not_the_beacon", "interrupted"]


@dataclass(frozen=True, slots=True)
class Pace:
    """How hard to try, in seconds.

    Args:
        in_flight: most requests at a time; fewer where the beacon is busy or slow.
        attempts: most attempts per request and run.
        first_wait: wait before the second attempt; doubles from there.
        longest_wait: bound of a wait, Retry-After included; a longer one ends the run instead.
        deadline: longest time for one request as a whole; what is not answered then is in doubt.
        rate: most requests per second, second attempts included.
    """

    in_flight: int = 8
    attempts: int = 6
    first_wait: float = 0.5
    longest_wait: float = 120.0
    deadline: float = 300.0
    rate: float = 50.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Time and chance, passed in so that tests need neither.

    Args:
        monotonic: seconds that never go back.
        sleep: waits for so many seconds, or until the operator asks to stop.
        jitter: a number from 0 to 1, anew at each call.
        interrupted: whether the operator asked to stop.
    """

    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    jitter: Callable[[], float]
    interrupted: Callable[[], bool]


@dataclass(slots=True)
class Report:
    """What a run did.

    Args:
        requests: how many requests left.
        limit: how many could be in flight at the end.
        busy: how many requests came back because the beacon is busy, or not at all.
        stop: why it ended before its time, or empty.
        reason: the last failure's words.
        held: credentials that the beacon refused.
    """

    requests: int = 0
    limit: int = 0
    busy: int = 0
    stop: Stop = ""
    reason: str = ""
    held: set[str] = field(default_factory=set)


@dataclass(order=True, slots=True)
class _Delayed:
    due: float
    order: int
    batch: Batch = field(compare=False)
    attempt: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class _Flight:
    batch: Batch
    attempt: int
    left: float
    in_flight: int
    full: bool


class Delivery:
    """One run over the ledger's scope.

    Kinds of a lower order are finished before the next: licences are verified before usage is
    reported under them.
    """

    def __init__(
        self,
        ledger: Ledger,
        catalog: Catalog,
        keyring: Keyring,
        routes: Routes,
        transport: Transport,
        pace: Pace,
        surroundings: Surroundings,
        progress: Callable[[int], None],
    ) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._keyring = keyring
        self._routes = routes
        self._transport = transport
        self._pace = pace
        self._around = surroundings
        self._progress = progress
        self._report = Report()
        self._throttle = Throttle(pace.in_flight)
        self._rate = Rate(pace.rate, surroundings.monotonic())
        self._delayed: list[_Delayed] = []
        self._order = count()
        # By number of departure, so the oldest first.
        self._flying: dict[int, _Flight] = {}
        self._settled: list[Settled] = []

    def run(self) -> Report:
        """Deliver until nothing more can be done in this run.

        On an interruption, requests in flight are waited for and settled; nothing new leaves.
        """
        try:
            for _, group in groupby(self._catalog.kinds.values(), key=lambda kind: kind.order):
                kinds = list(group)
                self._run_phase(self._batches(kinds))
                while not self._report.stop and self._is_more(kinds):
                    self._run_phase(self._batches(kinds))
                if self._report.stop:
                    break
        finally:
            # Whatever went wrong: answers that came, or still come, are not thrown away.
            self._drain()
            self._ledger.claims.release()
            self._report.limit, self._report.busy = self._throttle.limit, self._throttle.busy
        return self._report

    def _is_more(self, kinds: list[Kind]) -> bool:
        """Wait for other runs that have records of these kinds in hand; tell whether some are left."""
        around = self._around
        names = [kind.name for kind in kinds]
        return self._ledger.claims.await_others(names, around.sleep, around.interrupted)

    def _batches(self, kinds: list[Kind]) -> Iterator[Batch]:
        for kind in kinds:
            yield from batches(self._ledger.waiting(kind.name), kind, self._routes)

    def _run_phase(self, queue: Iterator[Batch]) -> None:
        self._delayed = []
        following = next(queue, None)
        while True:
            if self._around.interrupted() and not self._report.stop:
                self._report.stop = "interrupted"
            ready: list[tuple[Batch, int, Request]] = []
            free = 0 if self._report.stop else self._throttle.limit - len(self._flying)
            now = self._around.monotonic()
            room = min(free, self._rate.room(now)) if free > 0 else 0
            while len(ready) < room:
                if self._delayed and self._delayed[0].due <= now:
                    delayed = heapq.heappop(self._delayed)
                    self._prepare(delayed.batch, delayed.attempt, ready)
                elif following is not None and len(ready) + len(self._delayed) < free:
                    self._prepare(following, 1, ready)
                    following = next(queue, None)
                else:
                    # What waits to be sent again keeps its place: a busy beacon gets no new ones.
                    break
            self._commit(ready)
            now = self._around.monotonic()
            in_flight = len(self._flying) + len(ready)
            full = in_flight >= self._throttle.limit
            for batch, attempt, request in ready:
                number = self._report.requests
                self._report.requests += 1
                self._flying[number] = _Flight(batch, attempt, now, in_flight, full)
                self._transport.begin(number, request)
            if self._flying:
                self._land(self._patience(more=following is not None))
            elif self._report.stop or (following is None and not self._delayed):
                return
            else:
                self._around.sleep(self._pause(more=following is not None))

    def _prepare(self, batch: Batch, attempt: int, ready: list[tuple[Batch, int, Request]]) -> None:
        """Make a batch's request, if it may be sent and can be made."""
        if batch.credential in self._report.held:
            return
        try:
            request = build(batch, self._keyring.secret(batch.credential), self._routes)
        except AirgapError as error:
            self._settle(batch, attempt, Verdict("dead", f"can't be sent: {error.message}"))
            return
        self._rate.take()
        ready.append((batch, attempt, request))

    def _drain(self) -> None:
        """Wait for what is in flight, each to its deadline, and store what became of it."""
        self._report.stop = self._report.stop or ("interrupted" if self._flying else "")
        while self._flying:
            self._land(self._patience(more=False))
        self._commit([])

    def _land(self, patience: float) -> None:
        """Wait for answers for so many seconds, and settle what came or is overdue."""
        landed = self._transport.landed(patience)
        now = self._around.monotonic()
        for number, outcome in landed:
            flight = self._flying[number]
            verdict = self._judge(flight.batch, outcome)
            self._learn(number, flight, verdict, now)
            del self._flying[number]
            self._settle(flight.batch, flight.attempt, verdict)
        last = now - self._pace.deadline
        while self._flying:
            number, oldest = next(iter(self._flying.items()))
            if oldest.left > last:
                return
            del self._flying[number]
            self._transport.give_up(number)
            detail = f"no whole answer within {self._pace.deadline:g} seconds"
            told = oldest.batch.kind.duplicates_told
            meaning: Meaning = "again" if told else "in_doubt"
            self._throttle.refused(number, departed=self._report.requests)
            self._settle(oldest.batch, self._pace.attempts, Verdict(meaning, detail, doubted=True))
            # Who holds one request for so long holds the next one as well.
            self._report.stop = self._report.stop or "unreachable"

    def _learn(self, number: int, flight: _Flight, verdict: Verdict, now: float) -> None:
        """Let the limit follow from an answer, or from there being none."""
        departed = self._report.requests
        if verdict.status is None or verdict.status >= 500 or verdict.meaning == "again":
            self._throttle.refused(number, departed=departed)
            return
        # Large requests take longer: they are held against their like, to a power of two.
        alike = (flight.batch.kind.name, len(flight.batch.entries).bit_length())
        seconds = now - flight.left
        self._throttle.answered(
            number,
            seconds,
            alike,
            in_flight=flight.in_flight,
            full=flight.full,
            departed=departed,
        )

    def _patience(self, *, more: bool) -> float:
        """Return how long to wait for answers before something else is to be done."""
        oldest = next(iter(self._flying.values()))
        patience = oldest.left + self._pace.deadline - self._around.monotonic()
        if not self._report.stop and len(self._flying) < self._throttle.limit:
            patience = min(patience, self._pause(more=more))
        return max(0.0, patience)

    def _pause(self, *, more: bool) -> float:
        """Return for how long nothing may leave; where nothing is left to leave, for ever."""
        now = self._around.monotonic()
        pause = self._delayed[0].due - now if self._delayed else float("inf")
        if more and len(self._flying) + len(self._delayed) < self._throttle.limit:
            pause = 0.0
        return max(pause, self._rate.wait(now), 0.0)

    def _commit(self, ready: list[tuple[Batch, int, Request]]) -> None:
        self._ledger.step(self._settled, [n for batch, _, _ in ready for n in batch.numbers])
        self._progress(sum(len(s.numbers) for s in self._settled if s.state != "waiting"))
        self._settled = []

    @staticmethod
    def _judge(batch: Batch, outcome: Outcome) -> Verdict:
        if isinstance(outcome, Answer):
            return judge(batch.kind, outcome, sent=len(batch.entries), doubted=batch.doubted)
        if isinstance(outcome, NotSentError):
            return Verdict("again", f"not sent: {outcome}")
        return Verdict(
            "again" if batch.kind.duplicates_told else "in_doubt",
            f"cut off after sending began: {outcome}",
            doubted=True,
        )

    def _settle(self, batch: Batch, attempt: int, verdict: Verdict) -> None:
        detail = verdict.detail and self._keyring.redact(verdict.detail, self._catalog)[:500]
        if verdict.hold:
            self._report.held.add(batch.credential)
        final = verdict.meaning in ("delivered", "dead", "in_doubt")
        self._settled.append(
            Settled(
                batch.numbers,
                cast("State", verdict.meaning if final else "waiting"),
                verdict.status,
                detail,
                verdict.keep,
                verdict.doubted,
            )
        )
        if verdict.stop and not self._report.stop:
            self._report.stop = "not_the_beacon"
        if verdict.meaning not in ("delivered", "halve"):
            self._report.reason = detail or ""
        if verdict.meaning == "halve":
            for half in batch.halves():
                self._delay(half, attempt, 0.0)
        elif verdict.meaning == "again":
            self._again(
                batch.after_doubt() if verdict.doubted else batch, attempt, verdict.retry_after
            )

    def _again(self, batch: Batch, attempt: int, retry_after: float | None) -> None:
        pace = self._pace
        pause = min(pace.first_wait * 2 ** (attempt - 1), pace.longest_wait)
        # Full jitter, but never before the time that the server asked for.
        pause = max(pause * self._around.jitter(), retry_after or 0.0)
        if attempt >= pace.attempts or pause > pace.longest_wait:
            if not self._report.stop:
                self._report.stop = "unreachable"
            return
        self._delay(batch, attempt + 1, pause)

    def _delay(self, batch: Batch, attempt: int, seconds: float) -> None:
        due = self._around.monotonic() + seconds
        heapq.heappush(self._delayed, _Delayed(due, next(self._order), batch, attempt))
