"""From notifications to the journal: the same stamping and append as polled captures; alerts wake the poller."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol
from zoneinfo import ZoneInfo

import structlog

from gateway.edge.push.counters import PushCounters
from gateway.edge.push.layouts import PushLayouts
from gateway.edge.stamping.appender import ReadingAppender
from gateway.edge.stamping.clocks import MeterEvidence, clock_is_trusted
from gateway.errors import JournalError
from gateway.statistics import counted
from protocols.dlms.apdu.notification import confirmation
from protocols.dlms.data import cosem_time
from protocols.dlms.push.body import (
    LOG_OF_SETUP,
    PROFILE_OF_BUFFER,
    PROFILE_OF_SETUP,
    Alert,
    PushedRows,
    PushedValues,
)
from protocols.dlms.push.layout import pushed_sets
from protocols.dlms.push.places import PushedBuffer
from protocols.dlms.push.receiver import Notification
from protocols.dlms.push.values import alert_set, value_set
from protocols.errors import MeterProtocolError, ProtocolError
from protocols.reading import MeterClock, ProfileName, ReadingSet
from protocols.session import Clock

JOURNAL_RETRY = 5.0
"""Seconds between tries while the journal takes nothing; meanwhile senders on TCP wait."""
log = structlog.get_logger("gateway.edge.push")


class NotificationSource(Protocol):
    """Where notifications come from (`PushListener`)."""

    async def batch(self, most: int = 100) -> list[Notification]:
        """Wait for some."""


class PollerControl(Protocol):
    """What the poller does for pushes."""

    def read_soon(self, meter: str, profile: ProfileName) -> bool:
        """Read a profile as soon as the line is free."""

    def clock_trusted(self, meter: str) -> bool | None:
        """Whether the meter's clock was found good; None while it was not looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeStatistics:
    """What became of notifications.

    `captures` are new ones; `repeats` rows that were there already; `unknown_layout` and `misfits` pushes
    that could not be read as such, after which the profile is polled (`polls_woken`) instead. `confirmed` pushes
    asked for it and were; `unconfirmed` ones asked, and nothing could be sent back.
    """

    alerts: int = 0
    confirmed: int = 0
    unconfirmed: int = 0
    captures: int = 0
    repeats: int = 0
    unknown_layout: int = 0
    misfits: int = 0
    unknown_setup: int = 0
    polls_woken: int = 0
    journal_refused: int = 0


