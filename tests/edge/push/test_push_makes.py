"""Pushes of other makes through the edge into the journal, on real sockets: by companion, weak, confirmed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.config.companions import push_grammars
from gateway.config.file import Config, load
from gateway.config.mistakes import ConfigMistakes
from gateway.contract.signing import new_key_pair
from gateway.roles.edge import EdgeRole, edge_role
from gateway.roles.push import SHUT_OUT, PushRole
from protocols.clock import SystemClock
from protocols.dlms.apdu import gbt, notification
from protocols.dlms.apdu.gbt import GeneralBlock
from protocols.dlms.apdu.notification import DataNotification
from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import (
    Data,
    array,
    double_long_unsigned,
    integer,
    long_unsigned,
    octets,
    structure,
)
from protocols.dlms.framing import wrapper
from protocols.dlms.security import suites
from protocols.dlms.security.suites import Keys
from protocols.errors import MeterConfigError
from protocols.reading import Obis, ProfileName
from protocols.unused import UnusedFrames
from tests.support.dlms.pushes import apdus_of, ciphered, octets_of
from tests.support.journal_records import captures_of
from tests.support.waiting import PATIENCE, until

HOST = "127.0.0.1"
CLOCK = SystemClock()
EK, AK = bytes.fromhex("00112233445566778899AABBCCDDEEFF"), bytes.fromhex("FFEEDDCCBBAA99887766554433221100")
KEYS = Keys(encryption=EK, authentication=AK)
ACME = """
[push]
source = "a make that nobody has"
makers = ["ACM"]
confirm = "asked"

