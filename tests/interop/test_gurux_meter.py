"""Our real client talks to a meter made of gurux-dlms in a process of its own; its table is docs/interop.md."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from protocols.dlms.apdu.lists import Outcome, SetListRequest, Target
from protocols.dlms.apdu.selection import ColumnName, EntrySelection, RangeSelection
from protocols.dlms.client.association_opener import association_settings
from protocols.dlms.client.exchange import Exchange
from protocols.dlms.client.list_size import ListSize
from protocols.dlms.core.connection import ClientConnection
from protocols.dlms.core.outcomes import Outcomes
from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import long_unsigned, octets, structure
from protocols.dlms.framing.hdlc_link import HdlcClientLink
from protocols.dlms.framing.link import ClientLink
from protocols.dlms.framing.wrapper import WrapperClientLink
from protocols.errors import AssociationRefused, SecurityFailure
from protocols.line import LineIO
from protocols.lines.tcp import TcpLine
from protocols.meters.open import open_session
from protocols.reading import Number, Obis, ProfileName, RelayState
from protocols.session import Auth, DlmsSettings, MeterSpec, ReleaseMode, SessionContext
from tests.support.dlms.bench import START
from tests.support.fakes import Counters, HandClock
from tests.support.interop import wire
from tests.support.interop.gurux_meter import (
    METER_COUNTER,
    METER_TITLE,
    SECRETS,
    meter_task,
    physical_of,
    settings_of,
)
from tests.support.interop.peers import PeerProcess
from tests.support.interop.served import (
    CONTROL,
    LONG,
    keys_of,
    secrets_of,
)
from tests.support.interop.table import CASES, GURUX_AUTH, PLAIN, Case, Peer, Service

OWN_TITLE = DlmsSettings().system_title
METER_CASES = [case for case in CASES[Peer.GURUX_METER] if case.services]
NOW = START + timedelta(hours=36)
SET_TO = START + timedelta(hours=37)
FIRST = START + timedelta(minutes=30)
CLOCK, SERIAL, ENERGY = Obis(0, 0, 1, 0, 0), Obis(0, 0, 96, 1, 0), Obis(1, 0, 1, 8, 0)
BLOCK_LOAD, STORE, ECHO = Obis(1, 0, 99, 1, 0), Obis(0, 0, 10, 0, 98), Obis(0, 0, 10, 0, 99)
VOLTS = Obis(1, 0, 12, 27, 0)
MAKER = Obis(0, 0, 96, 1, 1)


@pytest.fixture(scope="module")
def peer() -> Iterator[PeerProcess]:
    process = PeerProcess("gurux_server.py")
    yield process
    process.close()


@dataclass(slots=True)
class Found:
    """What our client read, and what the meter and the wire showed afterwards."""

    case: Case
    counters: Counters = field(default_factory=Counters)
    session: dict[str, Any] = field(default_factory=dict)
    exchange: dict[str, Any] = field(default_factory=dict)
    meter: dict[str, Any] = field(default_factory=dict)
    seen: list[wire.Seen] = field(default_factory=list)

    def sent(self, sender: str, head: bytes) -> list[wire.Seen]:
        return [one for one in self.seen if one.sender == sender and one.plain.startswith(head)]


async def _by_session(found: Found, line: TcpLine) -> None:
    """Use what the gateway uses: the public client's counter, identity, profile, clock and relay."""
    spec = MeterSpec(meter="GRX:00000007", dlms=settings_of(found.case))
    came = found.session
    async with open_session(
        line,
        spec,
        SessionContext(secrets=SECRETS, counters=found.counters, clock=HandClock(NOW + timedelta(hours=4))),
    ) as session:
        came["plate"] = await session.identify()
        rows = session.read(ProfileName.BLOCK_LOAD, START, FIRST + timedelta(minutes=30 * 39))
        came["rows"] = [row async for row in rows]
        came["clock"] = (await session.clock()).meter
        await session.set_clock(SET_TO)
        came["relay"] = [await session.relay()]
        for to in (RelayState.OPEN, RelayState.CLOSED):
            await session.switch_relay(to)
            came["relay"].append(await session.relay())


