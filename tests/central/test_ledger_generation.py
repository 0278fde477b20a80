"""A ledger that was set back is recognised, by the file beside it or by what central itself once signed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.central.intake.witnesses import Witnesses
from gateway.central.ledger.ledger import Ledger
from gateway.central.portal.authority_issues import set_back_issues
from gateway.central.portal.view_models import IssueKind
from gateway.contract.central_word import CENTRAL
from gateway.contract.messages import Ack, Status
from gateway.contract.messages.generation import Generation
from gateway.contract.signing import ACK_TYP, DIRECTORY_TYP, sign
from mapping.store_life import SUFFIX
from tests.support.central.samples import DAY, NOW, batch, capture, received
from tests.support.keys import OTHER_PRIVATE, PRIVATE, PUBLIC


def stored(ledger: Ledger, first: int, last: int) -> None:
    ledger.ingest([received(batch([capture(n) for n in range(first, last + 1)]))])
    ledger.identity.tick(last)


def test_a_ledger_that_ran_last_keeps_its_generation(tmp_path: Path) -> None:
    lives = []
    for _ in range(3):
        ledger = Ledger(tmp_path / "ledger.db")
        stored(ledger, 1, 3)
        lives.append((ledger.identity.uuid, ledger.identity.generation))
        assert ledger.identity.begun is None
        ledger.close()
    assert len(set(lives)) == 1
    assert lives[0][1].counter == 1
    reader = Ledger(tmp_path / "ledger.db", read_only=True)
    assert (reader.identity.uuid, reader.identity.generation) == lives[0]
    reader.close()


@pytest.mark.parametrize("beside", [True, False])
def test_a_ledger_restored_from_a_copy_begins_a_new_generation(tmp_path: Path, beside: bool) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger(path)
    uuid, first = ledger.identity.uuid, ledger.identity.generation
    stored(ledger, 1, 3)
    ledger.close()
    shutil.copy(path, tmp_path / "copy.db")
    ledger = Ledger(path)
    stored(ledger, 4, 9)
    ledger.close()
    shutil.copy(tmp_path / "copy.db", path)
    if not beside:
        path.with_name(path.name + SUFFIX).unlink()
    ledger = Ledger(path)
    now = ledger.identity.generation
    assert (ledger.identity.uuid, now.counter) == (uuid, first.counter + 1)
    (found,) = ledger.identity.set_backs()
    assert found == ledger.identity.begun
    assert SUFFIX in found.why
    ledger.close()
    ledger = Ledger(path)
    assert ledger.identity.generation == now, "the next start goes on in it"
    assert ledger.identity.begun is None
    ledger.close()


def status(held: Ledger, seq: int, key: bytes = PRIVATE, typ: str = ACK_TYP, **over: object) -> Status:
    """What an edge shows that was acknowledged so far."""
    named = {"ledger": held.identity.uuid, "ledger_generation": held.identity.generation, **over}
    ack = Ack.model_validate({"journal": "journal-1", "seq": seq, "consumer": CENTRAL, **named})
    proof = sign(ack.model_dump_json(exclude_none=True).encode(), key=key, typ=typ)
    return Status(gateway="edge-1", online=True, version="2", journal="journal-1", acknowledged=proof, at=NOW)


def test_an_edge_that_was_acknowledged_more_than_the_ledger_shows_proves_it_set_back(ledger: Ledger) -> None:
    stored(ledger, 1, 3)
    witnesses = Witnesses(ledger, [PUBLIC])
    first = ledger.identity.generation
    assert witnesses.look(status(ledger, 3)) is None
    assert witnesses.look(status(ledger, 2)) is None
    before = status(ledger, 4)
    found = witnesses.look(before)
    assert found is not None
    assert found.why == "edge-1 shows that 4 entries of journal journal-1 were acknowledged, and 3 are here"
    assert ledger.identity.generation.counter == first.counter + 1
    assert witnesses.look(before) is None, "it is of the life before: that is known now"


def test_the_counter_is_one_above_the_highest_that_an_edge_shows(ledger: Ledger) -> None:
    witnesses = Witnesses(ledger, [PUBLIC])
    assert witnesses.look(status(ledger, 0, ledger_generation="7.0badcafe")) is not None
    assert ledger.identity.generation.counter == 8
    twin = replace(ledger.identity.generation, random="00000000")
    found = witnesses.look(status(ledger, 0, ledger_generation=twin))
    assert found is not None
    assert "one of the two ledgers is a copy" in found.why
    assert ledger.identity.generation.counter == 9
    other = witnesses.look(status(ledger, 0, ledger="another", ledger_generation="9.00000000"))
    assert other is not None
    assert "another ledger, another" in other.why
    assert ledger.identity.generation.counter == 10
    assert [Generation.parse(one.generation).counter for one in ledger.identity.set_backs()] == [8, 9, 10]


def test_what_central_did_not_sign_proves_nothing(ledger: Ledger) -> None:
    witnesses = Witnesses(ledger, [PUBLIC])
    life = ledger.identity.generation
    assert witnesses.look(status(ledger, 99, key=OTHER_PRIVATE)) is None
    assert witnesses.look(status(ledger, 99, typ=DIRECTORY_TYP)) is None
    assert witnesses.look(status(ledger, 99).model_copy(update={"acknowledged": "no signature"})) is None
    assert witnesses.look(status(ledger, 99).model_copy(update={"acknowledged": None})) is None
    assert ledger.identity.generation == life


def test_a_set_back_stands_on_the_operator_s_page_for_a_while(ledger: Ledger) -> None:
    found = ledger.identity.begin_anew(ledger.identity.generation, "edge-1 shows more")
    (issue,) = set_back_issues(ledger.identity.set_backs(), found.begun_at - DAY)
    assert issue.kind is IssueKind.STORE_SET_BACK
    assert issue.detail == f"ledger, now of generation {found.generation}: edge-1 shows more"
    assert list(set_back_issues(ledger.identity.set_backs(), found.begun_at + DAY)) == []
