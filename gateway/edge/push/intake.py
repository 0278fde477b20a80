"""From notifications to the journal: the same stamping and append as polled captures; alerts wake the poller."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable
from zlib import crc32
from zoneinfo import ZoneInfo

import structlog

from gateway.edge.polling.collect import Collector
from gateway.edge.polling.health import clock_is_trusted
from gateway.edge.push.counters import PushCounters
from gateway.errors import JournalError
from protocols.dlms.data import cosem_time
from protocols.dlms.profile.layouts import EVENT_LOG_STEP, Layout
from protocols.dlms.push.body import ESW, PROFILE_OF_SETUP, Alert, PushBody, bit_name
from protocols.dlms.push.layout import companion_layouts, pushed_sets
from protocols.dlms.push.receiver import Notification
from protocols.errors import MeterProtocolError
from protocols.reading import Bits, MeterClock, MeterTime, Obis, ProfileName, Quantity, ReadingSet, Text
from protocols.session import Clock, MeterSession

ALERT_LOG = 7
"""Occurrences of alerts lie after those of the seven event logs."""
JOURNAL_RETRY = 5.0
"""Seconds between tries while the journal takes nothing; meanwhile senders on TCP wait."""
_log = structlog.get_logger("push")


class Source(Protocol):
    """Where notifications come from (`PushListener`)."""

    async def batch(self, most: int = 100) -> list[Notification]:
        """Wait for some."""


class Wakes(Protocol):
    """What the poller does for pushes."""

    def read_soon(self, meter: str, profile: ProfileName) -> bool:
        """Read a profile as soon as the line is free."""

    def clock_trusted(self, meter: str) -> bool | None:
        """Whether the meter's clock was found good; None while it was not looked at."""


@runtime_checkable
class DescribesPushes(Protocol):
    """A session that can tell how its meter's pushes are laid out."""

    async def push_layouts(self) -> dict[Obis, Layout]:
        """Return layouts by push setup."""


LEARN_AGAIN = timedelta(hours=6)
"""Age at which a meter is asked anew how its pushes are laid out, as its profiles are."""


class PushLayouts:
    """How each meter's pushes are read: learned from the meter in its next session, kept while it fits."""

    def __init__(self, clock: Clock, companion_for: frozenset[str] = frozenset()) -> None:
        self._clock = clock
        self._companion_for = companion_for
        self._known: dict[str, dict[Obis, Layout]] = {}
        self._learned: dict[str, datetime] = {}

    async def learn(self, meter: str, session: MeterSession) -> None:
        """Ask the meter, unless what it told is fresh."""
        if meter in self._companion_for or not isinstance(session, DescribesPushes):
            return
        now = self._clock.now()
        if meter in self._known and now < self._learned[meter] + LEARN_AGAIN:
            return
        self._learned[meter] = now
        try:
            self._known[meter] = await session.push_layouts()
        except MeterProtocolError:
            self._known[meter] = {}  # this poll fails; the next one must not
            raise

    def of(self, meter: str, setup: Obis) -> Layout | None:
        """Find the layout of a setup, None while it is not known."""
        known = companion_layouts() if meter in self._companion_for else self._known.get(meter, {})
        return known.get(setup)

    def forget(self, meter: str) -> None:
        """What came did not fit: ask again."""
        self._known.pop(meter, None)


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


@dataclass(slots=True)
class _Counts:
    alerts: int = 0
    captures: int = 0
    repeats: int = 0
    unknown_layout: int = 0
    misfits: int = 0
    unknown_setup: int = 0
    polls_woken: int = 0
    journal_refused: int = 0


class Action(Protocol):
    """Something that a full disk may refuse for now."""

    async def __call__(self) -> None: ...


