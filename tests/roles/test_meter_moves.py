"""A meter moves from one running gateway to another, which goes on where the ledger has all of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.central.directory.service import DirectoryService
from gateway.central.intake.service import Central, CentralOptions
from gateway.central.ledger.ledger import Ledger
from gateway.config.file import load
from gateway.contract.topics import Topics
from gateway.mqtt.connection import MqttSettings
from gateway.private_file import write_private
from gateway.roles.edge import EdgeRole, edge_role
from mapping.store import DirectoryStore
from protocols.clock import SystemClock
from tests.support.central.samples import T0, batch, capture, gap, received
from tests.support.keys import PRIVATE, PUBLIC
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import until


@asynccontextmanager
async def central(broker: Mosquitto, ledger: Ledger, folder: Path) -> AsyncIterator[None]:
    with DirectoryStore(folder / "directory.db") as store:
        topics = Topics("kanpur")
        directory = DirectoryService(
            store=store, ledger=ledger, topics=topics, signing_key=PRIVATE, poll=0.05, calm=0.0
        )
        made = Central(
            settings=MqttSettings(port=broker.port, client_id="central", username="central", root="kanpur"),
            ledger=ledger,
            signing_key=PRIVATE,
            directory=directory,
            options=CentralOptions(ack_interval=0.05, carry_calm=0.0),
        )
        task = asyncio.create_task(made.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def edge(broker: Mosquitto, folder: Path) -> AsyncIterator[EdgeRole]:
    """An edge that talks with central and reads no meter."""
    keys = folder / "keys"
    keys.mkdir(mode=0o700, exist_ok=True)
    write_private(keys / "verify", PUBLIC)
    (folder / "edge.toml").write_text(
        f"""[gateway]
name = "edge-2"
data = "{folder}"
[mqtt]
port = {broker.port}
root = "kanpur"
username = "edge-2"
[directory]
verify_key_ref = "verify"
"""
    )
    async with edge_role(load(folder / "edge.toml"), SystemClock()) as role:
        task = asyncio.create_task(role.sink.run(role.journal))
        try:
            yield role
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@pytest.mark.mosquitto
async def test_a_running_gateway_goes_on_with_a_meter_where_the_ledger_has_all_of_it(
    broker: Mosquitto, ledger: Ledger, tmp_path: Path
) -> None:
    """Without the watermark it would read back as far as its own first read goes, and no further than that."""
    data = batch([capture(n) for n in range(1, 11)])
    ledger.ingest([received(data)])
    newest = data.captures[-1].at
    meters = [one.meter for one in ledger.allocations.current("edge-1")]
    assert meters == ["GEN:1"]
    async with central(broker, ledger, tmp_path), edge(broker, tmp_path) as role:
        now = datetime.now(UTC)
        ledger.allocations.give(["GEN:9"], "edge-2", by="t", note="", since=T0, at=now)
        await until(lambda: "GEN:9" in role._directory.epochs, "its own part")
        await until(role.carried.complete.is_set, "what it was told as it began with nothing")
        assert await role.journal.watermark("GEN:1", "block_load") is None
        ledger.allocations.give(["GEN:1"], "edge-2", by="t", note="rewired", since=now, at=now)

        async def carried() -> bool:
            return await role.journal.watermark("GEN:1", "block_load") == newest

        await until(carried, "how far the ledger has the meter")
        await until(lambda: role._directory.epoch("GEN:1") == 2)
        assert await role.journal.watermark("GEN:9", "block_load") is None


def test_what_is_carried_over_leads_over_no_open_gap(ledger: Ledger) -> None:
    """What the former gateway still hoped to read is read by the next one."""
    ledger.ingest([received(batch([capture(1), capture(2, number=40)], [gap(3)]))])
    assert ledger.carried.marks(["GEN:1"]) == [("GEN:1", "block_load", gap(3).after)]
    ledger.ingest([received(batch([], [gap(4, state="filled")]))])
    assert ledger.carried.marks(["GEN:1"]) == [("GEN:1", "block_load", capture(2, number=40).at)]


def test_what_is_carried_over_leads_over_no_hole(ledger: Ledger) -> None:
    """The former gateway died before it could send again what the broker had lost."""
    ledger.ingest([received(batch([capture(n) for n in (1, 2, 5, 6)]))])
    assert ledger.carried.marks(["GEN:1"]) == [("GEN:1", "block_load", capture(2).at)]
    ledger.ingest([received(batch([capture(n) for n in (3, 4)]))])
    assert ledger.carried.marks(["GEN:1"]) == [("GEN:1", "block_load", capture(6).at)]
    ledger.ingest([received(batch([capture(7, meter="GEN:2"), capture(9, meter="GEN:3")]))])
    assert [mark[0] for mark in ledger.carried.marks(["GEN:2", "GEN:3"])] == ["GEN:2"]
