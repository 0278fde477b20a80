"""Large change sets wait for a second person, who approves exactly what was looked at; a crash applies it once."""

from __future__ import annotations

from typing import Any

import pytest

from mapping.changes import Change, Install, MoveIn, Name, SetPaymentMode
from mapping.directory import NumberKind, PaymentMode, Role
from mapping.errors import ChangeRefused
from mapping.proposals import Proposal, Proposals, asked_changes, asked_undo
from mapping.standing import count_touched
from mapping.store import DirectoryStore
from tests.support.mapping.strategies import at

BY: dict[str, Any] = {"by": "meera", "source": "test"}
CHANGES: list[Change] = [
    Install("GEN:1", "UP1", Role.CONSUMER, at(0)),
    MoveIn("UP1", "new", at(0), PaymentMode.PREPAID),
    Name("new", NumberKind.LEGACY, "K1"),
]


def kept(store: DirectoryStore, text: str) -> Proposal:
    return Proposals(store).keep(text, **BY, at=at(1), version=store.version, meters=1, accounts=1)


def code(store: DirectoryStore, fingerprint: str, by: str) -> str:
    with pytest.raises(ChangeRefused) as refused:
        Proposals(store).approve(fingerprint, by=by, at=at(2))
    return refused.value.code


def test_somebody_else_approves_what_was_asked_for(store: DirectoryStore) -> None:
    held = kept(store, asked_changes(CHANGES))
    proposals = Proposals(store)
    assert proposals.all() == [held]
    assert kept(store, asked_changes(CHANGES)).fingerprint == held.fingerprint
    assert len(proposals.all()) == 1
    assert code(store, held.fingerprint, "meera") == "SAME_PERSON"
    assert code(store, "0" * 16, "verma") == code(store, held.fingerprint[:4], "verma") == "NOT_WAITING"
    assert proposals.approve(held.fingerprint[:8], by="verma", at=at(2)) == 1
    change = store.snapshot().changes[-1]
    assert (change.by, change.digest) == ("meera, approved by verma", held.fingerprint)
    assert store.snapshot().account_by_number(NumberKind.LEGACY, "K1") == "new"
    assert proposals.all() == []


def test_a_directory_that_moved_on_is_looked_at_again(store: DirectoryStore) -> None:
    held = kept(store, asked_changes(CHANGES))
    store.apply([Name("b", NumberKind.LEGACY, "K2")], **BY, at=at(2))
    assert code(store, held.fingerprint, "verma") == "STALE_PLAN"
    Proposals(store).discard(held.fingerprint)
    assert Proposals(store).all() == []


def test_an_approval_cut_short_is_not_applied_twice(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crash comes when the change set is in the directory and the proposal still waits."""
    held = kept(store, asked_changes(CHANGES))
    with monkeypatch.context() as cut:
        cut.setattr(Proposals, "discard", lambda *_: (_ for _ in ()).throw(OSError("power cut")))
        with pytest.raises(OSError, match="power cut"):
            Proposals(store).approve(held.fingerprint, by="verma", at=at(2))
    assert (store.version, len(Proposals(store).all())) == (1, 1)
    assert Proposals(store).approve(held.fingerprint, by="verma", at=at(3)) == 1
    assert (store.version, Proposals(store).all()) == (1, [])


def test_an_undo_waits_as_its_version_and_is_worked_out_when_approved(store: DirectoryStore) -> None:
    store.apply(CHANGES, **BY, at=at(1))
    store.apply([SetPaymentMode("UP1", None, at(4))], **BY, at=at(2))
    whole, rest = (kept(store, asked_undo(1, rest_alone=alone)) for alone in (False, True))
    assert code(store, whole.fingerprint, "verma") == "LATER_CHANGE"
    assert Proposals(store).approve(rest.fingerprint, by="verma", at=at(3)) == 3
    assert [(r.valid_from, r.valid_to) for r in store.snapshot().holdings("UP1")] == [(at(4), None)]


def test_who_is_touched_counts_by_what_changes_of_his_energy(store: DirectoryStore) -> None:
    store.apply(CHANGES, **BY, at=at(1))
    for change, counted in (
        (SetPaymentMode("UP1", PaymentMode.POSTPAID, at(3)), (1, 1)),
        (Name("new", NumberKind.ACCOUNT, "0000000001"), (0, 1)),
        (Install("GEN:2", "UP2", Role.CONSUMER, at(0)), (1, 0)),
    ):
        seen = store.preview([change], **BY, at=at(2))
        assert count_touched(seen, 1, 2) == counted
