"""Frames that carry pushes: I frames, M-Bus segments, general blocks; what is not used is counted by its cause."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.apdu import gbt, notification
from protocols.dlms.apdu.gbt import GeneralBlock
from protocols.dlms.apdu.notification import DataNotification
from protocols.dlms.data.types import octets
from protocols.dlms.framing import hdlc, mbus, wrapper
from protocols.dlms.framing.hdlc import Address, Frame, FrameDecoder
from protocols.dlms.push.blocks import PushBlocks
from protocols.dlms.push.deframing import MAX_NOISE
from protocols.dlms.push.framing import PushStream
from protocols.errors import LocalError, MeterProtocolError
from protocols.unused import Unused, UnusedCounter
from tests.support.dlms.pushes import ALERT, apdus_of, ciphered, datagram, plain_push, receiver, ui
from tests.support.steps import steps_of

LONG = plain_push(octets(bytes(700)))


def i_frame(info: bytes, *, segmented: bool = False, control: int = 0x10) -> bytes:
    return Frame(
        destination=Address(64), source=Address(1, 17), control=control, info=info, segmented=segmented
    ).encode()


def received(*pieces: bytes, limit: int = 4096) -> tuple[list[bytes], UnusedCounter]:
    counts = UnusedCounter()
    stream = PushStream(limit, counts)
    found = [apdu for one in pieces for apdu in apdus_of(one, stream)]
    return found, counts


@pytest.mark.parametrize("whole", [True, False])
def test_i_frames_are_taken_like_ui_frames_whole_and_in_segments(whole: bool) -> None:
    info = hdlc.LLC_RESPONSE + ALERT
    sent = i_frame(info) if whole else i_frame(info[:30], segmented=True) + i_frame(info[30:], control=0x12)
    found, counts = received(sent)
    assert found == [ALERT]
    assert +counts == UnusedCounter()


def test_every_frame_that_is_not_used_is_counted_by_its_cause() -> None:
    answer = i_frame(hdlc.LLC_RESPONSE + b"\xc4\x01\xc1\x00", segmented=True)
    rest = i_frame(b"more of it", control=0x12)
    ready = Frame(destination=Address(64), source=Address(1, 17), control=0x11).encode()
    begun = ui(ALERT[:30], segmented=True)
    found, counts = received(
        answer + rest + ready + begun + ui(ALERT) + begun + i_frame(b"no end", control=0x12)
    )
    assert found == [ALERT]
    assert counts == {Unused.OUT_OF_SEQUENCE: 3, Unused.UNEXPECTED_CONTROL: 1, Unused.CUT_SHORT: 2}


@pytest.mark.parametrize(
    "framed", [mbus.encode(ALERT), mbus.encode(LONG), b"\x10\x40\xf0\x30\x16\xe5" + mbus.encode(LONG)]
)
def test_m_bus_frames_give_the_apdu_whole_byte_by_byte_and_twice(framed: bytes) -> None:
    apdu = LONG if len(framed) > 300 else ALERT
    assert received(framed * 2)[0] == [apdu, apdu]
    assert received(*(framed[i : i + 1] for i in range(len(framed))))[0] == [apdu]
    assert datagram(framed) == [apdu]


def test_m_bus_segments_that_are_lost_cost_their_apdu_alone_and_are_counted() -> None:
    whole = mbus.encode(LONG)
    size = mbus.MAX_SEGMENT + mbus.HEADER + mbus.PORTS + mbus.AROUND
    first, second, rest = whole[:size], whole[size : 2 * size], whole[2 * size :]
    assert received(first + second + rest)[0] == [LONG]
    for broken in (first + rest, second + rest, first + first + second[:0]):
        found, counts = received(broken + whole)
        assert found == [LONG]
        assert counts[Unused.CUT_SHORT] >= 1
    other = bytes((0x68, 5, 5, 0x68, 0x08, 1, 0x72, 9, 9, (0x08 + 1 + 0x72 + 18) & 0xFF, 0x16))
    found, counts = received(other + whole)
    assert (found, +counts) == ([LONG], UnusedCounter({Unused.UNEXPECTED_CONTROL: 1}))


@pytest.mark.parametrize(
    "broken",
    [
        b"\x68\x05\x06",
        b"\x68\x05\x05\x00",
        b"\x68\x02",
        mbus.encode(ALERT)[:-2] + b"\x00\x16",
        mbus.encode(ALERT)[:-1] + b"\x00",
        b"\x10\x40\xf0\x31\x16",
        b"\xe5\x99",
    ],
)
def test_a_broken_m_bus_frame_is_counted_and_hides_nothing_behind_it(broken: bytes) -> None:
    found, counts = received(broken + mbus.encode(ALERT))
    assert found == [ALERT]
    assert counts[Unused.NOT_A_FRAME] + counts[Unused.BAD_CHECK] == 1
    with pytest.raises(MeterProtocolError):
        datagram(broken)


def test_m_bus_has_its_bounds() -> None:
    found, counts = received(mbus.encode(LONG) + mbus.encode(ALERT), limit=500)
    assert (found, counts[Unused.NOT_A_FRAME]) == ([ALERT], 1)
    with pytest.raises(MeterProtocolError, match="more than 500 octets"):
        received(mbus.encode(LONG) * (MAX_NOISE // 500 + 1), limit=500)
    with pytest.raises(LocalError):
        mbus.encode(b"")


# general block transfer


def blocks(apdu: bytes, size: int = 40, window: int = 1, *, streaming: bool = False) -> list[GeneralBlock]:
    pieces = [apdu[i : i + size] for i in range(0, len(apdu), size)]
    return [
        GeneralBlock(
            number=n + 1,
            acknowledged=0,
            window=window,
            last=n == len(pieces) - 1,
            streaming=streaming and n < len(pieces) - 1,
            data=piece,
        )
        for n, piece in enumerate(pieces)
    ]


def test_a_push_in_blocks_is_put_together_and_each_window_is_acknowledged() -> None:
    stream = PushStream()
    answers = []
    for block in blocks(ALERT):
        found = apdus_of(wrapper.encode(1, 64, gbt.encode(block)), stream)
        (answer,) = [wrapper.decode_datagram(stream.take_answers())]
        assert (answer.source, answer.destination) == (64, 1)
        answers.append(gbt.decode(answer.apdu))
    assert found == [ALERT]
    assert [a.acknowledged for a in answers] == [1, 2, 3][: len(answers)]
    assert not any(a.data for a in answers)
    assert stream.pending == 0


def test_blocks_that_stream_are_answered_at_the_end_of_their_window_and_a_window_of_0_never() -> None:
    for window, expected in ((5, 1), (0, 0)):
        stream = PushStream()
        sent = b"".join(ui(gbt.encode(b)) for b in blocks(ALERT, window=window, streaming=True))
        assert apdus_of(sent, stream) == [ALERT]
        frames = FrameDecoder().receive_data(stream.take_answers())
        assert len(frames) == expected
        for frame in frames:
            assert isinstance(frame, Frame)
            assert frame.destination == Address(1, 17, 2)


@given(st.data())
def test_lost_and_repeated_blocks_come_again_until_the_push_is_whole(data: st.DataObject) -> None:
    taker, sent, at = PushBlocks(4096), blocks(LONG, 100), 0
    for _ in range(60):
        fate = data.draw(st.sampled_from(["arrives", "arrives", "twice", "lost", "answer lost"]))
        block = sent[at]
        if fate == "lost":
            continue
        whole, answer = taker.take(gbt.encode(block))
        if fate == "twice":
            assert taker.take(gbt.encode(block))[0] is None
        assert answer is not None
        if whole is not None:
            assert whole == LONG
            assert block.last
            return
        if fate != "answer lost":
            at = gbt.decode(answer).acknowledged
    while at < len(sent):
        whole, answer = taker.take(gbt.encode(sent[at]))
        assert answer is not None
        at = gbt.decode(answer).acknowledged
    assert whole in (LONG, None)


def test_a_push_whose_blocks_stop_is_counted_when_the_next_begins_and_no_flood_of_blocks_has_no_end() -> None:
    first, second = blocks(LONG, 100), blocks(ALERT, 40)
    counts = UnusedCounter()
    stream = PushStream(4096, counts)
    for block in (*first[:3], *second):
        found = apdus_of(wrapper.encode(1, 64, gbt.encode(block)), stream)
    assert found == [ALERT]
    assert counts[Unused.CUT_SHORT] == 1
    again = wrapper.encode(1, 64, gbt.encode(first[0])) * 200
    with pytest.raises(MeterProtocolError, match="general block transfer of more than"):
        apdus_of(again, stream)
    endless = [GeneralBlock(number=n, acknowledged=0, data=bytes(100)) for n in range(1, 40)]
    sent = b"".join(wrapper.encode(1, 64, gbt.encode(block)) for block in endless)
    with pytest.raises(MeterProtocolError, match="general block transfer of more than 1000"):
        apdus_of(sent, PushStream(1000))


def test_the_end_of_a_connection_within_blocks_is_an_error_and_counted() -> None:
    counts = UnusedCounter()
    stream = PushStream(4096, counts)
    assert stream.receive(wrapper.encode(1, 64, gbt.encode(blocks(LONG)[0]))) == []
    assert stream.finish() == []
    assert "within a push" in stream.broken
    assert counts[Unused.CUT_SHORT] == 1


# what is no frame hides no push

PUSHES = [ALERT, ciphered(ALERT, 7), LONG]
FRAMINGS = {
    "wrapper": lambda apdu: wrapper.encode(1, 64, apdu),
    "hdlc": ui,
    "mbus": mbus.encode,
}


def bad_check(framed: bytes) -> bytes:
    return framed[:-4] + bytes((framed[-4] ^ 0x55,)) + framed[-3:]


DAMAGES = {
    "wrapper": [
        b"\x00\x02\x00\x01\x00\x40\x00\x05hello",
        bytes.fromhex("000100010040FFFF") + b"more",
        bytes.fromhex("0001000100400000"),
        wrapper.encode(1, 64, ALERT)[:40],
        b"\x00",
    ],
    "hdlc": [bad_check(ui(ALERT)), ui(ALERT)[:30], ui(ALERT)[:5], b"\x7e\x12\x34", ui(LONG)[:-1] + b"\x00"],
    "mbus": [
        bad_check(mbus.encode(ALERT)),
        mbus.encode(ALERT)[:30],
        b"\x68\x68\x10\xe5",
        mbus.encode(ALERT)[:2],
    ],
}


@pytest.mark.parametrize("framing", FRAMINGS)
@given(data=st.data())
def test_no_push_is_lost_behind_or_before_what_is_none_however_the_octets_are_cut(
    framing: str, data: st.DataObject
) -> None:
    piece = st.one_of(
        st.sampled_from(DAMAGES[framing]).map(lambda damage: (damage, None)),
        st.sampled_from(PUSHES).map(lambda apdu: (FRAMINGS[framing](apdu), apdu)),
    )
    pieces = data.draw(st.lists(piece, max_size=8))
    sent = b"".join(piece for piece, _ in pieces)
    # the first octet tells the framing
    sent = FRAMINGS[framing](ALERT) + sent
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    stream, found = PushStream(), []
    for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        found += apdus_of(sent[start:end], stream)
    held = [apdu.octets for apdu in stream.finish()]
    expected = [ALERT, *(apdu for _, apdu in pieces if apdu is not None)]
    # a wrapper frame has no checksum: a cut one with other octets behind it is an APDU that the receiver refuses
    assert [apdu for apdu in found + held if apdu in PUSHES] == expected


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_push_behind_a_frame_that_was_cut_short_does_not_wait_for_its_end(framing: str) -> None:
    framed = FRAMINGS[framing](LONG if framing != "mbus" else ciphered(ALERT))
    found, counts = received(framed[:-20] + FRAMINGS[framing](ALERT))
    assert found == [ALERT]
    assert (+counts).keys() <= {Unused.NOT_A_FRAME, Unused.BAD_CHECK}
    assert counts.total() == 1


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_datagram_gives_what_is_whole_in_it_and_is_counted_as_broken(framing: str) -> None:
    stream = PushStream()
    whole = FRAMINGS[framing](ALERT)
    for broken in (whole + whole[:-3], whole[:-19] + whole, DAMAGES[framing][0] + whole):
        assert [apdu.octets for apdu in stream.datagram(broken)] == [ALERT]
        assert stream.broken
        assert [apdu.octets for apdu in stream.datagram(whole)] == [ALERT]
        assert not stream.broken


def test_the_rest_of_a_segmented_push_whose_beginning_is_damaged_is_counted_and_is_no_push() -> None:
    first, rest = ui(ALERT[:30], segmented=True), ui(ALERT[30:], llc=b"")
    found, counts = received(first + bad_check(first) + rest + ui(ALERT))
    assert found == [ALERT]
    assert +counts == {Unused.BAD_CHECK: 1, Unused.CUT_SHORT: 2}


def test_what_is_no_push_behind_a_bare_one_takes_nothing_from_it() -> None:
    stream = PushStream()
    assert [apdu.octets for apdu in stream.receive(ALERT + b"GET /")] == [ALERT]
    assert "begins neither" in stream.broken


# several in one frame, and octets left over

FRAMED_BY = [*FRAMINGS.values(), bytes, lambda apdu: i_frame(hdlc.LLC_RESPONSE + apdu)]


@pytest.mark.parametrize("framed", FRAMED_BY, ids=[*FRAMINGS, "bare", "i frame"])
@pytest.mark.parametrize("tail", [b"", b"\x00", b"\x00\x00\xff", b"\x0f", b"\xdb\x08"])
def test_several_pushes_in_one_frame_are_each_taken_and_what_is_left_over_hides_none(
    framed: Callable[[bytes], bytes], tail: bytes
) -> None:
    several = [ALERT, ciphered(ALERT, 7), ALERT]
    if framed is bytes and tail:
        return  # without a frame nothing tells where a tail ends and the next push begins
    found, counts = received(framed(b"".join(several) + tail) + framed(ALERT))
    assert found == [*several, ALERT]
    assert counts[Unused.LEFT_OVER] == bool(tail)


def test_a_push_that_was_padded_before_it_was_ciphered_is_taken_and_counted() -> None:
    taker = receiver()
    assert taker.receive(ciphered(ALERT + bytes(5), 7)) is not None
    assert (taker.statistics().accepted, taker.statistics().left_over) == (1, 1)


def test_a_header_s_time_may_be_an_empty_octet_string() -> None:
    told = notification.decode(b"\x0f" + bytes(4) + b"\x09\x00" + b"\x06\x00\x00\x00\x05")
    assert isinstance(told, DataNotification)
    assert (told.date_time, told.body.integer) == (b"", 5)


@pytest.mark.parametrize(
    "pattern", [b"\x00\x01", b"\x68\xff\xff\x68", b"\x00\x01\x00\x01\x00\x40\x40\x00\x0f"]
)
def test_a_flood_of_beginnings_costs_no_more_than_its_bound(pattern: bytes) -> None:
    """Steps of the parser, for ten times the octets: behind MAX_NOISE nothing is looked for any more."""

    def flood(factor: int) -> int:
        stream = PushStream()
        data = pattern * (factor * 4 * MAX_NOISE // len(pattern))
        return steps_of(lambda: [stream.receive(one) for one in (data, *[pattern] * 50)])

    assert flood(10) < 2 * flood(1) + 10_000


@pytest.mark.parametrize("pattern", [b"\x00\x01", b"\x68", b"\x68\x68\x68\x3f", b"\x7e\xa0"])
@pytest.mark.parametrize("octets", [100, 400, MAX_NOISE])
def test_beginnings_of_frames_that_end_cost_steps_by_their_octets(pattern: bytes, octets: int) -> None:
    """Also at the end of a stream or datagram, where every one of them is incomplete."""
    stream = PushStream(octets)
    data = (pattern * octets)[:octets]
    assert steps_of(lambda: stream.receive(data) + stream.finish()) <= 20_000 + 50 * octets


def test_a_datagram_of_noise_spoils_none_behind_it() -> None:
    stream = PushStream()
    assert stream.datagram(b"\x00\x01\xff\xff" * MAX_NOISE) == []
    assert stream.broken
    assert [apdu.octets for apdu in stream.datagram(wrapper.encode(1, 64, ALERT))] == [ALERT]
    assert not stream.broken
