"""Many captures at once are answered as each by itself is, whatever the meter's past and their order."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapping.changes import Change, Install, MoveIn, Name
from mapping.directory import Attributions, NumberKind, Role
from mapping.errors import ChangeRefused
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore
from mapping.timeline import Captured, MeterTimeline, attribute_all
from tests.support.mapping.places import in_a_file
from tests.support.mapping.strategies import METERS, STEPS, at, change_sets
from tests.support.steps import steps_of

asked = st.builds(
    lambda meter, end, length: Captured(meter, None if length is None else at(end - length), at(end)),
    st.sampled_from(METERS),
    st.integers(-1, STEPS + 1),
    st.none() | st.integers(0, 4),
)


@settings(max_examples=60)
@given(change_sets, st.lists(asked, max_size=60), st.booleans(), st.none() | st.integers(0, 10))
def test_many_at_once_are_answered_as_one_by_one(
    sets: list[list[Change]], captures: list[Captured], in_order: bool, known: int | None
) -> None:
    with in_a_file() as where, DirectoryStore(where) as store:
        for number, changes in enumerate(sets):
            try:
                store.apply(changes, by="x", source="y", at=at(number))
            except ChangeRefused:
                continue
        if in_order:
            captures.sort(key=lambda one: (one.meter, one.end))
        snapshot, known_at = store.snapshot(), None if known is None else at(known)
        singly = [snapshot.attributions(*one, known_at=known_at) for one in captures]
        assert list(attribute_all(snapshot, captures, known_at)) == singly


def test_an_interval_that_ends_before_it_starts_is_refused() -> None:
    timeline = MeterTimeline(DirectorySnapshot(), "GEN:1")
    with pytest.raises(ValueError, match="after its end"):
        timeline.attributions(at(3), at(2))


def test_a_capture_more_of_a_stretch_costs_next_to_nothing() -> None:
    with in_a_file() as where, DirectoryStore(where) as store:
        fitted: list[Change] = [
            Install("GEN:1", "UP1", Role.CONSUMER, at(0)),
            MoveIn("UP1", "a", at(0)),
            Name("a", NumberKind.LEGACY, "K1"),
        ]
        store.apply(fitted, by="x", source="y", at=at(0))
        snapshot = store.snapshot()

        def answers(count: int) -> list[Attributions]:
            return list(
                attribute_all(snapshot, [Captured("GEN:1", at(i), at(i + 1)) for i in range(1, count)])
            )

        answers(10)
        few, many = (steps_of(partial(answers, count)) for count in (1_000, 2_000))
        assert (many - few) / 1_000 < 40
