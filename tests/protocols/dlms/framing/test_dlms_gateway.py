"""Many meters behind one concentrator: an answer is its own meter's, whatever comes when; nothing is ever mixed."""

from __future__ import annotations

import pytest
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.services import GetRequest
from protocols.dlms.client.association_opener import behind, link_of
from protocols.dlms.core.association import AssociationSettings
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
