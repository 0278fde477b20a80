"""The judgement over a clock: properties for any evidence, and the cases that went wrong once."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.timekeeping.evidence import (
    OLDEST,
    ClockState,
    Observation,
    Voice,
    judge,
    quorum,
)

NOW = datetime(2026, 11, 30, 6, tzinfo=UTC)
STEADY = 10_000.0
MAX_ERROR = 30.0


def says(
    voice: Voice, offset: float, error: float = 1.0, age: float = 0.0, source: str | None = None
) -> Observation:
    """A source that says, now, that our clock should show `offset` seconds more."""
    instant = NOW + timedelta(seconds=offset - age)
    return Observation(
        voice=voice, source=source or voice.value, steady=STEADY - age, instant=instant, error=error
    )


def judged(*observations: Observation, **more: object) -> ClockState:
    return judge(observations, steady=STEADY, now=NOW, max_error=MAX_ERROR, **more).state  # type: ignore[arg-type]


OFFSETS = st.floats(-1e7, 1e7).map(lambda s: round(s, 3))
OBSERVATIONS = st.lists(
    st.builds(
        says,
        st.sampled_from(Voice),
        OFFSETS | st.floats(-5, 5).map(lambda s: round(s, 3)),
        st.floats(0, 200).map(lambda s: round(s, 3)),
        st.floats(0, 2 * OLDEST).map(lambda s: round(s, 3)),
    ),
    max_size=6,
)


def test_without_evidence_nothing_is_believed() -> None:
    assert judged() is ClockState.UNPROVEN
    assert judge([], steady=0, now=NOW, max_error=1, doubt="a saved clock").text == "a saved clock"


@given(OBSERVATIONS)
def test_the_order_of_the_evidence_does_not_matter(observations: list[Observation]) -> None:
    assert judged(*observations) is judged(*reversed(observations))


@given(OBSERVATIONS)
def test_a_clock_is_trusted_only_near_what_most_voices_say(observations: list[Observation]) -> None:
    found = judge(observations, steady=STEADY, now=NOW, max_error=MAX_ERROR)
    near = [o for o in found.opinions if o.low <= MAX_ERROR and o.high >= -MAX_ERROR]
    if found.trusted:
        assert 2 * len(near) > len(found.opinions) > 0
    if not found.opinions:
        assert found.state is ClockState.UNPROVEN


@given(OBSERVATIONS, st.sampled_from(Voice))
def test_one_voice_is_never_louder_for_speaking_often(observations: list[Observation], voice: Voice) -> None:
    """Any number of sources behind one voice cannot outvote two others that agree."""
    others = [says(v, 0.0, 0.5) for v in Voice if v is not voice]
    loud = [o for o in observations if o.voice is voice]
    assert judged(*others, *loud) is ClockState.TRUSTED


@given(OBSERVATIONS)
def test_a_voice_that_agrees_takes_no_trust_away(observations: list[Observation]) -> None:
    before = judge(observations, steady=STEADY, now=NOW, max_error=MAX_ERROR)
    silent = [voice for voice in Voice if voice not in {o.voice for o in before.opinions}]
    if before.trusted and silent:
        assert before.offset is not None
        more = [*observations, says(silent[0], round(before.offset, 3), 0.1 + (before.error or 0))]
        assert judged(*more) is ClockState.TRUSTED


@given(st.floats(-1e6, 1e6).map(round), st.floats(0, OLDEST).map(round))
def test_a_jump_of_the_clock_shows_at_once(jump: float, age: float) -> None:
    """The observation is tied to the steady clock: the wall clock may be set to whatever, it is seen."""
    observed = says(Voice.CENTRAL, 0.0, 1.0, age)
    found = judge([observed], steady=STEADY, now=NOW + timedelta(seconds=jump), max_error=MAX_ERROR)
    assert found.offset == pytest.approx(-jump)
    assert found.trusted == (abs(jump) + found.opinions[0].error <= MAX_ERROR)


def test_a_gateway_25_minutes_slow_is_told_by_any_single_voice() -> None:
    for voice in Voice:
        found = judge([says(voice, 1500.0)], steady=STEADY, now=NOW, max_error=MAX_ERROR)
        assert found.state is ClockState.WRONG
        assert found.offset == 1500.0
        assert "1500 s slow" in found.text


def test_two_that_contradict_each_other_leave_the_clock_disputed() -> None:
    assert judged(says(Voice.HOST, 0.0), says(Voice.CENTRAL, -259_200.0)) is ClockState.DISPUTED


def test_the_third_voice_decides() -> None:
    host, central = says(Voice.HOST, 0.0), says(Voice.CENTRAL, -259_200.0)
    assert judged(host, central, says(Voice.METERS, 3.0, 10.0)) is ClockState.TRUSTED
    assert judged(host, central, says(Voice.METERS, -259_195.0, 10.0)) is ClockState.WRONG


def test_old_and_vague_evidence_is_none() -> None:
    assert judged(says(Voice.HOST, 0.0, 1.0, OLDEST + 1)) is ClockState.UNPROVEN
    assert judged(says(Voice.HOST, 0.0, 121.0)) is ClockState.UNPROVEN
    assert judged(says(Voice.HOST, 0.0, 40.0)) is ClockState.UNPROVEN  # a clock 40 s off would look the same


def test_meters_cannot_set_the_time_back() -> None:
    """A lot of meters that all lost their clock says 2000; we were right a minute ago."""
    meters = says(Voice.METERS, -7e8)
    assert judged(meters) is ClockState.WRONG
    assert judged(meters, known_after=NOW - timedelta(minutes=1)) is ClockState.UNPROVEN


def clocks(*offsets: float) -> dict[str, tuple[float, datetime]]:
    return {f"GEN:{i}": (STEADY - i, NOW + timedelta(seconds=offset - i)) for i, offset in enumerate(offsets)}


def agreed(*offsets: float, least: int = 5) -> float | None:
    found = quorum(clocks(*offsets), steady=STEADY, least=least, spread=40.0)
    return None if found is None else (found.instant - NOW).total_seconds()


def test_meters_agree_by_a_quorum() -> None:
    assert agreed(0, 1, -2, 3, 4) == 1
    assert agreed(0, 1, -2, 3) is None  # too few
    assert agreed(1500, 1501, 1502, 1503, 1504, 0) == 1502  # one of six lies
    assert agreed(0, 0, 0, 0, 0, 900, 900, 900) is None  # five of eight are not two thirds
    assert agreed(*(100 * i for i in range(20))) is None  # each says another time


@given(st.lists(st.floats(-20, 20).map(round), min_size=5, max_size=40), st.data())
def test_fewer_than_a_third_of_liars_move_the_quorum_nowhere(
    honest: list[float], data: st.DataObject
) -> None:
    most = (len(honest) - 1) // 2
    liars = data.draw(st.lists(st.floats(-1e8, 1e8).map(round), max_size=most))
    found = agreed(*honest, *liars)
    assert found is None or -60 <= found <= 60
