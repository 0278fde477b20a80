"""One socket for several associations, and datagrams that are whole or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.core.association_settings import AssociationSettings
from protocols.dlms.core.connection import ClientConnection
from protocols.dlms.core.outcomes import Pushed
from protocols.dlms.framing import wrapper
from protocols.dlms.framing.link import ApduReceived, LinkClosed, LinkOpened
from protocols.dlms.framing.wrapper import MAX_WAITING, WrapperApdu, WrapperClientLink, WrapperSocket
from protocols.errors import MeterProtocolError


def test_two_associations_share_a_socket() -> None:
    socket = WrapperSocket()
    public, utility = (socket.link(client=client, server=1) for client in (16, 48))
    assert public.open() == utility.open() == [LinkOpened()]
    both = wrapper.encode(1, 48, b"\xc4\x48") + wrapper.encode(1, 16, b"\xc4\x16")
    assert public.receive_data(both[:12]) == []
    assert public.receive_data(both[12:]) == [ApduReceived(b"\xc4\x16")]
    assert utility.receive_data(b"") == [ApduReceived(b"\xc4\x48")]
    assert (public.noise, public.complaint) == (0, "")


def test_an_answer_to_an_association_that_is_over_is_counted_and_named() -> None:
    socket = WrapperSocket()
    public, utility = (socket.link(client=client, server=1) for client in (16, 48))
    assert public.close() == [LinkClosed()]
    late = wrapper.encode(1, 16, b"\xc4\x16")
    assert utility.receive_data(late + wrapper.encode(1, 48, b"\xc4\x48")) == [ApduReceived(b"\xc4\x48")]
    assert utility.noise == 1
    assert "wPorts 1->16 came, but no association is open there" in utility.complaint


def test_apdus_for_an_association_that_does_not_look_are_bounded() -> None:
    socket = WrapperSocket()
    public, utility = (socket.link(client=client, server=1) for client in (16, 48))
    for _ in range(3 * MAX_WAITING):
        public.receive_data(wrapper.encode(1, 48, b"\xc4\x48"))
    assert len(utility.receive_data(b"")) == MAX_WAITING
    assert socket.strays == 2 * MAX_WAITING
    assert "does not look" in socket.stray


def test_notifications_between_other_ports_are_handed_over_unasked() -> None:
    link = WrapperClientLink(client=48, server=1)
    client = ClientConnection(link, AssociationSettings(), lambda: 0)
    client.open()
    assert client.receive_data(wrapper.encode(1, 64, b"\x0f\x01")) == [Pushed(b"\x0f\x01")]


def test_the_wrapper_never_repeats() -> None:
    link = WrapperClientLink(client=48, server=1)
    link.send(b"\xc0")
    assert not link.timed_out()
    assert not link.busy


def test_a_datagram_is_one_apdu_or_an_error() -> None:
    whole = wrapper.encode(1, 16, b"\xc4\x01")
    assert wrapper.decode_datagram(whole) == WrapperApdu(source=1, destination=16, apdu=b"\xc4\x01")
    for bad in (*(whole[:n] for n in range(len(whole))), whole + b"\0", b"\0\2" + whole[2:]):
        with pytest.raises(MeterProtocolError):
            wrapper.decode_datagram(bad)
    for bad in (*(whole[:n] for n in range(len(whole))), b"\0\2" + whole[2:]):
        with pytest.raises(MeterProtocolError):
            WrapperSocket(datagrams=True).receive_data(bad)


@given(st.binary(max_size=40))
def test_random_datagrams_are_an_apdu_or_a_protocol_error(data: bytes) -> None:
    try:
        found = wrapper.decode_datagram(data)
    except MeterProtocolError:
        return
    assert wrapper.encode(found.source, found.destination, found.apdu) == data