class PushIntake:
    """Takes notifications from a listener and journals them; `run` goes on until it is cancelled.

    Counters of what was taken are durable before anything is journaled. While the journal takes nothing the
    notification in hand is tried again and the queue fills, which makes senders wait.
    """

    def __init__(
        self,
        source: Source,
        counters: PushCounters,
        layouts: PushLayouts,
        *,
        collector: Collector,
        wakes: Wakes,
        zones: Mapping[str, str],
        clock: Clock,
    ) -> None:
        self._source = source
        self._counters = counters
        self._layouts = layouts
        self._collector = collector
        self._wakes = wakes
        self._zones = {meter: ZoneInfo(zone) for meter, zone in zones.items()}
        self._clock = clock
        self._counts = _Counts()

    async def run(self) -> None:
        """Journal what comes, for ever."""
        while True:
            batch = await self._source.batch()
            await self._patiently(self._counters.save)
            for found in batch:
                await self._one(found)

    def statistics(self) -> IntakeStatistics:
        """Return a frozen copy of the counters."""
        return IntakeStatistics(**{name: getattr(self._counts, name) for name in _Counts.__slots__})

    async def _one(self, found: Notification) -> None:
        meter = found.peer.name
        try:
            rows = self._rows(found)
        except MeterProtocolError as error:
            self._counts.misfits += 1
            _log.warning("push does not fit", meter=meter, setup=str(found.body.setup), error=str(error))
            self._layouts.forget(meter)
            self._poll_instead(found)
            return
        except Exception:  # noqa: BLE001 - one meter's push must not end the intake of all, and the edge with it
            self._counts.misfits += 1
            _log.exception("push failed", meter=meter, setup=str(found.body.setup))
            self._poll_instead(found)
            return
        if rows:
            await self._patiently(lambda: self._append(found, rows))

    def _rows(self, found: Notification) -> Sequence[ReadingSet]:
        meter, body = found.peer.name, found.body
        if isinstance(body.payload, Alert):
            self._counts.alerts += 1
            self._wake(meter, ProfileName.EVENTS)
            return (alert_set(body, body.payload, zone=self._zones[meter], received_at=self._clock.now()),)
        if body.setup is None or body.setup not in PROFILE_OF_SETUP:
            self._counts.unknown_setup += 1
            return ()
        layout = self._layouts.of(meter, body.setup)
        if layout is None:
            self._counts.unknown_layout += 1
            self._poll_instead(found)
            return ()
        return pushed_sets(layout, body, zone=self._zones[meter], received_at=self._clock.now())

    def _poll_instead(self, found: Notification) -> None:
        profile = PROFILE_OF_SETUP.get(found.body.setup) if found.body.setup is not None else None
        if profile is not None:
            self._wake(found.peer.name, profile)

    def _wake(self, meter: str, profile: ProfileName) -> None:
        self._counts.polls_woken += self._wakes.read_soon(meter, profile)

    def _clock_trusted(self, found: Notification) -> bool:
        """Go by what the poller saw of the meter's clock; before that, by the clock in the push itself."""
        seen = self._wakes.clock_trusted(found.peer.name)
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
        meter = found.peer.name
        trusted = self._clock_trusted(found)
        try:
            new = await self._collector.pushed(meter, rows, clock_trusted=trusted)
        except MeterProtocolError as error:
            self._counts.misfits += 1
            _log.warning("push too long", meter=meter, error=str(error))
            return
        self._counts.captures += new
        self._counts.repeats += len(rows) - new

    async def _patiently(self, act: Action) -> None:
        while True:
            try:
                await act()
            except JournalError as error:
                self._counts.journal_refused += 1
                _log.error("journal takes nothing", error=str(error))
                await asyncio.sleep(JOURNAL_RETRY)
            else:
                return


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
    names = tuple((Quantity(ESW, 2, bit + 1), Text(bit_name(bit))) for bit in alert.set_bits)
    return ReadingSet(
        profile=ProfileName.EVENTS,
        at=at or received_at.replace(microsecond=0),
        values=((Quantity(ESW), Bits(alert.bits)), *names),
        received_at=received_at,
        meter_time=time,
        occurrence=ALERT_LOG * EVENT_LOG_STEP + crc32(alert.bits.encode()) % EVENT_LOG_STEP,
    )
