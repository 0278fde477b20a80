"""Modbus traffic as a tree: framings, requests and answers, registers by address, and what is wrong where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.capture.recorded import RecordedOctets
from protocols.capture.tree import Node
from protocols.modbus.trace import Framing, ModbusReader, framing_of
from tests.support.modbus.raw_responder import mbap, rtu

ASKED = rtu(5, 4, 0, 10, 0, 2)
ANSWERED = rtu(5, 4, 4, 0x43, 0x66, 0x33, 0x34)
REFUSED = rtu(5, 0x84, 2)
ASCII = b":05040000000AED\r\n"


def pieces(*octets: bytes, sent: bool = True) -> list[RecordedOctets]:
    found, offset = [], 0
    for one in octets:
        found.append(RecordedOctets(conversation=0, sent=sent, octets=one, offset=offset))
        offset += len(one)
        sent = not sent
    return found


def read(framing: Framing, given: list[RecordedOctets]) -> ModbusReader:
    reader = ModbusReader(framing)
    for piece in given:
        reader.take(piece)
    reader.finish()
    return reader


def text(reader: ModbusReader) -> list[str]:
    return [f"{node.name}: {node.value}" for part in reader.parts for node in flat(part) if node.value]


def flat(node: Node) -> list[Node]:
    return [node, *(below for child in node.children for below in flat(child))]


@pytest.mark.parametrize(
    ("octets", "framing"),
    [
        (ASKED, Framing.RTU),
        (ASKED + ANSWERED + REFUSED, Framing.RTU),
        (mbap(b"\0\1", 5, 4, 0, 0, 0, 2), Framing.TCP),
        (mbap(b"\0\1", 5, 4, 0, 0, 0, 2) + mbap(b"\0\1", 5, 0x84, 2), Framing.TCP),
        (ASCII, Framing.ASCII),
        (ASKED[:-1], None),
        (ASKED + b"\0", None),
        (bytes.fromhex("C001C100080000010000FF0200"), None),
        (b"", None),
    ],
)
def test_the_framing_of_whole_frames(octets: bytes, framing: Framing | None) -> None:
    assert framing_of(octets) is framing


def test_registers_have_the_address_that_was_asked_for() -> None:
    said = text(read(Framing.RTU, pieces(ASKED, ANSWERED)))
    assert "Modbus RTU: unit 5, request" in said
    assert "address: 10 (0x000a)" in said
    assert "0x000a: 4366 3334" in said
    alone = text(read(Framing.RTU, pieces(ANSWERED)))
    assert "[0]: 4366 3334" in alone


def test_a_refusal_says_which() -> None:
    assert "exception: 2, illegal data address" in text(read(Framing.RTU, pieces(ASKED, REFUSED)))


def test_what_is_no_frame_is_said_with_its_place_and_what_follows_is_read() -> None:
    reader = read(Framing.RTU, pieces(ASKED, b"\xff\xff" + ANSWERED))
    assert [(problem.offset, problem.reason) for problem in reader.problems] == [
        (8, "2 octets that are no frame of Modbus RTU")
    ]
    assert (reader.explained, reader.total) == (17, 19)


def test_a_frame_may_come_in_pieces() -> None:
    frame = mbap(b"\0\7", 5, 4, 4, 1, 2, 3, 4)
    cut = [
        RecordedOctets(conversation=0, sent=False, octets=frame[i : i + 1], offset=i)
        for i in range(len(frame))
    ]
    assert "[0]: 0102 0304" in text(read(Framing.TCP, cut))


def test_a_model_says_what_registers_are() -> None:
    reader = ModbusReader(
        Framing.RTU, lambda function, first, words: [(1, f"{function}/{first}", str(len(words)))]
    )
    for piece in pieces(ASKED, ANSWERED):
        reader.take(piece)
    [said] = [node for part in reader.parts for node in flat(part) if node.name == "4/10"]
    assert (said.value, said.offset) == ("2", 8 + 3 + 2)


@given(
    st.lists(
        st.one_of(st.binary(max_size=40), st.sampled_from([ASKED, ANSWERED, REFUSED, ASCII])), max_size=8
    )
)
def test_any_octets_are_read_to_the_end(octets: list[bytes]) -> None:
    for framing in Framing:
        reader = read(framing, pieces(*octets))
        assert reader.total == sum(map(len, octets))
        wrong = sum(int(problem.reason.split()[0]) for problem in reader.problems)
        assert reader.explained + wrong == reader.total
