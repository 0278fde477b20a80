"""Whatever octets come, a frame decoder waits, answers or refuses; nothing else leaves it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import MeterProtocolError
from protocols.modbus.frames import Request, RtuFrames, TcpFrames
from protocols.simulator.modbus.frames import crc16


@settings(max_examples=100)
@given(octets=st.binary(max_size=300), head=st.booleans(), tcp=st.booleans())
def test_any_octets(octets: bytes, head: bool, tcp: bool) -> None:
    request = Request(unit=5, function=3, address=0, count=2)
    frames = TcpFrames() if tcp else RtuFrames()
    transaction = request.transaction.to_bytes(2, "big")
    if head:
        octets = (transaction + b"\0\0\0\7\5\3" if tcp else b"\5\3\4") + octets
    try:
        answer = frames.decode(octets, request)
    except MeterProtocolError:
        return
    assert answer is None or 0 < answer.used <= len(octets)


@settings(max_examples=100)
@given(words=st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=125), flip=st.integers(0, 10_000))
def test_rtu_words_come_through_and_no_flipped_bit_does(words: list[int], flip: int) -> None:
    request = Request(unit=5, function=4, address=0, count=len(words))
    body = bytes((5, 4, 2 * len(words))) + b"".join(w.to_bytes(2, "big") for w in words)
    frame = body + crc16(body).to_bytes(2, "little")
    answer = RtuFrames().decode(frame, request)
    assert answer is not None
    assert answer.words == words
    flip %= len(frame) * 8
    spoiled = bytearray(frame)
    spoiled[flip // 8] ^= 1 << flip % 8
    try:
        again = RtuFrames().decode(bytes(spoiled), request)
    except MeterProtocolError:
        return
    assert again is None
