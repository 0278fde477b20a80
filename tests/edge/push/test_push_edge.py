"""Pushes and dial-in meters through the edge, on real sockets: what is journaled, what is refused, by name."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.config.file import Config, load
from gateway.config.mistakes import ConfigMistakes
from gateway.contract.signing import new_key_pair
from gateway.edge.push.counters import PushCounters
from gateway.roles.beside_edge import client_beside_edge
from gateway.roles.edge import EdgeRole, edge_role
from gateway.roles.key_ring import key_ring
from gateway.roles.push import PushRole
from protocols.clock import SystemClock
from protocols.dlms.apdu import notification
from protocols.dlms.apdu.notification import DataNotification
from protocols.dlms.data.types import Data, octets
from protocols.dlms.push.dial_in import DialInLine
from protocols.dlms.push.freshness import NOTHING, PushMark
from protocols.dlms.push.senders import usual_title
from protocols.dlms.security.ciphered_forms import Form
from protocols.dlms.security.ciphering import protect_apdu
from protocols.dlms.security.suites import Keys
from protocols.dlms.server.connection import SendCounter
from protocols.dlms.server.model import AssociationPolicy
from protocols.meters.open import open_session
from protocols.reading import Obis, ProfileName
from protocols.session import Auth, SessionContext
from protocols.simulator.cosem.meter import Build
from protocols.simulator.cosem.model import PUBLIC, UTILITY, HouseholdModel
from protocols.simulator.dlms.ports import WrapperPort, simulated_meter
from protocols.simulator.dlms.push_client import DialIn, PushClient, push_tcp, push_udp
from protocols.simulator.household.household import Household
from tests.support.journal_records import captures_of
from tests.support.waiting import PATIENCE, until

METER = "GEN:40001234"
KEYS = Keys(encryption=bytes(range(16)), authentication=bytes(range(16, 32)))
WRONG = Keys(encryption=bytes(16), authentication=bytes(16))
HOST = "127.0.0.1"
CLOCK = SystemClock()


def model_of(meter: str = METER) -> HouseholdModel:
    maker, _, serial = meter.partition(":")
    begun = datetime.now(UTC) - timedelta(days=3)
    household = Household(5, maker, serial, begun, cuts_until=begun)
    policies = {
        PUBLIC: AssociationPolicy(auth=Auth.NONE),
        UTILITY: AssociationPolicy(
            auth=Auth.HLS_GMAC,
            ciphered=True,
            encryption_key=KEYS.encryption,
            authentication_key=KEYS.authentication,
            may_write=True,
        ),
    }
    return HouseholdModel(household, CLOCK, policies, build=Build(firmware="SIM-W-1.4.2"))


def config_of(
    tmp_path: Path, line: dict[str, object], how: Mapping[str, object] | None = None, **push: object
) -> Config:
    keys = tmp_path / "keys"
    keys.mkdir(exist_ok=True)
    for name, key in (("ek", KEYS.encryption), ("ak", KEYS.authentication)):
        (keys / name).write_text(key.hex())
        (keys / name).chmod(0o600)
    _, public = new_key_pair()
    (keys / "verify").write_bytes(public)
    (keys / "verify").chmod(0o600)
    dlms: dict[str, object] = {
        "client": UTILITY,
        "auth": "hls-gmac",
        "ciphered": True,
        "encryption_key_ref": "ek",
        "authentication_key_ref": "ak",
        **(how or {}),
    }
    profiles = ["instantaneous", "block_load", "billing", "events"]
    meter = {"meter": METER, "line": "l", "profiles": profiles, "dlms": dlms, "push": push}
    return Config.model_validate(
        {
            "gateway": {"name": "edge", "data": str(tmp_path), "secrets": str(keys)},
            "lines": [{"name": "l", **line}],
            "meters": [meter],
            "push": {"tcp_port": 0, "udp_port": 0, "ask_seconds": 0.1},
            "directory": {"verify_key_ref": "verify"},
            "schedule": {"backfill_days": 1},
        }
    )


@asynccontextmanager
async def running(config: Config, *, poll: bool = True) -> AsyncIterator[EdgeRole]:
    """Run poller and pushes, without deliveries."""
    async with edge_role(config, CLOCK) as edge:
        assert edge.push is not None
        await edge.push.start()
        tasks = [asyncio.create_task(edge.push.run())]
        if poll:
            tasks.append(asyncio.create_task(edge.poller.run()))
        try:
            yield edge
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def served(tmp_path: Path, **push: Any) -> AsyncIterator[tuple[HouseholdModel, Config]]:
    model = model_of()
    port = WrapperPort(simulated_meter(model))
    number = await port.start(HOST)
    try:
        yield model, config_of(tmp_path, {"kind": "tcp", "host": HOST, "port": number}, **push)
    finally:
        await port.close()


def push_of(edge: EdgeRole) -> PushRole:
    assert edge.push is not None
    return edge.push


async def journaled(edge: EdgeRole, profile: ProfileName) -> list[dict[str, Any]]:
    found = []
    seq = 0
    while chunk := await edge.journal.read(seq + 1, edge.journal.last_seq):
        seq = chunk[-1].last
        found += [
            one.model_dump(mode="json") for e in chunk if e.profile == profile.value for one in captures_of(e)
        ]
    return found


def client(model: HouseholdModel, keys: Keys | None = KEYS, start: int = 1_000_000) -> PushClient:
    return PushClient(model, CLOCK, keys=keys, counter=SendCounter(start))


async def test_pushed_readings_are_journaled_with_the_meters_own_scales_and_revise_nothing(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as (model, config), running(config, poll=False) as edge:
        assert (await edge.poller.poll_once()).ok
        polled = edge.journal.statistics()
        push, port = client(model), push_of(edge).listener.tcp_port
        await asyncio.sleep(1.1)  # a reading of another second than the poll's
        await push_tcp(HOST, port, push.instantaneous())
        await until(lambda: push_of(edge).intake_statistics().captures == 1)
        first, second = (await journaled(edge, ProfileName.INSTANTANEOUS))[-2:]
        assert second["at"] > first["at"]
        assert [(v["q"], v.get("unit")) for v in second["values"]] == [
            (v["q"], v.get("unit")) for v in first["values"]
        ]
        voltage = next(v for v in second["values"] if v["q"] == "1-0:12.7.0*255")
        assert 180 < float(voltage["value"]) < 270
        await asyncio.sleep(1.1)
        await push_udp(HOST, push_of(edge).listener.udp_port, push.instantaneous(flat=True))
        await until(lambda: push_of(edge).intake_statistics().captures == 2)
        now = datetime.now(UTC)
        rows = push.stored(ProfileName.BLOCK_LOAD, now - timedelta(hours=5), now)
        await push_tcp(HOST, port, rows, framing="hdlc")
        await until(lambda: push_of(edge).intake_statistics().repeats >= 8)
        counts = edge.journal.statistics()
        assert counts.revisions == 0
        assert counts.last_seq == polled.last_seq + 2
        assert push_of(edge).listener.refusals.accepted == 3


async def test_before_the_layout_is_known_a_push_has_the_profile_polled_instead(tmp_path: Path) -> None:
    async with served(tmp_path) as (model, config), running(config, poll=False) as edge:
        push, port = client(model), push_of(edge).listener.tcp_port
        await push_tcp(HOST, port, push.instantaneous())
        await until(lambda: push_of(edge).intake_statistics().unknown_layout == 1)
        counts = push_of(edge).intake_statistics()
        assert (counts.polls_woken, counts.captures) == (1, 0)
        assert (await edge.poller.poll_once()).ok
        await asyncio.sleep(1.1)  # a reading of another second than the poll's
        await push_tcp(HOST, port, push.instantaneous())
        await until(lambda: push_of(edge).intake_statistics().captures == 1)


async def test_an_alert_is_an_event_by_itself_and_has_the_event_logs_read_at_once(tmp_path: Path) -> None:
    async with served(tmp_path) as (model, config), running(config) as edge:
        await until(lambda: edge.poller.statistics().meters[METER].last_success is not None)
        model.household.switch_relay(closed=False, at=datetime.now(UTC))
        push = client(model)
        alert = push.alert((84, 85))
        await push_tcp(HOST, push_of(edge).listener.tcp_port, alert)
        codes = "0-0:96.11.6*255"

        async def events() -> list[dict[str, Any]]:
            return await journaled(edge, ProfileName.EVENTS)

        await until(lambda: push_of(edge).intake_statistics().captures == 1)
        async with asyncio.timeout(PATIENCE):
            while not any(
                v["q"] == codes and v.get("value") == "301" for e in await events() for v in e["values"]
            ):
                await asyncio.sleep(0.05)
        (word,) = [e for e in await events() if e["values"][0]["q"] == "0-0:94.91.18*255"]
        assert word["values"][0]["name"] == "event_status_word"
        assert word["values"][0]["bits"].count("1") == 2
        assert [v["text"] for v in word["values"][1:]] == ["load switched", "last gasp"]
        assert word["values"][1]["q"] == "0-0:94.91.18*255#2[85]"


async def test_refused_pushes_have_their_names_and_change_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as (model, config):
        async with running(config, poll=False) as edge:
            port = push_of(edge).listener.tcp_port
            refusals = push_of(edge).listener
            good = client(model).alert((1,))
            await push_tcp(HOST, port, good, good)
            await until(lambda: refusals.refusals.replayed == 1)
            await push_tcp(HOST, port, client(model, WRONG, 2_000_000).alert((2,)))
            await until(lambda: refusals.refusals.wrong_key == 1)
            await push_tcp(HOST, port, client(model, None).alert((3,)))
            await until(lambda: refusals.refusals.plain_refused == 1)
            stranger = model_of("XYZ:777")
            await push_tcp(HOST, port, client(stranger).alert((4,)))
            await until(lambda: refusals.refusals.unknown_sender == 1)
            assert list(refusals.refusals.unknown) == [usual_title("XYZ:777").hex()]
            await until(lambda: push_of(edge).intake_statistics().captures == 1)
            assert len(await journaled(edge, ProfileName.EVENTS)) == 1
            (alarm,) = [a for a in edge.status().alarms if a.code == "push_refused"]
            assert alarm.text == "plain_refused 1, wrong_key 1, replayed 1"
        async with running(config, poll=False) as again:  # a restart lets no replay in
            await push_tcp(HOST, push_of(again).listener.tcp_port, good)
            await until(lambda: push_of(again).listener.refusals.replayed == 1)


async def test_plain_pushes_are_taken_where_declared_with_the_companions_columns(tmp_path: Path) -> None:
    async with (
        served(tmp_path, protection="plain", columns="companion") as (model, config),
        running(config, poll=False) as edge,
    ):
        push = client(model, None)
        now = datetime.now(UTC)
        await push_tcp(
            HOST,
            push_of(edge).listener.tcp_port,
            push.instantaneous(),
            push.stored(ProfileName.BLOCK_LOAD, now - timedelta(hours=3), now),
            push.push(Obis(0, 9, 25, 9, 0), octets(b"?")),
            push.push(Obis(0, 0, 25, 9, 0), octets(b"too"), octets(b"few")),
        )
        await until(lambda: push_of(edge).intake_statistics().misfits == 1)
        counts = push_of(edge).intake_statistics()
        assert counts.captures >= 6
        assert counts.unknown_setup == 1
        (block, *_) = await journaled(edge, ProfileName.BLOCK_LOAD)
        assert block["start"] is not None


async def test_a_meter_that_dials_in_is_asked_polled_and_pushes_on_the_same_connection(
    tmp_path: Path,
) -> None:
    model = model_of()
    config = config_of(tmp_path, {"kind": "dial-in"})
    async with running(config) as edge:
        await until(lambda: edge.poller.statistics().failures == 1)
        assert edge.poller.statistics().meters[METER].error_code == "line_unavailable"
        meter, push = DialIn(model), client(model)
        meter.push_before_answer = push.alert((83,))  # comes while the caller is being asked
        await meter.open(HOST, push_of(edge).listener.tcp_port)
        serving = asyncio.create_task(meter.run())
        await until(lambda: edge.poller.statistics().meters[METER].last_success is not None)
        await until(lambda: push_of(edge).intake_statistics().alerts == 1)
        assert push_of(edge).listener.statistics().asked == 1
        assert len(await journaled(edge, ProfileName.BLOCK_LOAD)) > 40
        meter.push_before_answer = push.alert((84,))  # comes in the middle of an exchange
        assert (await edge.poller.poll_meter(METER)).ok
        await until(lambda: push_of(edge).intake_statistics().alerts == 2)
        assert edge.poller.statistics().failures == 1
        await meter.push(push.alert((85,)))
        await until(lambda: push_of(edge).intake_statistics().alerts == 3)
        await meter.close()
        await serving
        await until(lambda: not edge.lines["l"].statistics().open)
        # it dials again with a push, which names it without being asked
        again = DialIn(model, 5_000)
        await again.open(HOST, push_of(edge).listener.tcp_port)
        await again.push(push.instantaneous())
        serving = asyncio.create_task(again.run())
        await until(lambda: edge.lines["l"].statistics().open)
        assert (await edge.poller.poll_meter(METER)).ok
        await again.close()
        await serving


async def test_a_command_beside_the_edge_meets_a_meter_that_dials_in_and_loses_no_push(
    tmp_path: Path,
) -> None:
    model = model_of()
    config = config_of(tmp_path, {"kind": "dial-in"})
    async with running(config) as edge:
        await edge.field.start()
        meter, push = DialIn(model), client(model)
        await meter.open(HOST, push_of(edge).listener.tcp_port)
        serving = asyncio.create_task(meter.run())
        await until(lambda: edge.poller.statistics().meters[METER].last_success is not None)
        meter.push_before_answer = push.alert((84,))  # comes in the command's exchange, and is the edge's
        assert await read_beside(config) == 1
        await until(lambda: push_of(edge).intake_statistics().alerts == 1)
        assert (await edge.poller.poll_meter(METER)).ok
        assert edge.lines["l"].statistics().open
        await meter.close()
        await serving


async def test_an_association_that_the_edge_keeps_open_is_ended_before_a_command_has_the_line(
    tmp_path: Path,
) -> None:
    """Many meters hold one association at a time: the command's would be refused, or the edge's lost unnoticed."""
    async with served(tmp_path) as (_, config):
        dlms = config.meters[0].dlms
        assert dlms is not None
        kept = config.meters[0].model_copy(update={"dlms": replace(dlms, keep_open=600.0)})
        config = config.model_copy(update={"meters": (kept,), "push": config.push})
        async with running(config, poll=False) as edge:
            await edge.field.start()
            assert (await edge.poller.poll_once()).ok
            assert len(edge.associations) == 1
            assert await read_beside(config) == 1
            assert len(edge.associations) == 0
            assert edge.lines["l"].statistics().connects == 1, "over the same connection"
            assert (await edge.poller.poll_once()).ok
            assert len(edge.associations) == 1
            assert edge.field.statistics().released == 1


async def read_beside(config: Config) -> int:
    """Read the meter as a command does, and return how many rows came."""
    beside = client_beside_edge(config, config.meters[0], "cli")
    line = beside.way.line(f"read {METER}", meter=METER)
    counters, ring = beside.open_counters(), key_ring(config, CLOCK)
    context = SessionContext(secrets=ring, counters=counters, clock=CLOCK)
    try:
        async with open_session(line, beside.spec, context) as session:
            return len([row async for row in session.read(ProfileName.INSTANTANEOUS)])
    finally:
        await line.close()
        counters.close()
        ring.close()


async def test_a_push_in_the_middle_of_an_exchange_is_confirmed_on_the_same_connection(
    tmp_path: Path,
) -> None:
    model = model_of()
    pushed = DataNotification(invoke=0x40000055, body=notification_body(model))
    async with running(config_of(tmp_path, {"kind": "dial-in"}, protection="plain"), poll=False) as edge:
        meter = DialIn(model)
        await meter.open(HOST, push_of(edge).listener.tcp_port)
        serving = asyncio.create_task(meter.run())
        await meter.push(client(model, None).alert((83,)))
        await until(lambda: edge.lines["l"].statistics().open)
        meter.push_before_answer = notification.encode(pushed)
        assert (await edge.poller.poll_meter(METER)).ok
        await until(lambda: meter.confirmed == [0x40000055])
        assert (await edge.poller.poll_meter(METER)).ok
        await until(lambda: push_of(edge).intake_statistics().alerts == 2)
        counts = push_of(edge).intake_statistics()
        assert (counts.confirmed, counts.unconfirmed) == (1, 0)
        await meter.close()
        await serving


def notification_body(model: HouseholdModel) -> Data:
    found = notification.decode(client(model, None).alert((84,)))
    assert isinstance(found, DataNotification)
    return found.body


async def test_under_the_dedicated_key_of_its_association_a_meter_pushes_on_its_own_connection_alone(
    tmp_path: Path,
) -> None:
    model = model_of()
    config = config_of(tmp_path, {"kind": "dial-in"}, {"dedicated_key": True, "keep_open": 600})
    plain = client(model, None)

    def under(keys: Keys, counter: int) -> bytes:
        return protect_apdu(keys, model.system_title, counter, plain.alert((84,)), form=Form.GENERAL_DED)

    async with running(config, poll=False) as edge:
        line, refusals = edge.lines["l"], push_of(edge).listener
        assert isinstance(line, DialInLine)
        meter = DialIn(model)
        await meter.open(HOST, push_of(edge).listener.tcp_port)
        serving = asyncio.create_task(meter.run())
        await meter.push(client(model).alert((83,)))
        await meter.push(under(KEYS, 1))
        await until(lambda: refusals.refusals.dedicated_key == 1)
        assert line.connected
        assert (await edge.poller.poll_meter(METER)).ok
        keys = line.dedicated
        assert keys is not None
        assert keys.encryption != KEYS.encryption
        pushed = under(keys, 1)
        await meter.push(pushed)
        await until(lambda: push_of(edge).intake_statistics().alerts == 2)
        await meter.push(pushed)
        await until(lambda: refusals.refusals.replayed == 1)
        again = DialIn(model, 5_000)  # a new connection: the association and its key are over
        await again.open(HOST, push_of(edge).listener.tcp_port)
        await again.push(client(model, start=2_000_000).alert((85,)))
        await until(lambda: push_of(edge).intake_statistics().alerts == 3)
        await again.push(under(keys, 2))
        await until(lambda: refusals.refusals.dedicated_key == 2)
        await again.close()
        await meter.close()
        await serving


async def test_a_caller_that_none_of_our_meters_is_is_sent_away(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"kind": "dial-in"})
    async with running(config, poll=False) as edge:
        meter = DialIn(model_of("XYZ:777"))
        await meter.open(HOST, push_of(edge).listener.tcp_port)
        await asyncio.wait_for(meter.run(), PATIENCE)
        assert push_of(edge).listener.statistics().unknown_callers == 1


async def test_what_was_taken_survives_and_what_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    store = PushCounters(tmp_path / "push.db")
    assert store.mark("a") == NOTHING
    store.note("a", PushMark(counter=7, clock=100, floor=50, peak=9))
    await store.save()
    await store.save()
    store.note("b", PushMark(counter=8))
    store.close()
    again = PushCounters(tmp_path / "push.db")
    assert (again.mark("a"), again.mark("b").counter) == (PushMark(7, 100, 50, 9), 8)
    again.close()
    (tmp_path / "bad.db").write_bytes(b"no database" * 100)
    with pytest.raises(Exception, match="push counters"):
        PushCounters(tmp_path / "bad.db")


async def test_a_file_of_an_earlier_version_keeps_its_counters(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "push.db")) as old, old:
        old.execute("create table pushed (sender text primary key, counter integer not null)")
        old.execute("insert into pushed values ('a', 7)")
    store = PushCounters(tmp_path / "push.db")
    assert store.mark("a") == PushMark(counter=7)
    store.note("a", PushMark(counter=8, clock=5))
    store.close()
    again = PushCounters(tmp_path / "push.db")
    assert again.mark("a") == PushMark(counter=8, clock=5)
    again.close()


BASE = """
[gateway]
name = "e"
data = "d"
[[lines]]
name = "l"
kind = "dial-in"
[[meters]]
meter = "GEN:1"
line = "l"
[meters.dlms]
client = 32
auth = "lls"
password_ref = "p"
"""


def test_what_cannot_work_is_a_mistake_in_place(tmp_path: Path) -> None:
    def mistakes(text: str) -> str:
        path = tmp_path / "c.toml"
        path.write_text(text)
        with pytest.raises(ConfigMistakes) as caught:
            load(path)
        return str(caught.value)

    assert "needs a [push] section" in mistakes(BASE)
    assert "name `networks`" in mistakes(BASE + "[push]\n")
    assert "ciphered pushes need" in mistakes(BASE + "[meters.push]\n[push]\n")
    assert "networks" in mistakes(BASE + '[push]\nnetworks = ["10.0.0"]\n')
    assert "address" in mistakes(BASE.replace('"dial-in"', '"dial-in"\naddress = "x"'))
    (tmp_path / "good.toml").write_text(BASE + '[push]\nnetworks = ["10.0.0.0/8"]\n')
    assert load(tmp_path / "good.toml").push is not None


def test_a_usual_title_is_letters_and_the_serial_as_a_number() -> None:
    assert usual_title("GEN:40001234") == b"GEN\x00\x02\x62\x5e\xd2"
    assert usual_title("GEN:ABC") == b""
    assert usual_title("GEN:99999999999999") == b""
