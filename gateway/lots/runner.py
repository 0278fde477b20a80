"""Runs a lot: a thin shell that does what the core says, and keeps each step before it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from gateway.errors import GatewayError
from gateway.lots.core import Begin, Facts, Failed, Halt, Item, ItemState, Lot, LotState, Outcome
from gateway.lots.store import LotStore
from protocols.clock import NowSource
from protocols.errors import ProtocolError, error_code

LOOK = 1.0
"""Seconds after which a runner that waits looks whether somebody paused or cancelled the lot."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit of one meter: the item, the lot's facts, and until when it should end (None: no window closes).

    `keep` leaves facts for the next visit; they are durable when it returns. After a crash the next visit finds
    in `item.kept` what was kept last, and must find out from the meter itself what came of the rest. `may_go_on`
    says whether a long visit should take its next step: no after `until`, and not when the lot was paused.
    """

    item: Item
    facts: Facts
    until: datetime | None
    keep: Callable[[Facts], Awaitable[None]]
    may_go_on: Callable[[], bool]


Visitor = Callable[[Visit], Awaitable[Outcome]]
"""Visits one meter. Errors of protocols and of the gateway are failures that may be tried again; others end the run."""


class LotRunner:
    """Works a lot off, from wherever it stands; one runner owns the file."""

    def __init__(
        self,
        store: LotStore,
        visitor: Visitor,
        clock: NowSource,
        *,
        watch: Callable[[Item], None] = lambda _: None,
        doubt: Callable[[], str] = lambda: "",
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`watch` is told each item as a visit begins and ends.

        While `doubt` says why the clock is not believed no visit begins, and those that go on end at their next step;
        `tell` is told when that begins, and with "" when it is over.
        """
        self._store = store
        self._visitor = visitor
        self._clock = clock
        self._watch = watch
        self._doubt = doubt
        self._tell = tell
        self._doubted = False
        self._core = store.core()
        self._going = 0
        self._changed = asyncio.Event()

    async def run(self) -> Lot:
        """Return the lot when it is finished, paused, stopped or cancelled and no visit goes on any more.

        UsageError when another program runs it; what a visit raises beside the errors above, after the others
        were cancelled. Cancelling cancels the visits; a new run goes on where they were.
        """
        with self._store.owned():
            await self._take_up()
            try:
                async with asyncio.TaskGroup() as group:
                    while await self._once(group):
                        pass
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None
        return self._core.lot

    async def _take_up(self) -> None:
        self._core = await asyncio.to_thread(self._store.core)
        while cut := self._core.interrupted():  # one by one: each end has a number of its own
            await asyncio.to_thread(self._store.put, cut[0])
            self._core.apply(cut[0])

    async def _once(self, group: asyncio.TaskGroup) -> bool:
        """Do one step; False when nothing goes on any more."""
        self._changed.clear()
        self._core.apply(await asyncio.to_thread(self._store.lot))
        if self._core.lot.state is not LotState.READY and not self._going:
            return False
        now = self._clock.now()
        match self._core.step(now):
            case Begin() if self._in_doubt():
                await self._rest(None, now)
            case Begin(item=item, until=until):
                await self._begin(group, item, until, now)
            case Halt(lot=lot):
                await self._halt(lot, now)
            case wait:
                await self._rest(wait.until, now)
        return True

    def _in_doubt(self) -> bool:
        why = self._doubt()
        if bool(why) is not self._doubted:
            self._doubted = bool(why)
            self._tell(why)
        return self._doubted

    async def _begin(
        self, group: asyncio.TaskGroup, item: Item, until: datetime | None, now: datetime
    ) -> None:
        begun = self._core.begun(item, now)
        number = await asyncio.to_thread(self._store.begin, begun, now)
        if number is None:
            return
        self._core.apply(begun, now=now)
        self._watch(begun)
        self._going += 1
        group.create_task(self._visit(begun, number, until))

    async def _visit(self, item: Item, number: int, until: datetime | None) -> None:
        kept = item.kept

        async def keep(facts: Facts) -> None:
            nonlocal kept
            await asyncio.to_thread(self._store.keep, item.position, facts)
            kept = facts

        def may_go_on() -> bool:
            in_time = until is None or self._clock.now() < until
            return in_time and self._core.lot.state is LotState.READY and not self._in_doubt()

        try:
            outcome = await self._visitor(Visit(item, self._core.lot.facts, until, keep, may_go_on))
        except (ProtocolError, GatewayError) as error:
            outcome = Failed(reason=error_code(type(error)), note=str(error))
        except asyncio.CancelledError:  # an orderly end of the program, which is no try of the meter's
            self._store.put(replace(item, state=ItemState.BEGUN, tries=item.tries - 1))
            raise
        now = self._clock.now()
        ended = self._core.ended(replace(item, kept=kept), outcome, now)
        # from here to `apply` nothing else may number an end
        ended = self._store.end(ended, number, outcome, now)
        self._core.apply(ended)
        self._going -= 1
        self._watch(ended)
        self._changed.set()

    async def _halt(self, lot: Lot, now: datetime) -> None:
        what = f"{lot.state}: {lot.reason}" if lot.reason else str(lot.state)
        await asyncio.to_thread(self._store.decide, lot, at=now, by="", what=what, only_from=[LotState.READY])

    async def _rest(self, until: datetime | None, now: datetime) -> None:
        seconds = LOOK if until is None else min(LOOK, max((until - now).total_seconds(), 0))
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
