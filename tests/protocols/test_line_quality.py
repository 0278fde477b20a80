"""How well a line carries: what is counted, and which advice follows."""

from __future__ import annotations

import pytest

from protocols.line import LinePace
from protocols.meters.line_quality import LineQuality, Measure, MeterQuality, broken_of
from protocols.unused import Unused


def quality(
    meter: str, *, asked: int = 10, unanswered: int = 0, broken: int = 0, latency: float = 0.05
) -> MeterQuality:
    answers = asked - unanswered - broken
    return MeterQuality(
        meter=meter, asked=asked, unanswered=unanswered, broken=broken, latencies=(latency,) * answers
    )


def advice(*meters: MeterQuality) -> str:
    return " | ".join(LineQuality(meters=meters, seconds=10.0).advice)


def test_questions_answers_and_latencies_are_counted() -> None:
    clock = iter([0.0, 0.5, 1.0, 2.0, 2.25])
    measure = Measure(lambda: next(clock), LinePace(octet=0.01, gap=0.03))
    measure.octets(sent=True, octets=bytes(8))  # at 0, on the wire until 0.08
    measure.octets(sent=False, octets=b"1")
    measure.octets(sent=False, octets=b"2")
    measure.octets(sent=True, octets=b"ab")
    measure.octets(sent=True, octets=b"ab")
    measure.octets(sent=False, octets=b"3")
    found = measure.take("EAS:1", broken=0, error=None)
    assert (found.asked, found.unanswered) == (3, 1)
    assert found.latencies == pytest.approx((0.42, 0.23))
    assert measure.octets_passed == 15
    assert measure.take("EAS:2", broken=0, error=None) == MeterQuality(meter="EAS:2")


def test_a_question_that_waits_for_ever_is_unanswered() -> None:
    measure = Measure(lambda: 0.0)
    measure.octets(sent=True, octets=b"a")
    assert measure.take("EAS:1", broken=0, error="no answer").unanswered == 1


@pytest.mark.parametrize(
    ("meters", "said"),
    [
        ([quality("A:1"), quality("A:2")], "in order"),
        ([quality("A:1", unanswered=10), quality("A:2", unanswered=10)], "nobody answers"),
        ([quality("A:1"), quality("A:2", unanswered=10)], "A:2 silent"),
        (
            [quality("A:1"), quality("A:2"), quality("A:3", broken=3)],
            "A:3 with errors and the others without",
        ),
        ([quality("A:1", broken=2), quality("A:2", broken=3), quality("A:3")], "terminate both ends"),
        ([quality("A:1", latency=1.3), quality("A:2")], "A:1 slow"),
        (
            [MeterQuality(meter="A:1", asked=10, latencies=(0.02,) * 9 + (0.9,))],
            "A:1 with uneven latency",
        ),
    ],
)
def test_the_advice_follows_from_what_was_measured(meters: list[MeterQuality], said: str) -> None:
    assert said in advice(*meters)


def test_many_meters_are_not_all_named() -> None:
    assert "and 3 more" in advice(quality("B:1"), *(quality(f"A:{n}", unanswered=10) for n in range(8)))


def test_a_late_answer_is_no_broken_one() -> None:
    """A meter at 1.3 s was told to have bad terminals, or a second meter at its address."""
    assert broken_of({Unused.LATE_ANSWER: 10}) == 0
    assert broken_of({Unused.LATE_ANSWER: 3, Unused.BAD_CHECK: 2, Unused.NOT_A_FRAME: 1}) == 3
