"""One consumer's data: all of it given out, all of it erased that may be; each kind kept as long as it may be."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest
import structlog
from sqlalchemy import select

from gateway.central.office.breaches import exposure
from gateway.central.office.trail import Entry
from gateway.central.people.contacts import ContactStore
from gateway.central.people.database import PeopleStore
from gateway.central.people.privacy import erase, export, held
from gateway.central.people.retention import CODES_KEPT, Kept, keep_to, last_runs
from gateway.central.people.tables import META, message
from gateway.central.telling.messages import Accepted, Report, State
from gateway.central.telling.queue import SmsQueue
from gateway.central.telling.templates import ValueRefused
from gateway.roles.retention import keep_retention
from tests.support.central.telling import LIBRARY, MOBILE, NOON, code, contact, notice
from tests.support.fakes import ManualClock
from tests.support.waiting import until

DAY = timedelta(days=1)
OTHER = "9000000001"


@pytest.fixture
def queue(store: PeopleStore) -> SmsQueue:
    return SmsQueue(store, LIBRARY)


def lived(store: PeopleStore, queue: SmsQueue) -> None:
    """Two accounts with contacts and messages: one sent, one on its way, one waiting."""
    for account, mobile in (("acc-1", MOBILE), ("acc-2", OTHER)):
        to = contact(store, account, mobile)
        queue.put_many([notice(to, f"{account} {i}") for i in range(3)], now=NOON)
    for handed in queue.take(NOON, 2):
        queue.settle(handed, Accepted(f"p-{handed.id}"), reports=True, now=NOON)
    queue.take(NOON, 2)
    ContactStore(store).opt_out(MOBILE, source="STOP", at=NOON)


def everything(store: PeopleStore) -> str:
    with store.db.reading("looking") as db:
        return str([db.execute(select(table)).all() for table in META.sorted_tables])


def test_all_that_is_kept_is_given_out(store: PeopleStore, queue: SmsQueue) -> None:
    lived(store, queue)
    found = export(store, "acc-1")
    assert [one["mobile"] for one in found["contacts"]] == [MOBILE]
    assert [one["what"] for one in found["contacts_history"]] == ["added"]
    assert found["wants_no_messages"][0]["mobile"] == MOBILE
    assert [one["values"]["number"] for one in found["messages"]] == ["1234567890"] * 3
    assert OTHER not in str(found)
    json.dumps(found, default=str)


def test_an_erased_account_leaves_no_mobile_and_no_text_and_others_stay(
    store: PeopleStore, queue: SmsQueue
) -> None:
    lived(store, queue)
    ContactStore(store).opt_in(MOBILE)
    before = export(store, "acc-2")
    done = erase(store, "acc-1", by="clerk", reason="wish", now=NOON)
    assert (done.contacts, done.history, done.messages) == (1, 1, 3)
    left = everything(store)
    assert MOBILE not in left
    assert "counter" not in str(export(store, "acc-1")["contacts_history"])
    assert export(store, "acc-2") == before
    states = {one.state for one in queue.find(account_id="acc-1")}
    assert states <= {State.REFUSED, State.ACCEPTED, State.UNCONFIRMED}
    assert {one["values"] for one in export(store, "acc-1")["messages"]} == {None}
    (said,) = export(store, "acc-1")["erasures"]
    assert (said["by"], said["reason"], said["erased"]["contacts"]) == ("clerk", "wish", 1)
    again = erase(store, "acc-1", by="clerk", reason="wish", now=NOON + DAY)
    assert set(again.counts().values()) == {0}


def test_nothing_is_sent_to_who_was_erased_and_nothing_twice(store: PeopleStore, queue: SmsQueue) -> None:
    lived(store, queue)
    erase(store, "acc-1", by="clerk", reason="wish", now=NOON)
    to = contact(store, "acc-1", MOBILE)
    assert [queue.put(notice(to, f"acc-1 {i}"), now=NOON).fresh for i in range(3)] == [False] * 3
    later = NOON + timedelta(seconds=2)
    assert {one.mobile for one in queue.take(later, 50)} <= {OTHER}
    for one in queue.find(account_id="acc-1"):
        with pytest.raises(ValueRefused):
            queue.again(one.id, by="clerk", now=later)


def test_an_opt_out_outlives_the_erasure(store: PeopleStore, queue: SmsQueue) -> None:
    lived(store, queue)
    erase(store, "acc-1", by="clerk", reason="wish", now=NOON)
    assert ContactStore(store).opted_out(MOBILE) == NOON


# Retention


def test_each_kind_goes_at_its_age_counted_and_not_before(store: PeopleStore, queue: SmsQueue) -> None:
    lived(store, queue)
    queue.report(Report(state=State.DELIVERED, provider_id="nobody's"), now=NOON)
    contacts = ContactStore(store)
    gone = contact(store, "acc-3", "9000000003")
    contacts.remove(gone.id, by="t", why="t", at=NOON)
    queue.put(code(contact(store, "acc-4", "9000000004"), "c1"), now=NOON)
    (handed,) = [
        h for h in queue.take(NOON + timedelta(seconds=2), 50) if h.rendered.template == "login-code"
    ]
    queue.settle(handed, Accepted("p-code"), reports=False, now=NOON)
    for state in (one for one in queue.find() if one.state is State.ACCEPTED and one.provider_id):
        queue.report(Report(state=State.DELIVERED, provider_id=state.provider_id), now=NOON)
    kept = Kept()
    ages = {
        "messages": kept.messages,
        "codes": CODES_KEPT,
        "reports": 7 * DAY,
        "removed_contacts": kept.removed_contacts,
    }
    for kind, age in sorted(ages.items(), key=lambda one: one[1]):
        early = {one.kind: one.count for one in keep_to(store, kept, now=NOON + age)}
        late = {one.kind: one.count for one in keep_to(store, kept, now=NOON + age + timedelta(seconds=1))}
        assert (early[kind], late[kind] > 0) == (0, True), kind
    assert contacts.of_account("acc-3", removed=True) == []
    assert contacts.history("acc-3") == []
    with store.db.reading("looking") as db:
        ended = select(message.c.given).where(message.c.ended_at.is_not(None))
        assert set(db.execute(ended).scalars()) == {None}
    assert queue.put(notice(contact(store, "acc-1", MOBILE), "acc-1 0"), now=NOON).fresh is False


def test_mobiles_nobody_ever_verified_go_and_verified_ones_stay(store: PeopleStore) -> None:
    contact(store, "acc-1", MOBILE, verified_days=None)
    contact(store, "acc-2", OTHER)
    done = keep_to(store, Kept(), now=NOON + 1096 * DAY)
    assert {one.kind: one.count for one in done}["unverified_contacts"] == 1
    assert ContactStore(store).get("acc-1") is None
    assert ContactStore(store).get("acc-2") is not None
    assert held(store)["contact"] == 1
    assert [one.kind for one in last_runs(store)] == [one.kind for one in done]


@pytest.mark.virtual_time
async def test_central_runs_it_once_a_day_and_tells(store: PeopleStore, queue: SmsQueue) -> None:
    clock = ManualClock(NOON)
    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(keep_retention(store, queue, Kept(), clock, every=0.01))
        await until(lambda: len(logs) == 1)
        clock.advance(timedelta(hours=11))  # 23:00 in India
        await asyncio.sleep(0.1)
        assert len(logs) == 1
        clock.advance(timedelta(hours=2))
        await until(lambda: len(logs) == 2)
        task.cancel()
        await asyncio.get_running_loop().shutdown_default_executor()  # a look under way ends before the store
    assert {line["event"] for line in logs} == {"retention_done"}


# Breaches


def entry(number: int, actor: str, act: str, subject: str, **detail: str) -> Entry:
    at = NOON + number * timedelta(minutes=1)
    source = "10.0.0.7" if actor == "consumer" else "command"
    return Entry(
        number=number, at=at, actor=actor, act=act, subject=subject, source=source, detail=detail, hash=""
    )


def test_a_breach_says_who_could_have_been_seen_when_and_by_what() -> None:
    trail = [
        entry(5, "meera", "readings.seen", "account:a"),
        entry(4, "consumer", "consumer.login", "account:b", session="s1"),
        entry(3, "meera", "contacts.import", "contacts"),
        entry(2, "sap", "contacts.seen", "account:a"),
        entry(1, "meera", "contacts.seen", "account:a"),
    ]
    found = exposure(trail)
    assert found.accounts == 2
    assert [(one.account_id, one.actor, one.times) for one in found.seen] == [
        ("a", "meera", 2), ("a", "sap", 1), ("b", "consumer", 1),
    ]  # fmt: skip
    first = found.seen[0]
    assert (first.last - first.first, first.acts) == (
        timedelta(minutes=4),
        ("contacts.seen", "readings.seen"),
    )
    assert found.others == {("meera", "contacts.import", "contacts"): 1}
    assert [one.account_id for one in exposure(trail, session="s1").seen] == ["b"]
    assert exposure(trail, session="s2").accounts == 0
    assert [one.account_id for one in exposure(trail, source="10.0.0.7").seen] == ["b"]
