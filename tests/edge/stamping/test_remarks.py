"""What is remarkable about a reading is an event beside it: under its own number, told once."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.messages.codes import GATEWAY_EVENTS
from gateway.edge.stamping.remarks import FIRST_OCCURRENCE, with_events
from protocols.reading import (
    Number,
    ProfileName,
    Quality,
    Quantity,
    ReadingSet,
    Remark,
    RemarkWord,
    Text,
    name_of,
)

AT = datetime(2026, 11, 23, 18, 30, tzinfo=UTC)
ENERGY, VOLTAGE = Quantity.of("1-0:1.8.0"), Quantity.of("1-0:12.7.0")
SHOWN = [ProfileName.INSTANTANEOUS, ProfileName.PREPAYMENT, ProfileName.NAMEPLATE]


def reading(*remarks: Remark, profile: ProfileName = ProfileName.INSTANTANEOUS) -> ReadingSet:
    return ReadingSet(
        profile=profile,
        at=AT,
        values=((ENERGY, Number(0, 0, "Wh")),),
        received_at=AT,
        quality=Quality.SUSPECT if remarks else Quality.VALID,
        remarks=remarks,
    )


def test_a_remark_is_an_event_with_what_was_believed_and_what_was_read() -> None:
    remark = Remark(
        word=RemarkWord.FELL,
        quantities=(ENERGY, VOLTAGE),
        before=Number(1_234_560, 0, "Wh"),
        found=Number(0, 0, "Wh"),
        detail="it was read twice",
    )
    told, event = with_events([reading(remark)])
    assert told.profile is ProfileName.INSTANTANEOUS
    assert (event.profile, event.at, event.quality) == (ProfileName.EVENTS, AT, Quality.VALID)
    assert {name_of(q): v for q, v in event.values} == {
        "gateway_event": Text("value_fell"),
        "gateway_event_quantities": Text("1-0:1.8.0*255 1-0:12.7.0*255"),
        "gateway_event_before": Number(1_234_560, 0, "Wh"),
        "gateway_event_found": Number(0, 0, "Wh"),
        "gateway_event_detail": Text("it was read twice"),
    }


def test_what_is_not_remarkable_costs_nothing() -> None:
    plain = [reading(), reading()]
    assert with_events(plain) is plain


@given(
    st.lists(
        st.tuples(st.sampled_from(SHOWN), st.sets(st.sampled_from(list(RemarkWord)))),
        unique_by=lambda o: o[0],
    )
)
def test_no_two_events_of_an_instant_have_one_number(told: list[tuple[ProfileName, set[RemarkWord]]]) -> None:
    rows = [reading(*(Remark(word=word) for word in words), profile=profile) for profile, words in told]
    numbers = [row.occurrence for row in with_events(rows) if row.profile is ProfileName.EVENTS]
    assert len(set(numbers)) == len(numbers) == sum(len(words) for _, words in told)
    assert all(number >= FIRST_OCCURRENCE for number in numbers)


@pytest.mark.parametrize("word", RemarkWord)
def test_each_word_has_its_meaning_in_the_contract(word: RemarkWord) -> None:
    assert GATEWAY_EVENTS[word]
