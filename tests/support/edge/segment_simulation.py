"""A network segment in simulated time: the whole poller with admission control over meters that only take time.

`python -m tests.support.edge.segment_simulation` prints how many meters a segment with one talker carries.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.edge.polling.admission import AdmissionLimits, Route
from gateway.edge.polling.collect import Collector
from gateway.edge.polling.doors import Doors
from gateway.edge.polling.poller import Poller
from gateway.edge.polling.schedule import DEFAULT_PERIODS, PolledMeter, Schedule
from gateway.edge.push.layouts import PushLayouts
from protocols.errors import MeterSilent
from protocols.line import Line
from protocols.reading import MeterClock, Nameplate, ProfileName, ReadingSet
from protocols.session import MeterSession, MeterSpec, SessionContext, Visit
from tests.support.edge.memory_journal import MemoryJournal
from tests.support.edge.poller_bench import FakeLine, block, live
from tests.support.fakes import NoCounters, NoSecrets
from tests.support.virtual_time import VirtualClock, run_virtually

BEGIN = datetime(2026, 11, 23, 10, 0, 1, tzinfo=UTC)
HALF = timedelta(minutes=30)
SCHEDULE = Schedule(periods=DEFAULT_PERIODS, spread=timedelta(minutes=20))
PROFILES = (ProfileName.INSTANTANEOUS, ProfileName.BLOCK_LOAD)


@dataclass
class Segment:
    """Meters behind one thing that lets `talkers` conversations through at once; a round trip takes `trip` seconds.

    A visit takes `trips` round trips; a dead meter takes `silence` seconds. `lines` lines share the meters.
    """

    meters: int
    lines: int
    trip: float = 1.0
    trips: int = 5
    talkers: int = 1
    dead: int = 0
    silence: float = 5.0
    talking: int = 0
    most_talking: int = 0
    visits: dict[str, list[tuple[datetime, tuple[ProfileName, ...]]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def name(self, n: int) -> str:
        return f"GEN:{n}"

    def polled(self) -> list[PolledMeter]:
        return [
            PolledMeter(
                meter=self.name(n),
                line=f"line{n % self.lines}",
                spec=MeterSpec(meter=self.name(n)),
                profiles=PROFILES,
                route=Route("cell", f"host{n % self.lines}"),
            )
            for n in range(self.meters + self.dead)
        ]

    @asynccontextmanager
    async def open(
        self, line: Line, spec: MeterSpec, context: SessionContext, *, visit: Visit
    ) -> AsyncIterator[MeterSession]:
        assert spec.meter is not None
        self.talking += 1
        self.most_talking = max(self.most_talking, self.talking)
        try:
            if int(spec.meter.partition(":")[2]) >= self.meters:
                await asyncio.sleep(self.silence)
                raise MeterSilent("nothing")
            self.visits[spec.meter].append((context.clock.now(), tuple(visit.profiles)))
            await asyncio.sleep(self.trips * self.trip)
            session: Any = _Session(spec.meter.partition(":")[2], context)
            yield session
        finally:
            self.talking -= 1

    async def poll(self, long: timedelta) -> None:
        """Poll for some time."""
        clock, journal = VirtualClock(BEGIN), MemoryJournal()
        book: Any = journal
        poller = Poller(
            {f"line{n}": FakeLine(f"line{n}") for n in range(self.lines)},
            self.polled(),
            collector=Collector(book, book, clock=clock, backfill=timedelta(hours=1)),
            open_session=self.open,
            context=SessionContext(secrets=NoSecrets(), counters=NoCounters(), clock=clock),
            schedule=SCHEDULE,
            pushing=PushLayouts(clock),
            doors=Doors(AdmissionLimits(per_segment=self.talkers, per_host=self.talkers)),
        )
        running = asyncio.create_task(poller.run())
        await clock.sleep_until(BEGIN + long)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    def half_hours(self, hours: int) -> list[int]:
        """Return of how many meters each half hour's block is read before the meter's next one is due."""
        counts = []
        for number in range(2, 2 * hours - 2):
            at = BEGIN.replace(second=0) + number * HALF
            read = 0
            for n in range(self.meters):
                due = SCHEDULE.next_due(ProfileName.BLOCK_LOAD, at, meter=self.name(n))
                read += any(
                    due <= began < due + HALF and ProfileName.BLOCK_LOAD in profiles
                    for began, profiles in self.visits[self.name(n)]
                )
            counts.append(read)
        return counts


class _Session:
    """Answers at once: the time was taken when it was opened."""

    def __init__(self, serial: str, context: SessionContext) -> None:
        self._serial = serial
        self._clock = context.clock

    async def identify(self) -> Nameplate:
        return Nameplate(manufacturer="GEN", serial=self._serial)

    async def clock(self) -> MeterClock:
        now = self._clock.now()
        return MeterClock(meter=now, gateway=now, deviation=330, status=0)

    async def read(
        self, profile: ProfileName, since: datetime | None = None, until: datetime | None = None
    ) -> AsyncIterator[ReadingSet]:
        now = self._clock.now()
        if profile is ProfileName.INSTANTANEOUS:
            yield live(now)
            return
        at = now.replace(minute=now.minute // 30 * 30, second=0, microsecond=0)
        if since is None or since < at:
            yield block(at)


def report() -> None:
    """Print what a segment with one talker carries."""
    for title, segment in (
        ("120 meters, a line each, 5 round trips of 1 s a visit (HDLC: 10 a half hour)", Segment(120, 120)),
        ("120 meters behind one concentrator, one line", Segment(120, 1)),
        ("the same, 12 behind it dead (5 s of silence)", Segment(120, 120, dead=12)),
        ("250 meters, 5 round trips: more than there is time for", Segment(250, 250)),
    ):
        run_virtually(segment.poll(timedelta(hours=6)))
        print(f"{title}: at least {min(segment.half_hours(6))} are read in each half hour")


if __name__ == "__main__":
    report()
