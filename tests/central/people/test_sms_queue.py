"""The queue of messages: once for each key, at the right hour, to the right mobiles; and what came of each."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gateway.central.people.contacts import ContactStore
from gateway.central.people.database import PeopleStore
from gateway.central.people.verification import VERIFIED_FOR
from gateway.central.telling.messages import Accepted, Doubtful, NotTaken, Outcome, Refused, Report, State
from gateway.central.telling.pace import Pace
from gateway.central.telling.queue import HANDING_FOR, INTERRUPTED, SmsQueue
from gateway.central.telling.templates import ValueRefused
from tests.support.central.telling import LIBRARY, MOBILE, NIGHT, NOON, NOTICE, code, contact, notice

SECOND = timedelta(seconds=1)


@pytest.fixture
def queue(store: PeopleStore) -> SmsQueue:
    return SmsQueue(store, LIBRARY)


def test_a_key_is_queued_once_for_ever(store: PeopleStore, queue: SmsQueue) -> None:
    to = contact(store)
    first = queue.put(notice(to), now=NOON)
    assert first.fresh
    assert (queue.put(notice(to), now=NOON).fresh, queue.counts()) == (False, {State.WAITING: 1})
    same = queue.put_many([notice(to, "b"), notice(to, "b"), notice(to)], now=NOON)
    assert [one.fresh for one in same] == [True, False, False]
    (handed, _) = queue.take(NOON, 8)
    queue.settle(handed, Accepted("p"), reports=True, now=NOON)
    assert queue.put(notice(to), now=NOON + timedelta(days=900)).state is State.ACCEPTED


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"template": "no-such"}, "TEMPLATE"),
        ({"values": {"number": "1234567890"}}, "MISSING"),
        ({"values": NOTICE | {"number": "123"}}, "FORM"),
        ({"values": NOTICE | {"old_ending": "X" * 40}}, "TOO_LONG"),
        ({"values": NOTICE | {"name": "Asha"}}, "UNKNOWN"),
        ({"dedupe_key": ""}, "KEY"),
        ({"contact_id": "nobody"}, "CONTACT"),
    ],
)
def test_what_cannot_be_sent_is_refused_when_it_is_put(
    store: PeopleStore, queue: SmsQueue, given: dict[str, Any], code: str
) -> None:
    with pytest.raises(ValueRefused) as refused:
        queue.put(notice(contact(store), **given), now=NOON)
    assert refused.value.code == code
    assert queue.counts() == {}


def test_the_night_is_quiet_but_for_codes(store: PeopleStore, queue: SmsQueue) -> None:
    to = contact(store)
    queue.put_many([notice(to), code(to)], now=NIGHT)
    (handed,) = queue.take(NIGHT, 8)
    assert handed.rendered.template == "login-code"
    assert not queue.is_due(NIGHT)
    morning = NIGHT + timedelta(hours=9, minutes=30)  # 09:00 in India
    assert queue.take(morning - SECOND, 8) == []
    assert [one.rendered.template for one in queue.take(morning, 8)] == ["new-account-number"]


def test_codes_go_before_everything_else(store: PeopleStore, queue: SmsQueue) -> None:
    to = contact(store)
    queue.put_many([notice(to, f"n{i}") for i in range(20)], now=NOON)
    queue.put(code(to), now=NOON + SECOND)
    assert queue.take(NOON + SECOND, 3)[0].rendered.template == "login-code"


def test_the_rate_holds_over_all_processes(store: PeopleStore) -> None:
    one, other = (SmsQueue(store, LIBRARY, Pace(per_second=3)) for _ in range(2))
    to = contact(store)
    one.put_many([notice(to, f"n{i}") for i in range(9)], now=NOON)
    assert [len(one.take(NOON, 2)), len(other.take(NOON, 8)), len(one.take(NOON, 8))] == [2, 1, 0]
    assert len(other.take(NOON + SECOND, 8)) == 3


@pytest.mark.parametrize("days", [None, VERIFIED_FOR.days + 1])
def test_row_70_a_mobile_not_verified_of_late_is_told_the_masked_number(
    store: PeopleStore, queue: SmsQueue, days: int | None
) -> None:
    """users.md row 70 and A-16."""
    queue.put(notice(contact(store, verified_days=days)), now=NOON)
    (handed,) = queue.take(NOON, 8)
    assert handed.rendered.template == "new-account-number-masked"
    assert "1234567890" not in handed.rendered.text
    assert "XXXXX2345" in handed.rendered.text


def test_a_mobile_verified_of_late_is_told_the_whole_number(store: PeopleStore, queue: SmsQueue) -> None:
    queue.put(notice(contact(store, verified_days=VERIFIED_FOR.days)), now=NOON)
    (handed,) = queue.take(NOON, 8)
    assert "1234567890" in handed.rendered.text


def test_a_verification_that_grows_old_while_the_message_waits_counts_no_more(
    store: PeopleStore, queue: SmsQueue
) -> None:
    later = NOON + timedelta(days=2)
    queue.put(notice(contact(store, verified_days=VERIFIED_FOR.days - 1), not_before=later), now=NOON)
    assert queue.take(NOON, 8) == []
    (handed,) = queue.take(later, 8)
    assert handed.rendered.template == "new-account-number-masked"


def test_who_wants_no_messages_gets_codes_only(store: PeopleStore, queue: SmsQueue) -> None:
    to = contact(store)
    ContactStore(store).opt_out(MOBILE, source="STOP", at=NOON)
    queue.put_many([notice(to), code(to)], now=NOON)
    assert [one.rendered.template for one in queue.take(NOON, 8)] == ["login-code"]
    (ended,) = queue.find(state=State.REFUSED)
    assert ended.reason == "the recipient wants no messages"


def test_a_removed_contact_gets_nothing(store: PeopleStore, queue: SmsQueue) -> None:
    to = contact(store)
    queue.put(notice(to), now=NOON)
    ContactStore(store).remove(to.id, by="clerk", why="moved", at=NOON)
    assert queue.take(NOON, 8) == []
    assert [one.reason for one in queue.find(state=State.REFUSED)] == ["the contact was removed"]


def test_a_code_that_is_too_late_is_not_sent(store: PeopleStore, queue: SmsQueue) -> None:
    queue.put(code(contact(store)), now=NOON)
    assert queue.take(NOON + timedelta(minutes=5), 8) == []
    assert queue.counts() == {State.EXPIRED: 1}


def test_what_is_not_taken_is_tried_again_and_has_an_end_that_is_told(store: PeopleStore) -> None:
    pace = Pace(tries=3)
    queue = SmsQueue(store, LIBRARY, pace)
    queue.put(notice(contact(store)), now=NOON)
    now, waits = NOON, []
    for _ in range(3):
        (handed,) = queue.take(now, 8)
        state = queue.settle(handed, NotTaken("busy"), reports=True, now=now)
        before = now
        while state is State.WAITING and not queue.is_due(now):
            now += timedelta(seconds=30)
        waits.append(now - before)
    assert waits == [pace.delay(1), pace.delay(2), timedelta(0)]
    (ended,) = queue.find()
    assert (ended.state, ended.reason, ended.tries) == (State.FAILED, "given up after 3 tries: busy", 3)


def test_a_provider_that_is_away_costs_no_try(store: PeopleStore) -> None:
    queue = SmsQueue(store, LIBRARY, Pace(tries=1))
    queue.put(notice(contact(store)), now=NOON)
    for seconds in range(5):
        now = NOON + timedelta(seconds=2 * seconds)
        (handed,) = queue.take(now, 8)
        queue.settle(handed, NotTaken("no route", away=True), reports=True, now=now)
    assert [(one.state, one.tries) for one in queue.find()] == [(State.WAITING, 0)]


@pytest.mark.parametrize(
    ("outcome", "state", "reason"),
    [
        (Accepted("p1"), State.ACCEPTED, ""),
        (Refused("blocked"), State.FAILED, "blocked"),
        (Doubtful("the line broke"), State.UNCONFIRMED, "the line broke"),
    ],
)
def test_each_outcome_has_its_state(
    store: PeopleStore, queue: SmsQueue, outcome: Outcome, state: State, reason: str
) -> None:
    queue.put(code(contact(store)), now=NOON)
    (handed,) = queue.take(NOON, 8)
    assert queue.settle(handed, outcome, reports=True, now=NOON) is state
    (kept,) = queue.find()
    assert (kept.state, kept.reason) == (state, reason)
    with store.db.reading("looking") as db:  # a code is forgotten once it was handed over
        assert db.exec_driver_sql("SELECT given FROM message").scalar() is None


def test_what_was_handed_over_when_the_program_ended_is_unconfirmed_and_not_sent_again(
    store: PeopleStore, queue: SmsQueue
) -> None:
    queue.put(notice(contact(store)), now=NOON)
    (handed,) = queue.take(NOON, 8)
    later = NOON + HANDING_FOR + SECOND
    again = SmsQueue(store, LIBRARY)
    assert again.is_due(later)
    assert again.take(later, 8) == []
    (kept,) = again.find()
    assert (kept.state, kept.reason) == (State.UNCONFIRMED, INTERRUPTED)
    # The outcome may still be learnt: of a slow hand-over, or by a report.
    assert again.settle(handed, Accepted("p1"), reports=True, now=later) is State.ACCEPTED
    assert again.settle(handed, NotTaken("late"), reports=True, now=later) is State.ACCEPTED


def test_a_provider_that_knows_repeats_is_asked_again_when_in_doubt(store: PeopleStore) -> None:
    queue = SmsQueue(store, LIBRARY, Pace(repeats_safe=True))
    queue.put(notice(contact(store)), now=NOON)
    (handed,) = queue.take(NOON, 8)
    assert queue.settle(handed, Doubtful("the line broke"), reports=True, now=NOON) is State.WAITING
    (repeated,) = queue.take(NOON + timedelta(minutes=1), 8)
    assert (repeated.id, repeated.attempt) == (handed.id, 2)
    assert (
        queue.settle(handed, Accepted("p1"), reports=True, now=NOON) is State.HANDING
    )  # of the attempt before


def test_a_person_may_send_what_is_in_doubt_again(store: PeopleStore, queue: SmsQueue) -> None:
    queue.put(notice(contact(store)), now=NOON)
    (handed,) = queue.take(NOON, 8)
    with pytest.raises(ValueRefused, match="did not end"):
        queue.again(handed.id, by="asha", now=NOON)
    queue.settle(handed, Doubtful("the line broke"), reports=True, now=NOON)
    queue.again(handed.id, by="asha", now=NOON + SECOND)
    assert [(one.state, one.reason) for one in queue.find()] == [(State.WAITING, "again, by asha")]
    assert [one.id for one in queue.take(NOON + SECOND, 8)] == [handed.id]


# Delivery reports


def accepted(store: PeopleStore, queue: SmsQueue) -> str:
    queue.put(notice(contact(store)), now=NOON)
    (handed,) = queue.take(NOON, 8)
    queue.settle(handed, Accepted("p1"), reports=True, now=NOON)
    return handed.id


@pytest.mark.parametrize("by", ["provider_id", "message_id"])
def test_a_delivery_report_finds_its_message(store: PeopleStore, queue: SmsQueue, by: str) -> None:
    found = {"provider_id": "p1", "message_id": accepted(store, queue)}[by]
    assert queue.report(Report(state=State.DELIVERED, **{by: found}), now=NOON)
    assert queue.counts() == {State.DELIVERED: 1}


def test_delivered_is_final_and_undelivered_is_not(store: PeopleStore, queue: SmsQueue) -> None:
    accepted(store, queue)
    good, bad = State.DELIVERED, State.UNDELIVERED
    for state, then in ((bad, bad), (good, good), (bad, good)):
        assert queue.report(Report(state=state, provider_id="p1", reason="x"), now=NOON)
        assert queue.counts() == {then: 1}


def test_a_report_may_overtake_the_answer(store: PeopleStore, queue: SmsQueue) -> None:
    assert not queue.report(Report(state=State.DELIVERED, provider_id="p1"), now=NOON)
    accepted(store, queue)
    assert queue.counts() == {State.DELIVERED: 1}


def test_a_message_without_a_report_is_said_to_be(store: PeopleStore, queue: SmsQueue) -> None:
    accepted(store, queue)
    assert queue.close_unreported(NOON + timedelta(hours=72)) == 0
    assert queue.close_unreported(NOON + timedelta(hours=73)) == 1
    assert queue.counts() == {State.UNREPORTED: 1}
    assert queue.report(Report(state=State.DELIVERED, provider_id="p1"), now=NOON + timedelta(days=9))
    assert queue.counts(batch="") == {State.DELIVERED: 1}


def test_a_report_of_nothing_is_kept_for_nobody(queue: SmsQueue) -> None:
    assert not queue.report(Report(state=State.DELIVERED), now=NOON)
