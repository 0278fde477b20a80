"""The consumer's rule and the directory agree on every capture, whatever was told, when, and how often."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.consumer_rule import ConsumerState
from gateway.contract.messages import NamingChanged
from gateway.contract.messages.generation import DirectoryVersion, Generation
from mapping.changes import CorrectHoldings, HoldingSpan, Install, MoveIn, MoveOut, Name, Remove
from mapping.directory import NumberKind, Role
from tests.support.rule_model import World, at, by_consumer, compare

METER, POINT = "GEN:1", "UP1"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """One meter, held by `old` since the beginning; its half hour is steps 3 to 6, the hand-over at step 4."""
    made = World(tmp_path)
    made.change(Install(METER, POINT, Role.CONSUMER, at(0)), MoveIn(POINT, "old", at(0)))
    yield made
    made.close()


def hand_over(world: World) -> None:
    world.change(MoveOut(POINT, at(4)), MoveIn(POINT, "new", at(4)))


def holders(world: World, *spans: HoldingSpan) -> None:
    world.change(CorrectHoldings(POINT, spans))


def whose(state: ConsumerState, capture_id: str) -> list[tuple[str, ...]]:
    """Account and role of a capture."""
    return [(account, role) for account, _, role, *_ in by_consumer(state.attribution(capture_id))[0]]


def settled(world: World, capture_id: str) -> list[tuple[str, ...]]:
    """What the consumer says in the end; the directory says the same."""
    state = world.consumer()
    assert world.differences(state) == []
    return whose(state, capture_id)


# The cases that were found with the rule of version 1.


def test_a_hand_over_that_was_taken_back_leaves_the_whole_to_the_old_holder(world: World) -> None:
    hand_over(world)
    half_hour = world.capture(METER, at(3), at(6))
    assert whose(world.consumer(), half_hour) == [("old", "partial"), ("new", "partial")]
    holders(world, HoldingSpan("old", at(0), None))
    assert settled(world, half_hour) == [("old", "normal")]


def test_a_vacancy_that_began_earlier_leaves_nothing_to_the_old_holder(world: World) -> None:
    world.change(MoveOut(POINT, at(4)))
    half_hour = world.capture(METER, at(3), at(6))
    assert whose(world.consumer(), half_hour) == [("old", "partial")]
    holders(world, HoldingSpan("old", at(0), at(2)))
    assert settled(world, half_hour) == []
    assert world.consumer().attribution(half_hour).reason == "not_a_consumer"


def test_a_piece_that_was_given_and_given_back_stays_a_piece(world: World) -> None:
    world.change(MoveOut(POINT, at(4)))
    half_hour = world.capture(METER, at(3), at(6))
    holders(world, HoldingSpan("old", at(0), at(2)), HoldingSpan("x", at(2), at(4)))
    assert settled(world, half_hour) == [("x", "partial")]
    holders(world, HoldingSpan("old", at(0), at(4)))
    assert settled(world, half_hour) == [("old", "partial")]


def test_a_move_between_usage_points_of_one_account_is_told(world: World) -> None:
    snapshot, half_hour = world.capture(METER, None, at(4)), world.capture(METER, at(3), at(6))
    world.change(MoveIn("UP2", "old", at(0)))
    world.change(Remove(METER, at(4)), Install(METER, "UP2", Role.CONSUMER, at(4)))
    assert settled(world, snapshot) == [("old", "final"), ("old", "opening")]
    assert settled(world, half_hour) == [("old", "partial"), ("old", "partial")]
    points = [point for _, point, *_ in by_consumer(world.consumer().attribution(half_hour))[0]]
    assert points == ["UP1", "UP2"]


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_name_never_goes_back(world: World, newest_first: bool) -> None:
    """A stamp of version 9 is not undone by an older change of version 5, nor that by one of version 4."""
    numbers = [Name("old", NumberKind.ACCOUNT, f"{n}" * 10) for n in (1, 2)]
    world.change(numbers[0])
    early = world.capture(METER, at(0), at(3))
    world.change(numbers[1])
    late = world.capture(METER, at(3), at(6))
    world.changes.sort(key=lambda change: change.directory, reverse=newest_first)
    state = ConsumerState()
    for batch in world.batches:
        state.apply(batch)
    for change in world.changes:
        state.apply_change(change)
        assert state.attribution(late).accounts[0].account_number == "2222222222"
    assert state.attribution(early).accounts[0].account_number == "2222222222"
    assert world.differences(state) == []


def test_a_lower_version_of_a_later_life_counts_more() -> None:
    """The directory was restored from a copy, and went on otherwise."""
    first, second = Generation(1, "00000001"), Generation(2, "00000002")
    assert DirectoryVersion(second, 3) > DirectoryVersion(first, 9) > DirectoryVersion(first, 8)
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.change(Install(METER, POINT, Role.CONSUMER, at(0)), MoveIn(POINT, "old", at(0)))
        world.copy()
        world.change(Name("old", NumberKind.ACCOUNT, "1111111111"))
        hand_over(world)
        half_hour = world.capture(METER, at(3), at(6))
        world.set_back()
        assert settled(world, half_hour) == [("old", "normal")]
        assert world.consumer().attribution(half_hour).accounts[0].account_number is None
        world.change(Name("old", NumberKind.ACCOUNT, "2222222222"))
        assert settled(world, half_hour) == [("old", "normal")]
        assert [c.new for c in world.changes if isinstance(c, NamingChanged)] == ["1111111111", "2222222222"]
        world.close()


# Boundaries: what a consumer written from the documentation got wrong.


def test_what_ends_at_a_boundary_belongs_to_the_old_holder(world: World) -> None:
    ends, begins = world.capture(METER, at(1), at(4)), world.capture(METER, at(4), at(7))
    register = world.capture(METER, None, at(4))
    hand_over(world)
    assert settled(world, ends) == [("old", "normal")]
    assert settled(world, begins) == [("new", "normal")]
    assert settled(world, register) == [("old", "final"), ("new", "opening")]


def test_an_interval_that_straddles_a_boundary_told_later_is_parted_there(world: World) -> None:
    half_hour = world.capture(METER, at(3), at(6))
    hand_over(world)
    assert settled(world, half_hour) == [("old", "partial"), ("new", "partial")]
    pieces = world.consumer().attribution(half_hour).accounts
    assert [(one.since, one.until) for one in pieces] == [(at(3), at(4)), (at(4), at(6))]


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_directory_and_consumer_agree_on_every_capture(seed: int) -> None:
    """`python -m tests.support.rule_model 100000` does the same a hundred times as long."""
    captures, different = compare(seed)
    assert captures
    assert different == []


def test_any_order_gives_the_same(world: World) -> None:
    hand_over(world)
    for step in range(1, 9):
        world.capture(METER, at(step - 1), at(step), step % 2)
    holders(world, HoldingSpan("old", at(0), at(2)), HoldingSpan("new", at(5), None))
    rng = random.Random(4)
    assert world.differences(world.consumer()) == []
    assert all(world.differences(world.consumer(rng)) == [] for _ in range(20))
