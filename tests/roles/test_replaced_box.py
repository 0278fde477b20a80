"""A dead edge box is replaced: the walk of docs/replace-an-edge.md, and the old box when it wakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.central.intake.carrying import Carrying
from gateway.central.intake.service import Central, CentralOptions
from gateway.central.ledger.ledger import Ledger
from gateway.contract.central_word import parse_signed, wrap_signed
from gateway.contract.messages import CarriedMark, CarriedOver, DirectoryRequest, Status
from gateway.contract.topics import Topics
from gateway.edge.journal.journal import Journal
from gateway.edge.sinks.carried import CarriedLife
from gateway.errors import ContractError
from gateway.roles.carried import MARGIN, EdgeKeeper
from protocols.meters.counters import BLOCK as COUNTER_BLOCK
from protocols.meters.counters import FileCounters
from tests.support.check_sink import running
from tests.support.edge.mqtt_edge import NOW, TOPICS, Edge, settings
from tests.support.edge.poller_bench import BLOCK, HALF, T0, Bench, Meter, block
from tests.support.fakes import HandClock, JumpClock
from tests.support.keys import OTHER_PRIVATE, PRIVATE, PUBLIC
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import until

KEY = "dlms/0123456789abcdef"
BEGIN = T0 - timedelta(days=2)


class HonestEdge(Edge):
    def _status(self) -> Status:
        journal = self.journal.statistics()
        told = {"first_seq": journal.first_seq, "backlog": journal.backlog("mqtt")}
        return super()._status().model_copy(update=told)


@dataclass
class Box:
    """One machine with its own disk: journal, counters, a poller over the meter on its line."""

    bench: Bench
    counters: FileCounters
    carried: CarriedLife
    edge: HonestEdge

    @property
    def journal(self) -> Journal:
        return self.bench.journal

    async def read(self, meter: Meter, upto: int) -> None:
        """Read the meter when it has so many rows."""
        meter.rows = [block(BEGIN + n * HALF, wh=n) for n in range(1, upto + 1)]
        self.bench.clock.at = meter.rows[-1].at + timedelta(minutes=1)
        await self.bench.poller(BLOCK).poll_once()


@asynccontextmanager
async def box(broker: Mosquitto, folder: Path) -> AsyncIterator[Box]:
    folder.mkdir(exist_ok=True)
    clock = JumpClock(T0)
    journal = await Journal.open(folder / "journal.db", clock=clock)
    counters = FileCounters(folder / "counters.json")
    carried = CarriedLife(
        "edge-1", root="kanpur", keys=[PUBLIC], keeper=EdgeKeeper(journal, counters), clock=clock
    )
    edge = HonestEdge(broker, journal, folder / "edge", carried=carried)
    try:
        yield Box(Bench(journal, clock), counters, carried, edge)
    finally:
        counters.close()
        await journal.close()


@asynccontextmanager
async def central(broker: Mosquitto, ledger: Ledger) -> AsyncIterator[None]:
    made = Central(
        settings=settings(broker, "central", session_expiry=3600),
        ledger=ledger,
        signing_key=PRIVATE,
        # The old box has only just had its answer.
        options=CentralOptions(ack_interval=0.05, patience=0.3, carry_calm=0.0),
    )
    task = asyncio.create_task(made.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.mosquitto
async def test_a_dead_box_is_replaced_and_refused_when_it_wakes(
    broker: Mosquitto, ledger: Ledger, tmp_path: Path
) -> None:
    async with central(broker, ledger):
        async with box(broker, tmp_path / "old") as old:
            meter = old.bench.add("1")
            async with running(old.edge.sink, old.journal):
                old.counters.next(KEY)
                await old.read(meter, 20)
                await until(lambda: ledger.counts().captures == 20)
                await until(lambda: ledger.carried.counters("edge-1") == {KEY: COUNTER_BLOCK})
            await old.read(meter, 30)  # and dies with ten rows that nobody has
            dead = old.journal.uuid
        assert ledger.journals.retire("edge-1", NOW) == [dead]

        async with box(broker, tmp_path / "new") as new:
            new.bench.meters["GEN:1"] = Meter(new.bench.clock, "1")
            async with running(new.edge.sink, new.journal):
                await until(new.carried.complete.is_set)
                assert await new.journal.watermark("GEN:1", "block_load") == BEGIN + 20 * HALF
                assert new.counters.next(KEY) == COUNTER_BLOCK + MARGIN
                await new.read(new.bench.meters["GEN:1"], 40)
                assert min(since for _, since, _ in new.bench.meters["GEN:1"].reads if since) > BEGIN
                await until(
                    lambda: ledger.counts().captures == 40, "also what the dead box had not delivered"
                )
                await until(lambda: new.journal.statistics().consumers.get("central") == new.journal.last_seq)
            values = [one.message.values[0].value for one in ledger.captures.between("GEN:1", "block_load")]
            assert values == [str(n) for n in range(1, 41)]

        async with box(broker, tmp_path / "old") as old, running(old.edge.sink, old.journal):
            await until(lambda: ledger.counts().quarantined == 10, "what it still held is kept, not believed")
            (group,) = ledger.quarantine.groups()
            assert (group.gateway, group.meter, group.reason) == ("edge-1", "GEN:1", "foreign_journal")
            await until(lambda: ledger.counts().dead_letters > 0, "its status is no status of edge-1")
            assert old.journal.statistics().consumers.get("central", 0) <= 20
        assert ledger.counts().captures == 40


def test_a_new_box_of_another_name_gets_the_watermarks_of_the_meters_that_were_moved_to_it(
    ledger: Ledger,
) -> None:
    ledger.allocations.give(["GEN:1"], "edge-1", by="asha", note="", since=BEGIN, at=NOW)
    ledger.carried.note("edge-1", {KEY: 512})
    ledger.allocations.give(["GEN:1"], "edge-2", by="asha", note="edge-1 is dead", since=NOW, at=NOW)
    carrying = Carrying(ledger, TOPICS, PRIVATE, HandClock(NOW))
    carrying.asked(DirectoryRequest(gateway="edge-2", have_version=0, number=0))
    carrying.asked(DirectoryRequest(gateway="edge-3", have_version=7, number=7))
    assert [carrying.next(), carrying.next()] == ["edge-2", None]
    ((topic, payload),) = carrying.messages("edge-2")
    assert topic == Topics("kanpur").orders("edge-2")
    carried, _ = parse_signed(payload, CarriedOver, [PUBLIC])
    assert carried.counters == {}, "another name is another system title: its counters begin anew"


async def test_only_central_carries_anything_over_and_nothing_goes_back(
    broker: Mosquitto, tmp_path: Path
) -> None:
    async with box(broker, tmp_path / "new") as new:
        said = CarriedOver(
            gateway="edge-1",
            counters={KEY: 1_000},
            marks=(CarriedMark(meter="GEN:1", profile="daily", at=BEGIN),),
            issued_at=NOW,
        )

        def signed(one: CarriedOver, key: bytes = PRIVATE) -> bytes:
            return wrap_signed(one, key=key, id="c", source="/central", time=NOW)

        for wrong in (
            signed(said, OTHER_PRIVATE),
            signed(said.model_copy(update={"gateway": "edge-2"})),
        ):
            with pytest.raises(ContractError):
                await new.carried.take(wrong)
        assert new.counters.reserved() == {}
        await new.carried.take(signed(said.model_copy(update={"parts": 2})))
        assert not new.carried.complete.is_set()
        first = new.counters.next(KEY)
        assert first == 1_000 + MARGIN
        later = said.model_copy(
            update={"parts": 2, "part": 2, "marks": (CarriedMark(meter="GEN:1", profile="daily", at=T0),)}
        )
        await new.carried.take(signed(later))
        assert new.carried.complete.is_set()
        assert new.counters.next(KEY) == first + 1, "a word that comes again raises nothing"
        assert await new.journal.watermark("GEN:1", "daily") == BEGIN
