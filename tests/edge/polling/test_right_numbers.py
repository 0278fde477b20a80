"""From raw registers into the journal: suspect values with their events, and what becomes of a meter that changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from gateway.contract.messages import Capture
from gateway.edge.journal.journal import Journal
from gateway.edge.polling.collect import Collector
from gateway.edge.polling.known_meters import KnownMeters
from gateway.edge.polling.poller import Poller
from gateway.edge.polling.schedule import PolledMeter, Schedule
from gateway.edge.push.layouts import PushLayouts
from gateway.edge.stamping.appender import ReadingAppender
from protocols.line import Line
from protocols.meters.open import open_session
from protocols.modbus.belief.memories import Memories
from protocols.reading import ProfileName
from protocols.session import SessionContext
from tests.support.edge.poller_bench import T0, Directory
from tests.support.fakes import JumpClock, NoCounters, NoSecrets
from tests.support.journal_records import captures_of
from tests.support.modbus.far_side import Act, Heard, far_endpoint
from tests.support.modbus.raw_meters import RawMeter, RawMeters, floats, sdm120
from tests.support.modbus.simulated import spec

pytestmark = pytest.mark.virtual_time

METER = "EAS:10000005"
QUARTER = timedelta(minutes=15)


@dataclass
class Edge:
    """One meter of raw registers, polled by a real poller into a real journal."""

    line: Line
    meter: RawMeter
    folder: Path
    journal: Journal
    clock: JumpClock
    asked: list[bytes]
    stack: AsyncExitStack
    taken: list[Capture] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin another run of the program on the same folder."""
        self.known = KnownMeters(self.folder / "known.db")
        self.stack.callback(self.known.close)
        appender = ReadingAppender(self.journal, Directory, self.clock)
        wanted = spec("sdm120", 5, METER)
        self.poller = Poller(
            {"tcp": self.line},
            [PolledMeter(meter=METER, line="tcp", spec=wanted, profiles=(ProfileName.INSTANTANEOUS,))],
            collector=Collector(self.journal, appender, clock=self.clock, known=self.known),
            open_session=partial(open_session, layouts=self.known, memories=Memories(self.known)),
            context=SessionContext(secrets=NoSecrets(), counters=NoCounters(), clock=self.clock),
            schedule=Schedule(),
            pushing=PushLayouts(self.clock),
        )

    def show(self, kwh: float) -> None:
        self.meter.cells |= floats({0x48: kwh})

    def serial(self, serial: int) -> None:
        self.meter.cells |= {(3, 0xFC00): serial >> 16, (3, 0xFC01): serial & 0xFFFF}

    async def poll(self) -> list[Capture]:
        """Poll after a quarter of an hour; return what is new in the journal."""
        self.clock.at += QUARTER
        before = self.journal.last_seq
        await self.poller.poll_meter(METER)
        entries = (
            await self.journal.read(before + 1, self.journal.last_seq)
            if self.journal.last_seq > before
            else []
        )
        return [one for entry in entries for one in captures_of(entry)]

    @property
    def health(self) -> str:
        return next(one.health for one in self.poller.changes.all() if one.name == METER)


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    clock = JumpClock(T0)
    meter = RawMeter(5, sdm120(10_000_005))
    far, asked = RawMeters([meter], "tcp"), list[bytes]()

    def play(heard: Heard) -> list[Act]:
        asked.append(far.pdu_of(heard.octets))
        return far(heard)

    async with AsyncExitStack() as stack:
        journal = await Journal.open(tmp_path / "j.db", clock=clock)
        stack.push_async_callback(journal.close)
        line = await stack.enter_async_context(far_endpoint(play))
        yield Edge(line, meter, tmp_path, journal, clock, asked, stack)


def event(capture: Capture) -> dict[str, str | None]:
    return {one.name: one.text or one.value for one in capture.values}


