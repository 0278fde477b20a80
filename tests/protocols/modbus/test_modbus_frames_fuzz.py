"""Whatever octets come, a hunt waits, answers or refuses: no right frame is missed, no false one is taken."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import MeterProtocolError
from protocols.modbus.framing.frames import AsciiFrames, Frames, RtuFrames, TcpFrames, frames_for
from protocols.modbus.framing.hunt import MAX_FRAME, Hunt
from protocols.modbus.framing.requests import Answer, Request
from protocols.modbus.framing.write_requests import is_write
from tests.support.modbus.raw_meters import ascii_frame, rtu_frame, tcp_frame
from tests.support.steps import steps_of

ASKED = Request(unit=5, function=4, address=0x46, count=2)
DATA = st.binary(min_size=4, max_size=4)


def answer_pdu(data: bytes) -> bytes:
    return bytes((4, len(data))) + data


def cut(octets: bytes, cuts: list[int]) -> Iterator[bytes]:
    """Yield the octets in pieces."""
    places = sorted({0, len(octets), *(c % (len(octets) + 1) for c in cuts)})
    return (octets[a:b] for a, b in pairwise(places))


def found(hunt: Hunt, pieces: Iterator[bytes]) -> Answer | None:
    """Return what a hunt finds in pieces that come one after the other, and then silence."""
    for piece in pieces:
        if (answer := hunt.feed(piece)) is not None:
            return answer
    return hunt.silence()


def words(answer: Answer | None) -> bytes | None:
    return None if answer is None else b"".join(w.to_bytes(2, "big") for w in answer.words)


@settings(max_examples=300)
@given(octets=st.binary(max_size=600), head=st.booleans(), framing=st.sampled_from(("tcp", "rtu", "ascii")))
def test_any_octets(octets: bytes, head: bool, framing: str) -> None:
    frames: Frames = frames_for(framing)
    if head:
        octets = frames.encode(ASKED)[:4] + octets
    hunt = frames.hunt(ASKED)
    try:
        found(hunt, iter((octets,)))
    except MeterProtocolError:
        assert framing == "tcp"
    hunt.end()
    assert hunt.rest() == b""


FOREIGN = [
    rtu_frame(9, bytes((4, 4, 1, 2, 3, 4))),
    rtu_frame(9, bytes((3, 0, 0, 0, 2))),
    rtu_frame(9, bytes((0x83, 2))),
    rtu_frame(6, bytes((16, 0, 1, 0, 1, 2, 0, 7))),
    rtu_frame(5, bytes((3, 2, 0, 7))),
    rtu_frame(5, bytes((4, 2, 0, 7))),
    rtu_frame(7, bytes((0x2B, 14, 1, 1, 0, 0, 1, 0, 2, 65, 66))),
    rtu_frame(7, bytes((17,))),
    RtuFrames().encode(ASKED),
    RtuFrames().encode(ASKED)[-2:],
]
BEGINNINGS = [
    b"\x05",
    b"\x05\x04",
    b"\x05\x04\x04",
    b"\x05\x84",
    b"\x05\x04\x04\x01\x02",
    b"\x09\x03\xf0",
    b"\x01\x2b\x0e",
]
NOISE = st.one_of(
    st.sampled_from(FOREIGN),
    st.sampled_from(BEGINNINGS),
    st.sampled_from((0, 0xFF)).flatmap(lambda o: st.integers(1, 5).map(lambda n: bytes((o,)) * n)),
    st.binary(max_size=12),
)


@settings(max_examples=500)
@given(before=st.lists(NOISE, max_size=5), data=DATA, cuts=st.lists(st.integers(0, 400), max_size=6))
def test_a_right_frame_is_found_behind_whatever_comes_before_it(
    before: list[bytes], data: bytes, cuts: list[int]
) -> None:
    frame = rtu_frame(5, answer_pdu(data))
    hunt = RtuFrames().hunt(ASKED)
    answer = found(hunt, cut(b"".join(before) + frame, cuts))
    if words(answer) != data:  # only where the noise and the frame's own octets make another right frame
        assert hunt.passed.contested or answer is not None
        stream = b"".join(before) + frame
        assert any(_right(stream, at) for at in range(len(stream) - len(frame)))


def _right(stream: bytes, at: int) -> bool:
    """Say whether a sound frame of any shape stands at `at`, which only chance makes of noise."""
    return any(
        rtu_frame(stream[at], stream[at + 1 : end - 2]) == stream[at:end]
        for end in range(at + 5, len(stream) + 1)
    )


@settings(max_examples=300)
@given(
    data=st.binary(min_size=2, max_size=250).filter(lambda d: len(d) % 2 == 0),
    flip=st.integers(0, 10_000),
    cuts=st.lists(st.integers(0, 400), max_size=3),
)
def test_rtu_words_come_through_and_no_flipped_bit_does(data: bytes, flip: int, cuts: list[int]) -> None:
    request = Request(unit=5, function=4, address=0, count=len(data) // 2)
    frame = rtu_frame(5, answer_pdu(data))
    assert words(found(RtuFrames().hunt(request), cut(frame, cuts))) == data
    flip %= len(frame) * 8
    spoiled = bytearray(frame)
    spoiled[flip // 8] ^= 1 << flip % 8
    assert found(RtuFrames().hunt(request), cut(bytes(spoiled), cuts)) is None


@given(inner=DATA, unit=st.sampled_from((5, 9)))
def test_a_frame_within_a_frame_is_not_taken(inner: bytes, unit: int) -> None:
    """An answer to another request holds octets that are a right answer to this one."""
    outer = rtu_frame(unit, bytes((4, 16)) + rtu_frame(5, answer_pdu(inner)).ljust(16, b"\0"))
    hunt = RtuFrames().hunt(ASKED)
    assert found(hunt, cut(outer, [12])) is None
    assert [frame.unit for frame in hunt.passed.frames] == [unit]


@settings(max_examples=200)
@given(
    before=st.lists(st.one_of(st.binary(max_size=20), st.just(b":0504"), st.just(b"\r\n")), max_size=4),
    data=DATA,
    cuts=st.lists(st.integers(0, 200), max_size=5),
)
def test_an_ascii_frame_is_found_at_its_colon(before: list[bytes], data: bytes, cuts: list[int]) -> None:
    frame = ascii_frame(5, answer_pdu(data))
    assert words(found(AsciiFrames().hunt(ASKED), cut(b"".join(before) + frame, cuts))) == data


@given(data=DATA, other=DATA, cuts=st.lists(st.integers(0, 200), max_size=5))
def test_tcp_frames_of_other_transactions_are_passed_over(data: bytes, other: bytes, cuts: list[int]) -> None:
    asked = ASKED.transaction
    late = tcp_frame(asked ^ 1, 5, answer_pdu(other))
    hunt = TcpFrames().hunt(ASKED)
    assert words(found(hunt, cut(late + tcp_frame(asked, 5, answer_pdu(data)), cuts))) == data
    assert [frame.transaction for frame in hunt.passed.frames] == [asked ^ 1]


@given(code=st.integers(1, 255), before=NOISE, count=st.sampled_from((1, 2, 60)))
def test_short_answers_are_found_as_soon_as_they_are_whole(code: int, before: bytes, count: int) -> None:
    """Octet by octet, as slow lines give them; noise that may be a beginning is waited out by `found`."""
    request = Request(unit=5, function=4, address=0x46, count=count)
    frame = rtu_frame(5, bytes((0x84, code)))
    hunt = RtuFrames().hunt(request)
    answers = [hunt.feed(frame[at : at + 1]) for at in range(len(frame))]
    assert answers[:-1] == [None] * 4
    assert answers[-1] == Answer(exception=code)
    behind = found(RtuFrames().hunt(request), cut(before + frame, list(range(40))))
    assert behind is not None
    assert behind.exception == code or count == 1  # some of the noise is an answer with one register


def test_an_answer_in_pieces_costs_no_more_than_its_length() -> None:
    def hunted(count: int) -> int:
        request = Request(unit=5, function=4, address=0, count=count)
        frame = rtu_frame(5, answer_pdu(bytes(2 * count)))
        hunt = RtuFrames().hunt(request)
        return steps_of(lambda: [hunt.feed(frame[at : at + 1]) for at in range(len(frame))])

    assert hunted(120) < 2.5 * hunted(60)


def test_a_flood_is_kept_to_one_frame() -> None:
    hunt = RtuFrames().hunt(ASKED)
    for _ in range(200):
        assert hunt.feed(b"\x05\x04\x04\x09\x03\xf0" * 20) is None
    assert len(hunt.rest()) <= 2 * MAX_FRAME


@pytest.mark.parametrize("framing", ["rtu", "ascii", "tcp"])
def test_a_write_is_known_on_its_way_in_every_framing(framing: str) -> None:
    """By it an edge records that a command wrote to a meter, whatever the command says of itself."""
    frames = frames_for(framing)
    writes = [
        Request(unit=5, function=5, address=16, values=(1,)),
        Request(unit=5, function=6, address=70, values=(7,)),
        Request(unit=5, function=16, address=82, values=(0, 5000)),
    ]
    assert [is_write(frames.encode(request)) for request in writes] == [True] * 3
    reads = [Request(unit=5, function=3, address=0, count=2), Request(unit=5, function=17)]
    assert [is_write(frames.encode(request)) for request in reads] == [False] * 2
    assert not is_write(frames.encode(writes[0])[:-1])
