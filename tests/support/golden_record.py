"""Records the golden transcripts anew from the simulator: `python -m tests.support.golden_record`."""

from __future__ import annotations

import asyncio
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.config.file import load
from gateway.mqtt.connection import MqttSettings
from gateway.roles.central_files import make_directory_keys
from gateway.roles.edge import edge_role
from protocols.reading import ProfileName
from protocols.session import Auth
from protocols.simulator.neighbourhood.neighbourhood import Neighbourhood
from protocols.simulator.neighbourhood.plan import MeterPlan, Plan
from tests.support.billing import Billing
from tests.support.fakes import ManualClock
from tests.support.mosquitto import Mosquitto
from tests.support.paths import ROOT
from tests.support.tcp_record import Exchange, playing, recording
from tests.support.waiting import PATIENCE

FOLDER = ROOT / "tests" / "system" / "golden"
AT = datetime(2026, 11, 20, 6, 0, tzinfo=UTC)
KINDS = ("modbus", "dlms-lls")
Document = dict[str, Any]


def config_text(folder: Path, meter: str, driver: str, mqtt: int, port: int) -> str:
    """One edge with one meter."""
    return (
        f'[gateway]\nname = "edge-1"\ndata = "{folder}/data"\nsecrets = "{folder}/keys"\nroles = ["edge"]\n'
        f'[time]\ntrust = "host"\n[mqtt]\nport = {mqtt}\nusername = "edge-1"\n'
        f'[directory]\nverify_key_ref = "directory-verify"\n'
        f'[[lines]]\nname = "line-1"\nkind = "tcp"\nhost = "127.0.0.1"\nport = {port}\n'
        f'[[meters]]\nmeter = "{meter}"\nline = "line-1"\nprofiles = ["instantaneous"]\n{driver}'
    )


async def delivered(folder: Path, broker: Mosquitto, port: int, recorded: Document) -> list[Document]:
    """Let an edge at a fixed time poll the meter once; gives the payloads that a subscriber got."""
    keys = folder / "keys"
    make_directory_keys(keys)
    (keys / "password").write_bytes(bytes.fromhex(recorded["password"]))
    (keys / "password").chmod(0o600)
    path = folder / "edge.toml"
    path.write_text(
        config_text(folder, recorded["meter"], recorded["driver"], broker.port, port), encoding="utf-8"
    )
    config = load(path)
    settings = MqttSettings(port=broker.port, root=config.mqtt.root, client_id="golden", username="billing")
    async with Billing(settings) as billing, edge_role(config, ManualClock(AT)) as edge:
        async with asyncio.TaskGroup() as group:
            delivering = group.create_task(_deliver(edge))
            report = await edge.poller.poll_meter(recorded["meter"], [ProfileName.INSTANTANEOUS])
            assert report.ok, report.error
            async with asyncio.timeout(PATIENCE):
                while not (got := [p for t, p in billing.raw if "/readings/" in t]):
                    await asyncio.sleep(0.02)
            delivering.cancel()
    return [normal(json.loads(payload)) for payload in got]


async def _deliver(edge: Any) -> None:
    async with asyncio.TaskGroup() as group:
        edge.deliver(group)


def normal(thing: Any, key: str = "") -> Any:
    """Put fixed words where every run differs: the journal's uuid and run, times of receipt."""
    if isinstance(thing, dict):
        journal = thing.get("data", {}).get("journal") if isinstance(thing.get("data"), dict) else None
        made = {k: normal(v, k) for k, v in thing.items()}
        return json.loads(json.dumps(made).replace(journal, "JOURNAL")) if journal else made
    if isinstance(thing, list):
        return [normal(item) for item in thing]
    if key == "generation":
        return "GENERATION"
    return "RECEIVED" if key in ("received_at", "time") else thing


def _chosen(plan: Plan, kind: str) -> tuple[MeterPlan, str, bytes]:
    for meter in plan.meters:
        dlms, modbus = meter.spec.dlms, meter.spec.modbus
        if kind == "modbus" and modbus is not None and modbus.model == "abb-b23":
            return meter, '[meters.modbus]\nunit = 1\nmodel = "abb-b23"\nframing = "tcp"\n', b"none"
        if kind == "dlms-lls" and dlms is not None and dlms.auth is Auth.LLS and meter.line.startswith("tcp"):
            assert meter.secrets is not None
            driver = (
                '[meters.dlms]\nclient = 32\nframing = "wrapper"\nauth = "lls"\npassword_ref = "password"\n'
            )
            return meter, driver, meter.secrets.password
    raise LookupError(kind)


async def record(kind: str, folder: Path, broker: Mosquitto) -> Document:
    """Record one meter's conversation and what was delivered of it."""
    town = await Neighbourhood.start(seed=5, clock=ManualClock(AT), meters=13)
    try:
        meter, driver, password = _chosen(town.plan, kind)
        line = next(item for item in town.plan.lines if item.name == meter.line)
        wire: Exchange = []
        document: Document = {"meter": meter.meter, "driver": driver, "password": password.hex()}
        async with recording(line.host or "", line.port or 0, wire) as port:
            document["published"] = await delivered(folder, broker, port, document)
        document["wire"] = wire
    finally:
        await town.stop()
    return document


async def replayed(kind: str, folder: Path, broker: Mosquitto) -> tuple[Document, list[Document], list[str]]:
    """Play a recorded conversation to an edge; gives the record, what was delivered, and faults."""
    recorded = json.loads((FOLDER / f"{kind}.json").read_text(encoding="utf-8"))
    faults: list[str] = []
    numbered = 2 if kind == "modbus" else 0
    async with playing([(way, digits) for way, digits in recorded["wire"]], faults, numbered) as port:
        published = await delivered(folder, broker, port, recorded)
    return recorded, published, faults


async def main() -> None:
    """Write every transcript."""
    with tempfile.TemporaryDirectory() as temporary:
        broker = Mosquitto(Path(temporary) / "broker").start()
        try:
            for kind in KINDS:
                document = await record(kind, Path(temporary) / kind, broker)
                text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
                (FOLDER / f"{kind}.json").write_text(text, encoding="utf-8")
        finally:
            broker.stop()


if __name__ == "__main__":
    asyncio.run(main())
