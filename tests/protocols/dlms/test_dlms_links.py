"""HDLC links and buses in the cases that a quiet line never shows, and what error APDUs stand for."""

from __future__ import annotations

import pytest

from protocols.dlms import acse, hdlc, outcomes
from protocols.dlms.apdu import ConfirmedServiceError, ExceptionResponse
from protocols.dlms.connection import AssociationSettings, ClientConnection
from protocols.dlms.hdlc import Address, Frame, FrameDecoder, Parameters
from protocols.dlms.hdlc_link import Channel, HdlcClientLink
from protocols.dlms.link import ApduReceived, LinkClosed, LinkOpened
from protocols.dlms.server import ServerSettings
from protocols.dlms.server_links import HdlcBus, ServedMeter
from protocols.errors import (
    InvocationCounterRefused,
    MeterBusy,
    MeterConfigError,
    MeterError,
    MeterProtocolError,
    MeterRefused,
    SecurityFailure,
)
from protocols.session import Auth
from tests.protocols.dlms.dlms_bench import SmallMeter

CLIENT, SERVER = Address(16, None, 1), Address(1, 17, 2)
POLL = hdlc.POLL


def from_meter(
    control: int, info: bytes = b"", *, source: Address = SERVER, segmented: bool = False
) -> bytes:
    frame = Frame(destination=CLIENT, source=source, control=control, info=info, segmented=segmented)
    return frame.encode()


def to_meter(control: int, info: bytes = b"", *, physical: int = 17) -> bytes:
    frame = Frame(destination=Address(1, physical), source=CLIENT, control=control, info=info)
    return frame.encode()


def opened() -> HdlcClientLink:
    link = HdlcClientLink(client=16, server=1, physical=17)
    link.open()
    link.data_to_send()
    assert link.receive_data(from_meter(hdlc.UA | POLL)) == [LinkOpened()]
    return link


def control_of(octets: bytes) -> list[int]:
    return [f.control for f in FrameDecoder().receive_data(octets) if isinstance(f, Frame)]


def test_a_refused_link_and_a_dropped_link() -> None:
    link = HdlcClientLink(client=16, server=1, physical=17)
    link.open()
    with pytest.raises(MeterRefused, match="busy with another client"):
        link.receive_data(from_meter(hdlc.DM | POLL))
    assert opened().receive_data(from_meter(hdlc.DM | POLL)) == [LinkClosed()]
    with pytest.raises(MeterProtocolError, match="FRMR"):
        opened().receive_data(from_meter(hdlc.FRMR | POLL))


def test_a_dropped_link_ends_the_conversation() -> None:
    link = HdlcClientLink(client=16, server=1, physical=17)
    client = ClientConnection(link, AssociationSettings(), lambda: 0)
    client.open()
    client.receive_data(from_meter(hdlc.UA | POLL))
    with pytest.raises(MeterProtocolError, match="dropped the link"):
        client.receive_data(from_meter(hdlc.DM | POLL))


def test_another_stations_frame_is_passed_over_and_counted() -> None:
    link = opened()
    late = from_meter(POLL, b"\xe6\xe7\x00\x01", source=Address(1, 18, 2))
    assert link.receive_data(late) == []
    assert link.noise


def test_a_larger_information_field_is_offered_and_granted() -> None:
    link = HdlcClientLink(client=16, server=1, physical=17, max_info=512)
    link.open()
    (snrm,) = FrameDecoder().receive_data(link.data_to_send())
    assert isinstance(snrm, Frame)
    assert Parameters.decode(snrm.info) == Parameters(transmit=512, receive=512)
    link.receive_data(from_meter(hdlc.UA | POLL, Parameters(transmit=512, receive=256).encode()))
    link.send(bytes(400))
    (first,) = FrameDecoder().receive_data(link.data_to_send())
    assert isinstance(first, Frame)
    assert (len(first.info), first.segmented) == (256, True)
    link.receive_data(from_meter(1 << 5 | POLL | hdlc.RR))
    (second,) = FrameDecoder().receive_data(link.data_to_send())
    assert isinstance(second, Frame)
    assert (len(second.info), second.segmented) == (147, False)


def test_a_lost_frame_is_sent_again_when_the_meter_says_so() -> None:
    link = opened()
    link.send(b"\xc0")
    first = link.data_to_send()
    link.receive_data(from_meter(0 << 5 | POLL | hdlc.RR))  # still waits for number 0
    assert link.data_to_send() == first


