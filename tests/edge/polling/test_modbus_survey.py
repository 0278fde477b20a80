"""A load survey in a Modbus meter's memory comes into the journal: once each, and again after an outage."""

from __future__ import annotations

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
from protocols.meters.open import open_session
from protocols.modbus.belief.memories import Memories
from protocols.reading import ProfileName
from protocols.session import MeterSpec, ModbusSettings, SessionContext
from tests.support.edge.poller_bench import Directory
from tests.support.fakes import JumpClock, NoCounters, NoSecrets
from tests.support.journal_records import captures_of
from tests.support.modbus.far_side import far_endpoint
from tests.support.modbus.raw_meters import RawMeters
from tests.support.modbus.whole_meter import NOON, put_model, record, whole

pytestmark = pytest.mark.virtual_time

METER = "WHO:AB123456"
HALF_HOUR = timedelta(minutes=30)


async def test_intervals_are_journaled_once_and_an_outage_is_filled_from_memory(tmp_path: Path) -> None:
    meter, clock = whole(), JumpClock(NOON + timedelta(minutes=5))
    settings = ModbusSettings(unit=9, model="whole", models=put_model(tmp_path), framing="tcp", timeout=0.3)
    context = SessionContext(secrets=NoSecrets(), counters=NoCounters(), clock=clock)
    known = KnownMeters(tmp_path / "known.db")
    journal = await Journal.open(tmp_path / "j.db", clock=clock)
    async with far_endpoint(RawMeters([meter], "tcp")) as line:
        poller = Poller(
            {"tcp": line},
            [
                PolledMeter(
                    meter=METER,
                    line="tcp",
                    spec=MeterSpec(meter=METER, modbus=settings),
                    profiles=(ProfileName.BLOCK_LOAD,),
                )
            ],
            collector=Collector(
                journal, ReadingAppender(journal, Directory, clock), clock=clock, known=known
            ),
            open_session=partial(open_session, layouts=known, memories=Memories(known)),
            context=context,
            schedule=Schedule(),
            pushing=PushLayouts(clock),
        )

        async def poll() -> list[Capture]:
            before = journal.last_seq
            await poller.poll_meter(METER)
            last = journal.last_seq
            entries = await journal.read(before + 1, last) if last > before else []
            return [one for entry in entries for one in captures_of(entry)]

        def pass_time(halves: int) -> None:
            """Let the meter write on; it was not asked meanwhile."""
            clock.at += halves * HALF_HOUR
            meter.records = {(4, n): record(n - halves) for n in range(6)}
            at = (NOON + (clock.at - NOON) // HALF_HOUR * HALF_HOUR + timedelta(hours=5, minutes=30)).strftime
            words = [int(at(form), 16) for form in ("%y%m", "%d%H", "%M%S")]
            meter.cells |= {(3, 60 + i): word for i, word in enumerate(words)}

        first = await poll()
        assert [one.at for one in first] == [NOON - n * HALF_HOUR for n in range(5, -1, -1)]
        assert await poll() == []
        pass_time(3)
        later = await poll()
        assert [one.at for one in later] == [NOON + n * HALF_HOUR for n in (1, 2, 3)]
        await line.close()
    await journal.close()
    known.close()