@asynccontextmanager
async def _associated_exchange(found: Found, io: LineIO) -> AsyncIterator[tuple[Exchange, ClientConnection]]:
    case = found.case
    settings = replace(
        association_settings(settings_of(case), SECRETS),
        release=ReleaseMode.PROTECTED if case.ciphered else ReleaseMode.PLAIN,
    )
    link: ClientLink = WrapperClientLink(client=48, server=1)
    if case.framing == "hdlc":
        octets_ = case.address_octets
        link = HdlcClientLink(client=48, server=1, physical=physical_of(case), address_octets=octets_)
    connection = ClientConnection(
        link, settings, lambda: found.counters.next("", max([METER_COUNTER, *found.counters.given]) + 1)
    )
    exchange = Exchange(io, connection, timeout=5, bus=False, lists=ListSize(10))
    await exchange.associate()
    yield exchange, connection
    await exchange.close()
    assert exchange.clean


async def _by_exchange(found: Found, line: TcpLine) -> None:
    """Use the services that no session needs yet, and end with a protected release."""
    came = found.exchange
    async with line.exclusive() as io, _associated_exchange(found, io) as (exchange, connection):
        came["entries"] = await exchange.get(Target(7, BLOCK_LOAD, 2, EntrySelection(3, 7)))
        column = ColumnName(3, VOLTS)
        since, until = (cosem_time.encode(FIRST + timedelta(minutes=30 * n)) for n in (1, 3))
        came["column"] = await exchange.get(
            Target(7, BLOCK_LOAD, 2, RangeSelection(CLOCK, 2, since, until, (column,)))
        )
        came["one"] = await exchange.get(Target(3, ENERGY))
        targets = [Target(1, SERIAL, 2), Target(3, ENERGY, 2), Target(8, CLOCK, 2)]
        came["list"] = await exchange.get_many(targets)
        came["set-list"] = await _set_list(connection, io)
        came["store"] = await exchange.get(Target(1, STORE)), await exchange.get(Target(1, MAKER))
        await exchange.set(Target(1, STORE), octets(LONG))
        came["echo"] = await exchange.action(Target(1, ECHO, 1), octets(LONG))


async def _set_list(connection: ClientConnection, io: LineIO) -> tuple[Outcome, ...]:
    """Set two values in one request, which `Exchange` has no use for yet."""
    targets = (Target(1, STORE, 2), Target(1, MAKER, 2))
    connection.request(SetListRequest(targets=targets, values=(octets(b"short"), octets(b"GRX RENAMED"))))
    await io.send(connection.data_to_send())
    while not (events := connection.receive_data(await io.receive(5))):
        await io.send(connection.data_to_send())
    (event,) = events
    assert isinstance(event, Outcomes)
    return event.outcomes


async def _converse(case: Case, peer: PeerProcess) -> Found:
    found = Found(case)
    port = (await peer.ask(meter_task(case, NOW, FIRST)))["port"]
    line = TcpLine("gurux", "127.0.0.1", port)
    try:
        await _by_session(found, line)
        await _by_exchange(found, line)
    finally:
        await line.close()
        found.meter = await peer.ask({"do": "stop"})
    titles = {"client": OWN_TITLE, "meter": METER_TITLE}
    secrets = secrets_of(case, titles)
    found.seen = wire.read([(who, sent) for who, sent in found.meter["wire"]], case.framing, secrets)
    return found


def _associated(found: Found) -> None:
    case = found.case
    agreed = [48, GURUX_AUTH[case.auth], case.protection]
    public = [[16, "NONE", "plain"]] if case.ciphered or case.auth is Auth.HLS_GMAC else []
    assert found.meter["associations"] == [*public, agreed, agreed]
    proofs = found.sent("client", b"\xc3\x01")
    assert len([one for one in proofs if one.plain[3:5] == b"\0\x0f"]) == 2 * ("hls" in case.auth.value)


def _reads(found: Found) -> None:
    plate = found.session["plate"]
    assert (plate.manufacturer, plate.serial, plate.firmware) == ("GRX", "00000007", "G1.0")
    assert found.session["clock"] == NOW
    assert found.exchange["one"].integer == 1234


def _range_in_blocks(found: Found) -> None:
    rows = found.session["rows"]
    assert [row.at for row in rows] == [FIRST + timedelta(minutes=30 * n) for n in range(40)]
    volts = [row.values[0][1] for row in rows]
    assert volts == [Number(2300 + n, -1, "V") for n in range(40)]
    assert found.exchange["column"].items == tuple(structure(long_unsigned(2300 + n)) for n in (1, 2, 3))
    if found.case.general_blocks:
        assert max(one.blocks for one in found.sent("meter", b"\xc4")) >= 2
    else:
        assert len(found.sent("meter", b"\xc4\x02")) >= 2


def _entries(found: Found) -> None:
    assert [row.items[2].integer for row in found.exchange["entries"].items] == [2, 3, 4, 5, 6]


