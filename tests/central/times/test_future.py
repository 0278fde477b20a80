"""What is dated in the future is held and named: balances and verifications (readings: test_verdicts)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from gateway.central.intake.batches import MessageStore, ReceivedMessage
from gateway.central.ledger.ledger import Ledger
from gateway.central.people.database import PeopleStore
from gateway.central.people.imports import import_contacts
from gateway.central.people.verification import VERIFIED_FOR, verified
from gateway.contract.envelope import wrap
from gateway.contract.messages import Balance
from gateway.contract.topics import Topics
from mapping.row_verdicts import Verdict
from tests.support.central.samples import DAY, NOW

TOPICS = Topics("test")
FAR = NOW + 26_000 * DAY


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "ledger.db")
    yield made
    made.close()


def told(amount: str, at: datetime, heard: datetime = NOW) -> ReceivedMessage:
    balance = Balance(account_id="acc-1", amount=amount, at=at, source="billing")
    payload = wrap(balance, id="b", source="/billing", time=NOW)
    return ReceivedMessage(TOPICS.balance("acc-1"), payload, heard)


def test_a_balance_of_2099_blocks_no_later_one_and_is_named(ledger: Ledger) -> None:
    store = MessageStore(ledger, TOPICS)
    store.handle([told("1.00", NOW - DAY), told("99.00", FAR), told("2.00", NOW)])
    held = ledger.balances.get("acc-1")
    assert held is not None
    assert (held.as_of, "2.00" in held.body) == (NOW, True)
    (letter,) = ledger.letters.newest()
    assert letter.reason == "dated_ahead"
    assert "acc-1" in letter.detail


def test_a_balance_of_2099_that_is_stored_already_gives_way(ledger: Ledger) -> None:
    ledger.balances.put("acc-1", FAR, "{}", FAR)
    store = MessageStore(ledger, TOPICS)
    store.handle([told("2.00", NOW)])
    held = ledger.balances.get("acc-1")
    assert held is not None
    assert held.as_of == NOW


def test_a_mobile_that_will_be_verified_in_2099_is_not(tmp_path: Path) -> None:
    store = PeopleStore(tmp_path / "contacts.db")
    rows = f"KE1,9876500001,{FAR.isoformat()}\nKE2,9876500002,{NOW.isoformat()}\n"
    (tmp_path / "c.csv").write_text("legacy_number,mobile,verified_at\n" + rows)
    done = import_contacts(store, tmp_path / "c.csv", lambda _, number: number, by="t", now=NOW)
    store.close()
    assert (done.counts[Verdict.APPLIED], [row.code for row in done.not_applied]) == (1, ["FUTURE"])
    assert verified(NOW, NOW)
    assert verified(NOW + timedelta(minutes=2), NOW)
    assert not verified(FAR, NOW)
    assert not verified(NOW - VERIFIED_FOR - DAY, NOW)
    assert not verified(None, NOW)
