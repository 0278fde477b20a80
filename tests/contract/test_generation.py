"""Generations: their text, their order, and how a message carries them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.contract.messages import Message
from gateway.contract.messages.generation import NO_GENERATION, Generation, GenerationText
from gateway.errors import ContractError

lives = st.builds(Generation, st.integers(0, 2**53 - 1), st.text("0123456789abcdef", min_size=8, max_size=8))


class Named(Message):
    generation: GenerationText


@given(lives)
def test_the_text_says_the_generation_and_travels_in_messages(life: Generation) -> None:
    assert Generation.parse(str(life)) == life
    message = Named(generation=life)
    assert message.model_dump_json() == f'{{"generation":"{life}"}}'
    assert Named.model_validate_json(message.model_dump_json()) == message


@pytest.mark.parametrize(
    "text", ["", "3", "3.", "03.9f2c01ab", "-1.9f2c01ab", "3.9F2C01AB", "3.9f2c01ab\n", "9" * 30]
)
def test_other_texts_are_refused_by_name(text: str) -> None:
    with pytest.raises(ContractError, match="no generation"):
        Generation.parse(text)
    with pytest.raises(ValidationError, match="no generation"):
        Named.model_validate({"generation": text})


@given(st.lists(lives, max_size=5))
def test_a_new_life_is_above_everything_shown(shown: list[Generation]) -> None:
    if any(one.counter == 2**53 - 1 for one in shown):
        return
    fresh = Generation.after(*shown)
    assert all(one.is_before(fresh) for one in shown)
    assert NO_GENERATION.is_before(fresh)


def test_one_counter_with_two_random_parts_is_two_lives() -> None:
    one, other = Generation(3, "00000001"), Generation(3, "00000002")
    assert one.is_twin_of(other)
    assert not one.is_twin_of(one)
    assert not one.is_before(other)


def test_the_schema_is_a_pattern() -> None:
    schema = Named.model_json_schema()["properties"]["generation"]
    assert schema["type"] == "string"
    assert schema["pattern"].startswith("^")
