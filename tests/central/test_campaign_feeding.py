"""A campaign tells everybody once: by SMS where that may be, else by slip; over pauses, crashes and changed numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.central.campaign import feeding
from gateway.central.campaign.coverage import Coverage, by_day, by_route, total
from gateway.central.campaign.feeding import Feeder
from gateway.central.campaign.making import Order, make
from gateway.central.campaign.printing import Look
from gateway.central.campaign.reaching import Messages
from gateway.central.campaign.slips import Slips
from gateway.central.campaign.store import CampaignStore
from gateway.central.campaign.targets import Planned, PlanState, Targets
from gateway.central.campaign.ticks import Tick, Ticked, Ticks
from gateway.central.people.contacts import ContactStore
from gateway.central.people.database import PeopleStore
from gateway.central.telling.lint import load_library
from gateway.central.telling.messages import Accepted, Handed, Outcome, Refused, Report, State
from gateway.central.telling.pace import Pace
from gateway.central.telling.queue import SmsQueue
from gateway.errors import UsageError
from mapping.changes import Install, MoveIn, Name, SetAttributes
from mapping.directory import AttributeKind, NumberKind, Role
from mapping.store import DirectoryStore
from tests.support.fakes import ManualClock
from tests.support.steps import Steps

AT = datetime(2026, 11, 1, tzinfo=UTC)
NOON = datetime(2026, 11, 30, 6, 30, tzinfo=UTC)
NAME = "rekey"


@dataclass
class Office:
    """Directory, contacts, queue and campaign on files of one folder; `said` is what went to phones, by mobile."""

    folder: Path
    clock: ManualClock
    said: list[tuple[str, str]]

    def __post_init__(self) -> None:
        self.directory = DirectoryStore(self.folder / "directory.db")
        self.people = PeopleStore(self.folder / "people.db")
        self.store = CampaignStore(self.folder / "campaign.db")
        self.queue = SmsQueue(self.people, load_library(None), Pace(per_second=50))
        self.messages = Messages(self.people, self.queue)
        self.targets = Targets(self.store)
        self.feeder = Feeder(self.store, self.directory, self.messages, self.clock)

    def close(self) -> None:
        self.directory.close()
        self.people.close()
        self.store.close()

    def consumer(
        self, one: int, *, verified: timedelta | None = timedelta(days=30), route: str = "R-1"
    ) -> None:
        self.directory.apply(
            [
                Install(f"GEN:{10000000 + one}", f"UP-{one}", Role.CONSUMER, AT),
                MoveIn(f"UP-{one}", f"acc-{one}", AT),
                Name(f"acc-{one}", NumberKind.LEGACY, f"KE{one:05}"),
                Name(f"acc-{one}", NumberKind.ACCOUNT, f"{1200000000 + one}"),
                SetAttributes(f"UP-{one}", {AttributeKind.ROUTE: route}, AT),
            ],
            by="test", source="t", at=AT,
        )  # fmt: skip
        if verified is not None:
            ContactStore(self.people).add(
                f"acc-{one}",
                mobile(one),
                by="test",
                source="test",
                at=self.clock.now() - verified,
                verified_at=self.clock.now() - verified,
            )

    def rename(self, one: int, number: str) -> None:
        self.directory.apply([Name(f"acc-{one}", NumberKind.ACCOUNT, number)], by="t", source="t", at=NOON)

    def plan(self) -> Planned:
        return self.targets.plan(
            NAME,
            self.directory.snapshot(),
            self.messages.reaching,
            self.messages.withdraw,
            by="test",
            now=self.clock.now(),
        )

    def send(self, most: int = 1000, outcome: Callable[[Handed], Outcome] | None = None) -> int:
        """Hand over what may go now, as the sender does, and have it delivered."""
        count = 0
        while count < most and (some := self.queue.take(self.clock.now(), min(most - count, 20))):
            for handed in some:
                said = Accepted(f"p-{handed.id}") if outcome is None else outcome(handed)
                if isinstance(said, Accepted):
                    self.said.append((handed.mobile, handed.rendered.text))
                self.queue.settle(handed, said, reports=True, now=self.clock.now())
                if isinstance(said, Accepted):
                    report = Report(state=State.DELIVERED, provider_id=said.provider_id)
                    self.queue.report(report, now=self.clock.now())
            count += len(some)
            self.clock.advance(timedelta(seconds=2))
        return count

    def coverage(self) -> Coverage:
        return total(by_route(self.store, NAME))


def mobile(one: int) -> str:
    return f"98{one:08}"


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path, ManualClock(NOON), [])
    yield made
    made.close()


def test_everybody_is_planned_by_the_way_that_reaches_him(office: Office) -> None:
    office.consumer(1)
    office.consumer(2, verified=timedelta(days=366))  # may be a stranger's by now
    office.consumer(3, verified=None, route="R-2")
    office.consumer(4)
    ContactStore(office.people).opt_out(mobile(4), source="STOP", at=NOON)
    office.directory.apply([Name("acc-far", NumberKind.ACCOUNT, "1299999999")], by="t", source="t", at=AT)
    done = office.plan()
    assert (done.new, done.changed, done.cancelled) == (5, 0, 0)
    seen = by_route(office.store, NAME)
    assert seen["R-1"] == Coverage(accounts=3, sms_waiting=1, slip_to_make=2)
    assert seen["R-2"] == Coverage(accounts=1, slip_to_make=1)
    assert seen[""] == Coverage(accounts=1, unreachable=1)
    assert office.feeder.step().queued == 0  # planned, not started
    assert office.plan() == Planned(0, 0, 0, 0)


def test_a_campaign_is_told_by_route_settled_and_burnt_down(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "WINDOW", 2)
    for one, route in ((1, "R-2"), (2, "R-1"), (3, "R-1"), (4, "R-2")):
        office.consumer(one, route=route)
    office.consumer(5, verified=None, route="R-1")
    office.plan()
    office.targets.set_state(NAME, PlanState.RUNNING)
    assert office.feeder.step().queued == 2
    assert office.feeder.step().queued == 0  # the window is full
    assert office.send() == 2
    assert [to for to, _ in office.said] == [mobile(2), mobile(3)]
    assert "1200000002" in office.said[0][1] + office.said[1][1]
    fed = office.feeder.step()
    assert (fed.told, fed.queued) == (2, 2)
    office.send()
    office.clock.advance(timedelta(days=1))
    assert office.feeder.step().told == 2
    made = list(
        make(
            Slips(office.store),
            Look(portal="https://p.example"),
            Order(folder=office.folder / "out", as_html=True, campaign=NAME),
            office.clock.now(),
        )
    )
    assert [(one.route, one.slips) for one in made] == [("R-1", 1)]  # nobody who has his SMS gets paper
    assert office.coverage() == Coverage(accounts=5, told_sms=4, slip_out=1)
    (paper,) = next(Slips(office.store).sheets(again=True, campaign=NAME))
    Ticks(office.store).put(
        Tick(slip=paper.id, verdict=Ticked.AT_METER, at=None), by="r", source="t", now=office.clock.now()
    )
    assert office.feeder.step().told == 1
    assert office.coverage() == Coverage(accounts=5, told_sms=4, told_meter=1)
    days = by_day(office.store, NAME)
    assert [(d.day.isoformat(), d.sms, d.slip, d.meter, d.left) for d in days] == [
        ("2026-11-30", 4, 0, 0, 1),
        ("2026-12-01", 0, 0, 1, 0),
    ]
    assert office.plan() == Planned(0, 0, 0, 0)
    assert office.feeder.step().queued == 0


def test_an_sms_that_fails_becomes_a_slip(office: Office) -> None:
    office.consumer(1)
    office.plan()
    office.targets.set_state(NAME, PlanState.RUNNING)
    office.feeder.step()
    office.send(outcome=lambda _: Refused("number not in use"))
    assert office.feeder.step().to_slips == 1
    assert office.coverage() == Coverage(accounts=1, slip_to_make=1)
    assert office.plan() == Planned(0, 0, 0, 0)  # and stays one
    assert office.feeder.step().queued == 0


def test_a_mobile_that_grows_old_while_it_waits_is_sent_no_number(office: Office) -> None:
    office.consumer(1, verified=timedelta(days=364))
    office.plan()
    office.targets.set_state(NAME, PlanState.RUNNING)
    office.feeder.step()
    office.clock.advance(timedelta(days=2))
    office.send()
    assert all("1200000001" not in text for _, text in office.said)
    office.feeder.step()
    assert office.coverage() == Coverage(accounts=1, slip_to_make=1)


def test_a_number_that_changes_while_its_message_waits_is_not_told(office: Office) -> None:
    office.consumer(1)
    office.consumer(2)
    office.plan()
    office.targets.set_state(NAME, PlanState.RUNNING)
    office.feeder.step()
    office.rename(1, "1200000099")
    office.feeder.step()
    office.send()
    told = Counter(to for to, _ in office.said)
    assert told == {mobile(1): 1, mobile(2): 1}
    (mine,) = (text for to, text in office.said if to == mobile(1))
    assert "1200000099" in mine
    assert "1200000001" not in mine
    office.feeder.step()
    assert office.coverage() == Coverage(accounts=2, told_sms=2)


def test_a_number_that_changes_before_it_is_planned_anew_and_back(office: Office) -> None:
    office.consumer(1)
    office.plan()
    office.rename(1, "1200000099")
    assert office.plan() == Planned(1, 0, 1, 0)
    office.rename(1, "1200000001")
    done = office.plan()
    assert (done.new, done.cancelled) == (0, 1)
    office.targets.set_state(NAME, PlanState.RUNNING)
    office.feeder.step()
    office.send()
    assert [("1200000001" in text) for _, text in office.said] == [True]


def test_a_pause_takes_back_what_waits_and_nobody_is_told_twice(office: Office) -> None:
    for one in range(1, 7):
        office.consumer(one)
    office.plan()
    office.targets.set_state(NAME, PlanState.RUNNING)
    office.feeder.step()
    office.send(most=3)
    office.targets.set_state(NAME, PlanState.PAUSED)
    office.feeder.step()
    assert office.send() == 0
    assert office.coverage() == Coverage(accounts=6, told_sms=3, sms_waiting=3)
    office.targets.set_state(NAME, PlanState.RUNNING)
    office.feeder.step()
    office.send()
    office.feeder.step()
    assert office.coverage() == Coverage(accounts=6, told_sms=6)
    assert set(Counter(to for to, _ in office.said).values()) == {1}


def test_another_campaign_tells_nobody_who_knows_his_number(office: Office) -> None:
    office.consumer(1)
    office.plan()
    office.targets.set_state(NAME, PlanState.RUNNING)
    office.feeder.step()
    office.send()
    office.feeder.step()
    office.targets.plan(
        "second",
        office.directory.snapshot(),
        office.messages.reaching,
        office.messages.withdraw,
        by="t",
        now=office.clock.now(),
    )
    assert by_route(office.store, "second")["R-1"] == Coverage(accounts=1, told_sms=1)
    with pytest.raises(UsageError, match="no campaign third"):
        office.targets.set_state("third", PlanState.RUNNING)


def test_a_crash_between_queue_and_mark_tells_nobody_twice(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.consumer(1)
    office.plan()
    office.targets.set_state(NAME, PlanState.RUNNING)

    def crash(*_: object) -> None:
        raise RuntimeError("killed after the queue had it")

    with monkeypatch.context() as patch:
        patch.setattr(feeding, "set_rows", crash)
        with pytest.raises(RuntimeError):
            office.feeder.step()
    office.send()
    office.feeder.step()
    office.send()
    office.feeder.step()
    assert len(office.said) == 1
    assert office.coverage() == Coverage(accounts=1, told_sms=1)


@pytest.mark.parametrize("noted", [True, False])
def test_a_crash_before_an_old_number_is_taken_back(
    office: Office, monkeypatch: pytest.MonkeyPatch, noted: bool
) -> None:
    """Also where the queue has the message and the target does not know it."""
    office.consumer(1)
    office.plan()
    office.targets.set_state(NAME, PlanState.RUNNING)

    def crash(*_: object) -> set[str]:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        if not noted:
            patch.setattr(feeding, "set_rows", crash)
            with pytest.raises(RuntimeError):
                office.feeder.step()
    if noted:
        office.feeder.step()
    office.rename(1, "1200000099")
    with monkeypatch.context() as patch:
        patch.setattr(office.messages, "withdraw", crash)
        with pytest.raises(RuntimeError):
            office.feeder.step()
    office.feeder.step()
    office.send()
    assert [("1200000099" in text, "1200000001" in text) for _, text in office.said] == [(True, False)]


def test_a_crash_while_a_campaign_is_held_makes_no_slip_of_an_sms(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.consumer(1)
    office.plan()
    office.targets.set_state(NAME, PlanState.RUNNING)
    office.feeder.step()
    office.targets.set_state(NAME, PlanState.PAUSED)

    def crash(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(feeding, "set_rows", crash)
        with pytest.raises(RuntimeError):
            office.feeder.step()
    office.targets.set_state(NAME, PlanState.RUNNING)
    office.feeder.step()
    office.send()
    office.feeder.step()
    assert office.coverage() == Coverage(accounts=1, told_sms=1)
    assert len(office.said) == 1


def test_planning_takes_steps_by_account_not_by_their_square(office: Office) -> None:
    def steps(first: int, count: int) -> int:
        for one in range(first, first + count):
            office.consumer(one)
        with Steps() as counter:
            office.plan()
        return counter.count

    few = steps(1, 20)
    more = steps(21, 60)  # 80 in all
    assert more < 6 * few


class Walk(RuleBasedStateMachine):
    """Any order of plans, looks, sends, refusals, pauses, renamings and crashes: nobody is told one number twice."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self._folder = tempfile.TemporaryDirectory()
        self.office = Office(Path(self._folder.name), ManualClock(NOON), [])
        self.numbers = {one: f"{1200000000 + one}" for one in range(1, 5)}
        self.fresh = 500

    def teardown(self) -> None:
        self.office.close()
        self._folder.cleanup()

    @initialize()
    def begin(self) -> None:
        for one in self.numbers:
            self.office.consumer(one, verified=timedelta(days=30) if one < 4 else None)
        self.office.plan()
        self.office.targets.set_state(NAME, PlanState.RUNNING)

    @rule()
    def plan(self) -> None:
        self.office.plan()

    @rule()
    def look(self) -> None:
        self.office.feeder.step()

    @rule(most=st.integers(1, 3))
    def send(self, most: int) -> None:
        before = len(self.office.said)
        self.office.feeder.step()  # what changed a moment ago may be on its way: the look comes first
        self.office.send(most)
        for to, text in self.office.said[before:]:
            one = int(to[2:])
            assert self.numbers[one] in text, (one, text)

    @rule()
    def refuse(self) -> None:
        self.office.send(1, lambda _: Refused("no"))

    @rule(state=st.sampled_from([PlanState.RUNNING, PlanState.PAUSED]))
    def turn(self, state: PlanState) -> None:
        self.office.targets.set_state(NAME, state)

    @rule(one=st.integers(1, 4))
    def rename(self, one: int) -> None:
        self.fresh += 1
        self.numbers[one] = f"{1200000000 + self.fresh}"
        self.office.rename(one, self.numbers[one])

    @rule()
    def crash(self) -> None:
        """Begin again from what is on the disk."""
        self.office.close()
        self.office.__post_init__()

    @invariant()
    def nobody_is_told_twice(self) -> None:
        assert max(Counter(self.office.said).values(), default=1) == 1


Walk.TestCase.settings = settings(max_examples=15, stateful_step_count=20)
TestWalk = Walk.TestCase
