"""A judged write against a meter of any behaviour: its word is true of what stands in the meter."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.acts.judged import Verdict, Wish, exactly, same_text, within, write_judged
from protocols.dlms.apdu.lists import Target
from protocols.dlms.data.types import Data, Tag, long_unsigned, octets
from protocols.errors import (
    AssociationLost,
    LineClosed,
    MeterRefused,
    MeterSilent,
    NotSupported,
    ProtocolError,
    WriteNotKept,
    WriteUnproven,
)
from protocols.reading import Obis
from tests.support.dlms.scripted_meter import Fate, ScriptedMeter

PERIOD = Target(1, Obis(1, 0, 0, 8, 0), 2)
BEFORE, FIRST, SECOND, WRONG = (long_unsigned(n) for n in (900, 1800, 1801, 7))
SILENCE = st.sampled_from([LineClosed("closed"), MeterSilent("silent"), AssociationLost("lost")])
REFUSALS = st.sampled_from([MeterRefused("type", reason_code=12), MeterRefused("denied", reason_code=3)])
FATES = st.one_of(
    st.just(Fate()),
    st.just(Fate(taken=False)),
    st.just(Fate(made=WRONG)),
    st.builds(lambda error: Fate(taken=False, error=error), REFUSALS),
    st.builds(lambda error, taken: Fate(taken=taken, error=error), SILENCE, st.booleans()),
    st.builds(lambda error: Fate(made=WRONG, error=error), SILENCE),
)
READS = st.one_of(st.none(), st.none(), st.none(), SILENCE)


@given(st.lists(FATES, max_size=8), st.lists(READS, max_size=8))
def test_whatever_the_meter_does_the_word_is_true(
    fates: list[Fate], reads: list[ProtocolError | None]
) -> None:
    meter = ScriptedMeter(BEFORE, fates, [None, *reads])
    kept: WriteNotKept | None = None
    try:
        judgement = asyncio.run(write_judged(meter, PERIOD, Wish.of(FIRST, SECOND)))
    except WriteNotKept as error:
        kept = error
    except WriteUnproven:
        assert any(reads)  # only where reading back failed is it not known what stands
    except MeterRefused:
        assert meter.value == BEFORE
    else:
        assert meter.value == judgement.found in (FIRST, SECOND)
        assert judgement.before == BEFORE
        assert (judgement.verdict is Verdict.AS_ASKED) == (judgement.form == 0)
    if kept is not None:
        assert kept.restored == (meter.value == BEFORE)
        assert str(BEFORE.value) in str(kept) if kept.restored else "NOT be put back" in str(kept)
    assert len(meter.written) <= 6


@given(st.lists(FATES, max_size=8))
def test_no_write_follows_another_that_was_not_answered_without_a_look_between(fates: list[Fate]) -> None:
    meter = ScriptedMeter(BEFORE, fates)
    try:
        asyncio.run(write_judged(meter, PERIOD, Wish.of(FIRST, SECOND)))
    except ProtocolError:
        pass
    writes = iter([*fates, *[Fate()] * 8])
    for this, following in zip(meter.order, meter.order[1:] + "R", strict=True):
        if this == "R":
            continue
        fate = next(writes)
        if not isinstance(fate.error, MeterRefused) or isinstance(fate.error, AssociationLost):
            assert following == "R", meter.order


async def test_what_is_refused_for_good_is_not_tried_in_other_forms() -> None:
    denied = MeterRefused("read-write denied", reason_code=3)
    meter = ScriptedMeter(BEFORE, [Fate(taken=False, error=denied)])
    with pytest.raises(MeterRefused) as caught:
        await write_judged(meter, PERIOD, Wish.of(FIRST, SECOND))
    assert caught.value is denied
    assert meter.order == "R?"


@pytest.mark.parametrize("code", [12, 3])
async def test_a_refusal_hides_nothing_that_an_unanswered_write_left(code: int) -> None:
    refused = MeterRefused("no", reason_code=code)
    meter = ScriptedMeter(
        BEFORE, [Fate(made=WRONG, error=MeterSilent("silent")), Fate(taken=False, error=refused)]
    )
    with pytest.raises(WriteNotKept) as caught:
        await write_judged(meter, PERIOD, Wish.of(FIRST, SECOND))
    assert caught.value.restored
    assert meter.value == BEFORE


async def test_a_meter_that_refuses_writes_as_if_it_had_restarted_is_heard() -> None:
    """A refusal "service not allowed" in a new association, too, is the meter's answer, and no silence."""
    lost = AssociationLost("service not allowed")
    meter = ScriptedMeter(BEFORE, [Fate(taken=False, error=lost)] * 8)
    with pytest.raises(AssociationLost):
        await write_judged(meter, PERIOD, Wish.of(FIRST, SECOND))
    assert meter.order == "R?R?R"


async def test_what_cannot_be_read_is_not_written() -> None:
    meter = ScriptedMeter(BEFORE, reads=[NotSupported("no such object")])
    with pytest.raises(NotSupported):
        await write_judged(meter, PERIOD, Wish.of(FIRST))
    assert meter.written == []


async def test_a_normal_form_of_the_value_is_as_asked() -> None:
    kept = Data(Tag.VISIBLE_STRING, "Summer")
    meter = ScriptedMeter(octets(b""), [Fate(made=kept)])
    wanted = octets(b"Summer")
    judgement = await write_judged(meter, PERIOD, Wish.of(wanted, holds=same_text(wanted)))
    assert str(judgement) == "as asked"
    assert exactly(wanted)(kept) is False
    assert within(900, 5)(long_unsigned(905))
    assert not within(900, 5)(long_unsigned(906))
    assert not within(900, 5)(kept)


async def test_a_secret_never_stands_in_an_error() -> None:
    meter = ScriptedMeter(octets(b"old secret"), [Fate(made=octets(b"cut"))] * 3)
    secret = Target(15, Obis(0, 0, 40, 0, 2), 7)
    with pytest.raises(WriteNotKept) as caught:
        await write_judged(meter, secret, Wish.of(octets(b"new secret")))
    assert "secret" not in str(caught.value).replace("#7 secret", "")
    assert "not shown" in str(caught.value)
