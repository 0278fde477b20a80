"""A meter of an unknown make is added to a running edge as docs/field-engineer.md says it, with real programs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.central.ledger.ledger import Ledger
from gateway.roles.central_files import central_files, make_directory_keys
from tests.support.cli import Cli
from tests.support.modbus.far_side import Act, Heard, far_device
from tests.support.modbus.raw_meters import Cells, RawMeter, RawMeters, sdm120
from tests.support.mosquitto import Mosquitto
from tests.support.town import Program
from tests.support.waiting import until

KNOWN, NEW = "EAS:10000001", "ACM:00481516"
CONFIG = """
[gateway]
name = "{role}-1"
data = "{folder}/{role}"
secrets = "{folder}/keys"
roles = ["{role}"]
[time]
trust = "host"
[mqtt]
port = {port}
username = "{name}"
[schedule]
instantaneous = 10
[directory]
signing_key_ref = "directory-signing"
verify_key_ref = "directory-verify"
"""
BUS = """
[modbus]
models = "{folder}/models"
[[lines]]
name = "bus-1"
kind = "serial"
device = "{device}"
[[meters]]
meter = "EAS:10000001"
line = "bus-1"
[meters.modbus]
unit = 1
model = "sdm120"
framing = "rtu"
"""
MODEL = """
name = "acme-em1"
title = "Acme EM1, one phase"
manufacturer = "ACM"
source = "Acme EM1 register map, revision 3"

[[registers]]
quantity = "0-0:96.1.0*255"
profiles = ["nameplate"]
function = 3
address = 0
type = "text"
count = 4

[[registers]]
quantity = "1-0:1.8.0*255"
profiles = ["instantaneous"]
function = 3
address = 10
type = "u32"
scaler = 1
unit = "Wh"

[[registers]]
quantity = "1-0:12.7.0*255"
profiles = ["instantaneous"]
function = 3
address = 12
type = "u16"
scaler = -1
unit = "V"
"""
ADDED = """
[[meters]]
meter = "ACM:00481516"
line = "bus-1"
[meters.modbus]
unit = 7
model = "acme-em1"
framing = "rtu"
"""


def acme() -> Cells:
    """An Acme EM1: its serial as text, 23,140 × 10 Wh, 230.7 V."""
    serial = b"00481516"
    cells = {(3, n): int.from_bytes(serial[2 * n : 2 * n + 2], "big") for n in range(4)}
    return cells | {(3, 10): 0, (3, 11): 23_140, (3, 12): 2_307}


@dataclass
class Site:
    """Broker, central and edge as processes; a bus with the two meters; a command line."""

    folder: Path
    edge: Program
    central: Program
    cli: Cli
    device: str
    asked: list[int]

    @property
    def config(self) -> Path:
        return self.folder / "edge.toml"

    async def run(self, *words: object, code: int = 0) -> str:
        """Give a command while the bus answers, and return what it printed."""
        done = await asyncio.to_thread(self.cli, *words, "--config", self.config, code=code)
        return done.out or done.err

    async def json(self, *words: object) -> Any:
        return json.loads(await self.run(*words, "--json"))

    def stored(self, meter: str) -> int:
        """How many captures of a meter central holds."""
        files = central_files(self.folder / "central")
        if not files.has_ledger:
            return 0
        ledger = Ledger(files.ledger, read_only=True)
        try:
            return sum(1 for one in ledger.captures.each() if one.meter == meter)
        finally:
            ledger.close()


@asynccontextmanager
async def site(folder: Path, cli: Cli) -> AsyncIterator[Site]:
    """Start all of it."""
    make_directory_keys(folder / "keys")
    (folder / "models").mkdir()
    meters = RawMeters([RawMeter(1, sdm120(10_000_001)), RawMeter(7, acme())])
    asked: list[int] = []

    def far(heard: Heard) -> list[Act]:
        asked.append(meters.unit_of(heard.octets))
        return meters(heard)

    with Mosquitto(folder / "broker") as broker:
        async with far_device(far) as device:
            for role in ("edge", "central"):
                name = "central" if role == "central" else "edge-1"
                text = CONFIG.format(role=role, name=name, folder=folder, port=broker.port)
                text += BUS.format(folder=folder, device=device) if role == "edge" else ""
                (folder / f"{role}.toml").write_text(text, encoding="utf-8")
            programs = [
                Program(r, ["run", "--config", str(folder / f"{r}.toml")], folder)
                for r in ("central", "edge")
            ]
            for program in programs:
                program.start()
            central, edge = programs
            try:
                yield Site(folder, edge, central, cli, device, asked)
            finally:
                codes = [await asyncio.to_thread(program.stop) for program in programs]
            assert codes == [0, 0], edge.tail() + central.tail()


@pytest.mark.mosquitto
async def test_an_unknown_meter_is_added_to_a_running_edge(tmp_path: Path, cli: Cli) -> None:
    async with site(tmp_path, cli) as here:
        await until(lambda: here.stored(KNOWN), here.edge.tail)
        # 1. Does it answer? The scan takes turns with the polling.
        found = await here.json("scan", "bus-1", "--last", 9)
        assert [unit["unit"] for unit in found] == [1, 7]
        assert found[0]["model"] is not None
        assert found[1]["model"] is None
        # 2. and 3. A model for it, tried before anything is stored.
        (tmp_path / "models" / "acme-em1.toml").write_text(MODEL, encoding="utf-8")
        image = tmp_path / "acme-em1.txt"
        await here.run("models", "image", "bus-1", 7, "3:0-20", "--write", image)
        words = ("models", "check", tmp_path / "models" / "acme-em1.toml", "--image", image)
        checked = await asyncio.to_thread(cli, *words, code=0)
        assert "231400 Wh" in checked.out
        where = f"serial://{here.device}"
        (row,) = await here.json("read", where, "instantaneous", "--unit", 7, "--model", "acme-em1")
        assert row["values"]["1-0:1.8.0*255"] == "231400 Wh"
        assert row["values"]["1-0:12.7.0*255"] == "230.7 V"
        # 4. and 5. A file with a mistake changes nothing; the right one is followed at once.
        good = here.config.read_text(encoding="utf-8")
        here.config.write_text(good + ADDED.replace("acme-em1", "acme-em2"), encoding="utf-8")
        said = await here.run("reload", code=3)
        assert "acme-em2" in said
        assert f"{here.config}:" in said
        here.config.write_text(good + ADDED, encoding="utf-8")
        await here.run("check")
        said = await here.run("reload")
        assert said == f"{NEW}: new on line bus-1, read at once\n"
        await until(lambda: here.stored(NEW), here.edge.tail)
        # 6. Bound to its house, with proof, through a turn on the same bus.
        commission = (
            "commission",
            NEW,
            "--usage-point",
            "UP-0101",
            "--new-usage-point",
            "--central",
            tmp_path / "central",
        )
        proof = await here.json(*commission)
        assert (proof["nameplate"], proof["energy"]) == (NEW, "231400 Wh")
        assert here.edge.starts == 1
        assert here.edge.running
        before = here.stored(KNOWN)
        await until(lambda: here.stored(KNOWN) > before, here.edge.tail)  # and polling goes on
        # Taken away again, by the signal that systemd and people know.
        here.config.write_text(good, encoding="utf-8")
        pid = here.edge.pid
        assert pid is not None
        os.kill(pid, signal.SIGHUP)
        await until(lambda: f"{NEW}: gone" in here.edge.log.read_text(), here.edge.tail)
    log = here.edge.log.read_text()
    assert "field_turn" in log
    assert "poll_failed" not in log
