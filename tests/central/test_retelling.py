"""What a broker took shortly before it fell is told again in the next connection, once, and no more than that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.central.ledger.cursors import Cursors
from gateway.central.ledger.ledger import Ledger
from gateway.central.retelling import SETTLED, Retelling

NAME = "told"


class Numbers(Cursors):
    """Cursors in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}

    def get(self, name: str, unset: int = 0) -> int:
        return self.kept.get(name, unset)

    def set(self, name: str, value: int) -> None:
        self.kept[name] = value


@pytest.fixture
def cursors(tmp_path: Path) -> Iterator[Cursors]:
    ledger = Ledger(tmp_path / "ledger.db")
    yield ledger.cursors
    ledger.close()


def test_what_an_older_central_told_is_not_told_again(cursors: Cursors) -> None:
    cursors.set(NAME, 700)
    connection = Retelling(cursors, NAME)
    connection.look(0)
    connection.look(SETTLED)
    assert cursors.get(NAME) == 700


def test_what_was_told_before_the_broker_fell_and_before_its_consumers_came_back_is_told_again(
    cursors: Cursors,
) -> None:
    first = Retelling(cursors, NAME)
    first.look(0)
    cursors.set(NAME, 3)  # and the broker falls
    second = Retelling(cursors, NAME)
    second.look(10)
    cursors.set(NAME, 5)  # nobody has subscribed yet
    second.look(10 + SETTLED - 1)
    assert cursors.get(NAME) == 5
    second.look(10 + SETTLED)
    assert cursors.get(NAME) == 0


def test_an_unset_cursor_and_one_at_zero_are_told_apart(cursors: Cursors) -> None:
    assert cursors.get(NAME, 9) == 9
    cursors.set(NAME, 0)
    assert cursors.get(NAME, 9) == 0


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.floats(1, 2 * SETTLED), st.integers(0, 3)), max_size=8),
            st.floats(0, SETTLED),
        ),
        max_size=6,
    )
)
def test_whoever_comes_back_in_time_misses_nothing_and_an_old_word_is_not_repeated(
    connections: list[tuple[list[tuple[float, int]], float]],
) -> None:
    """A broker that forgets, at each fall, all of the last minute, and has no consumer for some time after it."""
    cursors, now, top = Numbers(), 0.0, 0
    arrived: set[int] = set()
    for looks, away in connections:
        connection, began = Retelling(cursors, NAME), now
        taken: dict[int, float] = {}
        connection.look(now)
        for step, more in looks:
            now += step
            connection.look(now)
            top += more
            for number in range(cursors.get(NAME) + 1, top + 1):
                taken[number] = now  # the broker's receipt
            cursors.set(NAME, top)
        arrived |= {n for n, at in taken.items() if at >= began + away and at <= now - SETTLED}
    last = Retelling(cursors, NAME)
    last.look(now)
    last.look(now + SETTLED)
    told_again = set(range(cursors.get(NAME) + 1, top + 1))
    assert set(range(1, top + 1)) - arrived <= told_again
