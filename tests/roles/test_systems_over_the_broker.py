"""A master system at a real broker under the shipped access rules: asks, is answered, and speaks for no other."""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.central.office.actors import StaffRole
from gateway.central.office.office import Office
from gateway.config.file import Config
from gateway.contract.central_word import parse_signed
from gateway.contract.envelope import TYPE_OF, wrap
from gateway.contract.messages import ChangesAnswered, ChangesAsked, Signed
from gateway.contract.signing import CHANGES_TYP, new_key_pair, sign, verify_key_of
from gateway.contract.topics import Topics
from gateway.mqtt.connection import MqttConnection, MqttSettings, connect
from gateway.private_file import write_private
from gateway.roles.central import central_role
from gateway.roles.central_files import central_files_of
from mapping.changes import Install, MoveIn
from mapping.directory import Role
from mapping.store import DirectoryStore
from protocols.clock import SystemClock
from tests.support.central.office import BOX
from tests.support.keys import PRIVATE, PUBLIC
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import until

TOPICS = Topics("kanpur")
SAP, _ = new_key_pair()
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def config(folder: Path, broker: Mosquitto) -> Config:
    return Config.model_validate(
        {
            "gateway": {"name": "c", "data": str(folder / "c"), "secrets": str(folder), "roles": ["central"]},
            "mqtt": {"port": broker.port, "root": "kanpur", "username": "central"},
            "directory": {"signing_key_ref": "signing"},
            "time": {"trust": "host"},
        }
    )


def message(sequence: int, point: str) -> bytes:
    asked = ChangesAsked(
        system="sap",
        root="kanpur",
        sequence=sequence,
        changes=({"kind": "move_out", "usage_point": point, "at": "2026-11-20T10:00:00+05:30"},),
        at=datetime.now(UTC),
    )
    jws = sign(asked.model_dump_json(exclude_none=True).encode(), key=SAP, typ=CHANGES_TYP)
    return wrap(
        Signed(jws=jws), id=f"sap/{sequence}", source="/sap", time=asked.at, type=TYPE_OF[ChangesAsked]
    )


def prepared(wanted: Config) -> None:
    files, now = central_files_of(wanted).made(), datetime.now(UTC)
    with DirectoryStore(files.directory) as store, Office(files.office, files.folder) as office:
        for number in ("1", "2"):
            fitted = Install(f"GEN:{number}", f"UP-{number}", Role.CONSUMER, SINCE)
            store.apply(
                [fitted, MoveIn(f"UP-{number}", f"acc-{number}", SINCE)], by="t", source="t", at=SINCE
            )
        public = base64.b64encode(verify_key_of(SAP)).decode()
        office.machines.add_key(
            "sap", public, [StaffRole.CLERK], expires=now + timedelta(days=9), by=BOX, at=now
        )


@pytest.mark.mosquitto
async def test_a_system_asks_in_order_and_is_answered_by_central(tmp_path: Path) -> None:
    write_private(tmp_path / "signing", PRIVATE)
    heard: list[ChangesAnswered] = []

    async def listen(connection: MqttConnection) -> None:
        async for got in connection.messages():
            answered, _ = parse_signed(got.payload, ChangesAnswered, (PUBLIC,))
            heard.append(answered)

    with Mosquitto(tmp_path / "m") as broker:
        wanted = config(tmp_path, broker)
        prepared(wanted)
        async with central_role(wanted, SystemClock()) as central:
            serving = asyncio.create_task(central.run())
            try:
                await until(lambda: central.central.statistics().connected)
                settings = MqttSettings(port=broker.port, root="kanpur", client_id="sap", username="sap")
                async with connect(settings) as connection:
                    listening = asyncio.create_task(listen(connection))
                    assert not await connection.subscribe(TOPICS.system_results("sap"))
                    # The access rules let it speak in its own name alone.
                    await connection.offer(TOPICS.system_changes("mdm"), message(1, "UP-1"))
                    first, second = message(1, "UP-1"), message(2, "UP-2")
                    for payload in (second, first, first, second):
                        await connection.offer(TOPICS.system_changes("sap"), payload)
                    await until(lambda: len(heard) == 4)
                    listening.cancel()
                    with suppress(asyncio.CancelledError):
                        await listening
                told = [(one.sequence, one.state, one.expected or one.directory_version) for one in heard]
                assert told == [(2, "hole", 1), (1, "applied", 3), (1, "applied", 3), (2, "applied", 4)]
                assert central.directory.version == 4
            finally:
                serving.cancel()
                with suppress(asyncio.CancelledError):
                    await serving
