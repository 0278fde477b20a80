"""Hands the queue's messages to the provider, several at once; slows down while the provider is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import structlog

from gateway.backoff import Backoff
from gateway.central.people.database import PeopleFault
from gateway.central.people.verification import masked_mobile
from gateway.central.telling.messages import Doubtful, Handed, NotTaken, Outcome, Provider, State
from gateway.central.telling.queue import SmsQueue
from protocols.session import Clock

AT_ONCE: Final = 8
"""Messages being handed over at once: so many at most are in doubt after a crash."""
LOOK: Final = 1.0
"""Seconds between looks at the queue: another process may have put something."""
STOPPING: Final = 35.0
"""Seconds that hand-overs under way have to end, when the program stops: a little more than a request may take."""
_STOPPED: Final = "the program stopped before it was handed over"

log = structlog.get_logger("gateway.central.telling")


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderStatistics:
    """Messages since the start, by what came of their hand-overs; `away` while the provider takes nothing."""

    handed: int = 0
    accepted: int = 0
    not_taken: int = 0
    failed: int = 0
    unconfirmed: int = 0
    away: bool = False


_COUNTED: Final = {
    State.ACCEPTED: "accepted",
    State.DELIVERED: "accepted",
    State.UNDELIVERED: "accepted",
    State.WAITING: "not_taken",
    State.FAILED: "failed",
    State.UNCONFIRMED: "unconfirmed",
}


class Sender:
    """The running sender of one process; several may work on one queue."""

    def __init__(self, queue: SmsQueue, provider: Provider, clock: Clock) -> None:
        self._queue = queue
        self._provider = provider
        self._clock = clock
        self._counts = SenderStatistics()
        self._backoff = Backoff(1.0, 60.0)
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: str | None = None
        self._changed = asyncio.Event()

    def statistics(self) -> SenderStatistics:
        """Return what was done so far."""
        return self._counts

    async def run(self) -> None:
        """Send until cancelled; then what is being handed over may end, and nothing new begins."""
        self._queue.woken = _waker(self._changed)
        try:
            while True:
                self._changed.clear()
                if await self._turn():
                    continue
                if self._counts.away:  # not woken by what is put meanwhile
                    await asyncio.sleep(self._backoff.next())
                else:
                    await self._wait()
        finally:
            self._queue.woken = lambda: None
            await self._stop()

    async def _turn(self) -> bool:
        """Begin hand-overs; says whether there were any."""
        # While the provider is away one message at a time tries it.
        free = (1 if self._counts.away else AT_ONCE) - len(self._tasks)
        if free <= 0:
            return False
        try:
            if not await asyncio.to_thread(self._queue.is_due, self._clock.now()):
                return False
            given = await self._take(free)
        except PeopleFault as error:
            log.error("sms_queue_failed", error=str(error))
            return False
        for handed in given:
            self._counts = replace(self._counts, handed=self._counts.handed + 1)
            task = asyncio.create_task(self._hand(handed))
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        return bool(given) and not self._counts.away

    async def _take(self, most: int) -> list[Handed]:
        taking = asyncio.ensure_future(asyncio.to_thread(self._queue.take, self._clock.now(), most))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            for handed in await taking:  # noted as being handed over, and nobody will
                await self._settle(handed, NotTaken(_STOPPED, away=True))
            raise

    async def _hand(self, handed: Handed) -> None:
        outcome = await self._provider.hand(handed)
        away = isinstance(outcome, NotTaken) and outcome.away
        if not away:
            self._backoff.reset()
        self._counts = replace(self._counts, away=away)
        await self._settle(handed, outcome)

    async def _settle(self, handed: Handed, outcome: Outcome) -> None:
        try:
            state = await asyncio.to_thread(
                self._queue.settle, handed, outcome, reports=self._provider.reports, now=self._clock.now()
            )
        except PeopleFault as error:  # it stays as being handed over, and so becomes unconfirmed
            log.error("sms_outcome_lost", message=handed.id, error=str(error))
            return
        counted = _COUNTED.get(state)
        if counted is not None:
            self._counts = replace(self._counts, **{counted: getattr(self._counts, counted) + 1})
        self._tell(handed, outcome, state)

    def _tell(self, handed: Handed, outcome: Outcome, state: State) -> None:
        """Log what went wrong: a reason that repeats once, until another one or a success."""
        reason = getattr(outcome, "reason", None)
        if reason is not None and reason != self._told:
            level = log.error if isinstance(outcome, Doubtful) or state is State.FAILED else log.warning
            level(
                "sms_not_accepted",
                message=handed.id,
                template=handed.rendered.template,
                mobile=masked_mobile(handed.mobile),
                state=state.value,
                error=reason,
            )
        self._told = reason

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("sms_hand_over_failed", error=repr(error))

    async def _wait(self) -> None:
        # Not `wait_for`: in Python 3.11 it swallows a cancellation that comes together with the event.
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK):
                await self._changed.wait()

    async def _stop(self) -> None:
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=STOPPING)
            for task in late:
                task.cancel()


def _waker(changed: asyncio.Event) -> Callable[[], None]:
    loop = asyncio.get_running_loop()

    def wake() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(changed.set)

    return wake
