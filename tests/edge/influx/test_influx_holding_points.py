"""What is written into the series `holding`, against a model of each server at its worst."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.influx.holding import (
    HORIZON,
    MILLISECOND,
    RENEW,
    Statement,
    Step,
    overwritten,
    restated,
    stands_under,
)
from gateway.edge.influx.points import UNASSIGNED, nanoseconds

ACCOUNTS = ("1111111111", "2222222222", UNASSIGNED)
DAY = 86_400 * 1_000_000_000
"""Nanoseconds of a day."""
histories = st.lists(
    st.tuples(
        st.integers(0, 400),  # days until the directory is looked at again
        st.lists(st.tuples(st.integers(-700, 30), st.sampled_from(ACCOUNTS)), max_size=5),
    ),
    min_size=1,
    max_size=6,
)
"""What the directory said each time it was looked at: from which day (before or after now) which account held."""


def _told(now: int, said: list[tuple[int, str]]) -> list[Step]:
    steps: list[Step] = []
    for days, account in sorted(dict(said).items()):
        if account != (steps[-1].account if steps else UNASSIGNED):
            steps.append(Step(now + days * DAY, account))
    return steps


def _times(now: int) -> Iterator[int]:
    """Yield times of the last 400 days: each midnight, and just before it."""
    for days in range(HORIZON.days):
        yield now - days * DAY
        yield now - days * DAY - MILLISECOND


@given(histories)
def test_influxdb_is_told_all_that_the_directory_says(looks: list[tuple[int, list[tuple[int, str]]]]) -> None:
    held: dict[int, str] = {}
    now = datetime(2026, 11, 1, tzinfo=UTC)
    for days, said in looks:
        now += timedelta(days=days)
        present = nanoseconds(now)
        steps = _told(present, said)
        written = overwritten(steps, held, now)
        held.update(written)
        assert not overwritten(steps, held, now)  # a repeat writes nothing
        assert not any(at > present for at in held)
        stored = [Step(*one) for one in sorted(held.items())]
        for at in _times(present):
            assert stands_under(stored, at) == stands_under(steps, at)


@dataclass
class _Victoria:
    """VictoriaMetrics as the worst that it may be: of two values of one time either is kept."""

    statements: dict[int, Statement] = field(default_factory=dict)

    def write(self, samples: list[Any]) -> None:
        for one in samples:
            statement = self.statements.setdefault(one.span, Statement(one.account, one.span))
            assert statement.account == one.account
            into, other = {
                ("held", 1): (statement.ones, statement.zeros),
                ("held", 0): (statement.zeros, statement.ones),
                ("gone", 1): (statement.gone, set()),
            }[one.field, one.value]
            assert one.at not in other, "nothing is ever written over"
            into.add(one.at)

    def held_at(self, at: int) -> str:
        found = []
        for one in self.statements.values():
            window = [t for t in one.ones | one.zeros if at - 600 * DAY < t <= at]
            gone = [t for t in one.gone if at - 600 * DAY < t <= at]
            if window and max(window) in one.ones and not gone:
                found.append(one.account)
        assert len(found) < 2, f"{found} both hold it"
        return found[0] if found else UNASSIGNED


@given(histories)
def test_victoriametrics_is_told_all_and_nothing_is_written_over(
    looks: list[tuple[int, list[tuple[int, str]]]],
) -> None:
    victoria = _Victoria()
    now = datetime(2026, 11, 1, tzinfo=UTC)
    for days, said in looks:
        now += timedelta(days=days)
        present = nanoseconds(now)
        steps = _told(present, said)
        victoria.write(restated(steps, victoria.statements.values(), now))
        assert not restated(steps, victoria.statements.values(), now)
        for at in _times(present):
            assert victoria.held_at(at) == stands_under(steps, at)


def test_what_was_cut_short_is_taken_back_to_the_end() -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    at = nanoseconds(now) - 10 * DAY
    cut = Statement("1111111111", 1, ones={at, at + DAY}, gone={at})
    samples = restated([], [cut], now)
    assert [(one.field, one.at) for one in samples] == [("gone", at + DAY)]


def test_an_account_that_holds_for_years_is_told_again_before_the_server_forgets() -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    begun = nanoseconds(now - RENEW - timedelta(days=1))
    steps = [Step(begun, "1111111111")]
    assert overwritten(steps, {begun: "1111111111"}, now) == [Step(begun + 500 * DAY, "1111111111")]
    [again] = restated(steps, [Statement("1111111111", 1, ones={begun})], now)
    assert (again.field, again.value, again.at, again.span) == ("held", 1, begun + 500 * DAY, 1)
