"""Change sets, undo, edges cut off and back, late and repeated readings, restarts: three parties agree all along.

The ledger with the directory, a billing system that was written from the documents and hears messages only, and plain
lists. `WHOLE=300 pytest tests/central/test_whole_model.py` tries so many lives in place of a few (`make soak-whole`).
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.central.office.change_errors import ChangesRefused, OtherChanges
from mapping.errors import ChangeRefused
from tests.support.central.naive_lists import FOREVER, Lists
from tests.support.central.whole import Whole, at
from tests.support.databases import database

LIVES = int(os.environ.get("WHOLE", "0"))
METERS = ("GEN:1", "GEN:2", "GEN:3", "GEN:4")
POINTS = ("UP-1", "UP-2", "UP-3")
ACCOUNTS = ("a", "b", "c", "d")
EDGES = ("edge-1", "edge-2")
STEPS = 18
NUMBERS = ("1000000001", "1000000002", "1000000003")
seeds = st.integers(0, 2**32)


def when(step: int) -> str:
    return at(step).isoformat()


class Life(RuleBasedStateMachine):
    """Steps of a small street; `kind` says on which database."""

    kind = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        where = self._stack.enter_context(database(self.kind, folder))
        self.whole = Whole(folder, where)
        self._stack.callback(self.whole.close)
        self.lists = Lists()
        self.before: dict[int, Lists] = {}
        self.rng = random.Random(0)
        self.asked: tuple[list[dict[str, Any]], str] | None = None
        self.count = 0

    def teardown(self) -> None:
        self._stack.close()

    # --- change sets ------------------------------------------------------------------------------

    def apply(self, forms: list[dict[str, Any]], then: Callable[[Lists], None]) -> None:
        """Ask for a change set; where the directory takes it the lists follow."""
        self.count += 1
        id, version = f"cs-{self.count}", self.whole.directory.version
        try:
            self.whole.submit(forms, id)
        except ChangesRefused:
            assert self.whole.directory.version == version
            return
        self.asked = (forms, id)
        self.follow(version, then)

    def follow(self, version: int, then: Callable[[Lists], None]) -> None:
        changed = self.lists.copied()
        then(changed)
        if self.whole.directory.version != version:
            self.before[self.whole.directory.version] = self.lists
        self.lists = changed

    @initialize(seed=seeds, starts=st.lists(st.integers(0, 3), min_size=3, max_size=3))
    def a_street(self, seed: int, starts: list[int]) -> None:
        self.rng = random.Random(seed)
        forms: list[dict[str, Any]] = []

        def then(lists: Lists) -> None:
            for meter, point, account, start in zip(METERS, POINTS, ACCOUNTS, starts, strict=False):
                lists.fitted[meter] = [(point, start, FOREVER)]
                lists.move_in(point, account, start)

        for meter, point, account, start in zip(METERS, POINTS, ACCOUNTS, starts, strict=False):
            forms.append({"kind": "install", "meter": meter, "usage_point": point, "valid_from": when(start)})
            forms.append(
                {"kind": "move_in", "account_id": account, "usage_point": point, "valid_from": when(start)}
            )
        self.whole.make_accounts(ACCOUNTS)
        self.apply(forms, then)
        assert self.lists.fitted
        for number, meter in enumerate(METERS):
            self.whole.allocate(meter, EDGES[number % 2], 0)
        self.read(seed, 6)

    @rule(seed=seeds, count=st.integers(1, 3))
    def change(self, seed: int, count: int) -> None:
        """Papers come in, each of any time: what they say is looked for in the lists, so that most can be."""
        rng = random.Random(seed)
        for _ in range(count):
            rng.choice(
                [
                    self.hand_over,
                    self.state_holders_anew,
                    self.replace,
                    self.uncross,
                    self.name,
                    self.swap_numbers,
                ]
            )(rng)
            self.three_parties_agree()

    def hand_over(self, rng: random.Random) -> None:
        """One moves out and another in, at once or after a while."""
        point, account, gap = rng.choice(POINTS), rng.choice(ACCOUNTS), rng.choice([0, 0, 1, 2])
        held = self.lists.held.get(point, [])
        if not held or held[-1][2] != FOREVER:
            return
        step = held[-1][1] + rng.randrange(1, 6)

        def then(lists: Lists) -> None:
            lists.move_out(point, step)
            lists.move_in(point, account, step + gap)

        out = {"kind": "move_out", "usage_point": point, "at": when(step)}
        into = {
            "kind": "move_in",
            "usage_point": point,
            "account_id": account,
            "valid_from": when(step + gap),
        }
        self.apply([out, into], then)

    def state_holders_anew(self, rng: random.Random) -> None:
        """A correction may change any time of the past."""
        point, cuts = rng.choice(POINTS), sorted(rng.sample(range(STEPS), rng.randrange(1, 5)))
        ends = [*cuts[1:], FOREVER]
        held = [(rng.choice(ACCOUNTS), a, b) for a, b in zip(cuts, ends, strict=True) if rng.random() < 0.8]
        spans = [
            {"account_id": who, "valid_from": when(a), **({} if b == FOREVER else {"valid_to": when(b)})}
            for who, a, b in held
        ]
        form = {"kind": "correct_holdings", "usage_point": point, "spans": spans}
        self.apply([form], lambda lists: lists.held.update({point: list(held)}))

    def replace(self, rng: random.Random) -> None:
        """A meter that stands somewhere gives way to one that stands nowhere."""
        fitted = self.lists.fitted
        old = [m for m in METERS if fitted.get(m) and fitted[m][-1][2] == FOREVER]
        free = [m for m in METERS if m not in old]
        if not old or not free:
            return
        meter, new = rng.choice(old), rng.choice(free)
        last = max(fitted[meter][-1][1], *(b for _, _, b in fitted.get(new, [("", 0, 0)])))
        step = last + rng.randrange(1, 5)
        form = {"kind": "replace", "old": meter, "new": new, "at": when(step)}
        self.apply([form], lambda lists: lists.replace(meter, new, step))

    def uncross(self, rng: random.Random) -> None:
        """Two meters stood where the other one was recorded, for a while or until today."""
        fitted = self.lists.fitted
        pair = [m for m in rng.sample(METERS, len(METERS)) if fitted.get(m) and fitted[m][-1][2] == FOREVER][
            :2
        ]
        if len(pair) < 2:
            return
        one, other = pair
        since = max(fitted[one][-1][1], fitted[other][-1][1]) + rng.randrange(4)
        until = rng.choice([FOREVER, since + rng.randrange(1, 6)])
        form = {"kind": "cross_meters", "meters": [one, other], "valid_from": when(since)}
        if until != FOREVER:
            form["valid_to"] = when(until)
        self.apply([form], lambda lists: lists.cross(one, other, since, until))

    def name(self, rng: random.Random) -> None:
        """An account gets a number, or loses it."""
        account, number = rng.choice(ACCOUNTS), rng.choice([*NUMBERS, None])
        form = {"kind": "name", "account_id": account, "number_kind": "account_number", "number": number}
        self.apply([form], lambda lists: lists.numbers.update({account: number}))

    def swap_numbers(self, rng: random.Random) -> None:
        """As a whole or not at all: in between two accounts have one number."""
        one, other = rng.sample(ACCOUNTS, 2)
        swapped = {one: self.lists.numbers.get(other), other: self.lists.numbers.get(one)}
        forms: list[dict[str, Any]] = [
            {"kind": "name", "account_id": who, "number_kind": "account_number", "number": number}
            for who, number in swapped.items()
        ]
        self.apply(forms, lambda lists: lists.numbers.update(swapped))

    @precondition(lambda self: self.whole.directory.version > 1)
    @rule()
    def undo_the_last(self) -> None:
        version = self.whole.directory.version
        before = self.before[version]
        try:
            self.whole.undo(version)
        except ChangeRefused:
            return
        assert self.whole.directory.version == version + 1
        self.before[version + 1], self.lists = self.lists, before.copied()

    @precondition(lambda self: self.asked is not None)
    @rule()
    def ask_again(self) -> None:
        """The answer was lost on the way: the same request changes nothing, and another under its name is refused."""
        assert self.asked is not None
        forms, id = self.asked
        version = self.whole.directory.version
        self.whole.submit(forms, id)
        with pytest.raises(OtherChanges):
            self.whole.submit([*forms, *forms], id)
        assert self.whole.directory.version == version

    # --- edges ------------------------------------------------------------------------------------

    @rule(seed=seeds, rows=st.integers(2, 6))
    def read(self, seed: int, rows: int) -> None:
        """Edges read their meters: half hours, longer intervals and registers, of any time, late ones too."""
        rng = random.Random(seed)
        for edge in EDGES:
            for meter in self.whole.meters_of(edge):
                first = self.whole.may_read_from(edge, meter)
                ends = [rng.randrange(1, STEPS + 3) for _ in range(rows)]
                spans = [(rng.choice([None, end - 1, end - 3, end - 5]), end) for end in ends]
                wanted = [(a, b) for a, b in spans if b > first and (a is None or a >= first)]
                self.whole.edges[edge].read(meter, wanted)
            if rng.random() < 0.7:
                self.whole.deliver(edge, rng)

    @rule(edge=st.sampled_from(EDGES), seed=seeds)
    def deliver(self, edge: str, seed: int) -> None:
        self.whole.deliver(edge, random.Random(seed))

    @rule(edge=st.sampled_from(EDGES))
    def cut_off(self, edge: str) -> None:
        self.whole.edges[edge].online = False

    @rule(edge=st.sampled_from(EDGES))
    def come_back(self, edge: str) -> None:
        self.whole.come_back(edge)

    @rule(meter=st.sampled_from(METERS))
    def give_to_the_other_edge(self, meter: str) -> None:
        """From after the last reading on: what is sent late of the time before is still the former edge's word."""
        if len(self.whole.given[meter]) > 2:
            return
        home = self.whole.home[meter]
        read = [row.end for row in self.whole.edges[home].rows.values() if row.meter == meter]
        since = self.whole.given[meter][-1][1]
        self.whole.allocate(meter, EDGES[home == EDGES[0]], max([since + 1, *read]))

    @rule()
    def start_central_again(self) -> None:
        self.whole.reopen()

    # --- agreeing ---------------------------------------------------------------------------------

    @invariant()
    def three_parties_agree(self) -> None:
        assert self.whole.disagreements(self.lists, self.rng) == []


class LifeOnAServer(Life):
    kind = "postgresql"


def live(life: type[Life], lives: int) -> None:
    run_state_machine_as_test(
        life,
        settings=settings(
            max_examples=LIVES or lives,
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_three_parties_agree_after_every_step() -> None:
    live(Life, 15)


@pytest.mark.postgres
def test_three_parties_agree_after_every_step_on_a_server() -> None:
    live(LifeOnAServer, 3)
