"""Services on lists and requests in blocks: their octets, both ways, and hostile ones."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms.apdu.lists import (
    ActionBlock,
    ActionListRequest,
    ActionListResponse,
    ActionNext,
    BlockAck,
    GetListRequest,
    GetListResponse,
    Outcome,
    RequestBlock,
    SetListRequest,
    SetListResponse,
    Target,
    decode_action_outcomes,
    encode_action_outcomes,
)
from protocols.dlms.apdu.selection import EntrySelection
from protocols.dlms.apdu.services import Apdu, decode_apdu, encode_apdu
from protocols.dlms.data.types import NULL, Data, long_unsigned, octets
from protocols.errors import MeterProtocolError
from protocols.reading import Obis

OBIS = st.builds(Obis, *(st.integers(0, 255) for _ in range(6)))
METHODS = st.builds(Target, st.integers(0, 0xFFFF), OBIS, st.integers(-128, 127))
CHOICES = st.none() | st.builds(EntrySelection, st.integers(0, 99), st.integers(0, 99))
ATTRIBUTES = st.builds(Target, st.integers(0, 0xFFFF), OBIS, st.integers(-128, 127), CHOICES)
VALUES = st.integers(0, 0xFFFF).map(long_unsigned) | st.binary(max_size=150).map(octets) | st.just(NULL)
GOT = st.builds(Outcome, st.just(0), VALUES) | st.integers(1, 255).map(Outcome)
RAN = st.builds(Outcome, st.just(0), VALUES | st.none()) | st.integers(1, 255).map(Outcome)
NUMBERS = st.integers(0, 0xFFFFFFFF)


def pairs(
    targets: st.SearchStrategy[Target],
) -> st.SearchStrategy[tuple[tuple[Target, ...], tuple[Data, ...]]]:
    return st.lists(st.tuples(targets, VALUES), max_size=6).map(
        lambda both: (tuple(t for t, _ in both), tuple(v for _, v in both))
    )


APDUS: st.SearchStrategy[Apdu] = st.one_of(
    st.lists(ATTRIBUTES, max_size=6).map(lambda t: GetListRequest(targets=tuple(t))),
    st.lists(GOT, max_size=6).map(lambda r: GetListResponse(outcomes=tuple(r))),
    pairs(ATTRIBUTES).map(lambda p: SetListRequest(targets=p[0], values=p[1])),
    st.lists(st.integers(0, 255), max_size=200).map(lambda r: SetListResponse(results=tuple(r))),
    pairs(METHODS).map(lambda p: ActionListRequest(targets=p[0], parameters=p[1])),
    st.lists(RAN, max_size=6).map(lambda r: ActionListResponse(outcomes=tuple(r))),
    st.builds(
        RequestBlock,
        action=st.just(False),
        last=st.booleans(),
        number=NUMBERS,
        raw=st.binary(max_size=300),
        targets=st.just(()) | ATTRIBUTES.map(lambda t: (t,)),
    ),
    st.builds(
        RequestBlock,
        action=st.just(True),
        last=st.booleans(),
        number=NUMBERS,
        raw=st.binary(max_size=300),
        targets=st.just(()) | METHODS.map(lambda t: (t,)),
    ),
    st.builds(
        RequestBlock,
        action=st.just(False),
        last=st.booleans(),
        number=NUMBERS,
        raw=st.binary(max_size=300),
        targets=st.lists(ATTRIBUTES, min_size=1, max_size=5).map(tuple),
        listed=st.just(True),
    ),
    st.builds(
        BlockAck,
        action=st.just(False),
        number=NUMBERS,
        results=st.just(()) | st.integers(0, 255).map(lambda r: (r,)),
    ),
    st.builds(
        BlockAck,
        action=st.just(False),
        number=NUMBERS,
        results=st.lists(st.integers(0, 255), min_size=1, max_size=9).map(tuple),
        listed=st.just(True),
    ),
    st.builds(ActionBlock, last=st.booleans(), number=NUMBERS, raw=st.binary(max_size=300)),
    st.builds(ActionNext, block=NUMBERS),
    st.builds(BlockAck, action=st.just(True), number=NUMBERS),
)


@settings(max_examples=100)
@given(APDUS)
def test_they_survive_the_round_trip(message: Apdu) -> None:
    encoded = encode_apdu(message)
    assert decode_apdu(encoded) == message
    with pytest.raises(MeterProtocolError, match="offset"):
        decode_apdu(encoded[:-1])
    with pytest.raises(MeterProtocolError, match="after the end"):
        decode_apdu(encoded + b"\0")


CLOCK = Target(8, Obis(0, 0, 1, 0, 0), 2)
NAME = "000800000100" + "00FF02"
LAYOUTS: dict[str, Apdu] = {
    "C003C1" + "01" + NAME + "00": GetListRequest(targets=(CLOCK,)),
    "C403C1" + "02" + "00120001" + "0104": GetListResponse(
        outcomes=(Outcome(0, long_unsigned(1)), Outcome(4))
    ),
    "C104C1" + "01" + NAME + "00" + "01" + "120001": SetListRequest(
        targets=(CLOCK,), values=(long_unsigned(1),)
    ),
    "C505C1" + "020003": SetListResponse(results=(0, 3)),
    "C102C1" + NAME + "00" + "00" + "00000001" + "02ABCD": RequestBlock(
        action=False, last=False, number=1, raw=b"\xab\xcd", targets=(CLOCK,)
    ),
    "C103C1" + "01" + "00000002" + "01EF": RequestBlock(action=False, last=True, number=2, raw=b"\xef"),
    "C502C1" + "00000001": BlockAck(action=False, number=1),
    "C503C1" + "00" + "00000002": BlockAck(action=False, number=2, results=(0,)),
    "C303C1" + "01" + NAME + "01" + "00": ActionListRequest(targets=(CLOCK,), parameters=(NULL,)),
    "C703C1" + "01" + "0000": ActionListResponse(outcomes=(Outcome(0),)),
    "C304C1" + NAME + "00" + "00000001" + "01AB": RequestBlock(
        action=True, last=False, number=1, raw=b"\xab", targets=(CLOCK,)
    ),
    "C306C1" + "01" + "00000002" + "01CD": RequestBlock(action=True, last=True, number=2, raw=b"\xcd"),
    "C704C1" + "00000001": BlockAck(action=True, number=1),
    "C504C1" + "020003" + "00000002": BlockAck(action=False, number=2, results=(0, 3), listed=True),
    "C105C1" + "01" + NAME + "00" + "01" + "00000001" + "03011234": RequestBlock(
        action=False, last=True, number=1, raw=b"\x01\x12\x34", targets=(CLOCK,), listed=True
    ),
    "C305C1" + "01" + NAME + "00" + "00000001" + "01AB": RequestBlock(
        action=True, last=False, number=1, raw=b"\xab", targets=(CLOCK,), listed=True
    ),
    "C302C1" + "00000001": ActionNext(block=1),
    "C702C1" + "01" + "00000002" + "01CD": ActionBlock(last=True, number=2, raw=b"\xcd"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_of_the_green_book(layout: str) -> None:
    assert encode_apdu(LAYOUTS[layout]) == bytes.fromhex(layout)
    assert decode_apdu(bytes.fromhex(layout)) == LAYOUTS[layout]


@pytest.mark.parametrize(
    ("hostile", "reason"),
    [
        ("C003C1" + "84FFFFFFFF", "4294967295 attributes announced"),
        ("C403C1" + "05" + "00", "5 results announced"),
        ("C104C1" + "01" + NAME + "00" + "02" + "120001" + "120002", "2 values for 1 targets"),
        ("C403C1" + "01" + "0100", "success without a value"),
        ("C103C1" + "01" + "00000002" + "84FFFFFFFF00", "octets wanted"),
        ("C007C1", "get-request of kind 7"),
        ("C704C1", "octets wanted"),
    ],
)
def test_hostile_ones_are_refused(hostile: str, reason: str) -> None:
    with pytest.raises(MeterProtocolError, match=reason):
        decode_apdu(bytes.fromhex(hostile))


@pytest.mark.parametrize(
    "octets_in_blocks",
    ["0903616263", "00" + "0903616263", "000100" + "0903616263"],
    ids=["data", "data with its choice", "whole outcome"],
)
def test_what_a_method_returned_in_blocks_is_read_in_each_form_seen(octets_in_blocks: str) -> None:
    (outcome,) = decode_action_outcomes(bytes.fromhex(octets_in_blocks), listed=False)
    assert outcome == Outcome(0, octets(b"abc"))


def test_what_a_method_returned_goes_into_blocks_as_data_alone() -> None:
    one = (Outcome(0, octets(b"abc")),)
    assert encode_action_outcomes(one, listed=False) == bytes.fromhex("0903616263")
    assert decode_action_outcomes(encode_action_outcomes(one * 2, listed=True), listed=True) == one * 2


@pytest.mark.parametrize("hostile", ["", "00", "0001", "0009056162", "09056162", "090161FF"])
def test_hostile_answers_of_a_method_in_blocks_are_refused(hostile: str) -> None:
    with pytest.raises(MeterProtocolError):
        decode_action_outcomes(bytes.fromhex(hostile), listed=False)
