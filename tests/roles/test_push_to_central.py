"""What simulated meters of other makes push goes through an edge's listener, its journal and the broker to central."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.central.intake.service import Central, CentralOptions
from gateway.central.ledger.ledger import Ledger
from gateway.config.file import Config
from gateway.demo.broker import embedded_broker
from gateway.mqtt.connection import MqttSettings
from gateway.roles.edge import edge_role
from protocols.clock import SystemClock
from protocols.dlms.apdu.lists import Target
from protocols.dlms.data.types import Data
from protocols.dlms.security.suites import Keys
from protocols.dlms.server.connection import SendCounter
from protocols.dlms.server.model import AssociationPolicy
from protocols.reading import Obis
from protocols.session import Auth
from protocols.simulator.cosem.model import UTILITY, HouseholdModel
from protocols.simulator.dlms.push_client import PushClient, push_tcp
from protocols.simulator.dlms.push_makes import FRAMING, MAKES, MakePushes
from protocols.simulator.household.household import Household
from tests.support.keys import PRIVATE, PUBLIC
from tests.support.waiting import until

KEYS = Keys(encryption=bytes(range(16)), authentication=bytes(range(16, 32)))
HOST = "127.0.0.1"
CLOCK = SystemClock()


def model_of(serial: str) -> HouseholdModel:
    begun = datetime.now(UTC) - timedelta(days=2)
    household = Household(5, "GEN", serial, begun, cuts_until=begun)
    return HouseholdModel(household, CLOCK, {UTILITY: AssociationPolicy(auth=Auth.NONE)})


def energy(model: HouseholdModel) -> str:
    value: Data = model.get(UTILITY, Target(3, Obis.parse("1-0:1.8.0*255"), 2))
    return str(value.integer)


def config_of(tmp_path: Path, port: int) -> Config:
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    for name, key in (("ek", KEYS.encryption.hex().encode()), ("ak", KEYS.authentication.hex().encode())):
        (keys / name).write_bytes(key)
    (keys / "verify").write_bytes(PUBLIC)
    for path in keys.iterdir():
        path.chmod(0o600)
    dlms = {"client": 48, "encryption_key_ref": "ek", "authentication_key_ref": "ak"}
    meters = [
        {
            "meter": f"GEN:4000{n}",
            "line": "l",
            "profiles": [],
            "dlms": dlms,
            "push": {"companion": make, **({"protection": "plain"} if n % 2 else {})},
        }
        for n, make in enumerate(MAKES)
    ]
    return Config.model_validate(
        {
            "gateway": {"name": "edge-1", "data": str(tmp_path), "secrets": str(keys)},
            "mqtt": {"port": port, "root": "test", "batch_age": 0.05},
            "time": {"trust": "host"},
            "lines": [{"name": "l", "kind": "dial-in"}],
            "meters": meters,
            "push": {"tcp_port": 0, "ask": "none"},
            "directory": {"verify_key_ref": "verify"},
        }
    )


@pytest.mark.parametrize("kaifa", ["i-frame", "mbus"])
async def test_a_push_of_each_make_is_a_capture_at_central(tmp_path: Path, kaifa: str) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    async with embedded_broker() as port:
        settings = MqttSettings(port=port, client_id="central", root="test")
        options = CentralOptions(ack_interval=0.05)
        central = Central(settings=settings, ledger=ledger, signing_key=PRIVATE, options=options)
        tasks = [asyncio.create_task(central.run())]
        await until(lambda: central.statistics().connected)
        async with edge_role(config_of(tmp_path, port), CLOCK) as edge:
            tasks.append(asyncio.create_task(edge.run()))
            push = edge.push
            assert push is not None
            await until(lambda: push.listener.tcp_port != 0)
            models = {make: model_of(f"4000{n}") for n, make in enumerate(MAKES)}
            energies = {}
            for n, (make, model) in enumerate(models.items()):
                energies[make] = energy(model)[:-1]
                client = PushClient(model, CLOCK, keys=None if n % 2 else KEYS, counter=SendCounter(1000))
                apdu = client.ciphered(MakePushes(model, CLOCK, make).readings())
                framing = kaifa if make == "kaifa" else FRAMING[make]
                await push_tcp(HOST, push.listener.tcp_port, apdu, framing=framing)
            await until(lambda: push.intake_statistics().captures == len(MAKES))
            await until(lambda: ledger.counts().captures == len(MAKES))
            assert push.listener.refusals.accepted == len(MAKES)
            assert push.intake_statistics().unconfirmed == 0
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    found = {one.meter: one for one in ledger.captures.each()}
    assert set(found) == {f"GEN:4000{n}" for n in range(len(MAKES))}
    assert {one.profile for one in found.values()} == {"instantaneous"}
    for n, make in enumerate(MAKES):
        values = json.loads(found[f"GEN:4000{n}"].body)["values"]
        if make == "iskra":  # its list has powers alone
            assert len(values) == 8
        else:  # the others show the energy that the meter counts, Kamstrup in 10 Wh
            assert any(str(value).startswith(energies[make]) for value in values), (make, values)
    ledger.close()
