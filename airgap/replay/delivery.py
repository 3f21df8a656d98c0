"""Delivery: waiting records out, several requests in flight, every step on disk before it counts."""

import heapq
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import count, groupby
from typing import Literal, cast

from airgap.catalog import Catalog, Kind
from airgap.credentials import Keyring
from airgap.errors import AirgapError
from airgap.replay.answers import DoubtfulError, NotSentError, Transport
from airgap.replay.ledger import Ledger
from airgap.replay.ledger_layout import Settled, State
from airgap.replay.requests import Batch, Routes, batches, build
from airgap.replay.verdict import Meaning, Verdict, judge
from airgap.replay.workers import Workers

Stop = Literal["", "unreachable", "not_the_beacon", "interrupted"]


@dataclass(frozen=True, slots=True)
class Pace:
    """How hard to try, in seconds.

    Args:
        in_flight: most requests at a time.
        attempts: most attempts per request and run.
        first_wait: wait before the second attempt; doubles from there.
        longest_wait: bound of a wait, Retry-After included; a longer one ends the run instead.
        deadline: longest time for one request as a whole; what is not answered then is in doubt.
    """

    in_flight: int = 4
    attempts: int = 6
    first_wait: float = 0.5
    longest_wait: float = 120.0
    deadline: float = 300.0


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
        stop: why it ended before its time, or empty.
        reason: the last failure's words.
        held: credentials that the beacon refused.
    """

    requests: int = 0
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
    due: float


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
        self._delayed: list[_Delayed] = []
        self._order = count()
        self._flying: dict[Future[Verdict], _Flight] = {}
        self._settled: list[Settled] = []

    def run(self) -> Report:
        """Deliver until nothing more can be done in this run.

        On an interruption, requests in flight are waited for and settled; nothing new leaves.
        """
        workers: Workers[Verdict] = Workers(self._pace.in_flight)
        try:
            for _, group in groupby(self._catalog.kinds.values(), key=lambda kind: kind.order):
                kinds = list(group)
                self._run_phase(workers, self._batches(kinds))
                while not self._report.stop and self._is_more(kinds):
                    self._run_phase(workers, self._batches(kinds))
                if self._report.stop:
                    break
        finally:
            # Whatever went wrong: answers that came, or still come, are not thrown away.
            self._drain()
            workers.close()
            self._ledger.claims.release()
        return self._report

    def _is_more(self, kinds: list[Kind]) -> bool:
        """Wait for other runs that have records of these kinds in hand; tell whether some are left."""
        around = self._around
        names = [kind.name for kind in kinds]
        return self._ledger.claims.await_others(names, around.sleep, around.interrupted)

    def _batches(self, kinds: list[Kind]) -> Iterator[Batch]:
        for kind in kinds:
            yield from batches(self._ledger.waiting(kind.name), kind, self._routes)

    def _run_phase(self, workers: Workers[Verdict], queue: Iterator[Batch]) -> None:
        self._delayed = []
        while True:
            if self._around.interrupted() and not self._report.stop:
                self._report.stop = "interrupted"
            ready = [] if self._report.stop else self._take(queue)
            self._commit(ready)
            for batch, attempt in ready:
                due = self._around.monotonic() + self._pace.deadline
                future = workers.submit(partial(self._send, batch))
                self._flying[future] = _Flight(batch, attempt, due)
                self._report.requests += 1
            if self._flying:
                self._land(self._patience())
            elif self._report.stop or not self._delayed:
                return
            else:
                self._around.sleep(max(0.0, self._delayed[0].due - self._around.monotonic()))

    def _drain(self) -> None:
        """Wait for what is in flight, each to its deadline, and store what became of it."""
        self._report.stop = self._report.stop or ("interrupted" if self._flying else "")
        while self._flying:
            self._land(self._patience())
        self._commit([])

    def _land(self, patience: float) -> None:
        """Wait for answers for so many seconds, and settle what came or is overdue."""
        done, _ = wait(self._flying, timeout=patience, return_when=FIRST_COMPLETED)
        for future in done:
            flight = self._flying.pop(future)
            self._settle(flight.batch, flight.attempt, future.result())
        now = self._around.monotonic()
        for future in [f for f, flight in self._flying.items() if flight.due <= now]:
            flight = self._flying.pop(future)
            detail = f"no whole answer within {self._pace.deadline:g} seconds"
            # Its thread is lost to the server, so the run ends here.
            told = flight.batch.kind.duplicates_told
            meaning: Meaning = "again" if told else "in_doubt"
            self._settle(flight.batch, self._pace.attempts, Verdict(meaning, detail, doubted=True))
            self._report.stop = self._report.stop or "unreachable"

    def _patience(self) -> float:
        """Return how long to wait for answers before something else is to be done."""
        due = min(flight.due for flight in self._flying.values())
        if self._delayed and not self._report.stop and len(self._flying) < self._pace.in_flight:
            due = min(due, self._delayed[0].due)
        return max(0.0, due - self._around.monotonic())

    def _take(self, queue: Iterator[Batch]) -> list[tuple[Batch, int]]:
        ready: list[tuple[Batch, int]] = []
        while len(self._flying) + len(ready) < self._pace.in_flight:
            if self._delayed and self._delayed[0].due <= self._around.monotonic():
                delayed = heapq.heappop(self._delayed)
                batch, attempt = delayed.batch, delayed.attempt
            elif len(self._flying) + len(ready) + len(self._delayed) < self._pace.in_flight:
                following = next(queue, None)
                if following is None:
                    break
                batch, attempt = following, 1
            else:
                # What waits to be sent again keeps its place: a busy beacon gets no new requests.
                break
            if batch.credential not in self._report.held:
                ready.append((batch, attempt))
        return ready

    def _commit(self, ready: list[tuple[Batch, int]]) -> None:
        self._ledger.step(self._settled, [n for batch, _ in ready for n in batch.numbers])
        self._progress(sum(len(s.numbers) for s in self._settled if s.state != "waiting"))
        self._settled = []

    def _send(self, batch: Batch) -> Verdict:
        """Send one request; runs in a thread and touches no state."""
        try:
            request = build(batch, self._keyring.secret(batch.credential), self._routes)
        except AirgapError as error:
            return Verdict("dead", f"can't be sent: {error.message}")
        try:
            answer = self._transport.send(request)
        except NotSentError as error:
            return Verdict("again", f"not sent: {error}")
        except Exception as error:  # noqa: BLE001 - whatever it was, the request may have left
            words = str(error) if isinstance(error, DoubtfulError) else type(error).__name__
            return Verdict(
                "again" if batch.kind.duplicates_told else "in_doubt",
                f"cut off after sending began: {words}",
                doubted=True,
            )
        return judge(batch.kind, answer, sent=len(batch.entries), doubted=batch.doubted)

    def _settle(self, batch: Batch, attempt: int, verdict: Verdict) -> None:
        detail = self._keyring.redact(verdict.detail or "", self._catalog)[:500] or None
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