async def test_a_register_that_fell_is_journaled_as_suspect_with_its_event(edge: Edge) -> None:
    await edge.poll()
    assert edge.health == "ok"
    edge.show(12.0)
    row, told = await edge.poll()
    place = next(n for n, value in enumerate(row.values) if value.name == "energy_import")
    assert (row.quality, row.suspect) == ("2.5.258", (place,))
    assert row.values[place].value == "12000"
    assert (told.profile, told.quality) == ("events", "1.0.0")
    assert event(told)["gateway_event"] == "value_fell"
    assert event(told)["gateway_event_before"] == "1234500"
    assert edge.health == "readings_suspect"
    edge.show(1235.0)
    row, told = await edge.poll()
    assert (row.quality, row.suspect) == ("1.0.0", ())
    assert event(told)["gateway_event"] == "value_returned"
    assert edge.health == "ok"


async def test_what_was_read_since_the_last_proof_is_nobodys_once_another_meter_answers(edge: Edge) -> None:
    """The other meter's register stands where the old one's did: nothing shows before it is asked who it is."""
    first = await edge.poll()
    edge.serial(10_000_099)
    read = [*await edge.poll(), *await edge.poll()]
    assert [one.reason for one in (*first, *read)] == [None] * 3, "it follows what was believed"
    edge.start()  # a restart: the first contact asks
    told, *revised = await edge.poll()
    assert edge.health == "identity_mismatch"
    assert event(told)["gateway_event"] == "meter_changed"
    assert [(one.capture_id, one.value_rev, one.reason) for one in revised] == [
        (one.capture_id, 2, "identity_mismatch") for one in read
    ], "not the first, which was read when the right meter had proved itself"
    assert [one.attributions for one in revised] == [(), ()]
    assert [one.values for one in revised] == [one.values for one in read]
    assert [one.checksum for one in revised] == [one.checksum for one in read]
    assert await edge.poll() == [], "what is settled is settled"


async def test_what_the_other_meter_cannot_have_given_stays_where_it_is(edge: Edge) -> None:
    """An exchange as it mostly is: the register of the new one stands elsewhere, so what was read was the old one's."""
    read = [*await edge.poll(), *await edge.poll(), *await edge.poll()]
    assert [one.reason for one in read] == [None] * 3
    edge.serial(10_000_099)
    edge.show(0.4)
    edge.start()
    (told,) = await edge.poll()
    assert event(told)["gateway_event"] == "meter_changed"
    edge.show(1234.5)  # whatever it shows later
    edge.clock.at += timedelta(days=30)
    edge.start()
    (told,) = await edge.poll()
    assert event(told)["gateway_event"] == "meter_changed", "and nothing is taken back later"


async def test_what_came_after_the_last_that_was_surely_the_old_ones_is_taken_back(edge: Edge) -> None:
    await edge.poll()
    edge.show(1236.0)
    (sure,) = await edge.poll()
    edge.serial(10_000_099)
    edge.show(1235.99)  # a twin, a digit behind: not seen, but by its serial
    (other,) = await edge.poll()
    edge.show(1235.98)
    edge.start()
    told, *revised = await edge.poll()
    assert event(told)["gateway_event"] == "meter_changed"
    assert [one.capture_id for one in revised] == [other.capture_id]
    assert sure.reason is None


async def test_the_right_meter_that_comes_back_is_read_again(edge: Edge) -> None:
    await edge.poll()
    edge.serial(10_000_099)
    edge.show(3.0)
    told, *revised = await edge.poll()
    assert event(told)["gateway_event"] == "meter_changed"
    assert revised == [], "nothing of the other one was stored"
    edge.serial(10_000_005)
    edge.show(1234.8)
    (row,) = await edge.poll()
    assert (row.quality, row.reason) == ("1.0.0", None)
    assert edge.health == "ok"


async def test_the_wire_carries_the_serial_once_in_six_hours(edge: Edge) -> None:
    for _ in range(48):
        await edge.poll()
    serials = sum(pdu[:3] == b"\x03\xfc\x00" for pdu in edge.asked)
    assert serials == 2
    assert edge.poller.statistics().meters[METER].captures == 48
