"""Every parser fed whole, octet by octet and with a tail; bounds exceeded; random octets never surprise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms.apdu import acse
from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.services import GetBlock, GetRequest, decode_apdu, encode_apdu
from protocols.dlms.companion import companion, event_name
from protocols.dlms.core.association_settings import AssociationSettings
from protocols.dlms.core.transaction import MAX_VALUE_OCTETS
from protocols.dlms.data import axdr, cosem_time
from protocols.dlms.data.cursor import MAX_OCTETS
from protocols.dlms.data.types import (
    NULL,
    Data,
    Tag,
    array,
    long_unsigned,
    octets,
    structure,
)
from protocols.dlms.data.values import is_number, to_value
from protocols.dlms.framing import hdlc, hdlc_channel, wrapper
from protocols.dlms.framing.hdlc import Address, Frame, FrameDecoder
from protocols.dlms.framing.hdlc_channel import Channel
from protocols.dlms.framing.wrapper import WrapperDecoder
from protocols.dlms.profile.decoder import buffer_of
from protocols.dlms.profile.layouts import CLOCK, CapturedColumn, Layout, cell_value
from protocols.dlms.server.connection import ServerSettings
from protocols.errors import LocalError, MeterProtocolError, ProtocolError
from protocols.reading import Missing, MissingReason, Number, Obis, ProfileName, Quantity, Text
from tests.support.dlms.bench import POLICIES, START, Joined, SmallMeter
from tests.support.dlms.strategies import LEAVES

FAST = settings(max_examples=100)
Feed = Callable[[bytes], Sequence[object]]


VALUES = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        lambda tag, items: Data(tag, tuple(items)),
        st.sampled_from([Tag.ARRAY, Tag.STRUCTURE]),
        st.lists(inner, max_size=6),
    ),
    max_leaves=25,
)


@FAST
@given(VALUES)
def test_values_survive_the_round_trip(data: Data) -> None:
    encoded = axdr.encode(data)
    assert axdr.decode(encoded) == data
    with pytest.raises(MeterProtocolError, match="after the end"):
        axdr.decode(encoded + b"\0")
    with pytest.raises(MeterProtocolError, match="offset"):
        axdr.decode(encoded[:-1])


def feed_every_way(make: Callable[[], Feed], data: bytes, tail: bytes, expected: list[object]) -> None:
    """Whole, octet by octet, and with the start of another message behind."""
    assert make()(data) == expected
    feed = make()
    assert [event for octet in data for event in feed(bytes((octet,)))] == expected
    feed = make()
    assert feed(data + tail[:-1]) == expected
    assert feed(tail[-1:]) == expected[:1]


def test_wrapper_every_way() -> None:
    one = wrapper.encode(1, 16, b"\xc4\x01\xc1\x01\x04")
    two = wrapper.encode(1, 16, bytes(3000))
    expected: list[object] = list(WrapperDecoder().receive_data(one + two))
    assert len(expected) == 2
    feed_every_way(lambda: WrapperDecoder().receive_data, one + two, one, expected)


def test_hdlc_every_way() -> None:
    one = Frame(destination=Address(16, None, 1), source=Address(1, 17, 2), control=0x10, info=b"\x7e" * 100)
    two = Frame(destination=Address(16, None, 1), source=Address(1, 17, 2), control=0x73)
    noise = b"\x00\xff"
    data = noise + one.encode() + two.encode()[1:]  # one flag between two frames is enough
    feed_every_way(lambda: FrameDecoder().receive_data, data, one.encode(), [one, two])


@FAST
@given(st.binary(max_size=300))
def test_random_octets_are_a_value_or_a_protocol_error(data: bytes) -> None:
    for parse in (
        axdr.decode,
        decode_apdu,
        acse.decode_aarq,
        acse.decode_aare,
        acse.decode_release,
        acse.decode_initiate_request,
        acse.decode_initiate_response,
        WrapperDecoder().receive_data,
        FrameDecoder().receive_data,
        hdlc.Parameters.decode,
    ):
        try:
            parse(data)
        except ProtocolError:
            pass


@FAST
@given(st.integers(0, 0xFF), st.integers(0, 200), st.sampled_from(["none", "hls2"]))
def test_a_damaged_answer_is_an_event_or_a_protocol_error(value: int, at: int, name: str) -> None:
    policy, association = POLICIES[name]
    joined = Joined(SmallMeter({48: policy}), association, framing="wrapper")
    joined.associate()
    joined.tamper = lambda data: data[: at % len(data)] + bytes((value,)) + data[at % len(data) + 1 :]
    joined.client.request(GetRequest(target=Target(7, Obis(1, 0, 94, 91, 0), 2)))
    try:
        joined.run()
    except ProtocolError:
        pass


@FAST
@given(st.binary(min_size=1, max_size=60))
def test_a_server_answers_any_octets(data: bytes) -> None:
    joined = Joined(SmallMeter({48: POLICIES["none"][0]}), AssociationSettings())
    joined.associate()
    assert joined.server.receive_data(wrapper.encode(48, 1, data))


def test_depth_count_and_size_are_bounded() -> None:
    with pytest.raises(MeterProtocolError, match="nested deeper than 16"):
        axdr.decode(b"\x02\x01" * 20 + b"\x00")
    with pytest.raises(MeterProtocolError, match="elements announced"):
        axdr.decode(b"\x01\x84\xff\xff\xff\xff\x00")
    with pytest.raises(MeterProtocolError, match=f"more than {axdr.MAX_ELEMENTS} elements"):
        axdr.decode(b"\x01\x83\x04\x00\x00" + bytes(0x40000))
    with pytest.raises(MeterProtocolError, match="more than the"):
        axdr.decode(bytes(MAX_OCTETS + 1))


def test_endless_blocks_are_bounded() -> None:
    joined = Joined(SmallMeter({48: POLICIES["none"][0]}), AssociationSettings())
    joined.associate()
    joined.client.request(GetRequest(target=Target(1, Obis(0, 0, 1, 0, 0), 2)))
    blocks = [encode_apdu(GetBlock(last=False, number=n, raw=bytes(60_000))) for n in range(1, 50)]
    octets_ = b"".join(wrapper.encode(1, 48, block) for block in blocks)
    with pytest.raises(MeterProtocolError, match=f"more than {MAX_VALUE_OCTETS} octets"):
        joined.client.receive_data(octets_)


def test_endless_segments_are_bounded() -> None:
    client, server = Address(16, None, 1), Address(1, 17, 2)
    channel = Channel(own=client, peer=server, is_client=True)
    segments = [
        Frame(destination=client, source=server, control=(n % 8) << 1, info=bytes(1000), segmented=True)
        for n in range(100)
    ]
    with pytest.raises(MeterProtocolError, match=f"more than {hdlc_channel.MAX_APDU} octets"):
        _ = [channel.receive(segment) for segment in segments]


def test_a_repeated_frame_is_taken_once() -> None:
    client, server = Address(16, None, 1), Address(1, 17, 2)
    channel = Channel(own=client, peer=server, is_client=True)
    frame = Frame(destination=client, source=server, control=0x10, info=b"\xe6\xe7\x00\x01")
    assert channel.receive(frame) == b"\x01"
    assert channel.receive(frame) is None


def test_an_endless_frame_is_bounded_and_a_wrong_length_is_named_at_once() -> None:
    ends: dict[str, Any] = {"destination": Address(16, None, 1), "source": Address(1, 17, 2)}
    longest = Frame(**ends, control=0x10, info=bytes(hdlc.MAX_FRAME - 10)).encode()[:-3]
    decoder = FrameDecoder()
    assert decoder.receive_data(longest) == []
    assert decoder.pending == len(longest) - 1 <= hdlc.MAX_FRAME + 1
    assert [type(f) for f in decoder.receive_data(b"\x01\x02\x03")] == [hdlc.BadFrame]
    assert decoder.pending == 0
    with pytest.raises(LocalError, match="too long"):
        Frame(**ends, control=0x10, info=bytes(hdlc.MAX_FRAME)).encode()
    short = b"\xa0\x0a\x21\x02\x23\x10"  # two octets of "information", no room for its FCS
    (bad,) = FrameDecoder().receive_data(b"\x7e" + short + hdlc.crc(short) + b"\x01\x02\x7e")
    assert isinstance(bad, hdlc.BadFrame)
    assert "no room" in bad.reason
    (bad,) = FrameDecoder().receive_data(b"\x7e\xa0\x09\x20\x02\x23\x00\x00")
    assert isinstance(bad, hdlc.BadFrame)


def test_hdlc_noise_is_dropped_and_counted() -> None:
    decoder = FrameDecoder()
    assert decoder.receive_data(bytes(100_000)) == []
    assert decoder.noise == 100_000


def test_values_that_do_not_fit_are_our_own_error() -> None:
    for data in (Data(Tag.UNSIGNED, 256), Data(Tag.DATE_TIME, b"1"), Data(Tag.BIT_STRING, "2")):
        with pytest.raises(LocalError):
            axdr.encode(data)


def test_data_to_values() -> None:
    def value(data: Data) -> object:
        return to_value(data, scale=(-1, "V"), time=False, zone=cosem_time.INDIA)

    assert value(Data(Tag.FLOAT32, bytes.fromhex("3DCCCCCD"))) == Number(1, -2, "V")
    assert value(Data(Tag.FLOAT64, bytes.fromhex("C05EDCCCCCCCCCCD"))) == Number(-12345, -3, "V")
    assert value(Data(Tag.FLOAT32, bytes.fromhex("7FC00000"))) == Missing(MissingReason.SENTINEL)
    assert value(Data(Tag.VISIBLE_STRING, "ab  ")) == Text("ab")
    assert value(octets(b"GEN\0")) == Text("GEN")
    assert value(octets(b"\xff\x01")) == Text("FF01")
    assert value(NULL) == Missing(MissingReason.NOT_SPECIFIED)
    assert value(array()) == Missing(MissingReason.NOT_SUPPORTED)


@given(st.sampled_from([19, 20, 21, 23, 24]), st.sampled_from([91, 96]), st.binary(max_size=20))
def test_octets_are_never_an_amount(what: int, group: int, given_octets: bytes) -> None:
    obis = Obis(0, 0, 94, group, what)
    assert is_number(obis, 2)
    column = CapturedColumn(class_id=1, quantity=Quantity(obis), scale=(-2, "INR"))
    for tag in (Tag.OCTET_STRING, Tag.DATE_TIME, Tag.VISIBLE_STRING):
        value: object = given_octets.hex() if tag is Tag.VISIBLE_STRING else given_octets
        assert cell_value(column, Data(tag, value), cosem_time.INDIA) == Missing(MissingReason.OUT_OF_RANGE)  # type: ignore[arg-type]
    assert cell_value(column, Data(Tag.DOUBLE_LONG, -50_00), cosem_time.INDIA) == Number(-50_00, -2, "INR")
    assert cell_value(column, NULL, cosem_time.INDIA) == Missing(MissingReason.NOT_SPECIFIED)


def _layout(*, newest_first: bool = False) -> Layout:
    columns = (
        CapturedColumn(class_id=8, quantity=Quantity(CLOCK)),
        CapturedColumn(class_id=3, quantity=Quantity.of("1-0:1.29.0"), scale=(0, "Wh")),
        CapturedColumn(class_id=3, quantity=Quantity.of("1-0:9.29.0")),
    )
    return Layout(
        profile=ProfileName.BLOCK_LOAD,
        obis=Obis(1, 0, 99, 1, 0),
        columns=columns,
        period=1800,
        newest_first=newest_first,
    )


def _row(at: datetime | None, value: int) -> Data:
    stamp = octets(cosem_time.encode(at)) if at else octets(b"\xff" * 12)
    return structure(stamp, long_unsigned(value), long_unsigned(1))


@pytest.mark.parametrize("newest_first", [False, True])
def test_rows_with_one_stamp_are_occurrences_and_repeats_are_dropped(newest_first: bool) -> None:
    later = START + timedelta(minutes=30)
    rows = [_row(START, 1), _row(START, 2), _row(START, 2), _row(None, 9), _row(later, 3)]
    if newest_first:
        rows.reverse()
    layout = _layout(newest_first=newest_first)
    now = datetime(2026, 6, 2, tzinfo=UTC)
    decoded = buffer_of(layout, array(*rows), zone=cosem_time.INDIA).sets(received_at=now)
    found = [(s.at, s.occurrence, s.value("1-0:1.29.0*255")) for s in decoded.sets]
    assert found == [
        (START, 0, Number(1, 0, "Wh")),
        (START, 1, Number(2, 0, "Wh")),
        (later, 0, Number(3, 0, "Wh")),
    ]
    assert decoded.unstamped == 1


def test_a_register_without_a_scale_is_missing_not_guessed() -> None:
    now = datetime(2026, 6, 2, tzinfo=UTC)
    decoded = buffer_of(_layout(), array(_row(START, 1)), zone=cosem_time.INDIA).sets(received_at=now)
    assert decoded.sets[0].value("1-0:9.29.0*255") == Missing(MissingReason.NOT_SUPPORTED)


def test_a_row_of_another_width_is_a_protocol_error() -> None:
    now = datetime(2026, 6, 2, tzinfo=UTC)
    with pytest.raises(MeterProtocolError, match="row 0 has 1 cells"):
        buffer_of(_layout(), array(structure(NULL)), zone=cosem_time.INDIA).sets(received_at=now)


@FAST
@given(st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)))
def test_instants_survive_the_round_trip(at: datetime) -> None:
    at = at.replace(microsecond=0)
    for deviation in (330, -330, None):
        stamp = cosem_time.decode(cosem_time.encode(at, deviation=deviation))
        assert (stamp.at, stamp.deviation, stamp.trusted) == (at, deviation, True)


def test_the_companion_file_is_whole() -> None:
    known = companion()
    assert set(ProfileName) - set(known.profiles) == {ProfileName.PREPAYMENT, ProfileName.EVENTS}
    assert len(known.event_logs) == 7
    assert known.associations[48].counter == Obis(0, 0, 43, 1, 3)
    assert all(item.older.d == 91 and item.obis.d == 96 for item in known.prepayment)
    for profile in known.profiles.values():
        assert all(column.unit_code for column in profile.columns)
    assert event_name(301) == "load disconnected"
    assert event_name(8) == "over voltage (restored)"
    assert event_name(9999) == "event 9999"


def test_server_limits_shape_what_is_sent() -> None:
    joined = Joined(
        SmallMeter({48: POLICIES["none"][0]}),
        AssociationSettings(),
        framing="hdlc",
        limits=ServerSettings(max_pdu=200, max_info=64),
    )
    joined.associate()
    joined.get(7, "1-0:99.1.0*255")
    frames = [f for octets_ in joined.to_client for f in FrameDecoder().receive_data(octets_)]
    sizes = [len(f.info) for f in frames if isinstance(f, Frame)]
    assert max(sizes) == 64
