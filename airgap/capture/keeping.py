"""Keeps what arrives: one thread that owns the outbox and commits many requests at once."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from airgap import captured
from airgap.captured import Received
from airgap.errors import AirgapError, MediumError
from airgap.outbox import Outbox
from airgap.sightings import Sighting
from airgap.timestamps import Clock

_MOST_AT_ONCE = 256
_UNTIL_NEXT_TRY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class _Wish:
    sightings: Sequence[Sighting]
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Received]"

    def settle(self, outcome: Received | AirgapError) -> None:
        """Tell the request's task, wherever it is, unless it has gone."""

        def tell() -> None:
            if self.future.done():
                return
            if isinstance(outcome, AirgapError):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)

        try:
            self.loop.call_soon_threadsafe(tell)
        except RuntimeError:
            # The loop has ended: nobody waits any more, and what was kept is kept.
            return


class Keeper:
    """Keeps requests durably; a result means that they are on disk.

    Args:
        open_outbox: opens the outbox, in the keeper's own thread.
        clock: the present.
    """

    def __init__(self, open_outbox: Callable[[], Outbox], clock: Clock) -> None:
        self._open = open_outbox
        self._clock = clock
        self._condition = threading.Condition()
        self._wishes: list[_Wish] = []
        self._ending = False
        self._started: AirgapError | None = None
        self._ready = threading.Event()
        self._failed_at: datetime | None = None
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    @property
    def works(self) -> bool:
        """Whether nothing failed to be kept since the last success, or for a minute.

        Who asks for this may hold requests back until it is so, and none would come to show that it is.
        """
        return self._failed_at is None or self._clock() - self._failed_at > _UNTIL_NEXT_TRY

    def start(self) -> None:
        """Open the outbox.

        Raises:
            AirgapError: it can't be opened.
        """
        self._thread.start()
        self._ready.wait()
        if self._started is not None:
            raise self._started

    def stop(self) -> None:
        """Keep what was asked for, and close the outbox."""
        with self._condition:
            self._ending = True
            self._condition.notify()
        self._thread.join()

    async def keep(self, sightings: Sequence[Sighting]) -> Received:
        """Keep one request's records, all or none; return when they are on disk.

        Raises:
            InputRefusedError: an identity comes again with other content.
            MediumError: the file system refused.
        """
        loop = asyncio.get_running_loop()
        wish = _Wish(sightings, loop, loop.create_future())
        with self._condition:
            self._wishes.append(wish)
            self._condition.notify()
        return await wish.future

    def _run(self) -> None:
        try:
            outbox = self._open()
        except AirgapError as error:
            self._started = error
            return
        finally:
            self._ready.set()
        try:
            while wishes := self._next():
                for wish, outcome in zip(wishes, self._kept(outbox, wishes), strict=True):
                    wish.settle(outcome)
        finally:
            outbox.close()

    def _next(self) -> list[_Wish]:
        """Return what waits, once something does; nothing at the end."""
        with self._condition:
            while not self._wishes and not self._ending:
                self._condition.wait()
            taken = self._wishes[:_MOST_AT_ONCE]
            del self._wishes[:_MOST_AT_ONCE]
            return taken

    def _kept(self, outbox: Outbox, wishes: list[_Wish]) -> Sequence[Received | AirgapError]:
        try:
            kept = captured.receive(outbox, [wish.sightings for wish in wishes], self._clock())
        except AirgapError as error:
            failure: AirgapError = error
        except Exception as error:  # noqa: BLE001 - the thread goes on, and clients are told
            if len(wishes) > 1:
                # Whatever is wrong with one request, it takes no other with it.
                return [outcome for wish in wishes for outcome in self._kept(outbox, [wish])]
            failure = MediumError(f"a request could not be kept: {type(error).__name__}")
        else:
            self._failed_at = None
            return kept
        self._failed_at = self._clock()
        return [failure] * len(wishes)
