"""A box that replaces another reads no meter before central has told what the other had used."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.config.file import load
from gateway.contract.central_word import wrap_signed
from gateway.contract.messages import CarriedOver
from gateway.private_file import write_private
from gateway.roles.edge import edge_role
from protocols.clock import SystemClock
from tests.support.keys import PRIVATE, PUBLIC
from tests.support.mosquitto import free_port
from tests.support.waiting import until


@pytest.mark.parametrize("replacement", [True, False])
async def test_a_replacement_waits_for_central_and_any_other_box_does_not(
    tmp_path: Path, replacement: bool
) -> None:
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    write_private(keys / "verify", PUBLIC)
    (tmp_path / "edge.toml").write_text(
        f"""[gateway]
name = "edge-1"
data = "{tmp_path}"
replacement = {str(replacement).lower()}
[mqtt]
port = {free_port()}
[directory]
verify_key_ref = "verify"
[[lines]]
name = "net"
kind = "tcp"
host = "127.0.0.1"
port = {free_port()}
[[meters]]
meter = "EAS:1"
line = "net"
modbus = {{ unit = 1, model = "sdm120" }}
"""
    )
    config = load(tmp_path / "edge.toml")
    async with edge_role(config, SystemClock()) as role:
        task = asyncio.create_task(role.run())
        try:
            if replacement:
                for _ in range(20):
                    await asyncio.sleep(0)
                assert role.poller.statistics().polls == 0
                said = CarriedOver(gateway="edge-1", issued_at=datetime.now(UTC))
                await role.carried.take(
                    wrap_signed(said, key=PRIVATE, id="c", source="/central", time=datetime.now(UTC))
                )
            await until(lambda: role.poller.statistics().polls > 0)
            assert (config.edge_folder / "carried-over").exists() == replacement
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
