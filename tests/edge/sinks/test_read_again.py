"""What the ledger lost and no journal holds any more is read again from the meters' own memory."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from gateway.central.intake.service import Central, CentralOptions
from gateway.central.ledger.ledger import Ledger
from gateway.contract.central_word import wrap_signed
from gateway.contract.messages import ReadAgain, Status
from gateway.contract.messages.generation import Generation
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.journal.limits import JournalLimits
from gateway.edge.polling.poller import Poller
from gateway.edge.sinks import status_report
from gateway.edge.sinks.read_again import ReadAgainOrders
from gateway.errors import ContractError, JournalFull
from gateway.mqtt.connection import MqttConnection
from gateway.roles.reread import PolledRereader
from tests.support.check_sink import running
from tests.support.edge.mqtt_edge import NOW, Edge, settings
from tests.support.edge.poller_bench import BLOCK, HALF, T0, Bench, block
from tests.support.fakes import JumpClock
from tests.support.keys import OTHER_PRIVATE, PRIVATE, PUBLIC
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import until

LIFE = Generation(2, "bbbbbbbb")
FLOORLESS = JournalLimits(retention=timedelta(0), sinks=("mqtt",), consumers=("central",))
"""Entries go as soon as they are acknowledged: the floor is past."""


@pytest.fixture(autouse=True)
def status_comes_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A central that comes late learns what a journal holds from the next status."""
    monkeypatch.setattr(status_report, "STATUS_EVERY", 0.5)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = JumpClock(T0)
    journal = await Journal.open(tmp_path / "j.db", clock=clock, limits=FLOORLESS)
    yield Bench(journal, clock)
    await journal.close()


def orders_of(bench: Bench, poller: Poller) -> ReadAgainOrders:
    return ReadAgainOrders(
        "edge-1",
        root="kanpur",
        keys=[PUBLIC],
        rereader=PolledRereader(bench.journal, poller),
        furthest=timedelta(days=35),
        clock=bench.clock,
    )


def order(number: int = 1, since: datetime | None = T0 - 6 * HALF, **over: object) -> ReadAgain:
    fields: dict[str, object] = {
        "gateway": "edge-1",
        "number": number,
        "meter": "GEN:1",
        "profile": "block_load",
        "since": since,
        "until": T0,
        "ledger_generation": LIFE,
        "issued_at": NOW,
        **over,
    }
    return ReadAgain.model_validate(fields)


def signed(one: ReadAgain, key: bytes = PRIVATE) -> bytes:
    return wrap_signed(one, key=key, id="o", source="/central", time=NOW)


async def carry_out(orders: ReadAgainOrders) -> str | None:
    """Carry out what waits, and return why it was refused."""
    (one,) = orders._orders.values()
    orders._orders.clear()
    return await orders._carry_out(one)


async def revisions(bench: Bench) -> list[tuple[datetime, int]]:
    return [(one.at, one.value_rev) for one in await bench.captures()]


async def test_a_span_is_journaled_once_more_under_its_own_ids(bench: Bench) -> None:
    bench.add("1").rows = [block(T0 - n * HALF, wh=n) for n in range(10, 0, -1)]
    poller = bench.poller(BLOCK)
    await poller.poll_once()
    assert [rev for _, rev in await revisions(bench)] == [1] * 10
    await poller.poll_once()
    assert len(await bench.captures()) == 10, "a repeat is swallowed"
    orders = orders_of(bench, poller)
    orders.take(signed(order()))
    assert await carry_out(orders) is None
    bench.clock.at += timedelta(seconds=1)
    await poller.poll_once()
    told = await bench.captures()
    again = told[10:]
    assert [one.at for one in again] == [T0 - n * HALF for n in range(6, 0, -1)]
    assert {one.value_rev for one in again} == {2}
    assert {one.capture_id for one in again} <= {one.capture_id for one in told[:10]}
    assert [one.values for one in again] == [one.values for one in told[4:10]]
    await poller.poll_once()
    assert len(await bench.captures()) == 16, "once"


async def test_what_the_list_of_captures_forgot_is_taken_again_when_it_is_ordered(bench: Bench) -> None:
    bench.add("1").rows = [block(T0 - n * HALF, wh=n) for n in range(10, 0, -1)]
    poller = bench.poller(BLOCK)
    await poller.poll_once()
    stream = ("GEN:1", "block_load")
    far = {"": timedelta(days=1)}
    forgotten = await bench.journal._writer.call(
        lambda store: store.forget([stream], far, T0 + timedelta(days=60), 1, 100)
    )
    assert forgotten == 10
    orders = orders_of(bench, poller)
    orders.take(signed(order(since=None)))
    assert await carry_out(orders) is None
    bench.clock.at += timedelta(seconds=1)
    await poller.poll_once()
    assert len(await bench.captures()) == 20
    assert bench.journal.statistics().captures_refused == 0


