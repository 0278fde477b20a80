"""HDLC links and buses in the cases that a quiet line never shows, and what error APDUs stand for."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.dlms.apdu import acse
from protocols.dlms.apdu.services import ConfirmedServiceError, ExceptionResponse
from protocols.dlms.core import outcomes
from protocols.dlms.core.association_settings import AssociationSettings
from protocols.dlms.core.connection import ClientConnection
from protocols.dlms.framing import hdlc
from protocols.dlms.framing.hdlc import Address, Frame, FrameDecoder, Parameters
from protocols.dlms.framing.hdlc_channel import Channel
from protocols.dlms.framing.hdlc_link import MAX_POLLS, MAX_RECOVERIES, HdlcClientLink
from protocols.dlms.framing.link import ApduReceived, LinkClosed, LinkOpened
from protocols.dlms.server.connection import ServerSettings
from protocols.dlms.server.links import MAX_CLIENTS, HdlcBus, ServedMeter
from protocols.errors import (
    AssociationLost,
    InvocationCounterRefused,
    LocalError,
    MeterBusy,
    MeterConfigError,
    MeterError,
    MeterProtocolError,
    MeterRefused,
    MeterSilent,
    SecurityFailure,
)
from protocols.session import Auth
from tests.support.dlms.bench import SmallMeter

CLIENT, SERVER = Address(16, None, 1), Address(1, 17, 2)
POLL = hdlc.POLL
LIMITS = ServerSettings()


def from_meter(
    control: int, info: bytes = b"", *, source: Address = SERVER, segmented: bool = False
) -> bytes:
    frame = Frame(destination=CLIENT, source=source, control=control, info=info, segmented=segmented)
    return frame.encode()


def to_meter(control: int, info: bytes = b"", *, physical: int = 17) -> bytes:
    frame = Frame(destination=Address(1, physical), source=CLIENT, control=control, info=info)
    return frame.encode()


def opened(window: int = 1) -> HdlcClientLink:
    link = HdlcClientLink(client=16, server=1, physical=17, window=window)
    link.open()
    link.data_to_send()
    granted = Parameters(window_transmit=window, window_receive=window).encode()
    assert link.receive_data(from_meter(hdlc.UA | POLL, granted)) == [LinkOpened()]
    return link


def damaged(frame: bytes) -> bytes:
    """The same frame with a wrong FCS and a right header."""
    return frame[:-2] + bytes((frame[-2] ^ 1,)) + frame[-1:]


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
    assert link.data_to_send() == b""  # a late copy: answering it would double everything that follows
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
    assert control_of(bus.receive_data(to_meter(0x0B | POLL, physical=18))) == [hdlc.FRMR | POLL]


def test_a_group_address_draws_no_answer() -> None:
    bus = HdlcBus({0x7F: ServedMeter(model=SmallMeter()), 0x3FFF: ServedMeter(model=SmallMeter())}, LIMITS)
    for everyone in (Address(1, 0x7F), Address(0x7F, 17), Address(1, 0x3FFF, 4), Address(0x7F)):
        frame = Frame(destination=everyone, source=CLIENT, control=hdlc.SNRM | POLL)
        assert bus.receive_data(frame.encode()) == b""


@pytest.mark.parametrize(
    ("octets", "physical", "wire"),
    [(1, None, "03"), (2, 17, "0223"), (4, 17, "00020023"), (0, 145, "02000223")],
)
def test_server_addresses_are_written_as_asked_and_answered_alike(
    octets: int, physical: int | None, wire: str
) -> None:
    number = 17 if physical is None else physical
    bus = HdlcBus({number: ServedMeter(model=SmallMeter())}, LIMITS)
    link = HdlcClientLink(client=16, server=1, physical=physical, address_octets=octets)
    link.open()
    snrm = link.data_to_send()
    if octets != 0:
        assert snrm[3 : 3 + octets] == bytes.fromhex(wire)
    answer = bus.receive_data(snrm)
    assert link.receive_data(answer) == [LinkOpened()]


@pytest.mark.parametrize(
    "bad",
    [
        {"address_octets": 3},
        {"address_octets": 2},
        {"address_octets": 1, "physical": 17},
        {"address_octets": 2, "physical": 1000},
        {"physical": 20000},
        {"server": 200},
        {"window": 0},
        {"window": 8},
        {"max_info": 4},
    ],
)
def test_link_settings_that_cannot_work_are_configuration_errors(bad: dict[str, int]) -> None:
    with pytest.raises(MeterConfigError):
        HdlcClientLink(**{"client": 16, "server": 1} | bad)  # type: ignore[arg-type]


def test_windows_are_offered_granted_and_used() -> None:
    """Seven frames leave at once; only the last passes the turn."""
    bus = HdlcBus({17: ServedMeter(model=SmallMeter())}, ServerSettings(window=5))
    link = HdlcClientLink(client=16, server=1, physical=17, window=7)
    link.open()
    snrm = link.data_to_send()
    (offer,) = FrameDecoder().receive_data(snrm)
    assert isinstance(offer, Frame)
    assert Parameters.decode(offer.info) == Parameters(window_transmit=7, window_receive=7)
    answer = bus.receive_data(snrm)
    (granted,) = FrameDecoder().receive_data(answer)
    assert isinstance(granted, Frame)
    assert Parameters.decode(granted.info) == Parameters(window_transmit=5, window_receive=5)
    link.receive_data(answer)
    link.send(bytes(128 * 6))
    window = link.data_to_send()
    assert control_of(window) == [0x00, 0x02, 0x04, 0x06, 0x08 | POLL]
    assert control_of(bus.receive_data(window)) == [5 << 5 | POLL | hdlc.RR]


def test_a_bare_snrm_gets_the_defaults() -> None:
    bus = HdlcBus({17: ServedMeter(model=SmallMeter())}, ServerSettings(window=7, max_info=1000))
    (answer,) = FrameDecoder().receive_data(bus.receive_data(to_meter(hdlc.SNRM | POLL)))
    assert isinstance(answer, Frame)
    assert Parameters.decode(answer.info) == Parameters()


def test_a_hole_in_a_window_is_asked_for_and_filled() -> None:
    link = opened(window=3)
    link.send(b"\xc0")
    link.data_to_send()
    parts = [
        from_meter(1 << 5 | n << 1 | (POLL if n == 2 else 0), bytes((n,)) * 4, segmented=n < 2)
        for n in range(3)
    ]
    assert link.receive_data(parts[0] + parts[2]) == []
    assert control_of(link.data_to_send()) == [1 << 5 | POLL | hdlc.REJ]
    assert link.receive_data(parts[1] + parts[2]) == [ApduReceived(bytes((0,) * 4 + (1,) * 4 + (2,) * 4))]


def test_the_meter_asks_for_a_hole_too() -> None:
    bus = HdlcBus({17: ServedMeter(model=SmallMeter())}, ServerSettings(window=3))
    offer = Parameters(window_transmit=3, window_receive=3)
    bus.receive_data(to_meter(hdlc.SNRM | POLL, offer.encode()))
    assert bus.receive_data(to_meter(1 << 1, b"\xc0")) == b""
    assert control_of(bus.receive_data(to_meter(2 << 1 | POLL, b"\xc0"))) == [0 << 5 | POLL | hdlc.REJ]


def test_a_busy_meter_is_polled_until_it_is_ready() -> None:
    link = opened()
    link.send(b"\xc0")
    request = link.data_to_send()
    for _ in range(3):
        link.receive_data(from_meter(0 << 5 | POLL | hdlc.RNR))
        assert control_of(link.data_to_send()) == [0 << 5 | POLL | hdlc.RR]
    assert link.busy
    link.receive_data(from_meter(0 << 5 | POLL | hdlc.RR))
    assert link.data_to_send() == request
    assert link.receive_data(from_meter(1 << 5 | POLL, b"\xe6\xe7\x00\xaa")) == [ApduReceived(b"\xaa")]
    assert not link.busy


def test_a_busy_bus_says_so_and_goes_on_later() -> None:
    bus = HdlcBus({17: ServedMeter(model=SmallMeter())}, LIMITS)
    link = HdlcClientLink(client=16, server=1, physical=17)
    link.open()
    link.receive_data(bus.receive_data(link.data_to_send()))
    bus.busy = True
    link.send(b"\xc0\x01")
    for _ in range(3):
        answer = bus.receive_data(link.data_to_send())
        assert control_of(answer) == [0 << 5 | POLL | hdlc.RNR]
        assert link.receive_data(answer) == []
    bus.busy = False
    for _ in range(2):  # the poll is answered, then the request is taken
        events = link.receive_data(bus.receive_data(link.data_to_send()))
    assert events == [ApduReceived(bytes.fromhex("D80101"))]


@pytest.mark.parametrize("control", [hdlc.RNR, 1 << 5 | hdlc.RR])
def test_a_meter_that_stays_busy_is_given_up(control: int) -> None:
    link = opened()
    link.send(b"\xc0")
    with pytest.raises(MeterSilent, match="stays busy"):
        link.receive_data(from_meter(control | POLL) * (MAX_POLLS + 1))


def test_frames_that_are_never_acknowledged_are_given_up() -> None:
    link = opened()
    link.send(b"\xc0")
    with pytest.raises(MeterProtocolError, match=f"repeated {MAX_RECOVERIES} times"):
        link.receive_data(from_meter(0 << 5 | POLL | hdlc.REJ) * (MAX_RECOVERIES + 1))


def test_a_damaged_answer_is_asked_for_again_at_once_and_not_for_ever() -> None:
    link = opened()
    link.send(b"\xc0")
    link.data_to_send()
    answer = from_meter(1 << 5 | POLL, b"\xe6\xe7\x00\xaa")
    assert link.receive_data(damaged(answer)) == []
    assert control_of(link.data_to_send()) == [0 << 5 | POLL | hdlc.RR]
    assert "check sequence is wrong" in link.complaint
    assert link.receive_data(answer) == [ApduReceived(b"\xaa")]
    link.send(b"\xc0")
    second = from_meter(2 << 5 | POLL | 1 << 1, b"\xe6\xe7\x00\xaa")
    with pytest.raises(MeterProtocolError, match="damaged answers in a row"):
        link.receive_data(damaged(second) * (MAX_RECOVERIES + 1))


def test_a_damaged_ua_is_asked_for_again() -> None:
    link = HdlcClientLink(client=16, server=1, physical=17)
    link.open()
    snrm = link.data_to_send()
    ua = from_meter(hdlc.UA | POLL, Parameters().encode())
    assert link.receive_data(damaged(ua)) == []
    assert link.data_to_send() == snrm
    assert link.receive_data(ua) == [LinkOpened()]


def test_opening_and_closing_are_repeated_once() -> None:
    link = HdlcClientLink(client=16, server=1, physical=17)
    for begin in (link.open, link.close):
        begin()
        first = link.data_to_send()
        assert link.timed_out()
        assert link.data_to_send() == first
        assert not link.timed_out()
    assert link.receive_data(from_meter(hdlc.UA | POLL)) == [LinkClosed()]


def test_nothing_is_repeated_when_nothing_is_awaited() -> None:
    assert not opened().timed_out()


def test_an_acknowledgement_of_what_was_not_sent_ends_the_connection() -> None:
    link = opened()
    with pytest.raises(MeterProtocolError, match=r"N\(R\) 3"):
        link.receive_data(from_meter(3 << 5 | POLL | hdlc.RR))
    bus = HdlcBus({17: ServedMeter(model=SmallMeter())}, LIMITS)
    bus.receive_data(to_meter(hdlc.SNRM | POLL))
    (answer,) = FrameDecoder().receive_data(bus.receive_data(to_meter(3 << 5 | POLL | hdlc.RR)))
    assert isinstance(answer, Frame)
    assert "N(R) out of range" in hdlc.rejection_text(answer.info)
    assert control_of(bus.receive_data(to_meter(POLL | hdlc.RR))) == [hdlc.DM | POLL]


def test_a_rejection_is_told_in_words() -> None:
    with pytest.raises(MeterProtocolError) as caught:
        opened().receive_data(from_meter(hdlc.FRMR | POLL, bytes((0x10, 0x64, 0x04))))
    assert "control 0x10 refused: information field too long; the meter is at V(S) 2, V(R) 3" in str(
        caught.value
    )
    assert hdlc.rejection_text(b"\x10") == ""
    assert "no reason given" in hdlc.rejection_text(bytes(3))


def test_an_empty_information_frame_is_refused() -> None:
    with pytest.raises(MeterProtocolError, match="without information"):
        opened().receive_data(from_meter(POLL))


def test_a_notification_in_a_ui_frame_does_not_disturb_the_exchange() -> None:
    bus = HdlcBus({17: ServedMeter(model=SmallMeter())}, LIMITS)
    assert bus.notification(17, 16, b"\x0f\x01") == b""  # nobody is connected
    link = HdlcClientLink(client=16, server=1, physical=17)
    link.open()
    link.receive_data(bus.receive_data(link.data_to_send()))
    link.send(b"\xc0\x01")
    notification = bus.notification(17, 16, b"\x0f\x01")
    answer = bus.receive_data(link.data_to_send())
    assert link.receive_data(notification + answer) == [
        ApduReceived(b"\x0f\x01", unasked=True),
        ApduReceived(bytes.fromhex("D80101")),
    ]
    with pytest.raises(LocalError, match="UI frame takes 125"):
        bus.notification(17, 16, bytes(126))


def test_a_meter_with_several_apdus_in_a_row_is_polled_for_the_next() -> None:
    link = opened()
    link.send(b"\xc0")
    link.data_to_send()
    assert link.receive_data(from_meter(1 << 5 | POLL, b"\xe6\xe7\x00\x0f")) == [ApduReceived(b"\x0f")]
    assert link.data_to_send() == b""
    link.expect()
    assert control_of(link.data_to_send()) == [1 << 5 | POLL | hdlc.RR]
    link.expect()
    assert link.data_to_send() == b""
    assert link.receive_data(from_meter(1 << 5 | POLL | 1 << 1, b"\xe6\xe7\x00\xc4")) == [
        ApduReceived(b"\xc4")
    ]


def test_a_ui_request_is_served_when_it_polls() -> None:
    bus = HdlcBus({17: ServedMeter(model=SmallMeter())}, LIMITS)
    bus.receive_data(to_meter(hdlc.SNRM | POLL))
    request = hdlc.LLC_REQUEST + b"\xc0\x01"
    assert bus.receive_data(to_meter(hdlc.UI, request)) == b""
    assert control_of(bus.receive_data(to_meter(hdlc.UI | POLL, request))) == [hdlc.UI | POLL]


def test_silence_drops_half_a_frame_on_the_bus() -> None:
    bus = HdlcBus({17: ServedMeter(model=SmallMeter())}, LIMITS)
    bus.receive_data(to_meter(POLL, bytes(100))[:50])
    bus.quiet()
    assert control_of(bus.receive_data(to_meter(hdlc.SNRM | POLL))) == [hdlc.UA | POLL]


def test_clients_on_a_bus_are_apart_and_bounded() -> None:
    bus = HdlcBus({17: ServedMeter(model=SmallMeter())}, LIMITS)

    def snrm(client: int) -> bytes:
        source = Address(client, None, 1)
        frame = Frame(destination=Address(1, 17), source=source, control=hdlc.SNRM | POLL)
        return bus.receive_data(frame.encode())

    assert all(snrm(client) for client in range(1, MAX_CLIENTS + 1))
    assert snrm(MAX_CLIENTS + 1) == b""
    assert snrm(1)


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
        (ExceptionResponse(state=1, service=2), AssociationLost),
        (ConfirmedServiceError(service=6, error=0, value=6), SecurityFailure),
        (ConfirmedServiceError(service=1, error=6, value=1), MeterRefused),
    ],
)
def test_error_apdus_say_who_must_act(
    answer: ExceptionResponse | ConfirmedServiceError, kind: type[MeterError]
) -> None:
    assert type(outcomes.error_of(answer)) is kind


def test_a_temporary_failure_is_busy() -> None:
    assert isinstance(outcomes.service_refusal(2, "read"), MeterBusy)
    error = outcomes.service_refusal(3, "write of 0-0:1.0.0*255#2")
    assert (error.reason_code, str(error)) == (
        3,
        "the meter refused write of 0-0:1.0.0*255#2: read-write denied",
    )


def test_a_refusal_without_user_information_still_names_its_reason() -> None:
    aare = acse.decode_aare(bytes.fromhex("611AA109060785857405080101A203020101A305A10302010DAA0180"))
    assert (aare.result, aare.reason()) == (1, "authentication failure")


def test_settings_that_cannot_work_are_configuration_errors() -> None:
    broken_settings: tuple[dict[str, Any], ...] = (
        {"ciphered": True},
        {"auth": Auth.HLS_GMAC},
        {"auth": Auth.LLS},
        {"auth": Auth.HLS2, "secret": b""},
        {"system_title": b"short"},
    )
    for broken in broken_settings:
        with pytest.raises(MeterConfigError):
            AssociationSettings(**broken)
