"""The access service: reads, writes and methods in one request, in their order; ciphered, and in blocks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.dlms.apdu.access import Access, AccessKind, AccessRequest, AccessResponse
from protocols.dlms.apdu.conformance import BUILT, Conformance
from protocols.dlms.apdu.lists import GetListRequest, Outcome, Target
from protocols.dlms.apdu.selection import EntrySelection
from protocols.dlms.apdu.services import decode_apdu, encode_apdu
from protocols.dlms.client.exchange import Exchange
from protocols.dlms.client.list_size import ListSize
from protocols.dlms.core.connection import ClientConnection
from protocols.dlms.core.outcomes import Outcomes
from protocols.dlms.core.transaction import Transaction
from protocols.dlms.data.types import NULL, integer, octets, text
from protocols.dlms.framing.wrapper import WrapperClientLink
from protocols.dlms.server.connection import ServerSettings
from protocols.dlms.server.ports import serve_wrapper
from protocols.dlms.trace.frames import decode_trace
from protocols.errors import MeterProtocolError, MeterRefused, NotSupported
from protocols.lines.tcp import TcpLine
from tests.support.dlms.bench import (
    ECHO,
    GENERAL_POLICIES,
    LONG_TEXT,
    POLICIES,
    SUITE_POLICIES,
    Joined,
    SmallMeter,
    o,
)

SERIAL, NOTE = Target(1, o("0-0:96.1.0")), Target(1, o("0-0:96.13.0"))
ROWS = Target(7, o("1-0:99.1.0"), 2, EntrySelection(1, 3))
RELAY, CALL = Target(70, o("0-0:96.3.10"), 1), Target(9, o(ECHO[0][:-4]), 1)
ALL = POLICIES | SUITE_POLICIES | GENERAL_POLICIES
BOOK = bytes.fromhex(
    "d94000000000040100010000600100ff020100080000010000ff0202001400000d0000ff0702001400000d0000ff08"
    "04000001040203090100090cffffffffffffff00000000000901ff0203090101090cffffffffffffff00000000000901ff"
    "0203090102090cffffffffffffff00000000000901ff0203090103090cffffffffffffff00000000000901ff"
    "0104020809010011ff11ff11ff11ff11ff11ff11ff02080901011102110111011101110111011101020809010211ff11ff"
    "11ff11ff11ff11ff11ff02080901031101110211021102110211021102"
)
"""The ACCESS request of the Green Book's example of general-ciphering."""


def meter(way: str = "none") -> SmallMeter:
    served = SmallMeter({48: ALL[way][0]})
    served.attributes["0-0:96.13.0*255", 2] = LONG_TEXT
    served.writable = {("0-0:96.13.0*255", 2)}
    return served


def test_the_published_request() -> None:
    apdu = decode_apdu(BOOK)
    assert isinstance(apdu, AccessRequest)
    assert encode_apdu(apdu) == BOOK
    kinds = [(one.kind, one.target.class_id, one.target.index) for one in apdu.accesses]
    assert kinds == [
        (AccessKind.GET, 1, 2),
        (AccessKind.GET, 8, 2),
        (AccessKind.SET, 20, 7),
        (AccessKind.SET, 20, 8),
    ]
    said = "\n".join(decode_trace(BOOK).lines())
    assert "access-request" in said
    assert "class 20, 0-0:13.0.0*255, attribute 8" in said


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
@pytest.mark.parametrize("way", ALL)
def test_each_access_is_answered_in_its_place(way: str, framing: str) -> None:
    served = meter(way)
    talk = Joined(served, ALL[way][1], framing=framing)
    talk.associate()
    accesses = (
        Access(AccessKind.SET, NOTE, text("short")),
        Access(AccessKind.GET, NOTE),
        Access(AccessKind.GET, Target(1, o("0-0:9.9.9"))),
        Access(AccessKind.GET, ROWS),
        Access(AccessKind.ACTION, RELAY, integer(0)),
        Access(AccessKind.ACTION, CALL, octets(b"back")),
    )
    talk.client.request(AccessRequest(accesses=accesses))
    (event,) = talk.run()
    assert isinstance(event, Outcomes)
    first, note, missing, rows, relay, call = event.outcomes
    assert (first, missing, relay) == (Outcome(0), Outcome(4), Outcome(0))
    assert (note.data, call.data) == (text("short"), octets(b"back"))
    assert rows.data is not None
    assert len(rows.data.items) == 3
    assert not served.relay_closed
    if ALL[way][0].ciphered:
        pairs = zip(talk.to_server, talk.to_client, strict=True)
        found = decode_trace(b"".join(one for pair in pairs for one in pair), keys=ALL[way][1].keys)
        assert found.problem is None, str(found.problem)


