"""A receipt counts for the very question that waits, signed by central, and for nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from gateway.contract.central_word import wrap_signed
from gateway.contract.envelope import parse
from gateway.contract.messages import KeysEscrowed, KeysReceipt
from gateway.contract.sealing import digest
from gateway.edge.keys.change import Stage
from gateway.edge.keys.escrow import Receipts
from gateway.edge.keys.store import Change
from gateway.errors import ContractError
from protocols.dlms.acts.keys import KeySlot
from tests.support.fakes import HandClock
from tests.support.keys import OTHER_PRIVATE, PRIVATE, PUBLIC

AT = datetime(2026, 11, 30, tzinfo=UTC)
CHANGE = Change(
    key_id="a1" * 16,
    meter="GEN:1",
    client=48,
    what="global",
    stage=Stage.MADE,
    sealed=b"sealed",
    slots=("48/encryption", "48/authentication"),
    made_at=AT,
    keys={KeySlot.ENCRYPTION: b"e" * 16, KeySlot.AUTHENTICATION: b"a" * 16},
)


def receipt(nonce: str, over: Mapping[str, object] | None = None, *, key: bytes = PRIVATE) -> bytes:
    told = KeysReceipt(
        gateway="edge-1",
        meter=CHANGE.meter,
        key_id=CHANGE.key_id,
        sealed_digest=digest(CHANGE.sealed),
        nonce=nonce,
        issued_at=AT,
    ).model_copy(update=over or {})
    return wrap_signed(told, key=key, id="r", source="/central", time=AT)


def asking() -> tuple[Receipts, str]:
    receipts = Receipts("edge-1", (PUBLIC,), HandClock(AT))
    nonce, message = receipts.question(CHANGE)
    assert parse(message, KeysEscrowed).data.nonce == nonce
    for key in CHANGE.keys.values():
        assert key not in message
        assert key.hex().encode() not in message
    return receipts, nonce


def test_the_answer_to_the_question_that_waits_is_taken_once() -> None:
    receipts, nonce = asking()
    assert receipts.take(receipt(nonce)).refused is None
    with pytest.raises(ContractError, match="nonce"):
        receipts.take(receipt(nonce))


@pytest.mark.parametrize(
    "over",
    [
        {"gateway": "edge-2"},
        {"meter": "GEN:2"},
        {"key_id": "b2" * 16},
        {"sealed_digest": "0" * 64},
        {"nonce": "0" * 32},
    ],
    ids=lambda over: next(iter(over)),
)
def test_a_receipt_of_anything_else_is_refused(over: dict[str, object]) -> None:
    receipts, nonce = asking()
    with pytest.raises(ContractError):
        receipts.take(receipt(nonce, over))
    assert receipts.take(receipt(nonce)).nonce == nonce  # and the right one still counts


def test_a_receipt_that_central_did_not_sign_is_refused() -> None:
    receipts, nonce = asking()
    with pytest.raises(ContractError, match="not trusted"):
        receipts.take(receipt(nonce, key=OTHER_PRIVATE))


def test_a_receipt_of_an_earlier_run_is_refused() -> None:
    """Central's store may have been set back since: it says nothing about what is kept now."""
    receipts, old = asking()
    receipts.forget(old)
    fresh, _ = receipts.question(CHANGE)
    with pytest.raises(ContractError, match="nonce"):
        receipts.take(receipt(old))
    assert receipts.take(receipt(fresh)).nonce == fresh