def _list(found: Found) -> None:
    serial, energy, clock = found.exchange["list"]
    assert (serial.octets, energy.integer) == (b"00000007", 1234)
    assert len(clock.octets) == 12
    assert found.sent("client", b"\xc0\x03")


def _clock_set(found: Found) -> None:
    assert datetime.fromisoformat(found.meter["clock"]).astimezone(UTC) == SET_TO


def _two_set(found: Found) -> None:
    assert found.exchange["set-list"] == (Outcome(0), Outcome(0))
    assert [one.octets for one in found.exchange["store"]] == [b"short", b"GRX RENAMED"]
    assert found.sent("client", b"\xc1\x04")


def _set_in_blocks(found: Found) -> None:
    assert found.meter["long"] == LONG.hex()
    assert found.sent("client", b"\xc1\x02")


def _relay(found: Found) -> None:
    assert found.session["relay"] == [RelayState.CLOSED, RelayState.OPEN, RelayState.CLOSED]
    assert found.meter["relay"] is True


def _action_in_blocks(found: Found) -> None:
    assert found.exchange["echo"].octets == LONG
    assert found.sent("client", b"\xc3\x04")
    if found.case.general_blocks:
        assert max(one.blocks for one in found.sent("meter", b"\xc7")) >= 2
    else:
        assert found.sent("meter", b"\xc7\x02")


def _released(found: Found) -> None:
    *plain, last = [bytes.fromhex(one) for one in found.meter["released"]]
    assert set(plain) == {bytes.fromhex("6203800100")}
    assert last[5:6] == (b"\xbe" if found.case.ciphered else b"")
    assert len(found.sent("meter", b"\x63")) == len(plain) + 1


def _ciphering(found: Found) -> None:
    assert wire.problems(found.seen, control=CONTROL[found.case.protection] | found.case.suite) == []
    form = found.case.form
    for sender in ("client", "meter"):
        forms = {one.form for one in found.seen if one.sender == sender and one.form}
        assert (
            {"glo", form} <= forms <= {"glo", form, form.replace("ded", "glo")}
        )  # passes 3 and 4 are never ded


CHECKS: dict[Service, Callable[[Found], None]] = {
    Service.ASSOCIATE: _associated,
    Service.GET: _reads,
    Service.RANGE: _range_in_blocks,
    Service.ENTRIES: _entries,
    Service.LIST: _list,
    Service.SET: _clock_set,
    Service.SET_LIST: _two_set,
    Service.SET_BLOCKS: _set_in_blocks,
    Service.ACTION: _relay,
    Service.ACTION_BLOCKS: _action_in_blocks,
    Service.RELEASE: _released,
    Service.CIPHERING: _ciphering,
}


@pytest.mark.parametrize("case", METER_CASES, ids=str)
async def test_our_client_uses_a_gurux_meter(case: Case, peer: PeerProcess) -> None:
    found = await _converse(case, peer)
    assert found.meter["failed"] == []
    for service in case.services:
        if service is not Service.WRONG_KEY:
            CHECKS[service](found)


@pytest.mark.parametrize("case", [c for c in METER_CASES if Service.WRONG_KEY in c.services], ids=str)
async def test_our_client_refuses_a_gurux_meter_that_answers_under_another_authentication_key(
    case: Case, peer: PeerProcess
) -> None:
    found = Found(case)
    port = (await peer.ask(meter_task(case, NOW, FIRST) | {"answer_key": keys_of(case).encryption.hex()}))[
        "port"
    ]
    line = TcpLine("gurux", "127.0.0.1", port)
    try:
        with pytest.raises(SecurityFailure, match="authentication tag is wrong"):
            await _by_session(found, line)
    finally:
        await line.close()
        meter = await peer.ask({"do": "stop"})
    assert meter["failed"] == []
    assert [client for client, *_ in meter["associations"]].count(48) == 1  # a wrong key is not tried twice
    assert found.session == {}


@pytest.mark.parametrize("auth", [auth for auth in Auth if auth.needs_secret])
async def test_a_gurux_meter_with_another_secret_refuses_our_client(auth: Auth, peer: PeerProcess) -> None:
    case = Case(Peer.GURUX_METER, "wrapper", auth, PLAIN)
    port = (await peer.ask(meter_task(case, NOW, FIRST) | {"password": b"another secret!!".hex()}))["port"]
    line = TcpLine("gurux", "127.0.0.1", port)
    try:
        with pytest.raises(AssociationRefused, match="wrong"):
            await _by_session(Found(case), line)
    finally:
        await line.close()
        meter = await peer.ask({"do": "stop"})
    assert meter["failed"] == []
