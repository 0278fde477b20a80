"""A lot against a model: visits with any outcome, crashes between any two steps, persons who pause and resume.

What holds at every instant: terms are kept, nothing is visited after its end, and what was kept is found again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import UsageError
from gateway.lots import orders
from gateway.lots.core import (
    CUTS,
    ENDS,
    Again,
    Begin,
    Done,
    Failed,
    Halt,
    Item,
    ItemState,
    Lot,
    LotState,
    Outcome,
    Wait,
)
from gateway.lots.store import LotStore
from gateway.lots.terms import Terms, Window

START = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)  # a Monday, 17:30 in India
NIGHT = Window.parse("22:00-05:00")
STEPS = 400


@dataclass
class World:
    """The file, a program that runs it or none, and the visits that go on."""

    path: Path
    terms: Terms
    outcomes: Iterator[Outcome]
    now: datetime = START
    begins: list[datetime] = field(default_factory=list)
    going: dict[int, tuple[int, Item]] = field(default_factory=dict)
    kept: dict[int, int] = field(default_factory=dict)
    fruitless: dict[int, int] = field(default_factory=dict)

    def start(self) -> None:
        """Open the file as a new program does."""
        self.store = LotStore(self.path)
        self.core = self.store.core()
        self.going.clear()
        while cut := self.core.interrupted():
            self.store.put(cut[0])
            self.core.apply(cut[0])
        for item in self.core.items.values():
            assert item.kept.get("n", 0) == self.kept.get(item.position, 0)
            assert item.state is not ItemState.VISITED

    def crash(self) -> None:
        """Lose everything but the file."""
        self.store.close()
        self.start()

    def step(self, crash_before: bool) -> None:
        """Do what the core says, or crash after it is durable and before it is applied."""
        self.core.apply(self.store.lot())
        match self.core.step(self.now):
            case Begin(item=item, until=until):
                self.check_begin(item, until)
                begun = self.core.begun(item, self.now)
                number = self.store.begin(begun, self.now)
                assert number is not None
                self.begins.append(self.now)
                self.fruitless[item.position] = self.fruitless.get(item.position, 0) + 1
                if crash_before:
                    return self.crash()
                self.core.apply(begun, now=self.now)
                self.going[item.position] = (number, begun)
            case Halt(lot=lot):
                assert self.store.decide(
                    lot, at=self.now, by="", what=str(lot.state), only_from=[LotState.READY]
                )
                if crash_before:
                    self.crash()
            case Wait(until=until):
                if self.going:
                    self.end_one(crash_before)
                elif until is not None:
                    assert until > self.now
                    self.now = until
        return None

    def end_one(self, crash_before: bool) -> None:
        """Let the oldest visit leave something and end."""
        position, (number, item) = next(iter(self.going.items()))
        self.kept[position] = self.kept.get(position, 0) + 1
        self.store.keep(position, {"n": self.kept[position]})
        self.now += timedelta(seconds=30)
        outcome = next(self.outcomes)
        ended = self.core.ended(replace(item, kept={"n": self.kept[position]}), outcome, self.now)
        if isinstance(outcome, Done) or (isinstance(outcome, Again) and outcome.progress):
            self.fruitless[position] = 0
        ended = self.store.end(ended, number, outcome, self.now)
        if crash_before:
            return self.crash()
        del self.going[position]
        return self.core.apply(ended)

    def check_begin(self, item: Item, until: datetime | None) -> None:
        """Assert that a visit may begin."""
        terms = self.terms
        assert item.state not in ENDS
        assert item.position not in self.going
        assert len(self.going) < terms.at_once
        assert item.line == "" or item.line not in {i.line for _, i in self.going.values()}
        assert item.not_before is None or item.not_before <= self.now
        assert self.fruitless.get(item.position, 0) < terms.attempts + CUTS
        if terms.rate_per_hour:
            hour = [at for at in self.begins if at > self.now - timedelta(hours=1)]
            assert len(hour) < terms.rate_per_hour
        if terms.windows:
            local = self.now + timedelta(hours=5, minutes=30)
            assert local.hour >= 22 or local.hour < 5
            assert until is not None
            assert until > self.now
        failed = [
            i for i in self.store.items() if i.state is ItemState.FAILED and i.end > self.core.lot.accepted
        ]
        assert terms.max_failed is None or len(failed) <= terms.max_failed
        assert not any(i.reason in terms.stop_on for i in failed)


OUTCOMES = st.one_of(
    st.just(Done(note="done")),
    st.builds(Again, progress=st.booleans()),
    st.builds(Failed, reason=st.sampled_from(["meter_silent", "rolled_back"]), final=st.booleans()),
)
TERMS = st.builds(
    Terms,
    rate_per_hour=st.sampled_from([0, 7, 60]),
    at_once=st.integers(1, 3),
    attempts=st.integers(1, 3),
    pause=st.sampled_from([0, 900]),
    windows=st.sampled_from([(), (NIGHT,)]),
    max_failed=st.sampled_from([None, 0, 2]),
    stop_on=st.sampled_from([frozenset[str](), frozenset({"rolled_back"})]),
    pilot=st.sampled_from([0, 2]),
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(terms=TERMS, lines=st.lists(st.sampled_from(["", "bus"]), min_size=1, max_size=6), data=st.data())
def test_any_history_with_crashes_keeps_the_terms_and_comes_to_an_end(
    terms: Terms, lines: list[str], data: st.DataObject
) -> None:
    """Crashes come often at first and then no more, so that every history has an end."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.lot"
        items = [Item(position=n, meter=f"GEN:{n}", line=line) for n, line in enumerate(lines)]
        LotStore.create(path, Lot(name="x", kind="test", created=START, by="t", terms=terms), items).close()

        def outcomes() -> Iterator[Outcome]:
            for _ in range(40):
                yield data.draw(OUTCOMES)
            while True:
                yield Done()

        world = World(path, terms, outcomes())
        world.start()
        try:
            for n in range(STEPS):
                crash = n < 40 and data.draw(st.sampled_from([False, False, True]))
                world.step(crash)
                state = world.store.lot().state
                if state in (LotState.PAUSED, LotState.STOPPED) and not world.going:
                    orders.resume(world.store, at=world.now, by="t")
                    world.crash()
                if state in (LotState.FINISHED, LotState.CANCELLED):
                    break
            assert world.store.lot().state is LotState.FINISHED
            assert all(item.state in (ItemState.DONE, ItemState.FAILED) for item in world.store.items())
        finally:
            world.store.close()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("22-05", "is no window"),
        ("25:00-05:00", "hours go from"),
        ("foo 22:00-05:00", "is no weekday"),
        ("mon-xyz 22:00-05:00", "is no weekday"),
    ],
)
def test_a_wrong_window_is_named(text: str, wrong: str) -> None:
    with pytest.raises(UsageError, match=wrong):
        Window.parse(text)


def test_windows_are_hours_of_local_time_that_may_pass_midnight() -> None:
    terms = Terms(windows=(Window.parse("fri-sat 22:00-05:00"),))
    friday = datetime(2026, 12, 4, 16, 30, tzinfo=UTC)  # 22:00 in India
    monday = datetime(2026, 11, 30, 16, 30, tzinfo=UTC)
    assert terms.window_at(monday) == (friday, friday + timedelta(hours=7))
    assert terms.window_at(friday + timedelta(hours=6)) == (friday, friday + timedelta(hours=7))
    saturday = friday + timedelta(days=1)
    assert terms.window_at(friday + timedelta(hours=7)) == (saturday, saturday + timedelta(hours=7))
    assert str(terms.windows[0]) == "fri,sat 22:00-05:00"
    assert Window.parse(str(terms.windows[0])) == terms.windows[0]


def test_terms_outside_their_limits_are_refused() -> None:
    wrong: list[dict[str, Any]] = [
        {"at_once": 0},
        {"at_once": 257},
        {"attempts": 0},
        {"rate_per_hour": -1},
        {"max_failed_percent": 101},
        {"zone": "Asia/Kolkatta"},
    ]
    for fields in wrong:
        with pytest.raises(UsageError):
            Terms(**fields)
