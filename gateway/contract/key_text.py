"""What stands inside a sealed text of keys: which keys, of which meter, new ones and those before them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.contract.envelope import parse_data
from gateway.contract.messages import Identifier, Message, UtcTime
from gateway.contract.messages.keys import DigestText, KeyIdText, SealedText, Slots, SlotText

MAX_TEXT = 700_000
KeyHex = Annotated[str, Field(min_length=2, max_length=128, pattern=r"^([0-9a-f]{2})+$", repr=False)]


class KeyEntry(BaseModel):
    """One key. `new`: made now; `held`: in force, as far as the sender knows."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    slot: SlotText
    state: Literal["new", "held"]
    octets: KeyHex

    @property
    def key(self) -> bytes:
        """The key itself."""
        return bytes.fromhex(self.octets)


class KeyText(Message):
    """The keys of one change, as it is sealed to escrow."""

    gateway: str = ""
    meter: Identifier
    key_id: KeyIdText
    keys: Annotated[tuple[KeyEntry, ...], Field(min_length=1, max_length=64)]
    made_at: UtcTime


class GivenChange(Message):
    """A change that a meter may have taken and nobody proved: its new keys are tried where the others are refused."""

    meter: Identifier
    key_id: KeyIdText
    sealed_digest: DigestText
    keys: Annotated[tuple[KeyEntry, ...], Field(min_length=1, max_length=64)]
    made_at: UtcTime


class GivenText(Message):
    """A sealed text that the box keeps beside its keys: should central lose it, the box brings it again."""

    meter: Identifier
    key_id: KeyIdText
    slots: Slots
    sealed: SealedText
    made_at: UtcTime


class GivenKeys(Message):
    """Keys that one edge is given: those in force by meter, and changes without proof, oldest first.

    `texts` are the sealed texts that all these came from.
    """

    held: Annotated[dict[str, tuple[KeyEntry, ...]], Field(max_length=20_000)] = Field(default_factory=dict)
    maybe: Annotated[tuple[GivenChange, ...], Field(max_length=20_000)] = ()
    texts: Annotated[tuple[GivenText, ...], Field(max_length=40_000)] = ()


def key_text(octets: bytes) -> KeyText:
    """Read the inside of a sealed text; ContractError, which never shows a key, when it is none."""
    return parse_data(octets, KeyText, limit=MAX_TEXT)


def given_keys(octets: bytes) -> GivenKeys:
    """Read what an edge was given; ContractError, which never shows a key, when it is none."""
    return parse_data(octets, GivenKeys, limit=MAX_TEXT)


def sealing_context(meter: str, key_id: str) -> str:
    """Return what binds a sealed text to its change, whichever gateway brings it."""
    return f"keys/{meter}/{key_id}"


def giving_context(gateway: str, digest: str, part: int, parts: int) -> str:
    """Return what binds a sealed text to the edge that it is given to."""
    return f"given/{gateway}/{digest}/{part}/{parts}"
