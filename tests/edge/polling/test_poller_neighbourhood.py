"""The poller over the simulated neighbourhood, on real sockets and ptys: what was recorded is journaled."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.config.meters import LineSection
from gateway.contract.messages.generation import NO_GENERATION
from gateway.edge.journal.journal import Journal
from gateway.edge.polling.collect import Collector
from gateway.edge.polling.poller import Poller
from gateway.edge.polling.schedule import PolledMeter, Schedule
from gateway.edge.push.layouts import PushLayouts
from gateway.edge.stamping.appender import ReadingAppender
from gateway.roles.lines import make_line
from mapping.directory import Attributions, Unattributed
from protocols.clock import SystemClock
from protocols.line import Line
from protocols.meters.counters import FileCounters
from protocols.meters.open import open_session
from protocols.meters.secrets import FileSecrets
from protocols.session import SessionContext
from protocols.simulator.neighbourhood.files import write_files
from protocols.simulator.neighbourhood.neighbourhood import Neighbourhood
from protocols.simulator.neighbourhood.plan import LinePlan
from tests.support.journal_records import captures_of

BACKFILL = timedelta(days=3)


class Empty:
    """Nobody is mapped yet: everything is delivered all the same."""

    version = 0
    generation = NO_GENERATION

    def epoch(self, meter: str) -> int:
        return 0

    def attributions(
        self, meter: str, start: datetime | None, end: datetime, known_at: datetime | None = None
    ) -> Attributions:
        return Attributions(accounts=(), reason=Unattributed.NO_ACCOUNT, directory_version=0)


def line_of(plan: LinePlan) -> Line:
    fields = {
        "name": plan.name,
        "kind": plan.kind,
        "host": "127.0.0.1" if plan.port else None,
        "port": plan.port,
        "device": plan.device,
        "baud": plan.baud,
        "parity": plan.parity,
    }
    return make_line(LineSection.model_validate(fields))


async def held(journal: Journal) -> Counter[tuple[str, str]]:
    count: Counter[tuple[str, str]] = Counter()
    seq = 0
    while chunk := await journal.read(seq + 1, journal.last_seq):
        seq = chunk[-1].last
        count.update((one.meter, one.profile) for entry in chunk for one in captures_of(entry))
    return count


async def test_every_meter_is_read_and_nothing_it_recorded_is_missing(tmp_path: Path) -> None:
    clock = SystemClock()
    begun = datetime.now(UTC)
    hood = await Neighbourhood.start(seed=3, clock=clock)
    write_files(hood.plan, tmp_path)
    lines = {line.name: line_of(line) for line in hood.plan.lines}
    journal = await Journal.open(tmp_path / "journal.db", clock=clock)
    counters = FileCounters(tmp_path / "counters.json")
    poller = Poller(
        lines,
        [PolledMeter(meter=m.meter, line=m.line, spec=m.spec, profiles=m.profiles) for m in hood.plan.meters],
        collector=Collector(journal, ReadingAppender(journal, Empty, clock), clock=clock, backfill=BACKFILL),
        open_session=open_session,
        context=SessionContext(secrets=FileSecrets(tmp_path / "keys", {}), counters=counters, clock=clock),
        schedule=Schedule(),
        pushing=PushLayouts(clock),
    )
    try:
        report = await poller.poll_once()
        assert [(m.meter, m.error) for m in report.meters if not m.ok] == []
        assert len(report.meters) == 26
        count = await held(journal)
        for meter in hood.plan.meters:
            # Rows at the two ends of the span may fall on either side while the poll runs.
            inner = hood.recorded(meter.meter, begun - BACKFILL + timedelta(hours=1), begun)
            outer = hood.recorded(meter.meter, begun - BACKFILL - timedelta(hours=1), datetime.now(UTC))
            for profile, low, high in (
                ("block_load", inner.blocks, outer.blocks),
                ("daily", inner.daily, outer.daily),
                ("events", inner.events, outer.events),
            ):
                assert len(low) <= count[meter.meter, profile] <= len(high), (meter.meter, profile)
            assert count[meter.meter, "instantaneous"] == 1
        stored = sum(n for (_, profile), n in count.items() if profile in ("block_load", "daily", "events"))
        assert stored > 14 * 100
        await poller.poll_once()
        again = await held(journal)
        stored_keys = [key for key in count if key[1] in ("block_load", "daily", "billing")]
        assert all(again[key] - count[key] <= 1 for key in stored_keys)  # a half-hour may end meanwhile
    finally:
        await journal.close()
        for line in lines.values():
            await line.close()
        await asyncio.sleep(0)
        await hood.stop()
        counters.close()
