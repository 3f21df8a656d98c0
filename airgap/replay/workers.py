"""Threads that send requests, and can be left behind.

``concurrent.futures`` waits for its threads when the program ends. A server that dribbles bytes
for ever would then keep the program, so these are daemon threads.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Workers(Generic[_T]):
    """So many threads that run what is submitted, in order.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[_T], Callable[[], _T]] | None] = (
            queue.SimpleQueue()
        )
        self._count = count
        for number in range(count):
            threading.Thread(target=self._work, name=f"airgap-{number}", daemon=True).start()

    def submit(self, job: Callable[[], _T]) -> Future[_T]:
        """Run a job in one of the threads."""
        future: Future[_T] = Future()
        self._jobs.put((future, job))
        return future

    def close(self) -> None:
        """Let each thread end after its job; waits for none."""
        for _ in range(self._count):
            self._jobs.put(None)

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            future, job = item
            try:
                future.set_result(job())
            except BaseException as error:  # noqa: BLE001 - handed over to whoever waits
                future.set_exception(error)
