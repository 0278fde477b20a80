"""From notifications to the journal: the same stamping and append as polled captures; alerts wake the poller."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from zlib import crc32
from zoneinfo import ZoneInfo

import structlog

from gateway.edge.push.counters import PushCounters
from gateway.edge.push.layouts import PushLayouts
from gateway.edge.stamping.appender import ReadingAppender
from gateway.edge.stamping.clocks import MeterEvidence, clock_is_trusted
from gateway.errors import JournalError
from gateway.statistics import counted
from protocols.dlms.companion import companion
from protocols.dlms.data import cosem_time
from protocols.dlms.profile.layouts import EVENT_LOG_STEP
from protocols.dlms.push.body import ESW, PROFILE_OF_SETUP, Alert, PushBody
from protocols.dlms.push.layout import pushed_sets
from protocols.dlms.push.receiver import Notification
from protocols.errors import MeterProtocolError
from protocols.reading import Bits, MeterClock, MeterTime, ProfileName, Quantity, ReadingSet, Text
from protocols.session import Clock

ALERT_LOG = 7
"""Occurrences of alerts lie after those of the seven event logs."""
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
    that could not be read as such, after which the profile is polled (`polls_woken`) instead.
    """

    alerts: int = 0
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
    notification in hand is tried again and the queue fills, which makes senders wait.
    """

    def __init__(
        self,
        source: NotificationSource,
        counters: PushCounters,
        layouts: PushLayouts,
        *,
        appender: ReadingAppender,
        poller: PollerControl,
        zones: Mapping[str, str],
        clock: Clock,
    ) -> None:
        self._source = source
        self._counters = counters
        self._layouts = layouts
        self._appender = appender
        self._poller = poller
        self._zones = {meter: ZoneInfo(zone) for meter, zone in zones.items()}
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

    def _rows(self, found: Notification) -> Sequence[ReadingSet]:
        meter, body = found.peer.name, found.body
        if isinstance(body.payload, Alert):
            self._count(alerts=1)
            self._poll(meter, ProfileName.EVENTS)  # the event log has the time and values of what happened
            return (alert_set(body, body.payload, zone=self._zones[meter], received_at=self._clock.now()),)
        if body.setup is None or body.setup not in PROFILE_OF_SETUP:
            self._count(unknown_setup=1)
            return ()
        layout = self._layouts.of(meter, body.setup)
        if layout is None:
            self._count(unknown_layout=1)
            self._poll_instead(found)
            return ()
        return pushed_sets(layout, body, zone=self._zones[meter], received_at=self._clock.now())

    def _poll_instead(self, found: Notification) -> None:
        profile = PROFILE_OF_SETUP.get(found.body.setup) if found.body.setup is not None else None
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


def alert_set(body: PushBody, alert: Alert, *, zone: ZoneInfo, received_at: datetime) -> ReadingSet:
    """Make an events capture of an event status word: the word, and the name of each bit that is set.

    A bit's name stands under the word with the bit's number plus one as data index. An alert repeated by
    the meter is the same capture; another word under the same stamp is another one.
    """
    stamp = cosem_time.decode(body.clock, zone) if len(body.clock) == cosem_time.OCTETS else None
    at = stamp.at if stamp is not None else None
    time = None
    if stamp is not None and at is not None:
        time = MeterTime(
            wall=stamp.wall, deviation=stamp.deviation, status=stamp.status, trusted=stamp.trusted
        )
    names = tuple((Quantity(ESW, 2, bit + 1), Text(companion().esw_bit(bit))) for bit in alert.set_bits)
    return ReadingSet(
        profile=ProfileName.EVENTS,
        at=at or received_at.replace(microsecond=0),
        values=((Quantity(ESW), Bits(alert.bits)), *names),
        received_at=received_at,
        meter_time=time,
        occurrence=ALERT_LOG * EVENT_LOG_STEP + crc32(alert.bits.encode()) % EVENT_LOG_STEP,
    )
