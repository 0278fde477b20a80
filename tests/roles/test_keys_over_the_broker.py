"""Keys of a meter over a real broker under the shipped access rules: escrow, receipt, proof, and a new box's keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from gateway.central.keys.store import SealedStore
from gateway.config.file import Config
from gateway.contract.sealing import key_name, public_of
from gateway.edge.keys.change import Stage
from gateway.edge.keys.link import box_key
from gateway.errors import PeerRefusedData
from gateway.private_file import write_private
from gateway.roles.central import central_role
from gateway.roles.edge import edge_role
from gateway.roles.key_ring import key_ring
from gateway.roles.keys import key_work
from gateway.roles.keys_wanted import wanted
from protocols.clock import SystemClock
from tests.support.keys import PRIVATE, PUBLIC
from tests.support.keys_site import FILES, METER, STORE_PRIVATE, KeysSite, keys_config, keys_site
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import until


def edge_config(site: KeysSite, broker: Mosquitto, folder: Path, name: str = "edge-1") -> Config:
    """The site's edge, with central's key and the broker; in a folder of its own."""
    port = site.config.lines[0].port
    assert port is not None
    more = {
        "gateway": {"name": name, "data": str(folder / name), "secrets": str(site.config.secrets)},
        "mqtt": {"port": broker.port, "root": "kanpur", "username": name},
        "directory": {"verify_key_ref": "verify"},
        "time": {"trust": "host"},
    }
    return keys_config(folder, site.config.secrets, port, {"master_key_ref": "mk"}, more=more)


def central_config(folder: Path, secrets: Path, broker: Mosquitto) -> Config:
    return Config.model_validate(
        {
            "gateway": {
                "name": "c",
                "data": str(folder / "c"),
                "secrets": str(secrets),
                "roles": ["central"],
            },
            "mqtt": {"port": broker.port, "root": "kanpur", "username": "central"},
            "directory": {"signing_key_ref": "signing"},
            "keys": {"escrow_key_ref": "escrow", "store_key_ref": "store", "store_secret_ref": "private"},
            "time": {"trust": "host"},
        }
    )


def add_secrets(folder: Path) -> None:
    for name, content in (("signing", PRIVATE), ("verify", PUBLIC), ("private", STORE_PRIVATE)):
        write_private(folder / name, content if b"-----" in content else b"hex:" + content.hex().encode())


@pytest.mark.mosquitto
async def test_keys_are_rotated_escrowed_proved_and_given_to_a_new_box(tmp_path: Path) -> None:
    clock = SystemClock()
    async with keys_site(tmp_path) as site:
        secrets = tmp_path / "keys"
        add_secrets(secrets)
        with Mosquitto(tmp_path / "m") as broker:
            config = edge_config(site, broker, tmp_path)
            async with central_role(central_config(tmp_path, secrets, broker), clock) as central:
                at = clock.now()
                serving = asyncio.create_task(central.run())
                try:
                    await until(lambda: central.central.statistics().connected)
                    async with key_work(config, clock) as work:
                        with pytest.raises(PeerRefusedData, match="no gateway"):
                            await work.rotate(wanted(config, METER, None, "global"))
                        central.ledger.allocations.give([METER], "edge-1", by="t", note="", since=at, at=at)
                        async with key_work(config, clock):  # another command at the broker ends nothing
                            for what in ("global", "secret"):
                                change = await work.rotate(wanted(config, METER, None, what))
                                assert change.stage is Stage.PROVEN
                    store = central.keys.store()
                    await until(lambda: all(one.proved_at is not None for one in store.all()))
                    assert len(store.all()) == 2
                    await new_box(site, central_store=store, folder=tmp_path, broker=broker)
                finally:
                    serving.cancel()
                    with suppress(asyncio.CancelledError):
                        await serving


@asynccontextmanager
async def delivering(config: Config) -> AsyncIterator[None]:
    """Let an edge talk with central for the block; it reads no meter."""
    async with edge_role(config, SystemClock()) as edge:
        task = asyncio.create_task(edge.sink.run(edge.journal))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def new_box(site: KeysSite, *, central_store: SealedStore, folder: Path, broker: Mosquitto) -> None:
    """The box burned: another of the same name, with empty hands, gets its meter's keys and reads it."""
    clock = SystemClock()
    fresh = edge_config(site, broker, folder / "new")
    name = key_name(public_of(box_key(fresh.edge_folder)))
    async with delivering(fresh):
        await until(lambda: [one.name for one in central_store.boxes()] == [name])
        central_store.trust("edge-1", name, by="t", at=clock.now())
    ring = key_ring(fresh, clock)
    async with delivering(fresh):
        await until(lambda: (store := ring.store()) is not None and bool(store.held(METER, 48)))
    store = ring.store()
    assert store is not None
    assert {slot: key for slot, key in site.held().items() if slot in store.held(METER, 48)} == store.held(
        METER, 48
    )
    ring.close()
    assert FILES["ek"] not in site.held().values()
