"""Bad items among many are found in halves, and the good ones are attempted all the same."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from gateway.bisection import refused_alone


@given(st.sets(st.integers(0, 499)), st.integers(0, 500))
def test_bad_items_stand_alone_and_good_ones_are_taken(bad: set[int], count: int) -> None:
    taken: list[int] = []
    attempts = 0

    def attempt(items: Sequence[int]) -> None:
        nonlocal attempts
        attempts += 1
        if refused := bad & set(items):
            raise ValueError(sorted(refused))
        taken.extend(items)

    found = refused_alone(range(count), attempt, ValueError)
    expected = sorted(one for one in bad if one < count)
    assert [item for item, _ in found] == expected
    assert [error.args for _, error in found] == [([one],) for one in expected]
    assert taken == [one for one in range(count) if one not in bad]
    assert attempts <= 1 + 2 * 9 * len(expected)