class PushIntake:
    """Takes notifications from a listener and journals them; `run` goes on until it is cancelled.

    Counters of what was taken are durable before anything is journaled. While the journal takes nothing the
    notification in hand is tried again and the queue fills, which makes senders wait. A push that wants it is
    confirmed once it is journaled, with the APDU that `confirm` makes.
    """

    def __init__(
        self,
        source: NotificationSource,
        counters: PushCounters,
        layouts: PushLayouts,
        *,
        appender: ReadingAppender,
        poller: PollerControl,
        zones: Mapping[str, ZoneInfo],
        clock: Clock,
        confirm: Callable[[Notification], bytes] = lambda found: confirmation(found.confirms or 0),
    ) -> None:
        self._confirm = confirm
        self._source = source
        self._counters = counters
        self._layouts = layouts
        self._appender = appender
        self._poller = poller
        self._zones = dict(zones)
        self._clock = clock
        self._statistics = IntakeStatistics()

    async def run(self) -> None:
        """Journal what comes, for ever."""
        while True:
            batch = await self._source.batch()
            # Before the captures: a crash in between loses a push, which the poller reads all the same; the
            # other way round it would let a recorded push in again under a counter that was used.
            await self._until_taken(self._counters.save)
            for found in batch:
                await self._journal(found)
                self._answer(found)

    def statistics(self) -> IntakeStatistics:
        """Return the counters since start, frozen."""
        return self._statistics

    async def _journal(self, found: Notification) -> None:
        meter, setup = found.peer.name, str(found.body.setup)
        try:
            rows = self._rows(found)
        except MeterProtocolError as error:
            # The meter pushes other columns than it named (another firmware): it is asked again, and what
            # the push announced is read meanwhile.
            self._count(misfits=1)
            log.warning("push_misfitted", meter=meter, setup=setup, error=str(error))
            self._layouts.forget(meter)
            self._poll_instead(found)
            return
        except Exception:  # one meter's push must not end the intake of all, and the edge with it
            self._count(misfits=1)
            log.exception("push_failed", meter=meter, setup=setup)
            self._poll_instead(found)
            return
        if rows:
            await self._until_taken(lambda: self._append(found, rows))

    def _answer(self, found: Notification) -> None:
        """Confirm a push that wants it: what it holds is kept, or will not be by sending it again."""
        if found.confirms is None:
            return
        try:
            sent = found.answer is not None and found.answer(self._confirm(found))
        except ProtocolError as error:  # no key, no counter left
            log.warning("push_not_confirmed", meter=found.peer.name, error=str(error))
            sent = False
        self._count(confirmed=sent, unconfirmed=not sent)

    def _rows(self, found: Notification) -> Sequence[ReadingSet]:
        meter, body = found.peer.name, found.body
        zone, now = self._zones[meter], self._clock.now()
        match body.payload:
            case Alert() as alert:
                self._count(alerts=1)
                self._poll(
                    meter, ProfileName.EVENTS
                )  # the event log has the time and values of what happened
                return (alert_set(body, alert, zone=zone, received_at=now),)
            case PushedValues() as values:
                rows = self._buffers(found, values.buffers)
                if rows and not values.says_something:
                    return rows
                said = value_set(body, values, zone=zone, received_at=now)
                if said.profile is ProfileName.EVENTS:
                    self._count(alerts=1)
                    self._poll(meter, ProfileName.EVENTS)
                return (said, *rows)
        if body.setup is None or not (body.setup in PROFILE_OF_SETUP or body.setup in LOG_OF_SETUP):
            self._count(unknown_setup=1)
            return ()
        layout = self._layouts.of(meter, body.setup)
        if layout is None:
            self._count(unknown_layout=1)
            self._poll_instead(found)
            return ()
        return pushed_sets(layout, body, zone=zone, received_at=now)

    def _buffers(self, found: Notification, buffers: Sequence[PushedBuffer]) -> Sequence[ReadingSet]:
        """Return the rows that came beside values; those that cannot be read are polled, and cost no value."""
        meter, sets = found.peer.name, list[ReadingSet]()
        for buffer in buffers:
            layout = self._layouts.of(meter, buffer.obis)
            body = replace(found.body, payload=PushedRows(buffer.rows))
            try:
                if layout is None:
                    self._count(unknown_layout=1)
                else:
                    sets += pushed_sets(layout, body, zone=self._zones[meter], received_at=self._clock.now())
                    continue
            except MeterProtocolError as error:
                self._count(misfits=1)
                log.warning("push_misfitted", meter=meter, buffer=str(buffer.obis), error=str(error))
                self._layouts.forget(meter)
            if (profile := PROFILE_OF_BUFFER.get(buffer.obis)) is not None:
                self._poll(meter, profile)
        return sets

    def _poll_instead(self, found: Notification) -> None:
        setup = found.body.setup
        profile = PROFILE_OF_SETUP.get(setup) if setup is not None else None
        if setup in LOG_OF_SETUP:
            profile = ProfileName.EVENTS
        if profile is not None:
            self._poll(found.peer.name, profile)

    def _poll(self, meter: str, profile: ProfileName) -> None:
        self._count(polls_woken=self._poller.read_soon(meter, profile))

    def _clock_trusted(self, found: Notification) -> bool:
        """Go by what the poller saw of the meter's clock; before that, by the clock in the push itself."""
        seen = self._poller.clock_trusted(found.peer.name)
        if seen is not None or len(found.body.clock) != cosem_time.OCTETS:
            return seen is not False
        stamp = cosem_time.decode(found.body.clock, self._zones[found.peer.name])
        if stamp.at is None:
            return False
        return clock_is_trusted(
            MeterClock(
                meter=stamp.at, gateway=self._clock.now(), deviation=stamp.deviation, status=stamp.status
            )
        )

    async def _append(self, found: Notification, rows: Sequence[ReadingSet]) -> None:
        # No watermark moves and no gap closes: what came unasked proves nothing about what lies before it.
        meter, clock = found.peer.name, MeterEvidence(trusted=self._clock_trusted(found))
        try:
            new = await self._appender.append(meter, rows, clock=clock, revise=False)
        except MeterProtocolError as error:
            self._count(misfits=1)
            log.warning("push_dropped", meter=meter, error=str(error))
            return
        self._count(captures=new, repeats=len(rows) - new)

    async def _until_taken(self, act: Callable[[], Awaitable[None]]) -> None:
        """Do it, however long the disk refuses."""
        while True:
            try:
                await act()
            except JournalError as error:
                self._count(journal_refused=1)
                log.error("journal_refused", error=str(error))
                await asyncio.sleep(JOURNAL_RETRY)
            else:
                return

    def _count(self, **more: int) -> None:
        self._statistics = counted(self._statistics, **more)
