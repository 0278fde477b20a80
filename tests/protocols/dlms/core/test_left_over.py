"""Octets left over behind a result never hide it: not in any service's response, not for the client, not in a trace."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.apdu import gbt
from protocols.dlms.apdu.lists import ActionListRequest, GetListRequest, SetListRequest, Target
from protocols.dlms.apdu.services import ActionRequest, GetRequest, SetRequest
from protocols.dlms.core.association_settings import AssociationSettings
from protocols.dlms.core.connection import ClientConnection
from protocols.dlms.core.outcomes import Associated, Event, Released, RequestRefused, ValueRead
from protocols.dlms.core.transaction import Request, Transaction
from protocols.dlms.data.types import long_unsigned
from protocols.dlms.framing import wrapper
from protocols.dlms.framing.wrapper import WrapperSocket
from protocols.dlms.session import DlmsSession
from protocols.dlms.trace.frames import decode_trace
from protocols.errors import MeterProtocolError, NotSupported
from protocols.lines.tcp import TcpLine
from protocols.reading import Obis
from protocols.unused import Unused, UnusedFrames
from tests.support.dlms.trap_site import energies, site

AT = Target(1, Obis(0, 0, 96, 1, 0), 2)
SEVEN = long_unsigned(7)
INVOKE = 0xC1
FIELD_CASE = "C701C1010102114373F23ADF37A31D0DECB749D496DBD1CA"
"""IS 15959 image transfer refused, seen in the field (gurux.fi forum/19522): the meter's refusal and 17 octets."""

ANSWERS: dict[str, tuple[Request, str]] = {
    "get": (GetRequest(target=AT), "C401C100120007"),
    "get, refused": (GetRequest(target=AT), "C401C10103"),
    "get, last block": (GetRequest(target=AT), "C402C1010000000100 03120007"),
    "get, block refused": (GetRequest(target=AT), "C402C101000000010103"),
    "get, list": (GetListRequest(targets=(AT, AT)), "C403C1020012000701 03"),
    "set": (SetRequest(target=AT, value=SEVEN), "C501C100"),
    "set, refused": (SetRequest(target=AT, value=SEVEN), "C501C103"),
    "set, last block": (SetRequest(target=AT, value=SEVEN), "C503C10000000000"),
    "set, list": (SetListRequest(targets=(AT, AT), values=(SEVEN, SEVEN)), "C505C1020003"),
    "action": (ActionRequest(target=AT), "C701C10000"),
    "action, refused": (ActionRequest(target=AT), "C701C10100"),
    "action, answer": (ActionRequest(target=AT), "C701C1000100120007"),
    "action, last block": (ActionRequest(target=AT), "C702C10100000001 03120007"),
    "action, list": (ActionListRequest(targets=(AT,), parameters=(SEVEN,)), "C703C10100 00"),
}
TAIL = bytes.fromhex("021143")


def taken(request: Request, octets: bytes) -> tuple[object, bytes]:
    transaction = Transaction(request, invoke=INVOKE, room=500)
    transaction.begin()
    event = transaction.take(octets)
    if isinstance(event, ValueRead):
        return event.octets.removesuffix(TAIL), transaction.left_over
    return event, transaction.left_over


@pytest.mark.parametrize("name", ANSWERS)
def test_a_result_is_the_same_with_octets_behind_it(name: str) -> None:
    request, answer = ANSWERS[name]
    octets = bytes.fromhex(answer)
    plain, nothing = taken(request, octets)
    found, left = taken(request, octets + TAIL)
    assert found == plain
    assert nothing == b""
    # a value that is read is decoded by whoever wants it, and what is left over is found there
    assert left == (b"" if isinstance(found, bytes) and "block" not in name else TAIL)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_trace_shows_the_result_and_the_rest(name: str) -> None:
    octets = bytes.fromhex(ANSWERS[name][1])
    for framed in (octets + TAIL, wrapper.encode(1, 48, octets + TAIL)):
        trace = decode_trace(framed)
        assert trace.problem is None, trace.problem
        shown = "\n".join(trace.lines())
        assert "left over" in shown
        assert "\n".join(decode_trace(octets).lines()[:3]).split()[-1] in shown