def test_segments_are_acknowledged_one_by_one() -> None:
    link = opened()
    link.send(b"\xc0")
    link.data_to_send()
    assert link.receive_data(from_meter(1 << 5 | POLL, b"\xe6\xe7\x00\xaa", segmented=True)) == []
    assert control_of(link.data_to_send()) == [1 << 5 | POLL | hdlc.RR]
    again = from_meter(1 << 5 | POLL, b"\xe6\xe7\x00\xaa", segmented=True)
    assert link.receive_data(again) == []
    assert control_of(link.data_to_send()) == [1 << 5 | POLL | hdlc.RR]
    assert link.receive_data(from_meter(1 << 5 | POLL | 1 << 1, b"\xbb")) == [ApduReceived(b"\xaa\xbb")]


def test_an_empty_information_frame_is_an_error() -> None:
    channel = Channel(own=CLIENT, peer=SERVER, is_client=True)
    empty = Frame(destination=CLIENT, source=SERVER, control=POLL, info=hdlc.LLC_RESPONSE)
    with pytest.raises(MeterProtocolError, match="without an APDU"):
        channel.receive(empty)


def test_a_bus_answers_for_its_own_stations_only() -> None:
    meters = {n: ServedMeter(model=SmallMeter()) for n in (17, 18)}
    bus = HdlcBus(meters, ServerSettings())
    snrm = hdlc.SNRM | POLL
    assert bus.receive_data(to_meter(snrm, physical=99)) == b""
    assert control_of(bus.receive_data(to_meter(POLL, b"\xe6\xe6\x00\x60"))) == [hdlc.DM | POLL]
    assert control_of(bus.receive_data(to_meter(snrm))) == [hdlc.UA | POLL]
    assert control_of(bus.receive_data(to_meter(hdlc.DISC | POLL))) == [hdlc.UA | POLL]
    assert control_of(bus.receive_data(to_meter(hdlc.DISC | POLL))) == [hdlc.DM | POLL]
    damaged = bytearray(to_meter(snrm, physical=18))
    damaged[-2] ^= 1
    assert bus.receive_data(bytes(damaged)) == b""
    assert bus.bad_frames == 1
    assert control_of(bus.receive_data(to_meter(snrm, physical=18))) == [hdlc.UA | POLL]
    assert control_of(bus.receive_data(to_meter(snrm, b"\x81\x81\x00"))) == [hdlc.FRMR | POLL]


def test_a_request_without_an_association_is_not_served() -> None:
    bus = HdlcBus({17: ServedMeter(model=SmallMeter())}, ServerSettings())
    bus.receive_data(to_meter(hdlc.SNRM | POLL))
    get = bytes.fromhex("C001C1000100002B0103FF0200")
    (answer,) = FrameDecoder().receive_data(bus.receive_data(to_meter(POLL, hdlc.LLC_REQUEST + get)))
    assert isinstance(answer, Frame)
    assert answer.info == hdlc.LLC_RESPONSE + bytes.fromhex("D80101")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (ExceptionResponse(state=1, service=5), SecurityFailure),
        (ExceptionResponse(state=1, service=6, counter=9), InvocationCounterRefused),
        (ExceptionResponse(state=1, service=2), MeterRefused),
        (ConfirmedServiceError(service=6, error=0, value=6), SecurityFailure),
        (ConfirmedServiceError(service=1, error=6, value=1), MeterRefused),
    ],
)
def test_error_apdus_say_who_must_act(
    answer: ExceptionResponse | ConfirmedServiceError, kind: type[MeterError]
) -> None:
    assert type(outcomes.error_of(answer)) is kind


def test_a_temporary_failure_is_busy() -> None:
    assert isinstance(outcomes.refusal(2, "read"), MeterBusy)
    error = outcomes.refusal(3, "write of 0-0:1.0.0*255#2")
    assert (error.reason_code, str(error)) == (
        3,
        "the meter refused write of 0-0:1.0.0*255#2: read-write denied",
    )


def test_a_refusal_without_user_information_still_names_its_reason() -> None:
    aare = acse.decode_aare(bytes.fromhex("611AA109060785857405080101A203020101A305A10302010DAA0180"))
    assert (aare.result, aare.reason()) == (1, "authentication failure")


def test_settings_that_cannot_work_are_configuration_errors() -> None:
    for broken in (
        {"ciphered": True},
        {"auth": Auth.HLS_GMAC},
        {"auth": Auth.LLS},
        {"auth": Auth.HLS2, "secret": b""},
        {"system_title": b"short"},
    ):
        with pytest.raises(MeterConfigError):
            AssociationSettings(**broken)  # type: ignore[arg-type]