@pytest.mark.parametrize("way", ["none", "gmac", "suite-1-agreed-signed"])
def test_long_ones_go_by_general_block_transfer_both_ways(way: str) -> None:
    talk = Joined(meter(way), ALL[way][1], limits=ServerSettings(max_pdu=700))
    talk.associate()
    accesses = (Access(AccessKind.SET, NOTE, text("z" * 2000)), Access(AccessKind.GET, NOTE))
    talk.client.request(AccessRequest(accesses=accesses))
    (event,) = talk.run()
    assert event == Outcomes((Outcome(0), Outcome(0, text("z" * 2000))))


def test_without_blocks_a_long_answer_is_refused() -> None:
    limits = ServerSettings(max_pdu=128, conformance=BUILT & ~Conformance.GENERAL_BLOCK_TRANSFER)
    talk = Joined(meter(), ALL["none"][1], limits=limits)
    talk.associate()
    talk.client.request(AccessRequest(accesses=(Access(AccessKind.GET, NOTE),)))
    with pytest.raises(MeterRefused):
        talk.run()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (AccessResponse(kinds=(AccessKind.GET,), outcomes=(Outcome(0, NULL),)), "1 accesses, not of the 2"),
        (
            AccessResponse(kinds=(AccessKind.SET, AccessKind.GET), outcomes=(Outcome(0), Outcome(3))),
            "not of the 2",
        ),
        (
            AccessResponse(
                kinds=(AccessKind.GET, AccessKind.SET),
                outcomes=(Outcome(3), Outcome(0)),
                repeated=((AccessKind.GET, NOTE), (AccessKind.SET, SERIAL)),
            ),
            "repeats other accesses",
        ),
    ],
)
def test_an_answer_to_other_accesses_is_refused(answer: AccessResponse, words: str) -> None:
    asked = (Access(AccessKind.GET, SERIAL), Access(AccessKind.SET, NOTE, NULL))
    transaction = Transaction(AccessRequest(accesses=asked), invoke=0xC1, room=500)
    sent = decode_apdu(transaction.begin())
    assert isinstance(sent, AccessRequest)
    assert sent.invoke == 0xC0000001
    with pytest.raises(MeterProtocolError, match=words):
        transaction.take(encode_apdu(replace(answer, invoke=sent.invoke)))
    late = Transaction(AccessRequest(accesses=asked), invoke=0xC2, room=500)
    with pytest.raises(MeterProtocolError, match="invoke id"):
        late.take(encode_apdu(replace(answer, invoke=sent.invoke)))


@pytest.mark.parametrize(
    "octets_", ["D940000000 00 01 01 00080000010000FF02 02 00 00", "D940000000 00 01 06", "DA400000"]
)
def test_damaged_ones_are_refused(octets_: str) -> None:
    with pytest.raises(MeterProtocolError):
        decode_apdu(bytes.fromhex(octets_))


async def test_an_exchange_uses_it_for_lists_where_the_meter_has_no_lists() -> None:
    limits = ServerSettings(conformance=BUILT & ~Conformance.MULTIPLE_REFERENCES)
    server = await serve_wrapper(meter("gmac"), settings=limits)
    line = TcpLine("access", "127.0.0.1", server.sockets[0].getsockname()[1])
    counter = iter(range(1, 100))
    link = WrapperClientLink(client=48, server=1)
    connection = ClientConnection(link, POLICIES["gmac"][1], lambda: next(counter))
    async with server:
        async with line.exclusive() as io:
            exchange = Exchange(io, connection, timeout=5, bus=False, lists=ListSize(8))
            await exchange.associate()
            assert isinstance(connection.list_request([SERIAL]), AccessRequest)
            serial, missing = await exchange.get_many([SERIAL, Target(1, o("0-0:9.9.9"))])
            assert serial == octets(b"00000007")
            assert isinstance(missing, NotSupported)
            done = await exchange.access(
                [Access(AccessKind.ACTION, RELAY, integer(0)), Access(AccessKind.GET, SERIAL)]
            )
            assert done == [None, octets(b"00000007")]
            await exchange.close()
        await line.close()


def test_lists_come_first_where_the_meter_has_both() -> None:
    talk = Joined(meter(), ALL["none"][1])
    talk.associate()
    assert isinstance(talk.client.list_request([SERIAL]), GetListRequest)
    assert talk.client.grants_access
