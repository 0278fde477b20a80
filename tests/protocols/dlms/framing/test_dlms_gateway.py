"""Many meters behind one concentrator: an answer is its own meter's, whatever comes when; nothing is ever mixed."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.services import GetRequest
from protocols.dlms.client.association_opener import behind, link_of
from protocols.dlms.core.association_settings import AssociationSettings
from protocols.dlms.core.connection import ClientConnection
from protocols.dlms.core.outcomes import Event, ValueRead
from protocols.dlms.data.types import octets
from protocols.dlms.framing import wrapper
from protocols.dlms.framing.gateway import REQUEST, RESPONSE, Behind, GatewayLink, parted
from protocols.dlms.framing.hdlc_link import HdlcClientLink
from protocols.dlms.framing.link import ApduReceived, ClientLink
from protocols.dlms.framing.wrapper import WrapperClientLink
from protocols.dlms.server.connection import ServerSettings
from protocols.dlms.server.gateway import MAX_CONVERSATIONS, ServedGateway
from protocols.dlms.server.links import ServedMeter, WrapperServer
from protocols.dlms.trace.frames import decode_trace
from protocols.errors import LocalError, MeterConfigError, MeterProtocolError
from protocols.session import DlmsSettings
from protocols.unused import Unused
from tests.support.dlms.bench import SmallMeter, o

NAMES = (Behind(0, b"A1"), Behind(0, b"A2"), Behind(1, b"A1"))
SERIAL = Target(1, o("0-0:96.1.0"))
METERS = st.sampled_from(NAMES)
APDUS = st.binary(min_size=1, max_size=12)
CAME = st.lists(
    st.one_of(
        st.tuples(METERS, st.sampled_from([REQUEST, RESPONSE]), APDUS),
        st.tuples(
            st.none(), st.just(0), st.sampled_from([b"\xd8\x01\x01", b"\xe7", b"\xe7\x00\x02A1", b"\xc4\x01"])
        ),
    ),
    max_size=12,
)


@given(CAME, METERS, st.integers(1, 9))
def test_of_all_that_comes_only_the_own_meters_apdus_are_used_and_in_their_order(
    came: list[tuple[Behind | None, int, bytes]], own: Behind, cut: int
) -> None:
    link = GatewayLink(WrapperClientLink(client=48, server=1), own)
    link.open()
    wire = b"".join(
        wrapper.encode(1, 48, apdu if name is None else name.prefix(tag) + apdu) for name, tag, apdu in came
    )
    found = [event for i in range(0, len(wire), cut) for event in link.receive_data(wire[i : i + cut])]
    mine = [(tag, apdu) for name, tag, apdu in came if name == own]
    assert found == [ApduReceived(apdu, unasked=tag == REQUEST) for tag, apdu in mine]
    assert link.unused[Unused.OTHER_METER] == len(came) - len(mine)
    assert link.noise == len(came) - len(mine)


def _concentrator() -> WrapperServer:
    meters = {}
    for number, name in enumerate(NAMES):
        meter = SmallMeter()
        meter.attributes["0-0:96.1.0*255", 2] = octets(b"%d" % number)
        meters[name] = ServedMeter(model=meter)
    return WrapperServer({1: ServedGateway(meters=meters)}, ServerSettings())


@given(st.lists(st.integers(0, 2), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_meters_that_answer_late_and_out_of_order_are_never_taken_for_each_other(
    asked: list[int], random: Random
) -> None:
    """A concentrator gives its answers to whoever asks next, in any order: each client takes its own, or none."""
    server = _concentrator()
    held: list[bytes] = []
    clients = {}
    for number, name in enumerate(NAMES):
        link = GatewayLink(WrapperClientLink(client=16, server=1), name)
        client = clients[number] = ClientConnection(link, AssociationSettings(), lambda: 0)
        client.open()
        client.associate()
        client.receive_data(server.receive_data(client.data_to_send()))
    for number in asked:
        client = clients[number]
        client.request(GetRequest(target=SERIAL))
        held.append(server.receive_data(client.data_to_send()))
        random.shuffle(held)
        found: list[Event] = []
        while held and not found:
            found = client.receive_data(held.pop())
        assert found == [ValueRead.of(octets(b"%d" % number))]


@pytest.mark.parametrize(
    "inner", [WrapperClientLink(client=48, server=1), HdlcClientLink(client=48, server=1)]
)
def test_a_request_has_the_prefix(inner: ClientLink) -> None:
    link = GatewayLink(inner, Behind(7, b"GEN1"))
    if link.open():  # the wrapper is open at once
        link.send(b"\xc0\x01")
        assert link.data_to_send()[8:] == bytes.fromhex("e6070447454e31c001")


@given(st.integers(0, 255), st.binary(min_size=1, max_size=64), st.binary(min_size=1, max_size=30))
def test_a_prefix_comes_back(network: int, address: bytes, apdu: bytes) -> None:
    meter = Behind(network, address)
    assert parted(meter.prefix(RESPONSE) + apdu) == (RESPONSE, meter, apdu)


@pytest.mark.parametrize(
    "octets_",
    [b"", b"\xe7", b"\xe7\0", b"\xe7\0\0\xc0", b"\xe7\0\x02A", b"\xe7\0\x01A", b"\xc0\0\x01A\0"],
)
def test_what_is_no_prefix_is_refused(octets_: bytes) -> None:
    with pytest.raises(MeterProtocolError):
        parted(octets_)


def test_addresses_are_text_or_hex_and_bounded() -> None:
    assert behind(0, "GEN1") == Behind(0, b"GEN1")
    assert behind(3, "hex:00ff") == Behind(3, b"\x00\xff")
    for wrong in ("", "hex:0", "hex:", "é", "x" * 65):
        with pytest.raises(MeterConfigError, match="gateway_address"):
            behind(0, wrong)
    with pytest.raises(LocalError):
        Behind(256, b"x")
    with pytest.raises(MeterConfigError, match="needs gateway_address"):
        link_of(DlmsSettings(gateway_network=1), 16)
    assert isinstance(link_of(DlmsSettings(gateway_address="1"), 16), GatewayLink)


def test_a_meter_that_is_not_there_is_silent_and_conversations_are_bounded() -> None:
    meters = {Behind(0, b"%d" % n): ServedMeter(model=SmallMeter()) for n in range(MAX_CONVERSATIONS + 1)}
    gateway = ServedGateway(meters=meters).associate(16, ServerSettings())
    aarq = bytes.fromhex("601DA109060760857405080101BE10040E01000000065F1F0400007E1F04B0")
    assert gateway.handle(Behind(9, b"1").prefix(REQUEST) + aarq) == []
    assert gateway.handle(aarq)[0][:1] == b"\xd8"
    answered = [bool(gateway.handle(name.prefix(REQUEST) + aarq)) for name in meters]
    assert answered.count(True) == MAX_CONVERSATIONS
    dark = ServedGateway(meters=meters, reaches=lambda _: False).associate(16, ServerSettings())
    assert dark.handle(Behind(0, b"1").prefix(REQUEST) + aarq) == []


def test_the_trace_shows_the_meter() -> None:
    apdu = Behind(2, b"A1").prefix(REQUEST) + bytes.fromhex("C001C100080000010000FF0200")
    said = "\n".join(decode_trace(wrapper.encode(16, 1, apdu)).lines())
    for words in ("gateway-request", "network: 2", "address of the meter: 41 31", "get-request", "class 8"):
        assert words in said
