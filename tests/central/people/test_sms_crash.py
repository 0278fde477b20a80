"""The queue over crashes at any point: never twice for one key, and nothing lost in silence."""

from __future__ import annotations

import tempfile
from collections import Counter
from datetime import time, timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.central.people.database import PeopleStore
from gateway.central.telling.messages import (
    Accepted,
    Doubtful,
    Handed,
    NotTaken,
    Outcome,
    Refused,
    Report,
    State,
)
from gateway.central.telling.pace import Pace
from gateway.central.telling.queue import HANDING_FOR, SmsQueue
from tests.support.central.telling import LIBRARY, NOON, code, contact, notice

KEYS = [f"key {i}" for i in range(6)]
HAS_IT = {
    State.HANDING,
    State.ACCEPTED,
    State.DELIVERED,
    State.UNDELIVERED,
    State.UNREPORTED,
    State.UNCONFIRMED,
}
"""States of a message that the provider may have."""

OUTCOMES: list[tuple[Outcome, bool]] = [
    (Accepted("p1"), True),
    (Accepted(None), True),
    (NotTaken("busy"), False),
    (NotTaken("away", away=True), False),
    (Refused("blocked"), False),
    (Doubtful("the line broke"), True),
    (Doubtful("the line broke"), False),
]
"""What the program hears, and whether the provider took the message."""


class Crashes(RuleBasedStateMachine):
    """A queue whose program ends at any moment, beside what the provider really got.

    `in_hand` are hand-overs that the program knows of; a crash forgets them. What the provider took of one stays with
    the provider, whether or not the program ever heard its answer.
    """

    @initialize(repeats_safe=st.booleans())
    def begin(self, repeats_safe: bool) -> None:
        self.folder = tempfile.TemporaryDirectory()
        never = time(0)
        self.pace = Pace(
            per_second=100, tries=3, repeats_safe=repeats_safe, quiet_from=never, quiet_until=never
        )
        self.now = NOON
        self.put: set[str] = set()
        self.in_hand: list[Handed] = []
        self.got: Counter[str] = Counter()
        self.store = PeopleStore(Path(self.folder.name) / "people.db")
        self.to = contact(self.store)
        self.queue = SmsQueue(self.store, LIBRARY, self.pace)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()

    @rule(key=st.sampled_from(KEYS), secret=st.booleans())
    def puts(self, key: str, secret: bool) -> None:
        done = self.queue.put((code if secret else notice)(self.to, key), now=self.now)
        assert done.fresh == (key not in self.put)
        self.put.add(key)

    @rule(most=st.integers(1, 4))
    def takes(self, most: int) -> None:
        self.in_hand += self.queue.take(self.now, most)

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data(), crash_before=st.booleans(), crash_after=st.booleans())
    def hands_over(self, data: st.DataObject, crash_before: bool, crash_after: bool) -> None:
        """One hand-over; the program may end before the provider hears of it, or before the answer is kept."""
        handed = self.in_hand.pop(data.draw(st.integers(0, len(self.in_hand) - 1)))
        if crash_before:
            self.crashes()
            return
        outcome, took = data.draw(st.sampled_from(OUTCOMES))
        if took:
            self.got[handed.id] += 1
        if crash_after:
            self.crashes()
            return
        self.settles(handed, outcome)

    def settles(self, handed: Handed, outcome: Outcome) -> None:
        self.queue.settle(handed, outcome, reports=True, now=self.now)

    @rule()
    def crashes(self) -> None:
        self.in_hand.clear()
        self.store.close()
        self.store = PeopleStore(Path(self.folder.name) / "people.db")
        self.queue = SmsQueue(self.store, LIBRARY, self.pace)

    @rule(minutes=st.sampled_from([1, 6, 200, 5000]))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @precondition(lambda self: self.got)
    @rule(data=st.data(), delivered=st.booleans())
    def reports(self, data: st.DataObject, delivered: bool) -> None:
        of = data.draw(st.sampled_from(sorted(self.got)))
        state = State.DELIVERED if delivered else State.UNDELIVERED
        assert self.queue.report(Report(state=state, message_id=of), now=self.now)

    @invariant()
    def nothing_is_sent_twice(self) -> None:
        if hasattr(self, "pace") and not self.pace.repeats_safe:
            assert max(self.got.values(), default=0) <= 1

    @invariant()
    def nothing_is_lost_in_silence(self) -> None:
        if not hasattr(self, "queue"):
            return
        kept = {one.id: one for one in self.queue.find()}
        assert len(kept) == len(self.put)
        for one in kept.values():
            if self.got[one.id] and not self.pace.repeats_safe:
                assert one.state in HAS_IT, one
            if one.state in (State.FAILED, State.EXPIRED, State.REFUSED, State.UNCONFIRMED):
                assert one.reason
            assert (one.ended_at is None) == (one.state in (State.WAITING, State.HANDING, State.ACCEPTED))

    @rule()
    def comes_to_an_end(self) -> None:
        """Left alone, each message that waits or is in hand comes to an end that is told."""
        self.in_hand.clear()
        self.now += HANDING_FOR + timedelta(days=4)
        while self.queue.is_due(self.now):
            assert self.queue.take(self.now, 100) == [] or self.pace.repeats_safe
        if not self.pace.repeats_safe:
            assert not {State.WAITING, State.HANDING} & self.queue.counts().keys()


Crashes.TestCase.settings = settings(max_examples=15, stateful_step_count=25)
TestCrashes = Crashes.TestCase
