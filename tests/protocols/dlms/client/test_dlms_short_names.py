"""Reading by short names: names from the meter's list, rows, long answers in blocks, ciphered; nothing is written."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.apdu.lists import Outcome, Target
from protocols.dlms.apdu.selection import EntrySelection, RangeSelection
from protocols.dlms.apdu.services import GetRequest, decode_apdu, encode_apdu
from protocols.dlms.apdu.short_names import (
    OBJECT_LIST,
    NextBlock,
    ReadBlock,
    ReadRequest,
    ReadResponse,
    Variable,
)
from protocols.dlms.client.exchange import Exchange
from protocols.dlms.client.list_size import ListSize
from protocols.dlms.core.association_settings import AssociationSettings
from protocols.dlms.core.connection import ClientConnection
from protocols.dlms.core.name_list import WHOLE_LIST, NameList
from protocols.dlms.core.outcomes import Event, Outcomes, RequestRefused, ValueRead
from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import Data, array, long, long_unsigned, octets, structure, text, unsigned
from protocols.dlms.framing.wrapper import WrapperClientLink
from protocols.dlms.objects.object_list import parse_object_list
from protocols.dlms.server.connection import ServerSettings
from protocols.dlms.server.ports import serve_wrapper
from protocols.dlms.trace.frames import decode_trace
from protocols.errors import MeterConfigError, MeterProtocolError, NotSupported
from protocols.lines.tcp import TcpLine
from protocols.obis import Obis
from protocols.session import Auth
from tests.support.dlms.bench import KEYS, LONG_TEXT, POLICIES, START, Joined, o
from tests.support.dlms.named_meter import named_meter

WAYS = ("none", "lls", "lls-ciphered")


def joined(way: str = "none", framing: str = "wrapper", max_pdu: int = 1024) -> Joined:
    policy, wanted = POLICIES[way]
    meter = named_meter(policy)
    meter.attributes["0-0:96.13.0*255", 2] = LONG_TEXT
    limits = ServerSettings(max_pdu=max_pdu)
    return Joined(meter, replace(wanted, short_names=True), framing=framing, limits=limits)


def names(talk: Joined) -> NameList:
    talk.associate()
    found = ask(talk, WHOLE_LIST)
    assert isinstance(found, ValueRead)
    return NameList(found.data)


def ask(talk: Joined, *variables: Variable) -> Event:
    talk.client.request(ReadRequest(variables))
    (event,) = talk.run()
    return event


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
@pytest.mark.parametrize("way", WAYS)
def test_attributes_are_read_by_the_names_of_the_list(way: str, framing: str) -> None:
    talk = joined(way, framing)
    known = names(talk)
    assert ask(talk, known.variable(Target(1, o("0-0:96.1.0")))) == ValueRead.of(octets(b"00000007"))
    assert ask(talk, Variable(0x0011)) == RequestRefused(4)
    serial, relay = known.variable(Target(1, o("0-0:96.1.0"))), known.variable(Target(70, o("0-0:96.3.10")))
    found = ask(talk, serial, Variable(0x0008), relay)
    assert isinstance(found, Outcomes)
    assert [one.result for one in found.outcomes] == [0, 4, 0]
    if way == "lls-ciphered":
        assert b"00000007" not in b"".join(talk.to_client)
        assert any(sent[8:9] == b"\x25" for sent in talk.to_server) or framing == "hdlc"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("max_pdu", [64, 128, 512])
def test_long_answers_come_in_blocks(way: str, max_pdu: int) -> None:
    talk = joined(way, max_pdu=max_pdu)
    known = names(talk)
    assert ask(talk, known.variable(Target(1, o("0-0:96.13.0")))) == ValueRead.of(LONG_TEXT)
    both = ask(talk, *(known.variable(Target(1, o(name))) for name in ("0-0:96.13.0", "0-0:96.1.0")))
    assert both == Outcomes((Outcome(0, LONG_TEXT), Outcome(0, octets(b"00000007"))))


def test_rows_are_selected_by_range_and_entry() -> None:
    talk = joined()
    known = names(talk)
    low, high = (cosem_time.encode(START.replace(hour=h)) for h in (19, 23))
    for selection, rows in (
        (EntrySelection(3, 5), 3),
        (RangeSelection(Obis(0, 0, 1, 0, 0), 2, low, high), 9),
    ):
        found = ask(talk, known.variable(Target(7, o("1-0:99.1.0"), 2, selection)))
        assert isinstance(found, ValueRead)
        assert len(found.data.items) == rows


async def test_an_exchange_reads_and_writes_nothing() -> None:
    policy, wanted = POLICIES["lls-ciphered"]
    server = await serve_wrapper(named_meter(policy))
    line = TcpLine("sn", "127.0.0.1", server.sockets[0].getsockname()[1])
    counter = iter(range(1, 100))
    connection = ClientConnection(
        WrapperClientLink(client=48, server=1), replace(wanted, short_names=True), lambda: next(counter)
    )
    async with server:
        async with line.exclusive() as io:
            exchange = Exchange(io, connection, timeout=5, bus=False, lists=ListSize(8))
            await exchange.associate()
            clock, relay = Target(8, o("0-0:1.0.0")), Target(70, o("0-0:96.3.10"), 1)
            assert (await exchange.get(Target(1, o("0-0:96.1.0")))).octets == b"00000007"
            listed = parse_object_list(await exchange.get(Target(15, o("0-0:40.0.0"), 2)))
            assert {str(one.obis) for one in listed} >= {"0-0:96.1.0*255", "1-0:99.1.0*255"}
            found = await exchange.get_many([Target(1, o("0-0:96.1.0")), Target(1, o("1-0:9.9.9"))])
            assert isinstance(found[1], NotSupported)
            for order in (
                exchange.set(clock, octets(bytes(12))),
                exchange.action(relay, unsigned(0)),
                exchange.set_many([clock], [octets(bytes(12))]),
                exchange.run_many([relay], [unsigned(0)]),
            ):
                with pytest.raises(NotSupported, match="see reference"):
                    await order
            await exchange.close()
        await line.close()


def test_hls_by_short_names_is_refused_beforehand() -> None:
    with pytest.raises(MeterConfigError, match="by short names is not supported"):
        AssociationSettings(auth=Auth.HLS_GMAC, keys=KEYS, short_names=True)


def test_a_service_by_logical_names_is_refused_in_such_an_association() -> None:
    talk = joined()
    talk.associate()
    talk.client.request(GetRequest(target=Target(1, o("0-0:96.1.0"))))
    with pytest.raises(Exception, match="exception-response"):
        talk.run()


@pytest.mark.parametrize(
    "data",
    [
        octets(b""),
        array(octets(b"")),
        array(structure(long(8), long_unsigned(1), unsigned(0), octets(b"12345"))),
        array(structure(text("x"), long_unsigned(1), unsigned(0), octets(b"123456"))),
        array(structure(long(8), long_unsigned(1), unsigned(0))),
    ],
)
def test_a_list_of_another_shape_is_refused(data: Data) -> None:
    with pytest.raises(MeterProtocolError):
        NameList(data)


def test_base_names_are_signed_and_classes_may_differ() -> None:
    entry = structure(long(-0x600), long_unsigned(3), unsigned(0), octets(bytes((1, 0, 1, 8, 0, 255))))
    known = NameList(array(entry))
    assert known.variable(Target(3, Obis(1, 0, 1, 8, 0), 2)) == Variable(0xFA08)
    assert known.variable(Target(4, Obis(1, 0, 1, 8, 0), 3)) == Variable(0xFA10)
    with pytest.raises(NotSupported, match="list of short names"):
        known.variable(Target(3, Obis(1, 0, 2, 8, 0), 2))


VARIABLES = st.one_of(
    st.builds(Variable, st.integers(0, 0xFFFF)),
    st.builds(
        Variable, st.integers(0, 0xFFFF), st.builds(EntrySelection, st.integers(0, 9), st.integers(0, 9))
    ),
    st.builds(NextBlock, st.integers(0, 0xFFFF)),
)
RESULTS = st.one_of(
    st.builds(Outcome, st.integers(1, 255)),
    st.builds(Outcome, st.just(0), st.builds(octets, st.binary(max_size=20))),
    st.builds(ReadBlock, st.booleans(), st.integers(0, 0xFFFF), st.binary(max_size=200)),
)


@given(st.lists(VARIABLES, max_size=9), st.lists(RESULTS, max_size=9))
def test_apdus_come_back(variables: list[Variable | NextBlock], results: list[Outcome | ReadBlock]) -> None:
    for apdu in (ReadRequest(tuple(variables)), ReadResponse(tuple(results))):
        assert decode_apdu(encode_apdu(apdu)) == apdu


def test_published_octets() -> None:
    """READ of an attribute, and of rows by entry, as the Green Book's examples have them."""
    assert encode_apdu(ReadRequest((Variable(0x0128),))) == bytes.fromhex("0501020128")
    assert encode_apdu(ReadRequest((Variable(OBJECT_LIST),))).hex() == "050102fa08"
    assert decode_apdu(bytes.fromhex("0C0100120007")) == ReadResponse((Outcome(0, long_unsigned(7)),))
    assert decode_apdu(bytes.fromhex("0C010104")) == ReadResponse((Outcome(4),))
    assert decode_apdu(bytes.fromhex("0501050002")) == ReadRequest((NextBlock(2),))


@pytest.mark.parametrize("way", WAYS)
def test_the_trace_shows_all_of_it(way: str) -> None:
    talk = joined(way, max_pdu=128)
    known = names(talk)
    ask(talk, known.variable(Target(1, o("0-0:96.13.0"))))
    pairs = zip(talk.to_server, talk.to_client, strict=True)
    found = decode_trace(b"".join(one for pair in pairs for one in pair), keys=KEYS)
    assert found.problem is None, str(found.problem)
    said = "\n".join(found.lines())
    for words in (
        "application context: SN",
        "read-request",
        "short name: 64008",
        "read-response",
        "block number: 1",
    ):
        assert words in said
