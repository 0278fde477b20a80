"""Meters' keys on their way: sealed to escrow, receipts, and what an edge is given for its meters."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gateway.contract.messages.base import Identifier, Message, UtcTime

KeyIdText = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
"""The random name of one change of keys."""
DigestText = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
NonceText = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
SlotText = Annotated[
    str, Field(pattern=r"^(0|[1-9][0-9]{0,2})/(encryption|authentication|broadcast|secret|master)$")
]
"""Which key of a meter: client address and kind, `48/encryption`; the master key is the meter's, `0/master`."""
SealedText = Annotated[str, Field(max_length=940_000, pattern=r"^[A-Za-z0-9+/]+={0,2}$")]
"""Base64 of a sealed text (docs/keys.md says its layout)."""
Slots = Annotated[tuple[SlotText, ...], Field(min_length=1, max_length=64)]


class KeysEscrowed(Message):
    """New keys of a meter, sealed: nothing goes to the meter before a receipt with this `nonce` has come.

    Sealed to the utility's escrow key, whose private half is kept offline, and to central's store key where there is
    one. It holds what the meter had before as well. The same `key_id` may come again with another nonce.
    """

    gateway: Identifier
    meter: Identifier
    key_id: KeyIdText
    slots: Slots
    sealed: SealedText
    nonce: NonceText
    made_at: UtcTime


class KeysProven(Message):
    """A meter has proved by an association that it holds the keys of `key_id`: what it had before is past."""

    gateway: Identifier
    meter: Identifier
    key_id: KeyIdText
    sealed_digest: DigestText
    at: UtcTime


class KeysReceipt(Message):
    """Central has these sealed keys on its disk; it travels signed (see `Signed`). `refused` says why it has not."""

    gateway: Identifier
    meter: Identifier
    key_id: KeyIdText
    sealed_digest: DigestText
    nonce: NonceText
    refused: Annotated[str, Field(max_length=500)] | None = None
    issued_at: UtcTime


class KeysRequest(Message):
    """An edge asks for the keys of its meters; they come sealed to `box_key`, once a person has trusted that.

    `have` is the digest of what it was given last; `kept` names the changes whose sealed keys central must have: those
    that it lacks, since its store was set back, are told in `KeysMissing`.
    """

    gateway: Identifier
    box_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$")]
    have: DigestText | None = None
    kept: Annotated[tuple[KeyIdText, ...], Field(max_length=20_000)] = ()
    nonce: NonceText
    at: UtcTime


class KeysMissing(Message):
    """Sealed keys that central lacks of those that a request named: they are wanted again. Signed."""

    gateway: Identifier
    key_ids: Annotated[tuple[KeyIdText, ...], Field(max_length=20_000)]
    nonce: NonceText
    issued_at: UtcTime


class KeysGiven(Message):
    """The keys of a gateway's meters, sealed to its box, in `parts`; signed.

    `dropped` are meters that another gateway reads now: their keys go from this box. `digest` names the whole: an
    edge that says it has it is given nothing.
    """

    gateway: Identifier
    box: Identifier
    part: Annotated[int, Field(ge=1, le=10_000)] = 1
    parts: Annotated[int, Field(ge=1, le=10_000)] = 1
    digest: DigestText
    dropped: Annotated[tuple[Identifier, ...], Field(max_length=20_000)] = ()
    sealed: SealedText
    nonce: NonceText
    issued_at: UtcTime
