"""Pushes, sans-IO: vectors byte for byte, bodies as seen in the field, framing whole and split, every refusal."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.apdu import notification
from protocols.dlms.apdu.notification import DataNotification, EventNotification
from protocols.dlms.companion import companion
from protocols.dlms.data.types import (
    NULL,
    Data,
    Tag,
    array,
    double_long_unsigned,
    long_unsigned,
    octets,
    structure,
)
from protocols.dlms.framing import wrapper
from protocols.dlms.framing.hdlc import Address, Frame
from protocols.dlms.framing.hdlc_link import HdlcClientLink
from protocols.dlms.framing.link import ApduReceived
from protocols.dlms.framing.wrapper import WrapperClientLink
from protocols.dlms.push import framing as push_framing
from protocols.dlms.push.body import ESW, Alert, Payload, PushedCells, PushedRows
from protocols.dlms.push.deframing import MAX_NOISE
from protocols.dlms.push.framing import MAX_PUSH, PushStream
from protocols.dlms.push.receiver import MAX_UNKNOWN, PushReceiver
from protocols.dlms.push.senders import PLAIN, PushPeer, sender_key
from protocols.dlms.security import ciphering, suites
from protocols.dlms.security.suites import Keys
from protocols.errors import LocalError, MeterConfigError, MeterProtocolError
from tests.support.dlms.pushes import (
    ALERT,
    ALERT_SETUP,
    BITS,
    CLOCK,
    FRAMED,
    KEYS,
    METER,
    OTHER_KEYS,
    SETUP,
    TITLE,
    Memory,
    Ring,
    apdus_of,
    ciphered,
    datagram,
    plain_push,
    receiver,
    ui,
)

# u9n/dlms-cosem c52e9d4, test_general_global_cipher and test_udp_message (dlms-india.md section 5)
GENERAL_GLO = bytes.fromhex(
    "DB082F192291991641033B30000001E5025CE9D2271FD78BE8C204211A916A9D7F587E0A7A814CADEA89E9593F01F92E"
    "A8C087B5BDFDEFEAB6BECF282DFE49C08F5BE6DC8400"
)
PLAIN_OF_IT = bytes.fromhex(
    "0F000001DB000922125A8591360000000049000000110000000A5A8513D014800000000D0000000A0100"
)
VECTOR_KEYS = Keys(encryption=b"MYDUMMYGLOBALKEY", authentication=b"MYDUMMYGLOBALKEY")
VECTOR_TITLE = bytes.fromhex("2F19229199164103")


# vectors


def test_the_general_glo_vector_opens_to_its_data_notification() -> None:
    opened = ciphering.unprotect_apdu(VECTOR_KEYS, b"", GENERAL_GLO)
    assert opened.plain == PLAIN_OF_IT
    found = notification.decode(opened.plain)
    assert isinstance(found, DataNotification)
    assert (found.invoke, found.date_time) == (0x1DB, b"")
    assert found.body.octets == PLAIN_OF_IT[8:]
    assert notification.encode(found) == PLAIN_OF_IT
    assert ciphered(PLAIN_OF_IT, 0x1E5, VECTOR_KEYS, VECTOR_TITLE) == GENERAL_GLO


def test_the_same_vector_in_a_udp_datagram() -> None:
    sent = bytes.fromhex("0001000100010046") + GENERAL_GLO
    assert datagram(sent) == [GENERAL_GLO]
    assert wrapper.encode(1, 1, GENERAL_GLO) == sent


CASES: list[DataNotification | EventNotification] = [
    DataNotification(body=octets(b"x")),
    DataNotification(body=structure(octets(b"a"), long_unsigned(7)), invoke=0xFFFFFFFF, date_time=CLOCK),
    EventNotification(class_id=1, obis=ESW, attribute=2, value=Data(Tag.BIT_STRING, BITS)),
    EventNotification(class_id=3, obis=SETUP, attribute=-1, value=long_unsigned(7), time=CLOCK),
]


@pytest.mark.parametrize("apdu", CASES)
def test_a_notification_reads_back_and_is_refused_cut_or_with_a_tail(
    apdu: DataNotification | EventNotification,
) -> None:
    whole = notification.encode(apdu)
    assert notification.decode(whole) == apdu
    for cut in range(len(whole)):
        with pytest.raises(MeterProtocolError):
            notification.decode(whole[:cut])
    with pytest.raises(MeterProtocolError):
        notification.decode(whole + b"\0")


def test_what_does_not_fit_a_notification_is_our_mistake() -> None:
    with pytest.raises(LocalError):
        notification.encode(DataNotification(body=octets(b""), invoke=1 << 32))
    with pytest.raises(LocalError):
        notification.encode(DataNotification(body=octets(b""), date_time=b"\1"))


def test_an_event_status_word_with_the_short_length_of_one_module_is_read() -> None:
    odd = ALERT.replace(b"\x04\x81\x80", b"\x04\x80")
    assert len(odd) == len(ALERT) - 1
    assert notification.decode(odd) == notification.decode(ALERT)
    with pytest.raises(MeterProtocolError):
        notification.decode(odd[:-1])


# bodies


def test_an_alert_names_its_bits() -> None:
    found = receiver().receive(ciphered(ALERT))
    assert found is not None
    assert found.peer is METER
    assert found.body.setup == ALERT_SETUP
    assert found.body.clock == CLOCK
    assert isinstance(found.payload, Alert)
    assert [companion().esw_bit(b) for b in found.payload.set_bits] == ["load switched", "last gasp"]
    assert companion().esw_bit(90) == "bit 90"


def test_rows_one_row_and_flat_values_are_told_apart() -> None:
    row = structure(octets(CLOCK), double_long_unsigned(5))

    def payload(*items: Data) -> Payload:
        found = receiver().receive(ciphered(plain_push(*items)))
        assert found is not None
        return found.payload

    assert payload(array(row, row)) == PushedRows((row, row))
    assert payload(row) == PushedRows((row,))
    assert payload(long_unsigned(1), long_unsigned(2)) == PushedCells((long_unsigned(1), long_unsigned(2)))


def test_a_body_without_a_clock_takes_the_headers_time() -> None:
    body = structure(octets(b"GEN1234"), octets(SETUP.to_bytes()), long_unsigned(1))
    plain = notification.encode(DataNotification(body=body, date_time=CLOCK))
    found = receiver().receive(ciphered(plain))
    assert found is not None
    assert found.body.clock == CLOCK


def test_an_event_notification_of_the_status_word_is_an_alert_on_a_known_connection() -> None:
    plain = notification.encode(CASES[2])
    body = suites.protect(KEYS, TITLE, 9, plain)
    found = receiver().receive(b"\xca" + bytes((len(body),)) + body, METER)
    assert found is not None
    assert found.payload == Alert(BITS)


# refusals


def refused(apdu: bytes, *peers: PushPeer, keys: Keys | None = KEYS, bound: PushPeer | None = None) -> str:
    taker = receiver(*peers, keys=keys)
    assert taker.receive(apdu, bound) is None
    counts = taker.statistics()
    names = [n for n in counts.__slots__ if n not in ("accepted", "unknown") and getattr(counts, n)]
    assert counts.accepted == 0
    assert len(names) == 1
    return names[0]


OPEN = PushPeer(name="GEN:1234", devices=frozenset({"GEN1234"}), required=PLAIN)
NEIGHBOUR = PushPeer(name="GEN:9", title=b"GEN\0\0\0\0\x09", devices=frozenset({"9"}))


def test_every_refusal_has_its_name() -> None:
    event = notification.encode(CASES[3])
    assert refused(b"") == "not_a_push"
    assert refused(bytes.fromhex("C001C1")) == "not_a_push"
    assert refused(ciphered(bytes.fromhex("C001C1"))) == "not_a_push"
    assert refused(b"\x0f") == "malformed"
    assert refused(ciphered(b"\x0f\0")) == "malformed"
    assert refused(PLAIN_OF_IT) == "unknown_form"
    assert refused(event) == "malformed"
    assert refused(plain_push(array())) == "malformed"
    assert refused(plain_push(Data(Tag.BIT_STRING, "1"))) == "malformed"
    assert refused(plain_push(long_unsigned(1), device=b"stranger")) == "unknown_sender"
    assert refused(ciphered(ALERT, title=b"XYZ12345")) == "unknown_sender"
    assert refused(GENERAL_GLO) == "unknown_sender"
    assert refused(b"\xca\x00") == "unknown_sender"
    assert refused(ALERT) == "plain_refused"
    assert refused(ciphered(ALERT, control=0x20)) == "weak_protection"
    assert refused(ciphered(ALERT, control=0x10)) == "weak_protection"
    assert refused(ciphered(ALERT, keys=OTHER_KEYS)) == "wrong_key"
    assert refused(ciphered(ALERT)[:-1] + b"\0") == "wrong_key"
    assert refused(ciphered(ALERT), keys=None) == "no_keys"
    assert refused(ciphered(plain_push(long_unsigned(1), device=b"9")), METER, NEIGHBOUR) == "wrong_device"
    assert refused(ciphered(ALERT), METER, NEIGHBOUR, bound=NEIGHBOUR) == "wrong_device"
    assert refused(b"\xd2\x00") == "unknown_sender"
    assert refused(b"\xd2\x00", bound=METER) == "dedicated_key"
    assert refused(b"\xdc\x08" + TITLE + b"\x01\x30") == "dedicated_key"


def test_keys_that_cannot_be_had_are_counted_too() -> None:
    class Locked(Ring):
        def keys_for(self, system_title: bytes) -> Keys | None:
            raise MeterConfigError("no such file")

    taker = PushReceiver(Locked(METER), Memory())
    assert taker.receive(ciphered(ALERT)) is None
    assert taker.statistics().no_keys == 1


def test_a_replayed_push_is_refused_and_only_a_rising_counter_is_taken() -> None:
    memory = Memory()
    taker = PushReceiver(Ring(METER), memory)
    assert taker.receive(ciphered(ALERT, 5)) is not None
    assert taker.receive(ciphered(ALERT, 5)) is None
    assert taker.receive(ciphered(ALERT, 4)) is None
    assert taker.receive(ciphered(ALERT, 9, OTHER_KEYS)) is None
    assert taker.receive(ciphered(ALERT, 6)) is not None
    assert taker.statistics().replayed == 2
    assert {name: mark.counter for name, mark in memory.marks.items()} == {sender_key(KEYS, TITLE): 6}
    again = PushReceiver(Ring(METER), memory)
    assert again.receive(ciphered(ALERT, 6)) is None


def test_a_plain_push_is_taken_only_where_it_is_declared() -> None:
    assert receiver(OPEN).receive(ALERT) is not None
    assert receiver(METER).receive(ALERT) is None


def test_encryption_alone_is_taken_where_asked_and_must_name_the_device() -> None:
    lax = PushPeer(name="GEN:1234", title=TITLE, devices=frozenset({"GEN1234"}), required=0x20)
    assert receiver(lax).receive(ciphered(ALERT, control=0x20)) is not None
    assert refused(ciphered(plain_push(long_unsigned(1), device=b"x"), control=0x20), lax) == "wrong_device"
    assert refused(ciphered(ALERT, control=0x20, keys=OTHER_KEYS), lax) == "wrong_key"


@pytest.mark.parametrize("control", [0x30, 0x20])
def test_while_keys_are_changed_a_push_under_either_is_taken_and_each_counts_for_itself(control: int) -> None:
    ring = Ring(replace(METER, required=control))
    taker = PushReceiver(ring, Memory())
    new = ciphered(ALERT, 1, OTHER_KEYS, control=control)
    assert taker.receive(ciphered(ALERT, 9, control=control)) is not None
    assert taker.receive(new) is None
    ring.others = (OTHER_KEYS,)
    assert taker.receive(new) is not None
    assert taker.receive(new) is None
    assert taker.receive(ciphered(ALERT, 9, control=control)) is None
    counts = taker.statistics()
    assert (counts.accepted, counts.wrong_key, counts.replayed) == (2, 1, 2)


def test_a_body_that_names_nobody_is_the_key_s_owner_s_even_without_a_tag() -> None:
    lax = PushPeer(name="GEN:1234", title=TITLE, devices=frozenset({"GEN1234"}), required=0x20)
    empty = DataNotification(body=structure(NULL, octets(SETUP.to_bytes()), octets(CLOCK), long_unsigned(1)))
    nobody = ciphered(notification.encode(empty), control=0x20)
    assert receiver(lax).receive(nobody) is not None
    assert refused(nobody, replace(lax, pinned=True)) == "wrong_device"


def test_a_plain_push_without_a_form_names_the_meter_that_its_address_is_known_for() -> None:
    taker = receiver(OPEN)
    odd = notification.encode(DataNotification(body=structure(long_unsigned(1))))
    assert taker.receive(odd, hint=OPEN) is None
    assert taker.receive(odd) is None
    assert (taker.statistics().unknown_form, taker.statistics().unread) == (2, {OPEN.name: 1})


def test_a_device_that_nobody_knows_is_taken_where_a_tag_proves_the_sender_unless_pinned() -> None:
    odd = ciphered(plain_push(long_unsigned(1), device=b"module 7"))
    pinned = PushPeer(name="GEN:1234", title=TITLE, devices=frozenset({"1234"}), pinned=True)
    assert receiver().receive(odd) is not None
    assert refused(odd, pinned) == "wrong_device"


def test_unknown_senders_are_remembered_in_a_bounded_table() -> None:
    taker = receiver()
    for i in range(MAX_UNKNOWN * 3):
        taker.receive(plain_push(long_unsigned(1), device=b"\x1b[31m%d" % i))
    counts = taker.statistics()
    assert counts.unknown_sender == MAX_UNKNOWN * 3
    assert len(counts.unknown) <= MAX_UNKNOWN + 1
    assert counts.unknown["others"] == MAX_UNKNOWN * 2
    assert all(name.isascii() and name.isprintable() for name in counts.unknown)


@given(st.binary(max_size=80), st.sampled_from([b"", b"\x0f", b"\xc2", b"\xdb\x08" + TITLE, b"\xca"]))
def test_no_octets_make_the_receiver_raise(tail: bytes, head: bytes) -> None:
    taker = receiver(METER, OPEN)
    taker.receive(head + tail, METER)
    counts = taker.statistics()
    assert sum(getattr(counts, n) for n in counts.__slots__ if n not in ("unknown", "unread", "replays")) == 1


@given(st.integers(0, len(ALERT) - 1), st.integers(1, 255))
def test_a_flipped_octet_of_a_plain_push_never_raises(at: int, flip: int) -> None:
    broken = bytearray(ALERT)
    broken[at] ^= flip
    receiver(OPEN).receive(bytes(broken))


# framing


@pytest.mark.parametrize("framed", FRAMED)
def test_a_framed_push_comes_out_whole_byte_by_byte_and_twice(framed: bytes) -> None:
    assert apdus_of(framed) == [ALERT]
    assert apdus_of(framed * 2) == [ALERT, ALERT]
    stream, found = PushStream(), []
    for i in range(len(framed)):
        found += apdus_of(framed[i : i + 1], stream)
    assert found == [ALERT]
    assert stream.pending == 0
    assert stream.finish() == []
    assert datagram(framed) == [ALERT]


def test_a_bare_push_ends_where_its_lengths_say_so_that_its_sender_can_be_answered() -> None:
    for whole in (ALERT, ciphered(ALERT), b"\xe6\xe7\x00" + ALERT):
        apdu = whole.removeprefix(b"\xe6\xe7\x00")
        stream = PushStream()
        assert apdus_of(whole[:9], stream) == []
        (found,) = stream.receive(whole[9:])
        assert (found.octets, found.way.framed(b"\x10")) == (apdu, b"\x10")
        assert apdus_of(whole + whole, stream) == [apdu, apdu]
        assert stream.finish() == []
        assert datagram(whole) == [apdu]


def test_a_bare_push_in_very_many_pieces_is_all_that_comes_until_the_end() -> None:
    stream = PushStream()
    long = plain_push(octets(b"a long text" * 20))
    pieces = [long[i : i + 1] for i in range(len(long))]
    assert len(pieces) > push_framing.MAX_LOOKS
    for piece in pieces:
        assert apdus_of(piece, stream) == []
    assert [apdu.octets for apdu in stream.finish()] == [long]


def test_what_is_no_push_behind_a_bare_one_ends_the_connection() -> None:
    stream = PushStream()
    assert apdus_of(ALERT, stream) == [ALERT]
    with pytest.raises(MeterProtocolError, match="begins neither a frame nor a push"):
        apdus_of(b"GET /", stream)


@pytest.mark.parametrize(
    "octets_",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x0f" * (MAX_PUSH + 1),
    ],
)
def test_what_can_be_no_push_is_an_error_at_once(octets_: bytes) -> None:
    with pytest.raises(MeterProtocolError):
        apdus_of(octets_)


@pytest.mark.parametrize(
    "octets_",
    [
        b"\x00\x02\x00\x01",
        bytes.fromhex("000100010040FFFF"),
        b"\x7e\x12\x34",
        b"\x68\x05\x06",
    ],
)
def test_what_begins_like_a_frame_and_is_none_ends_the_stream_when_no_push_follows(octets_: bytes) -> None:
    stream = PushStream()
    noise = octets_ * (MAX_NOISE // len(octets_))
    assert stream.receive(noise) == []
    assert stream.receive(noise) == []
    assert "octets without a push" in stream.broken
    assert stream.receive(FRAMED[0]) == []


def test_segments_without_an_end_meet_the_bound() -> None:
    stream = PushStream()
    one = ui(bytes(900), segmented=True, llc=b"")
    with pytest.raises(MeterProtocolError):
        apdus_of(one * (MAX_PUSH // 900 + 2), stream)


def test_a_frame_cut_short_is_an_error_at_the_end() -> None:
    for framed in FRAMED:
        with pytest.raises(MeterProtocolError):
            datagram(framed[:-3])


def test_a_push_in_the_middle_of_an_exchange_is_told_from_the_answer() -> None:
    link = WrapperClientLink(client=48, server=1)
    answer = wrapper.encode(1, 48, b"\xc4\x01")
    assert link.receive_data(wrapper.encode(1, 64, ALERT) + answer) == [
        ApduReceived(ALERT, unasked=True),
        ApduReceived(b"\xc4\x01"),
    ]
    framed = HdlcClientLink(client=48, server=1, physical=17)
    assert framed.receive_data(ui(ALERT)) == [ApduReceived(ALERT, unasked=True)]


def test_frames_of_an_interrupted_exchange_are_passed_over() -> None:
    late = Frame(
        destination=Address(16), source=Address(1, 17), control=0x30, info=b"\xe6\xe7\x00\xc4"
    ).encode()
    assert apdus_of(late + ui(ALERT)) == [ALERT]
    assert push_framing.HDLC == "hdlc"