@given(st.binary(min_size=1, max_size=40))
def test_whatever_stands_behind_a_refusal_the_refusal_counts(rest: bytes) -> None:
    event, _ = taken(ActionRequest(target=AT), bytes.fromhex("C701C103") + rest)
    assert isinstance(event, RequestRefused)
    assert event.code == 3


def test_the_case_of_the_field() -> None:
    octets = bytes.fromhex(FIELD_CASE)
    event, left = taken(ActionRequest(target=AT), octets)
    assert event == RequestRefused(1)
    assert left == octets[4:]
    shown = decode_trace(octets)
    assert shown.problem is None
    assert any("result" in line and "hardware" in line for line in shown.lines())


AARE = bytes.fromhex("6129A109060760857405080101A203020100A305A103020100BE10040E0800065F1F040000101D00C80007")
RLRE = bytes.fromhex("6303800100")
VALUE = bytes.fromhex("C401C100120007")


def in_blocks(apdu: bytes) -> bytes:
    return gbt.encode(gbt.GeneralBlock(number=1, acknowledged=0, last=True, data=apdu))


@pytest.mark.parametrize("datagrams", [False, True])
@pytest.mark.parametrize("behind_the_frame", [False, True], ids=("in the APDU", "behind the frame"))
def test_what_stands_behind_each_answer_of_a_conversation_hides_none(
    *, datagrams: bool, behind_the_frame: bool
) -> None:
    """AARE, a whole answer, one in a general block, RLRE: each with octets that nobody asked for."""
    link = WrapperSocket(datagrams=datagrams).link(client=16, server=1)
    client = ClientConnection(link, AssociationSettings(), lambda: 0)

    def answered(apdu: bytes) -> list[Event]:
        client.data_to_send()
        framed = (
            wrapper.encode(1, 16, apdu) + TAIL if behind_the_frame else wrapper.encode(1, 16, apdu + TAIL)
        )
        return client.receive_data(framed)

    client.open()
    client.associate()
    assert [type(one) for one in answered(AARE)] == [Associated]
    client.request(GetRequest(target=AT))
    (value,) = answered(VALUE)
    assert isinstance(value, ValueRead)
    assert value.octets.removesuffix(TAIL) == bytes.fromhex("120007")
    client.request(GetRequest(target=AT))
    assert answered(in_blocks(VALUE[:2] + b"\xc2" + VALUE[3:])) == [ValueRead(bytes.fromhex("120007"))]
    client.release()
    assert answered(RLRE) == [Released()]
    # a value is decoded, and what is behind it counted, by whoever reads it
    assert +client.unused == {Unused.LEFT_OVER: 4 if behind_the_frame else 3}


@pytest.mark.parametrize("junk", ["0d0a", "00020001", "ff"])
def test_what_breaks_the_framing_before_an_answer_is_counted(junk: str) -> None:
    link = WrapperSocket().link(client=16, server=1)
    with pytest.raises(MeterProtocolError, match="not a DLMS wrapper header"):
        link.receive_data(bytes.fromhex(junk))
    assert link.unused == {Unused.NOT_A_FRAME: 1}
    datagrams = WrapperSocket(datagrams=True).link(client=16, server=1)
    with pytest.raises(MeterProtocolError):
        datagrams.receive_data(bytes.fromhex(junk))
    assert datagrams.unused == {Unused.NOT_A_FRAME: 1}


@pytest.mark.virtual_time
async def test_a_meter_that_fills_up_its_answers_is_read_and_counted() -> None:
    async with site("answers-padded") as meter:
        async with meter.open() as session:
            assert energies(await meter.blocks(session)) == meter.true_blocks()
            await session.set_clock(meter.clock.now())
            assert (await session.clock()).drift == 0
            assert isinstance(session, DlmsSession)
            with pytest.raises(
                NotSupported, match=r"undefined \(and 3 octets left over behind the result: 02 11 43\)"
            ):
                await session.exchange.get(Target(1, Obis(9, 9, 9, 9, 9), 2))
        assert isinstance(meter.line, TcpLine)
        assert meter.line.unused[Unused.LEFT_OVER] > 5
        assert "left over" in str(UnusedFrames.of(meter.line.unused))
