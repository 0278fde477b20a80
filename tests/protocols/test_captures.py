"""Captures: packets of every form, TCP put in order again, bounds, and nothing but errors on hostile files."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.capture import streams as capture_streams
from protocols.capture.pcap import is_capture, read_capture
from protocols.capture.streams import Chunk, chunks
from protocols.errors import MeterConfigError, MeterProtocolError
from tests.support.pcap_writer import CLIENT, CLIENT6, METER, METER6, pcap, pcapng, tcp, udp

SYN = 2
Writer = Callable[..., bytes]


def said(capture: bytes) -> list[Chunk]:
    return list(chunks(read_capture(capture)))


def of(found: list[Chunk], *, forward: bool = True) -> bytes:
    return b"".join(chunk.octets for chunk in found if chunk.forward is forward)


@pytest.mark.parametrize("link", [0, 1, 101, 113, 276])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("write", [pcap, pcapng])
def test_every_form_of_capture(write: Writer, order: str, link: int) -> None:
    packets = [
        tcp(CLIENT, METER, 100, flags=SYN),
        tcp(CLIENT, METER, 101, b"question"),
        udp(METER6, CLIENT6, b"datagram"),
    ]
    capture = write(packets, link=link, order=order)
    assert is_capture(capture)
    stream, datagram = said(capture)
    assert (stream.octets, stream.source, stream.destination) == (
        b"question",
        "10.0.0.1:50000",
        "10.0.0.7:4059",
    )
    assert (datagram.octets, datagram.source, datagram.datagram) == (b"datagram", "[fd00::7]:8000", True)
    for chunk in (stream, datagram):
        assert capture[chunk.offset : chunk.offset + len(chunk.octets)] == chunk.octets
        assert chunk.at is not None
        assert chunk.at.year == 2025


def test_nanoseconds() -> None:
    (chunk,) = said(pcap([udp(CLIENT, METER, b"x")], nanoseconds=True))
    assert chunk.at is not None
    assert chunk.at.microsecond == 0


@given(st.integers(0, (1 << 32) - 1), st.integers(0, 1 << 30))
@settings(max_examples=60)
def test_any_order_and_repetition_gives_the_stream(start: int, seed: int) -> None:
    rng = random.Random(seed)
    text = bytes(rng.randrange(256) for _ in range(200))
    cuts = sorted({0, 200, *(rng.randrange(200) for _ in range(8))})
    packets = [
        tcp(CLIENT, METER, start + 1 + a, text[a : min(b + rng.randrange(9), 200)])
        for a, b in itertools.pairwise(cuts)
    ]
    packets += rng.sample(packets, 3)
    rng.shuffle(packets)
    found = said(pcap([tcp(CLIENT, METER, start, flags=SYN), *packets]))
    assert of(found) == text
    assert not any(chunk.missing for chunk in found)
    offsets = [chunk.offset for chunk in found]
    assert len(set(offsets)) == len(offsets)


def test_what_the_capture_lost_is_said() -> None:
    packets = [tcp(CLIENT, METER, 10, b"ab"), tcp(CLIENT, METER, 15, b"fg"), tcp(METER, CLIENT, 5, b"yes")]
    found = said(pcap(packets))
    assert [(c.octets, c.missing) for c in found if c.forward] == [(b"ab", False), (b"fg", True)]
    assert of(found, forward=False) == b"yes"


def test_a_segment_that_never_comes_does_not_hold_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_streams, "MAX_WAITING", 4)
    packets = [
        tcp(CLIENT, METER, 0, b"a"),
        *(tcp(CLIENT, METER, 2 + n, bytes((98 + n,))) for n in range(20)),
    ]
    found = said(pcap(packets))
    assert of(found) == b"a" + bytes(range(98, 118))
    assert sum(chunk.missing for chunk in found) == 1


def test_a_port_used_again_is_another_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    packets = [
        p for n in (10, 5) for p in (tcp(CLIENT, METER, n, flags=SYN), tcp(CLIENT, METER, n + 1, b"hi"))
    ]
    assert [chunk.conversation for chunk in said(pcap(packets))] == [1, 2]
    monkeypatch.setattr(capture_streams, "MAX_CONVERSATIONS", 1)
    others = [*packets, udp(CLIENT6, METER6, b"too many")]
    assert {chunk.conversation for chunk in said(pcap(others))} == {1, 2}


@pytest.mark.parametrize("write", [pcap, pcapng])
def test_a_file_cut_short_gives_what_is_whole_and_the_offset(write: Writer) -> None:
    capture = write([tcp(CLIENT, METER, 1, b"one"), tcp(CLIENT, METER, 4, b"two")])
    found: list[Chunk] = []
    with pytest.raises(MeterProtocolError, match="offset 0x"):
        found.extend(chunks(read_capture(capture[:-2])))
    assert of(found) == b"one"


@given(st.integers(0, 1 << 30))
@settings(max_examples=150)
def test_damaged_captures_raise_nothing_else(seed: int) -> None:
    rng = random.Random(seed)
    packets = [
        tcp(CLIENT, METER, 0, flags=SYN),
        tcp(CLIENT6, METER6, 1, b"x" * 30),
        udp(CLIENT, METER, b"y" * 9),
    ]
    capture = bytearray(rng.choice((pcap, pcapng))(packets, link=rng.choice((0, 1, 101, 113, 276))))
    for _ in range(rng.randrange(1, 6)):
        capture[rng.randrange(len(capture))] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
    try:
        said(bytes(capture[: rng.randrange(4, len(capture) + 1)]))
    except MeterProtocolError:
        pass


def test_without_the_package_that_reads_captures_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pktcap", None)
    with pytest.raises(MeterConfigError, match=r"pip install 'meter-gateway\[captures\]'"):
        next(read_capture(pcap([])))
