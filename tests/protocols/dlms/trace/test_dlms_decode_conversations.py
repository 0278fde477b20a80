"""Decoding conversations of two directions: frames put together, what is no frame, and nothing that raises."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.capture.recorded import Conversations, RecordedOctets
from protocols.dlms.framing.hdlc import Address, Frame
from protocols.dlms.framing.wrapper import encode
from protocols.dlms.trace import conversations as module
from protocols.dlms.trace.conversations import decode_conversations
from protocols.dlms.trace.state import TraceState
from tests.support.dlms.bench import KEYS, POLICIES, Joined, SmallMeter
from tests.support.steps import Steps

GET = bytes.fromhex("C001C100080000010000FF0200")
ANSWER = bytes.fromhex("C401C10006000006B3")


def known() -> TraceState:
    return TraceState(keys=KEYS)


def conversation(name: str, framing: str) -> list[tuple[bool, bytes]]:
    policy, association = POLICIES[name]
    joined = Joined(SmallMeter({48: policy}), association, framing=framing)
    joined.associate()
    joined.get(7, "1-0:99.1.0*255")
    pairs = zip(joined.to_server, joined.to_client, strict=True)
    return [(sent, octets) for pair in pairs for sent, octets in zip((True, False), pair, strict=True)]


def heard(
    pieces: list[tuple[bool, bytes]], *, always_shown: bool = True, whole: bool = False
) -> Iterator[RecordedOctets]:
    offset = 0
    for line, (sent, octets) in enumerate(pieces, start=1):
        yield RecordedOctets(
            conversation=0,
            sent=sent,
            octets=octets,
            offset=offset,
            where=f"line {line}",
            always_shown=always_shown,
            whole=whole,
        )
        offset += len(octets)


def text(found: Conversations) -> str:
    return "\n".join(found.lines())


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
def test_pieces_may_be_cut_anywhere(framing: str) -> None:
    pieces = conversation("gmac", framing)
    whole = decode_conversations(heard(pieces), known)
    cut = [(sent, octets[n : n + 7]) for sent, octets in pieces for n in range(0, len(octets), 7)]
    split = decode_conversations(heard(cut), known)
    assert whole.problems == split.problems == ()
    assert text(whole).count("value of all blocks: array of 96") == 1
    assert text(whole) == text(split)


def test_offsets_are_those_of_the_pieces() -> None:
    first, second = encode(16, 1, GET), encode(1, 16, ANSWER[:-1])
    found = decode_conversations(heard([(True, first), (False, second)]), known)
    (problem,) = found.problems
    assert problem.offset == len(first) + len(second)
    assert "(line 2)" in problem.reason
    assert "WRONG" in text(found)


def test_after_a_damaged_frame_the_next_is_read() -> None:
    good = Frame(
        destination=Address(1), source=Address(16), control=0x10, info=b"\xe6\xe6\x00" + GET
    ).encode()
    damaged = bytearray(good)
    damaged[-3] ^= 1
    found = decode_conversations(
        heard([(True, b"\x00\xff\x00" + good + bytes(damaged) + b"noise" + good)]), known
    )
    assert [p.reason.split(":")[0] for p in found.problems] == ["HDLC frame check sequence is wrong"]
    assert text(found).count("get-request") == 2
    only = decode_conversations(heard([(True, good), (True, good[:9])]), known)
    assert "octets wanted" in only.problems[0].reason


def test_what_is_not_dlms_is_shown_or_left_out() -> None:
    modbus = [(True, bytes.fromhex("0001000000060103000000021234")), (False, b"GET / HTTP/1.1")]
    shown = decode_conversations(heard(modbus), known)
    assert text(shown).count("octets that are not DLMS") == 2
    assert shown.problems == ()
    left = decode_conversations(heard(modbus, always_shown=False), known)
    assert (left.parts, left.others) == ((), 1)


def test_a_datagram_ends_where_it_ends() -> None:
    found = decode_conversations(
        heard([(True, encode(16, 1, GET)[:-1]), (True, encode(16, 1, GET))], whole=True), known
    )
    assert len(found.problems) == 1
    assert text(found).count("class 8, 0-0:1.0.0*255") == 1


@pytest.mark.parametrize("octet", [b"\x7e", b"\xa0", b"\x00", b"\x7e\xa0\x07"])
def test_a_line_full_of_one_octet_takes_few_steps(octet: bytes) -> None:
    good = encode(16, 1, GET)
    costs = []
    for size in (10_000, 20_000):
        pieces = [(True, octet * size)] + [(True, octet)] * (size // 10)
        with Steps() as alone:
            decode_conversations(heard(pieces), known)
        with Steps() as behind:
            decode_conversations(heard([(True, good), *pieces]), known)
        costs.append((alone.count, behind.count))
        assert max(costs[-1]) <= 150 * size
    for less, more in zip(*costs, strict=True):
        assert more <= 2.5 * less


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PROBLEMS", 3)
    pieces = [(True, encode(16, 1, b"\xc0\x09\xc1"))] * 10
    assert len(decode_conversations(heard(pieces), known).problems) == 3
    monkeypatch.setattr(module, "MAX_NODES", 50)
    assert len(text(decode_conversations(heard(conversation("none", "wrapper")), known)).splitlines()) < 80


@given(st.integers(0, 1 << 30), st.sampled_from(["wrapper", "hdlc"]))
@settings(max_examples=60)
def test_damaged_conversations_raise_nothing(seed: int, framing: str) -> None:
    rng = random.Random(seed)
    pieces = []
    for sent, octets in CONVERSATIONS[framing]:
        damaged = bytearray(octets)
        for _ in range(rng.choice((0, 0, 1, 3))):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        if rng.random() < 0.1:
            del damaged[rng.randrange(len(damaged)) :]
        pieces.append((sent, bytes(damaged)))
    decode_conversations(heard(pieces, always_shown=rng.random() < 0.5), known)


CONVERSATIONS = {framing: conversation("hls2", framing)[:8] for framing in ("wrapper", "hdlc")}