[[push.forms]]
name = "number first"
fields = [
  { quantity = "1-0:1.8.0*255", scaler = 1, unit = "Wh" },
  "clock",
  "device_id",
]
"""


def config_of(tmp_path: Path, meter: str, zone: str = "Europe/Oslo", **push: Any) -> Config:
    keys = tmp_path / "keys"
    keys.mkdir(exist_ok=True)
    _, public = new_key_pair()
    for name, key in (("ek", EK.hex().encode()), ("ak", AK.hex().encode()), ("verify", public)):
        (keys / name).write_bytes(key)
        (keys / name).chmod(0o600)
    folder = tmp_path / "companions"
    folder.mkdir(exist_ok=True)
    (folder / "acme.toml").write_text(ACME)
    dlms: dict[str, object] = {"client": 48, "encryption_key_ref": "ek"}
    if push.get("protection") != "encrypted":
        dlms["authentication_key_ref"] = "ak"
    return Config.model_validate(
        {
            "gateway": {"name": "edge", "data": str(tmp_path), "secrets": str(keys)},
            "lines": [{"name": "l", "kind": "dial-in"}],
            "meters": [
                {"meter": meter, "line": "l", "zone": zone, "profiles": [], "dlms": dlms, "push": push}
            ],
            "push": {"tcp_port": 0, "udp_port": 0, "ask": "none", "companions": str(folder)},
            "directory": {"verify_key_ref": "verify"},
        }
    )


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[tuple[EdgeRole, PushRole]]:
    async with edge_role(config, CLOCK) as edge:
        assert edge.push is not None
        await edge.push.start()
        task = asyncio.create_task(edge.push.run())
        try:
            yield edge, edge.push
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def send(push: PushRole, *data: bytes) -> None:
    _, writer = await asyncio.open_connection(HOST, push.listener.tcp_port)
    for one in data:
        writer.write(one)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def journaled(edge: EdgeRole, profile: ProfileName) -> list[dict[str, Any]]:
    chunk = await edge.journal.read(1, edge.journal.last_seq)
    return [
        one.model_dump(mode="json") for e in chunk if e.profile == profile.value for one in captures_of(e)
    ]


@pytest.mark.parametrize(
    ("case", "meter", "push", "profile", "value"),
    [
        (
            "dk-kamstrup-0x30",
            "KAM:12343400",
            {"system_title": "4B414D4501349083"},
            "instantaneous",
            ("1-1:1.7.0*255", "1083", "W"),
        ),
        (
            "si-iskra-plain",
            "ISK:12345678",
            {"protection": "plain"},
            "instantaneous",
            ("1-0:31.7.0*255", "1.03", "A"),
        ),
        (
            "se-aidon-27",
            "AID:1",
            {"protection": "plain", "address": HOST},
            "instantaneous",
            ("1-0:1.8.0*255", "62414155", "Wh"),
        ),
        (
            "no-kaifa-list1",
            "KFM:2",
            {"protection": "plain", "address": HOST},
            "instantaneous",
            ("1-0:1.7.0*255", "4117", "W"),
        ),
        (
            "se-kaifa-list3",
            "KFM:7340157030904045",
            {"protection": "plain"},
            "instantaneous",
            ("1-0:71.7.0*255", "1.476", "A"),
        ),
        (
            "ru-spodes-push-alarm",
            "ELC:12345678901",
            {"protection": "plain", "companion": "spodes"},
            "events",
            ("0-0:97.98.20*255", "8210", None),
        ),
        (
            "ru-push-hdlc-setup-first",
            "ELC:12345678901",
            {"protection": "plain", "companion": "spodes"},
            "events",
            ("0-0:97.98.20*255", "16", None),
        ),
    ],
)
async def test_octets_from_the_field_become_captures_of_their_meter(
    case: str,
    meter: str,
    push: dict[str, Any],
    profile: str,
    value: tuple[str, str, str | None],
    tmp_path: Path,
) -> None:
    async with running(config_of(tmp_path, meter, **push)) as (edge, role):
        await send(role, octets_of(case))
        await until(lambda: role.intake_statistics().captures == 1)
        (capture,) = await journaled(edge, ProfileName(profile))
        assert capture["meter"] == meter
        found = {v["q"]: (v.get("value"), v.get("unit") or None) for v in capture["values"]}
        assert found[value[0]] == value[1:]
        assert role.listener.refusals.accepted == 1
        assert role.listener.unused() == UnusedFrames()


async def test_a_user_s_own_file_lets_a_new_make_in_and_its_pushes_are_confirmed_once_they_are_kept(
    tmp_path: Path,
) -> None:
    at = datetime.now(UTC).replace(microsecond=0)
    body = structure(
        double_long_unsigned(1234),
        octets(cosem_time.encode(at, ZoneInfo("Europe/Oslo"), deviation=None)),
        octets(b"77"),
    )
    apdu = notification.encode(DataNotification(body=body, invoke=0x40000007))
    async with running(config_of(tmp_path, "ACM:77", protection="plain")) as (edge, role):
        reader, writer = await asyncio.open_connection(HOST, role.listener.tcp_port)
        writer.write(wrapper.encode(1, 64, apdu))
        answer = await asyncio.wait_for(reader.readexactly(8 + 6), PATIENCE)
        assert wrapper.decode_datagram(answer).apdu == bytes.fromhex("104000000700")
        assert wrapper.decode_datagram(answer).destination == 1
        (capture,) = await journaled(edge, ProfileName.INSTANTANEOUS)
        assert capture["values"][0]["value"] == "12340"
        assert datetime.fromisoformat(capture["at"]) == at
        assert (role.intake_statistics().confirmed, role.intake_statistics().unconfirmed) == (1, 0)
        writer.close()


async def test_a_ciphered_push_is_confirmed_ciphered_under_our_own_title(tmp_path: Path) -> None:
    body = structure(double_long_unsigned(5), octets(cosem_time.encode(datetime.now(UTC))), octets(b"77"))
    plain = notification.encode(DataNotification(body=body, invoke=0x40000009))
    title = b"ACM\x00\x00\x00\x00\x4d"
    async with running(config_of(tmp_path, "ACM:77")) as (_, role):
        reader, writer = await asyncio.open_connection(HOST, role.listener.tcp_port)
        writer.write(wrapper.encode(1, 64, ciphered(plain, 3, KEYS, title)))
        head = await asyncio.wait_for(reader.readexactly(8), PATIENCE)
        answer = await reader.readexactly(int.from_bytes(head[6:], "big"))
        ours = answer[2:10]
        assert (answer[:2], ours[:3]) == (b"\xdb\x08", b"MGW")
        opened = suites.unprotect(KEYS, ours, answer[11:])
        assert opened.plain == bytes.fromhex("104000000900")
        writer.close()


async def test_blocks_and_datagrams_of_one_push_are_joined_and_answered(tmp_path: Path) -> None:
    body = structure(double_long_unsigned(5), octets(cosem_time.encode(datetime.now(UTC))), octets(b"77"))
    apdu = notification.encode(DataNotification(body=body))
    blocks = [
        GeneralBlock(number=n, acknowledged=0, last=n == 2, data=part)
        for n, part in ((1, apdu[:20]), (2, apdu[20:]))
    ]
    framed = [wrapper.encode(1, 64, gbt.encode(block)) for block in blocks]
    async with running(config_of(tmp_path, "ACM:77", protection="plain")) as (_, role):
        await send(role, *framed)
        await until(lambda: role.intake_statistics().captures == 1)
        got: list[bytes] = []

        class Meter(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: object) -> None:
                got.append(data)

        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            Meter, remote_addr=(HOST, role.listener.udp_port)
        )
        transport.sendto(framed[0])
        await until(lambda: len(got) == 1)
        transport.sendto(framed[1])
        await until(lambda: role.listener.refusals.accepted == 2)
        await until(lambda: len(got) == 2)
        assert [gbt.decode(wrapper.decode_datagram(one).apdu).acknowledged for one in got] == [1, 2]
        transport.close()


def weak(counter: int, at: datetime, title: bytes) -> bytes:
    body = structure(double_long_unsigned(5), octets(cosem_time.encode(at)), octets(b"77"))
    plain = notification.encode(DataNotification(body=body))
    return wrapper.encode(1, 64, ciphered(plain, counter, KEYS, title, control=0x20))


async def test_encrypted_pushes_under_counter_0_are_taken_by_a_setting_that_says_what_is_lost(
    tmp_path: Path,
) -> None:
    title, now = b"ACM\x00\x00\x00\x00\x4d", datetime.now(UTC)
    push: dict[str, Any] = {"protection": "encrypted"}
    async with running(config_of(tmp_path, "ACM:77", **push)) as (_, role):
        await send(role, weak(0, now, title), weak(0, now + timedelta(minutes=1), title))
        await until(lambda: role.listener.refusals.replayed == 1)
    push["counter_restarts"] = "believed"
    async with running(config_of(tmp_path, "ACM:77", **push)) as (_, role):
        later = [weak(0, now + timedelta(minutes=n), title) for n in (2, 3, 4)]
        await send(role, *later)
        await until(lambda: role.intake_statistics().captures == 3)
        assert role.listener.refusals.restarted == 3
    async with running(config_of(tmp_path, "ACM:77", **push)) as (_, role):  # nor after a restart of ours
        await send(role, *later)
        await until(lambda: role.listener.refusals.replayed == 3)
        assert role.intake_statistics().captures == 0


async def test_who_is_shut_out_by_a_counter_that_began_anew_is_named_with_what_to_do(tmp_path: Path) -> None:
    title, now = b"ACM\x00\x00\x00\x00\x4d", datetime.now(UTC)
    async with running(config_of(tmp_path, "ACM:77", protection="encrypted")) as (edge, role):
        await send(role, weak(9, now, title), *(weak(n, now, title) for n in range(SHUT_OUT)))
        await until(lambda: role.listener.refusals.replayed == SHUT_OUT)
        (alarm,) = [a for a in edge.status().alarms if a.code == "push_refused"]
        assert alarm.text.startswith("replayed 3; ACM:77: nothing but replays since the last push")
        assert "counters reset METER --pushes" in alarm.text
        await send(role, weak(10, now, title))
        await until(lambda: role.listener.refusals.accepted == 2)
        assert role.shut_out() == ""


async def test_the_indian_push_under_0x20_is_refused_where_more_is_asked_and_needs_its_key_where_not(
    tmp_path: Path,
) -> None:
    title = {"system_title": "414C4C0000519ABD"}
    for push, reason in ((title, "weak_protection"), ({**title, "protection": "encrypted"}, "wrong_key")):
        async with running(config_of(tmp_path, "ALL:1", **push)) as (_, role):
            await send(role, octets_of("in-push-all-0x20-counter0"))
            await until(lambda: getattr(role.listener.refusals, reason) == 1)  # noqa: B023
            assert role.listener.refusals.accepted == 0


def log_row(at: datetime, code: int) -> Data:
    return structure(octets(cosem_time.encode(at)), long_unsigned(code))


async def test_pushed_rows_of_an_event_log_are_the_events_that_a_poll_would_read(tmp_path: Path) -> None:
    at = datetime.now(UTC).replace(microsecond=0)
    rows = array(log_row(at - timedelta(minutes=3), 101), log_row(at, 102))
    setup = Obis(0, 122, 25, 9, 0)
    body = structure(octets(b"GEN77"), octets(setup.to_bytes()), octets(cosem_time.encode(at)), rows)
    apdu = wrapper.encode(1, 64, notification.encode(DataNotification(body=body)))
    push: dict[str, Any] = {"protection": "plain", "columns": "companion"}
    async with running(config_of(tmp_path, "GEN:77", "Asia/Kolkata", **push)) as (edge, role):
        await send(role, apdu, apdu)
        await until(lambda: role.intake_statistics().repeats == 2)
        found = await journaled(edge, ProfileName.EVENTS)
        assert [(v["q"], v["value"]) for one in found for v in one["values"]] == [
            ("0-0:96.11.2*255", "101"),
            ("0-0:96.11.2*255", "102"),
        ]


def described(*more: tuple[str, Data]) -> bytes:
    """A push object list of a serial and of buffers, then their values."""
    listed = [(1, "0-0:96.1.0*255", octets(b"77")), *((7, obis, rows) for obis, rows in more)]
    entries = [
        structure(long_unsigned(kind), octets(Obis.parse(obis).to_bytes()), integer(2), long_unsigned(0))
        for kind, obis, _ in listed
    ]
    body = structure(array(*entries), *(value for _, _, value in listed))
    return wrapper.encode(1, 64, notification.encode(DataNotification(body=body)))


@pytest.mark.parametrize(("columns", "captures", "unknown"), [("companion", 2, 0), ("meter", 0, 1)])
async def test_rows_in_a_described_list_are_captures_once_their_columns_are_known(
    columns: str, captures: int, unknown: int, tmp_path: Path
) -> None:
    at = datetime.now(UTC).replace(microsecond=0)
    rows = array(log_row(at - timedelta(minutes=3), 101), log_row(at, 102))
    push: dict[str, Any] = {"protection": "plain", "companion": "spodes", "columns": columns}
    async with running(config_of(tmp_path, "ELC:77", "Asia/Kolkata", **push)) as (edge, role):
        await send(role, described(("0-0:99.98.2*255", rows)))
        await until(lambda: role.listener.refusals.accepted == 1)
        await until(lambda: role.intake_statistics().captures == captures)
        await until(lambda: role.intake_statistics().unknown_layout == unknown)
        found = await journaled(edge, ProfileName.EVENTS)
        assert [v["value"] for one in found for v in one["values"]] == ["101", "102"][:captures]


async def test_frames_of_a_grammar_that_nobody_has_are_counted(tmp_path: Path) -> None:
    async with running(config_of(tmp_path, "ACM:77", protection="plain")) as (_, role):
        await send(role, octets_of("si-iskra-plain"))
        await until(lambda: role.listener.refusals.unknown_form == 1)
        assert apdus_of(octets_of("si-iskra-plain"))[0][:1] == b"\x0f"


async def test_a_meter_whose_companion_has_no_form_for_its_push_is_named_in_an_alarm(tmp_path: Path) -> None:
    plain = notification.encode(DataNotification(body=structure(octets(b"77"))))
    async with running(config_of(tmp_path, "ACM:77")) as (edge, role):
        await send(role, wrapper.encode(1, 64, ciphered(plain, 3, KEYS, b"ACM\x00\x00\x00\x00\x4d")))
        await until(lambda: role.listener.refusals.unread == {"ACM:77": 1})
        (alarm,) = [a for a in edge.status().alarms if a.code == "push_refused"]
        assert alarm.text == "no form for ACM:77 1"


def test_mistakes_in_a_companion_are_mistakes_of_the_configuration_with_file_and_line(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    text = f"""
[gateway]
name = "e"
data = "{tmp_path}"
[[lines]]
name = "l"
kind = "dial-in"
[[meters]]
meter = "ACM:1"
line = "l"
[meters.dlms]
client = 48
encryption_key_ref = "ek"
authentication_key_ref = "ak"
[meters.push]
companion = "acme"
[push]
companions = "{folder}"
"""
    path = tmp_path / "c.toml"
    path.write_text(text)

    def mistakes() -> str:
        with pytest.raises(ConfigMistakes) as caught:
            load(path)
        return str(caught.value)

    assert "there is no companion `acme`: name one of aidon, generic" in mistakes()
    (folder / "acme.toml").write_text(ACME.replace('"Wh"', '"kWh"'))
    line = 1 + ACME.splitlines().index('  { quantity = "1-0:1.8.0*255", scaler = 1, unit = "Wh" },')
    assert re.search(rf"acme.toml \[push\] forms 1 fields 1, line {line}: unit: unknown 'kWh'", mistakes())
    (folder / "acme.toml").write_text(ACME)
    load(path)
    path.write_text(text.replace('companion = "acme"', f'companion = "{folder}/none.toml"'))
    assert "none.toml cannot be read" in mistakes()
    path.write_text(text.replace(f'"{folder}"', f'"{folder}-not"'))
    assert "there is no folder" in mistakes()


def test_a_user_s_file_neither_hides_a_shipped_companion_nor_leaves_a_maker_to_chance(tmp_path: Path) -> None:
    (tmp_path / "kaifa.toml").write_text(ACME)
    with pytest.raises(MeterConfigError, match=r"kaifa.toml has the name of a shipped companion"):
        push_grammars(tmp_path)
    (tmp_path / "kaifa.toml").rename(tmp_path / "acme.toml")
    (tmp_path / "new.toml").write_text(ACME)
    with pytest.raises(MeterConfigError, match=r"acme.toml and new.toml both name the maker ACM"):
        push_grammars(tmp_path)


def asking(number: int, at: datetime) -> bytes:
    body = structure(double_long_unsigned(5), octets(cosem_time.encode(at)), octets(b"77"))
    return notification.encode(DataNotification(body=body, invoke=0x40000000 + number))


async def test_a_bare_push_is_confirmed_also_when_its_sender_has_said_all(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    async with running(config_of(tmp_path, "ACM:77", protection="plain")) as (_, role):
        reader, writer = await asyncio.open_connection(HOST, role.listener.tcp_port)
        writer.write(asking(1, now))
        answer = await asyncio.wait_for(reader.readexactly(6), PATIENCE)
        assert answer == bytes.fromhex("104000000100")
        writer.write(asking(2, now + timedelta(minutes=1)))
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), PATIENCE) == bytes.fromhex("104000000200")
        assert role.intake_statistics().unconfirmed == 0
        await until(lambda: role.listener.statistics().connections == 0)
        writer.close()
