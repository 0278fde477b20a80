"""A poller over scripted meters, with a real journal and a clock that jumps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta

from gateway.contract.messages import Capture, Gap
from gateway.contract.messages.generation import NO_GENERATION
from gateway.edge.journal.entry import Entry, EntryKind
from gateway.edge.journal.journal import Journal
from gateway.edge.polling.admission import AdmissionLimits, Route
from gateway.edge.polling.collect import Collector
from gateway.edge.polling.doors import Doors
from gateway.edge.polling.poller import Poller
from gateway.edge.polling.schedule import PolledMeter, Schedule
from gateway.edge.push.layouts import PushLayouts
from gateway.edge.stamping.appender import ReadingAppender
from mapping.directory import Attribution, Attributions
from protocols.errors import (
    MeterProtocolError,
    NotSupported,
)
from protocols.line import Line, LineIO, LineStatistics
from protocols.reading import (
    MeterClock,
    MeterTime,
    Nameplate,
    Number,
    ProfileName,
    Quantity,
    ReadingSet,
    RelayState,
)
from protocols.session import MeterSession, MeterSpec, SessionContext, Visit
from tests.support.fakes import JumpClock, NoCounters, NoSecrets
from tests.support.journal_records import captures_of

T0 = datetime(2026, 11, 23, 10, tzinfo=UTC)

HALF = timedelta(minutes=30)

ENERGY = Quantity.of("1-0:1.29.0*255")

MINE = Attribution(account_id="a", account_number="1234567890", legacy_number=None, usage_point="u")


class Directory:
    version = 1
    generation = NO_GENERATION

    def epoch(self, meter: str) -> int:
        return 0

    def attributions(
        self, meter: str, start: datetime | None, end: datetime, known_at: datetime | None = None
    ) -> Attributions:
        return Attributions(accounts=(MINE,), reason=None, directory_version=1)


class FakeLine:
    def __init__(self, name: str) -> None:
        self.name = name

    def exclusive(self) -> AbstractAsyncContextManager[LineIO]:
        raise AssertionError("scripted sessions need no wire")

    def statistics(self) -> LineStatistics:
        return LineStatistics()

    async def close(self) -> None: ...


class Meter:
    """A scripted meter: rows by stamp, what it raises, how long it takes, how its clock is."""

    def __init__(self, clock: JumpClock, serial: str = "1") -> None:
        self.clock_source = clock
        self.serial = serial
        self.rows: list[ReadingSet] = []
        self.error: Callable[[], Exception] | None = None
        self.break_after: int | None = None
        self.lacks: set[ProfileName] = set()
        self.drift = timedelta(0)
        self.status: int | None = 0
        self.answer_takes, self.silence_takes, self.row_takes = 0.05, 1.0, 0.0
        self.opened: list[datetime] = []
        self.reads: list[tuple[ProfileName, datetime | None, datetime | None]] = []
        self.silences: list[tuple[datetime, datetime]] = []

    def fail(self) -> None:
        if self.error is not None:
            asked = self.clock_source.at
            self.clock_source.at += timedelta(seconds=self.silence_takes)
            self.silences.append((asked, self.clock_source.at))
            raise self.error()
        self.clock_source.at += timedelta(seconds=self.answer_takes)

    async def identify(self) -> Nameplate:
        self.opened.append(self.clock_source.at)
        self.fail()
        return Nameplate(manufacturer="GEN", serial=self.serial)

    async def clock(self) -> MeterClock:
        now = self.clock_source.at
        return MeterClock(meter=now + self.drift, gateway=now, deviation=330, status=self.status)

    async def read(
        self, profile: ProfileName, since: datetime | None = None, until: datetime | None = None
    ) -> AsyncIterator[ReadingSet]:
        self.reads.append((profile, since, until))
        if profile in self.lacks:
            raise NotSupported(f"no {profile}")
        if profile is ProfileName.INSTANTANEOUS:
            yield live(self.clock_source.at)
            return
        sent = 0
        for row in self.rows:
            if (
                row.profile is profile
                and (since is None or since < row.at)
                and (not until or row.at <= until)
            ):
                if self.break_after is not None and sent >= self.break_after:
                    raise MeterProtocolError("bad CRC")
                sent += 1
                self.clock_source.at += timedelta(seconds=self.row_takes)
                yield row

    async def set_clock(self, at: datetime) -> None: ...

    async def relay(self) -> RelayState:
        return RelayState.CLOSED

    async def switch_relay(self, to: RelayState) -> None: ...


def live(at: datetime) -> ReadingSet:
    return ReadingSet(
        profile=ProfileName.INSTANTANEOUS, at=at, values=((ENERGY, Number(1, 0, "Wh")),), received_at=at
    )


def block(at: datetime, wh: int = 1, occurrence: int = 0) -> ReadingSet:
    return ReadingSet(
        profile=ProfileName.BLOCK_LOAD,
        at=at,
        start=at - HALF,
        values=((ENERGY, Number(wh, 0, "Wh")),),
        received_at=at,
        meter_time=MeterTime(wall="", deviation=330, status=0),
        occurrence=occurrence,
    )


class Bench:
    """A poller over scripted meters on lines, with a real journal."""

    def __init__(self, journal: Journal, clock: JumpClock) -> None:
        self.journal, self.clock = journal, clock
        self.meters: dict[str, Meter] = {}
        self.line_error: Exception | None = None
        self.open_now = self.most_open = 0

    def add(self, serial: str) -> Meter:
        return self.meters.setdefault(f"GEN:{serial}", Meter(self.clock, serial))

    @asynccontextmanager
    async def open_session(
        self, line: Line, spec: MeterSpec, context: SessionContext, *, visit: Visit
    ) -> AsyncIterator[MeterSession]:
        if self.line_error is not None:
            raise self.line_error
        await asyncio.sleep(0)
        assert spec.meter is not None
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        try:
            yield self.meters[spec.meter]
            await asyncio.sleep(0)
        finally:
            self.open_now -= 1

    def poller(
        self,
        *profiles: ProfileName,
        lines: int = 1,
        schedule: Schedule | None = None,
        limits: AdmissionLimits | None = None,
    ) -> Poller:
        """Poll the meters on `lines` buses; with `limits`, each line is a connection of one network segment."""
        names = [f"bus{n}" for n in range(lines)]
        polled = [
            PolledMeter(
                meter=name,
                line=names[i % lines],
                spec=MeterSpec(meter=name),
                profiles=profiles,
                route=None if limits is None else Route("segment", names[i % lines]),
            )
            for i, name in enumerate(self.meters)
        ]
        return Poller(
            {name: FakeLine(name) for name in names},
            polled,
            collector=Collector(
                self.journal, ReadingAppender(self.journal, Directory, self.clock), clock=self.clock
            ),
            open_session=self.open_session,
            context=SessionContext(secrets=NoSecrets(), counters=NoCounters(), clock=self.clock),
            schedule=schedule or Schedule(),
            pushing=PushLayouts(self.clock),
            doors=Doors(limits),
        )

    async def run_until(self, poller: Poller, at: datetime) -> None:
        task = asyncio.create_task(poller.run())
        while self.clock.at < at and not task.done():
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    async def entries(self) -> list[Entry]:
        """Return all that is journaled."""
        found: list[Entry] = []
        while entries := await self.journal.read(found[-1].last + 1 if found else 1, self.journal.last_seq):
            found += entries
        return found

    async def captures(self) -> list[Capture]:
        return [one for entry in await self.entries() for one in captures_of(entry)]

    async def gaps(self) -> list[tuple[str, datetime, datetime]]:
        told = [Gap.model_validate_json(e.body) for e in await self.entries() if e.kind is EntryKind.GAP]
        return [(g.state, g.after, g.until) for g in told]


BLOCK = ProfileName.BLOCK_LOAD

LIVE = ProfileName.INSTANTANEOUS
