"""The consumer's rule: any order and repetition of deliveries ends in the same state, and in the right one."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.consumer_rule import ConsumerState
from gateway.contract.messages import (
    AllocationChanged,
    AttributedAccount,
    AttributionChanged,
    Batch,
    Capture,
    MessageAttribution,
    NamingChanged,
    TimeVerdict,
)
from gateway.contract.messages.generation import NO_GENERATION, DirectoryVersion
from gateway.seqset import SeqSet
from tests.support.journal_records import ACCOUNT, T0, capture

A = AttributedAccount.model_validate(ACCOUNT.model_dump(exclude={"role", "since", "until"}))
B = AttributedAccount(account_id="acc-2", account_number=None, legacy_number="KE2", usage_point="up-1")
C = AttributedAccount(account_id="acc-3", account_number=None, legacy_number="KE3", usage_point="up-1")
HALF = timedelta(minutes=30)


def version_of(number: int) -> DirectoryVersion:
    return DirectoryVersion(NO_GENERATION, number)


def batch(*captures: Capture, journal: str = "j") -> Batch:
    seqs = [c.seq or 0 for c in captures]
    return Batch(journal=journal, gateway="g", first_seq=min(seqs), last_seq=max(seqs), captures=captures)


def span(start: int, end: int | None, new: AttributedAccount | None, version: int) -> AttributionChanged:
    """A change in minutes after T0."""
    return AttributionChanged(
        meter="GEN:1",
        since=T0 + timedelta(minutes=start),
        until=None if end is None else T0 + timedelta(minutes=end),
        old=(A,),
        new=(new,) if new else (),
        reason=None if new else "not_a_consumer",
        directory=version_of(version),
    )


def roles(state: ConsumerState, capture_id: str) -> list[tuple[str, str]]:
    return [(a.account_id, a.role) for a in state.attribution(capture_id).accounts]


def state_of(*deliveries: Batch | AttributionChanged | NamingChanged) -> ConsumerState:
    state = ConsumerState()
    for one in deliveries:
        if isinstance(one, Batch):
            state.apply(one)
        else:
            state.apply_change(one)
    return state


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3)), min_size=1, max_size=12),
    st.lists(
        st.tuples(st.integers(0, 200), st.integers(1, 120), st.sampled_from([A, B, C, None])), max_size=4
    ),
    st.randoms(use_true_random=False),
)
def test_order_and_repetition_do_not_matter(
    entries: list[tuple[int, int]],
    changes: list[tuple[int, int, AttributedAccount | None]],
    rng: random.Random,
) -> None:
    captures = [
        capture(n, value=n * 10 + rev, rev=rev).model_copy(update={"seq": seq})
        for seq, (n, rev) in enumerate(entries, start=1)
    ]
    spans = [span(start, start + size, new, v) for v, (start, size, new) in enumerate(changes, start=2)]
    named = [
        NamingChanged(account_id="acc-2", kind="account_number", new=f"{v:010}", directory=version_of(v))
        for v in (3, 4)
    ]
    singly: list[Batch | AttributionChanged | NamingChanged] = [*(batch(c) for c in captures), *spans, *named]
    expected = state_of(*singly)
    shuffled = singly * 3
    rng.shuffle(shuffled)
    cut = rng.randrange(len(captures)) + 1
    rebatched = [batch(*captures[:cut]), *([batch(*captures[cut:])] if captures[cut:] else [])]
    other = state_of(*shuffled, *rebatched)
    without_seq = {"seq"}
    assert {k: v.model_dump(exclude=without_seq) for k, v in other.captures.items()} == {
        k: v.model_dump(exclude=without_seq) for k, v in expected.captures.items()
    }
    for capture_id, kept in other.captures.items():
        assert other.attribution(capture_id) == expected.attribution(capture_id)
        assert kept.value_rev == max(c.value_rev for c in captures if c.capture_id == capture_id)
    assert other.journals["j"].contiguous == len(captures)


def test_an_interval_is_whole_or_partial() -> None:
    one = capture(4).model_copy(update={"seq": 1})  # 90..120 minutes
    known = batch(one)
    assert roles(state_of(known), one.capture_id) == [("acc-1", "normal")]
    assert roles(state_of(known, span(90, 120, B, 2)), one.capture_id) == [("acc-2", "normal")]
    assert roles(state_of(known, span(100, None, B, 2)), one.capture_id) == [
        ("acc-1", "partial"),
        ("acc-2", "partial"),
    ]
    assert roles(state_of(known, span(120, None, B, 2)), one.capture_id) == [("acc-1", "normal")]
    assert roles(state_of(known, span(0, 90, B, 2)), one.capture_id) == [("acc-1", "normal")]
    assert roles(state_of(known, span(0, None, None, 2)), one.capture_id) == []
    healed = state_of(known, span(100, None, B, 2), span(100, None, A, 3))
    assert roles(healed, one.capture_id) == [("acc-1", "normal")]


def test_a_snapshot_on_the_boundary_is_final_and_opening() -> None:
    one = capture(4, profile="daily").model_copy(update={"seq": 1})  # at 120 minutes
    known = batch(one)
    assert roles(state_of(known, span(120, None, B, 2)), one.capture_id) == [
        ("acc-1", "final"),
        ("acc-2", "opening"),
    ]
    both = state_of(known, span(120, None, B, 2), span(60, 120, C, 3))
    assert roles(both, one.capture_id) == [("acc-3", "final"), ("acc-2", "opening")]
    assert roles(state_of(known, span(119, 121, B, 2)), one.capture_id) == [("acc-2", "normal")]


def test_an_older_change_does_not_undo_a_newer_stamp() -> None:
    stamped = MessageAttribution.model_validate({**B.model_dump(), "role": "normal"})
    one = capture(4).model_copy(update={"seq": 1, "attributions": (stamped,), "directory_version": 7})
    assert roles(state_of(batch(one), span(0, None, C, 6)), one.capture_id) == [("acc-2", "normal")]
    assert roles(state_of(batch(one), span(0, None, C, 8)), one.capture_id) == [("acc-3", "normal")]


def test_a_change_does_not_heal_untrusted_time() -> None:
    one = capture(4).model_copy(update={"seq": 1, "attributions": (), "reason": "untrusted_time"})
    resolved = state_of(batch(one), span(0, None, B, 5)).attribution(one.capture_id)
    assert (resolved.accounts, resolved.reason) == ((), "untrusted_time")


@settings(max_examples=100)
@given(st.lists(st.integers(1, 30)), st.integers(0, 40), st.integers(0, 10))
def test_tracker_is_a_set(seqs: list[int], last: int, first: int) -> None:
    tracker = SeqSet()
    for seq in seqs:
        tracker.add(seq)
    tracker.gone_below(first)
    seen = set(seqs) | set(range(1, first))
    contiguous = next(n for n in range(100) if n + 1 not in seen)
    assert tracker.contiguous == contiguous
    top = max([last, *seqs])
    missing = {n for first_, last_ in tracker.holes(last) for n in range(first_, last_ + 1)}
    assert missing == {n for n in range(1, top + 1) if n not in seen}


@pytest.mark.parametrize("shift", ["9999999999", "-9999999999"])
def test_a_shift_out_of_all_time_harms_nothing(shift: str) -> None:
    far = (
        datetime(9999, 12, 31, 23, 30, tzinfo=UTC)
        if shift[0] != "-"
        else datetime(1, 1, 1, 0, 30, tzinfo=UTC)
    )
    doubted = {"reason": "untrusted_time", "attributions": (), "at": far, "start": far - HALF, "seq": 1}
    one = capture(4).model_copy(update=doubted)
    state = state_of(batch(one))
    state.apply_verdict(
        TimeVerdict.model_validate(
            {
                "verdict_id": "1", "meter": "GEN:1", "journal": "j", "first_seq": 1, "last_seq": 1,
                "trust": "trusted", "shift": shift, "evidence": "", "version": 1, "at": T0,
            }
        )
    )  # fmt: skip
    assert state.dated(one.capture_id).at == far
    assert state.attribution(one.capture_id).reason == "no_account"


def test_two_values_under_one_revision_are_told_apart() -> None:
    first = capture(4, value=1).model_copy(update={"seq": 1})
    other = capture(4, value=2).model_copy(update={"seq": 2})
    state = state_of(batch(first), batch(other), batch(first))
    assert state.captures[first.capture_id].values == first.values
    assert state.conflicts == {"j": {2}}
    revised = capture(4, value=2, rev=2).model_copy(update={"seq": 3})
    state.apply(batch(revised))
    assert state.captures[first.capture_id].values == revised.values


minutes = st.none() | st.integers(-50, 250).map(lambda n: T0 + timedelta(minutes=n))
stamps = st.lists(
    st.builds(
        lambda role, since, until, who: MessageAttribution.model_validate(
            {**who.model_dump(), "role": role, "since": since, "until": until}
        ),
        st.sampled_from(["normal", "final", "opening", "partial"]),
        minutes,
        minutes,
        st.sampled_from([A, B, C]),
    ),
    max_size=4,
).map(tuple)


@settings(max_examples=200)
@given(stamps, st.sampled_from(["block_load", "daily"]), st.integers(-60, 60), minutes, minutes)
def test_no_stamp_or_change_breaks_a_consumer(
    stamped: tuple[MessageAttribution, ...],
    profile: str,
    length: int,
    since: datetime | None,
    until: datetime | None,
) -> None:
    """Whatever an edge writes: the answer may be nonsense, but it is one."""
    one = capture(4, profile=profile)
    start = None if profile == "daily" else one.at - timedelta(minutes=length)
    one = one.model_copy(update={"seq": 1, "attributions": stamped, "start": start})
    told = span(0, None, B, 2).model_copy(update={"since": since, "until": until})
    assert state_of(batch(one), told).attribution(one.capture_id).directory is not None


def test_what_a_gateway_read_of_a_meter_that_was_taken_from_it_counts_up_to_the_end_only() -> None:
    """Deliveries and the allocation's end come in any order."""
    ended = AllocationChanged(meter="GEN:1", epoch=1, gateway="g", since=T0 - 9 * HALF, until=T0 + HALF)
    open_still = ended.model_copy(update={"until": None})
    before, on, after = (
        capture(n).model_copy(update={"seq": n + 1, "epoch": epoch}) for n, epoch in ((0, 1), (1, 1), (2, 0))
    )
    delivered = batch(before, on, after)
    stories: list[list[Batch | AllocationChanged]] = [
        [open_still, delivered, ended],
        [ended, delivered],
        [delivered, open_still, ended, open_still],
    ]
    for story in stories:
        state = ConsumerState()
        for one in story:
            if isinstance(one, Batch):
                state.apply(one)
            else:
                state.apply_change(one)
        assert set(state.captures) == {before.capture_id, on.capture_id}
