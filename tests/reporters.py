"""LangGraph servers as a capture endpoint meets them: threads that report, and lose answers."""

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, Self

from support import API_KEY, LICENSE, transaction

RUNS, NODES = "langgraph.platform.runs", "langgraph.platform.nodes"
USAGE, TRACES = "/v1/metadata/submit", "/v1/beacon/ingest-traces"
_FIRST = datetime(2026, 1, 6, 0, 0, 0, 123456, tzinfo=UTC)
_WINDOW = timedelta(seconds=300)
_IMPATIENCE = 0.04
"""Share of the requests whose answer nobody waits for."""


class Endpoint(Protocol):
    """Where to report to; it may be gone for a while."""

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        ...


class Reporter:
    """One server. What it counted since its last answer is what it reports next, from the same start on.

    Args:
        number: tells servers apart: their windows start at other microseconds.
        endpoint: where it reports to.
        die: all choices are made with it.
    """

    def __init__(self, number: int, endpoint: Endpoint, die: random.Random) -> None:
        self.number, self.endpoint, self.die = number, endpoint, die
        self.lock = threading.Lock()
        """Held during a turn."""
        self.seen: Counter[str] = Counter()
        """What was posted, and how it was answered."""
        self.odd: list[object] = []
        """Answers that no fault explains."""
        self.runs = self.acknowledged = 0
        """Runs that were counted, and those of them that were reported with a good answer."""
        self.transactions: Counter[str] = Counter()
        """Transactions that were ever sent: ``records`` and ``trace_count``."""
        self._at = self._start = self._turns = 0
        self._left: list[dict[str, Any]] = []
        self._connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=30)

    def turn(self) -> None:
        """Report usage, or every second time transactions."""
        with self.lock:
            self._turns += 1
            if self._turns % 2:
                self._at += 1
                self.runs += self.die.randint(0, 9)
                self._report(_IMPATIENCE)
            else:
                self._transactions(_IMPATIENCE)

    def end(self) -> None:
        """Report what has no good answer yet, and hang up."""
        self._at += 1
        self._report(0)
        if self._left:
            self._transactions(0)
        self._connection.close()
        assert self.acknowledged == self.runs
        assert not self._left

    @property
    def unanswered(self) -> Counter[str]:
        """Transactions that were sent and have no good answer yet."""
        return _sums(self._left)

    def _report(self, impatience: float) -> None:
        runs = self.runs - self.acknowledged
        self.seen["windows tried"] += 1
        body = {
            "api_key": API_KEY,
            "from_timestamp": self._time(self._start),
            "to_timestamp": self._time(self._at),
            "tags": {"langgraph.platform.host": "self-hosted"},
            "measures": {RUNS: runs, NODES: 3 * runs},
            "logs": [],
        }
        if self._post(USAGE, body, impatience) == 204:
            self._start, self.acknowledged = self._at, self.runs
            self.seen["windows"] += 1

    def _transactions(self, impatience: float) -> None:
        if not self._left:
            first = self.number * 10_000_000 + self.transactions["records"]
            self._left = [
                transaction(first + n, trace_count=self.die.randint(1, 9))
                for n in range(self.die.randint(1, 3))
            ]
            self.transactions += _sums(self._left)
        body = {"license": LICENSE, "trace_transactions": self._left}
        if self._post(TRACES, body, impatience) == 200:
            self._left = []

    def _time(self, window: int) -> str:
        return (_FIRST + timedelta(microseconds=self.number) + window * _WINDOW).isoformat()

    def _post(self, path: str, body: dict[str, Any], impatience: float) -> int | None:
        """Post, and return the answer's status; None where it was lost."""
        self.seen["posts"] += 1
        connection = self._connection
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            if self.die.random() < impatience:
                connection.close()
                self.seen["answers that nobody waited for"] += 1
                return None
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            self.seen["posts without an answer"] += 1
            return None
        if answer.status in (200, 204):
            self.seen["posts acknowledged"] += 1
        elif answer.status == 503:
            self.seen["posts answered 503"] += 1
        else:
            self.odd.append((answer.status, said))
        return answer.status


def _sums(transactions: list[dict[str, Any]]) -> Counter[str]:
    traces = sum(one["trace_count"] for one in transactions)
    return Counter(records=len(transactions), trace_count=traces)


class Pace(Protocol):
    """When reporters have their turns."""

    def begin(self) -> None:
        """Begin a round."""
        ...

    def finish(self) -> None:
        """Return when a round's turns are over."""
        ...

    def wait(self, number: int) -> bool:
        """Return when this reporter has a turn; False where there are no more."""
        ...

    def had(self, number: int) -> None:
        """Note that a turn is over."""
        ...

    def stop(self) -> None:
        """Let nobody have a turn any more."""
        ...


class Rations:
    """So many turns for each reporter in each round, as fast as they can; no clock is looked at.

    Args:
        reporters: how many there are.
        turns: how many turns.
    """

    def __init__(self, reporters: int, turns: int) -> None:
        self._turns, self._left = turns, [0] * reporters
        self._changed = threading.Condition()
        self._over = False

    def begin(self) -> None:
        with self._changed:
            self._left = [self._turns] * len(self._left)
            self._changed.notify_all()

    def finish(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: not any(self._left), 60)

    def wait(self, number: int) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._left[number] > 0)
            return not self._over

    def had(self, number: int) -> None:
        with self._changed:
            self._left[number] -= 1
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()


class Steady:
    """A turn of each reporter, and a round, every so many seconds.

    Args:
        reporters: how many there are; their turns are spread evenly.
        between: seconds between two turns of one.
        rounds: seconds between the beginnings of two rounds; a long one makes the next come later.
    """

    def __init__(self, reporters: int, between: float, rounds: float) -> None:
        self._over = threading.Event()
        self._between, self._rounds = between, rounds
        now = time.monotonic()
        self._due = [now + between * n / reporters for n in range(reporters)]
        self._round = now

    def begin(self) -> None:
        self._over.wait(max(0.0, self._round - time.monotonic()))
        self._round = time.monotonic() + self._rounds

    def finish(self) -> None:
        """Turns go on, whatever the round."""

    def wait(self, number: int) -> bool:
        return not self._over.wait(max(0.0, self._due[number] - time.monotonic()))

    def had(self, number: int) -> None:
        self._due[number] += self._between

    def stop(self) -> None:
        self._over.set()


class Load:
    """Reporters in threads of their own.

    Args:
        reporters: which.
        pace: when.
    """

    def __init__(self, reporters: Sequence[Reporter], pace: Pace) -> None:
        self.reporters, self.pace = reporters, pace
        self._failed: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(n,), daemon=True)
            for n in range(len(reporters))
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.pace.stop()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _run(self, number: int) -> None:
        try:
            while self.pace.wait(number):
                self.reporters[number].turn()
                self.pace.had(number)
        except BaseException as error:  # noqa: BLE001 - the test is told
            self._failed.append(error)

    @contextmanager
    def still(self) -> Iterator[None]:
        """Let nobody have a turn meanwhile."""
        with ExitStack() as turns:
            for one in self.reporters:
                turns.enter_context(one.lock)
            yield

    def check(self) -> None:
        """Check that nothing was answered that no fault explains."""
        assert self._failed == []
        assert [one.odd for one in self.reporters if one.odd] == []

    @property
    def seen(self) -> Counter[str]:
        """What all posted, and how it was answered."""
        return sum((one.seen for one in self.reporters), Counter())