async def test_only_central_orders_and_each_order_is_carried_out_once(bench: Bench) -> None:
    bench.add("1").rows = [block(T0 - HALF)]
    poller = bench.poller(BLOCK)
    await poller.poll_once()
    orders = orders_of(bench, poller)
    for wrong, why in (
        (signed(order(), key=OTHER_PRIVATE), "not trusted"),
        (signed(order(gateway="edge-2")), "not for us"),
        (b"{}", "Field required"),
    ):
        with pytest.raises(ContractError, match=why):
            orders.take(wrong)
    orders.take(signed(order(5)))
    orders.take(signed(order(4)))
    assert [one.number for one in orders._orders.values()] == [5], "the later one counts"
    assert await carry_out(orders) is None
    for old in (order(5), order(4), order(9, ledger_generation=Generation(1, "aaaaaaaa"))):
        orders.take(signed(old))
        assert await carry_out(orders) is None
        assert await bench.journal.last_order("GEN:1", "block_load") == f"{LIFE}/5"
    orders.take(signed(order(6)))
    await carry_out(orders)
    assert await bench.journal.last_order("GEN:1", "block_load") == f"{LIFE}/6"
    for stranger in (order(meter="GEN:9"), order(profile="instantaneous"), order(profile="daily")):
        orders.take(signed(stranger))
        assert "is not read here" in (await carry_out(orders) or "")


async def test_an_order_that_a_full_disk_cannot_keep_does_not_end_the_connection(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is what empties the journal: it must outlive what the journal cannot take."""
    orders = orders_of(bench, bench.poller(BLOCK))
    orders.take(signed(order()))

    async def full(*_: object) -> bool:
        raise JournalFull("no space left")

    monkeypatch.setattr(PolledRereader, "read_again", full)
    work = asyncio.create_task(orders.work(cast("MqttConnection", None)))
    await until(lambda: not orders._orders)
    assert not work.done()
    work.cancel()


class HonestEdge(Edge):
    def _status(self) -> Status:
        journal = self.journal.statistics()
        told = {"first_seq": journal.first_seq, "backlog": journal.backlog("mqtt")}
        return super()._status().model_copy(update=told)


@pytest.mark.mosquitto
async def test_a_ledger_restored_from_a_copy_gets_from_the_meters_what_no_journal_holds(
    bench: Bench, tmp_path: Path
) -> None:
    """697 rows were delivered and acknowledged after the copy was taken, and the journal's floor is past."""
    meter, journal, clock = bench.add("1"), bench.journal, bench.clock
    poller = bench.poller(BLOCK)
    begin = T0 - 1_000 * HALF
    rows = [block(begin + n * HALF, wh=n) for n in range(1, 998)]

    async def read(upto: int) -> None:
        meter.rows = rows[:upto]
        clock.at = rows[upto - 1].at + timedelta(minutes=1)
        await poller.poll_once()

    async def acknowledged() -> None:
        await until(lambda: journal.statistics().consumers["central"] == journal.last_seq)
        await journal.append(JournalBatch())
        await until(lambda: journal.first_seq > journal.last_seq, "everything is trimmed")

    with Mosquitto(tmp_path / "m") as broker:
        edge = HonestEdge(broker, journal, tmp_path / "edge", read_again=orders_of(bench, poller))
        async with running(edge.sink, journal):
            async with Serving(broker, tmp_path / "ledger.db"):
                await read(300)
                await acknowledged()
            shutil.copy(tmp_path / "ledger.db", tmp_path / "old.db")
            async with Serving(broker, tmp_path / "ledger.db"):
                await read(997)
                await acknowledged()
            async with Serving(broker, tmp_path / "old.db") as ledger:
                assert ledger.counts().captures == 300
                await until(lambda: bool(ledger.counts().lost), "what no journal holds is put on record")
                await until(lambda: ledger.rereads.waiting() == [], "every order is answered")
                await poller.poll_once()
                await until(lambda: ledger.counts().captures == 997)
                values = [
                    one.message.values[0].value for one in ledger.captures.between("GEN:1", "block_load")
                ]
                assert values == [str(n) for n in range(1, 998)]
    assert len(meter.rows) == 997


class Serving:
    """Central on a ledger while the block runs."""

    def __init__(self, broker: Mosquitto, path: Path) -> None:
        self._ledger = Ledger(path)
        self._central = Central(
            settings=settings(broker, "central", session_expiry=3600),
            ledger=self._ledger,
            signing_key=PRIVATE,
            options=CentralOptions(ack_interval=0.05, patience=0.3, lost_after=0.5),
        )

    async def __aenter__(self) -> Ledger:
        self._task = asyncio.create_task(self._central.run())
        return self._ledger

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._ledger.close()
