"""The words on the edge's socket: what was packed is read back, whatever else comes is one named error."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.field.messages import (
    MAX_MESSAGE,
    MAX_OCTETS,
    Act,
    Ask,
    Done,
    FieldMessageError,
    Wire,
    answer_of,
    body_length,
    packed,
    read_body,
    request_of,
)


@given(st.binary(max_size=400))
def test_any_octets_are_a_request_or_the_one_error(octets: bytes) -> None:
    for read in (request_of, answer_of):
        with suppress(FieldMessageError):
            read(octets)


@given(st.sampled_from(["send", "receive", "drain"]), st.binary(max_size=300), st.integers(0, 9))
def test_an_act_comes_as_it_was_sent(do: str, octets: bytes, number: int) -> None:
    act = Act.model_validate({"number": number, "do": do, "octets": octets.hex(), "seconds": 1.5})
    assert request_of(packed(act)[4:]) == act


def test_what_is_left_out_is_not_sent_and_comes_back() -> None:
    ask = Ask(turn=1, line="bus-1", place="/dev/ttyUSB0", purpose="scan", wire=Wire(baud=1200))
    assert request_of(packed(ask)[4:]) == ask
    assert b"parity" not in packed(ask)


def test_the_longest_apdu_fits() -> None:
    done = Done(number=1, octets=bytes(MAX_OCTETS).hex())
    assert len(packed(done)) <= MAX_MESSAGE
    assert answer_of(packed(done)[4:]) == done


@pytest.mark.parametrize(
    "body", [b'{"kind": "act"', b"[" * 50_000, b'{"kind":"ask","turn":1e999}', b"\xff\xfe"]
)
def test_a_stranger_s_words_are_refused(body: bytes) -> None:
    with pytest.raises(FieldMessageError):
        request_of(body)


@pytest.mark.parametrize("length", [0, 1, MAX_MESSAGE + 1, 2**32 - 1])
def test_a_length_that_nothing_has_is_refused_before_anything_is_kept(length: int) -> None:
    with pytest.raises(FieldMessageError, match="are allowed"):
        body_length(length.to_bytes(4, "big"))


@pytest.mark.parametrize("cut", [1, 3, 4, 9])
async def test_a_message_that_is_cut_off_is_said_to_be(cut: int) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(packed(Done(number=1))[:cut])
    reader.feed_eof()
    with pytest.raises(FieldMessageError, match="within a message"):
        await read_body(reader)


async def test_an_end_between_messages_is_an_end() -> None:
    reader = asyncio.StreamReader()
    reader.feed_eof()
    assert await read_body(reader) is None
