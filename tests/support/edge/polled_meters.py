"""A poller with a real journal over served meters, in virtual time, and central's ledger behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from gateway.central.intake.batches import MessageStore, ReceivedMessage
from gateway.central.ledger.ledger import Ledger
from gateway.contract.topics import Topics
from gateway.edge.journal.entry import Entry
from gateway.edge.journal.journal import Journal
from gateway.edge.polling.clock_corrections import ClockCorrections
from gateway.edge.polling.clock_rule import ClockRule
from gateway.edge.polling.collect import Collector
from gateway.edge.polling.known_meters import KnownMeters
from gateway.edge.polling.poller import Poller
from gateway.edge.polling.schedule import PolledMeter, Schedule
from gateway.edge.push.layouts import PushLayouts
from gateway.edge.sinks.batching import Batcher, BatchLimits
from gateway.edge.sinks.publisher import batch_message
from gateway.edge.stamping.appender import ReadingAppender
from protocols.line import Line
from protocols.meters.open import open_session
from protocols.modbus.belief.memories import Memories
from protocols.session import Clock, SessionContext
from tests.support.dlms.trap_site import SECRETS
from tests.support.edge.poller_bench import Directory
from tests.support.fakes import Counters, Secrets
from tests.support.virtual_time import VirtualTimeLoop

STEP = timedelta(minutes=2)
SHARED_MEMORY = Path("/dev/shm")
GATEWAY = "edge-1"
TOPICS = Topics("test")


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A folder that is not on a disk where there is such: thousands of commits would wait for it."""
    with TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None) as folder:
        yield Path(folder)


@dataclass
class Polled:
    """What polls, and what came of it."""

    poller: Poller
    journal: Journal
    known: KnownMeters
    clock: Clock
    told: list[tuple[str, str, str, str]] = field(default_factory=list)
    """What the record of acts was told: meter, before, after, outcome."""

    async def run_until(self, at: datetime) -> None:
        """Poll until the clock shows `at`.

        By short steps: while the journal's thread commits there may be no other timer, and all time would pass at once.
        """
        task = asyncio.create_task(self.poller.run())
        while (now := self.clock.now()) < at and not task.done():
            await self.clock.sleep_until(min(at, now + STEP))
            while self.poller.under_way and not any(map(self.poller.busy, self.poller.lines)):
                await asyncio.sleep(0.0001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        for meter in list(self.poller.meters):
            async with self.poller.left_alone(meter):
                pass

    async def entries(self) -> list[Entry]:
        """Return all that is journaled."""
        found: list[Entry] = []
        while entries := await self.journal.read(found[-1].last + 1 if found else 1, self.journal.last_seq):
            found += entries
        return found

    async def deliver(self, ledger: Ledger) -> None:
        """Take all that is journaled to central's ledger, in the messages that the edge sends."""
        batcher, store, cursor = Batcher(TOPICS, GATEWAY, BatchLimits()), MessageStore(ledger, TOPICS), 0
        while entries := await self.journal.read(cursor + 1, self.journal.last_seq):
            cursor = entries[-1].last
            batcher.take(entries, 0.0)
            while (batch := batcher.next(0.0, flush=True)) is not None:
                payload = batch_message(batch, self.journal, GATEWAY)
                store.handle([ReceivedMessage(batch.topic, payload, self.clock.now())])
                batcher.done(batch)


@asynccontextmanager
async def polled(
    folder: Path,
    clock: Clock,
    lines: Mapping[str, Line],
    meters: Sequence[PolledMeter],
    *,
    rule: ClockRule | None = None,
    schedule: Schedule | None = None,
    backfill: timedelta = timedelta(days=35),
) -> AsyncIterator[Polled]:
    """Make a poller of these lines and meters, with journal and what is known of meters in a folder."""
    told: list[tuple[str, str, str, str]] = []

    def record(meter: str, *, before: str, after: str, outcome: str) -> None:
        told.append((meter, before, after, outcome))

    journal = await Journal.open(folder / "journal.db", clock=clock)
    known = KnownMeters(folder / "known.db")
    used = schedule or Schedule()
    poller = Poller(
        lines,
        meters,
        collector=Collector(
            journal,
            ReadingAppender(journal, Directory, clock),
            clock=clock,
            backfill=backfill,
            known=known,
            schedule=used,
        ),
        open_session=partial(open_session, layouts=known, memories=Memories(known)),
        context=SessionContext(secrets=Secrets(SECRETS), counters=Counters(), clock=clock),
        schedule=used,
        pushing=PushLayouts(clock),
        corrections=ClockCorrections(clock, known, rule=rule, record=record),
    )
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.settle_in(0.001, idle=lambda: not poller.under_way and not any(map(poller.busy, poller.lines)))
    try:
        yield Polled(poller, journal, known, clock, told)
    finally:
        await journal.close()
        known.close()
