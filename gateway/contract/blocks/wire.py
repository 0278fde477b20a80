"""A batch of version 2 as pydantic defines it: the source of the schemas, and what every reader must agree with.

Strict: a number is no text, an instant has one spelling, absent is absent and never null. A newer sender may add
members to every object but a value, and words to the lists of codes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from gateway.contract.messages import MAX_SEQ, AccountNumberText, Identifier, Seq, Version, rfc3339
from gateway.contract.messages.codes import (
    GAP_REASONS,
    MISSING_REASONS,
    QUALITY_CODES,
    UNATTRIBUTED_REASONS,
    UNITS,
    FromList,
)
from gateway.contract.messages.generation import GenerationText

MAX_COLUMNS = 1_024
"""Values of one row; a meter's largest profile has some hundreds."""
MAX_BLOCKS = MAX_CAPTURES = 5_000
"""Blocks of a batch, and captures of a block; an honest batch has some hundreds of both together."""
MAX_HOLDERS = 64
"""Accounts of one capture: those who held the meter within its interval."""
MAX_INTERVAL = 366 * 86_400
"""Longest interval of a row, in seconds."""
KEY_PATTERN = r"^[0-9a-f]{16}$"
DECIMAL_PATTERN = r"^-?[0-9]{1,100}(\.[0-9]{1,100})?$"
INSTANT_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?Z$"
CODE_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"
QUALITY_PATTERN = r"^[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}$"
RAW_PATTERN = r"^[A-Za-z0-9+/]*={0,2}$"
STEADY_PATTERN = r"^[0-9a-z]{1,16}/[0-9]{1,12}\.[0-9]{3}$"
DIRECTORY_PATTERN = r"^(0|[1-9][0-9]{0,15})\.[0-9a-f]{8}/(0|[1-9][0-9]{0,18})$"


def _one_spelling(text: str) -> str:
    """Refuse an instant that is none, or that could be written shorter."""
    if rfc3339(datetime.fromisoformat(text)) != text:
        raise ValueError("an instant is written with microseconds only where there are any")
    return text


class _NeverNull:
    """Makes an optional member one that may be absent, but not null."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        nullable: Any = handler(source)
        inner: CoreSchema = nullable["schema"]
        return inner


T = TypeVar("T")
Maybe = Annotated[T | None, _NeverNull]

InstantText = Annotated[
    str,
    Field(pattern=INSTANT_PATTERN, json_schema_extra={"format": "date-time"}),
    AfterValidator(_one_spelling),
]
Key = Annotated[str, Field(pattern=KEY_PATTERN)]
"""16 hex digits: of a layout, of holders, of a row."""
Decimal = Annotated[str, Field(pattern=DECIMAL_PATTERN)]
Code = Annotated[str, Field(pattern=CODE_PATTERN)]
Interval = Annotated[int, Field(ge=1, le=MAX_INTERVAL)]
Unit = Annotated[str, Field(min_length=1, max_length=20), FromList(UNITS)]
ShortText = Annotated[str, Field(max_length=4_096)]


class Part(BaseModel):
    """Base of what a batch is made of: frozen and strict; a newer sender may add members."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", populate_by_name=True, serialize_by_alias=True
    )


class _OneMember(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class InstantValue(_OneMember):
    """A point in time as a value."""

    instant: InstantText


class TextValue(_OneMember):
    """Characters as the meter gave them."""

    text: ShortText


class BitsValue(_OneMember):
    """A bit string, first bit first."""

    bits: Annotated[str, Field(pattern=r"^[01]{0,4096}$")]


class MissingValue(_OneMember):
    """No value, and why; zero is never a default."""

    missing: Annotated[Code, FromList(MISSING_REASONS)]


BlockValue = Decimal | InstantValue | TextValue | BitsValue | MissingValue
"""A decimal as text with the meter's own digits, or an object with exactly one member."""


class Column(Part):
    """What a value is of: `q` is OBIS (+ #attribute, [index]), `name` as in codes.json; the unit is of decimals."""

    q: Annotated[str, Field(min_length=1, max_length=100)]
    name: Annotated[str, Field(min_length=1, max_length=100)]
    unit: Maybe[Unit] = None


class BlockLayout(Part):
    """The columns of a row, in the meter's order; its key is that of its canonical JSON."""

    profile: Identifier
    columns: Annotated[tuple[Column, ...], Field(max_length=MAX_COLUMNS)]


class Holder(Part):
    """One account that a block's captures belong to, as named when they were stamped.

    A `partial` one held the meter from `from` (inclusive) to `to` (exclusive) within the interval.
    """

    account_id: Identifier
    account_number: Maybe[AccountNumberText] = None
    legacy_number: Maybe[Identifier] = None
    usage_point: Identifier
    role: Literal["normal", "final", "opening", "partial"]
    since: Maybe[InstantText] = Field(default=None, alias="from")
    until: Maybe[InstantText] = Field(default=None, alias="to")


class BlockRow(Part):
    """One capture of a block; the members that are usual are left out.

    `occurrence` tells captures with one time apart, `value_rev` revisions of one capture. `capture_id` is
    `{meter}/{profile}/{at}/{occurrence}` where it is not given. `start` is given where the interval is not
    whole seconds. `wall`, `deviation` (minutes), `status` and `trusted` are the meter's own stamp. `checksum`
    covers all but value_rev and itself, with what the block says of layout, meter, receipt and interval. `suspect`
    names the values that are not believed, by their places; without it a quality that is not good is that of all.
    """

    at: InstantText
    values: Annotated[tuple[BlockValue, ...], Field(max_length=MAX_COLUMNS)]
    checksum: Key
    occurrence: Annotated[int, Field(ge=0, le=MAX_SEQ)] = 0
    value_rev: Seq = 1
    quality: Annotated[str, Field(pattern=QUALITY_PATTERN), FromList(QUALITY_CODES)] = "1.0.0"
    start: Maybe[InstantText] = None
    wall: Maybe[ShortText] = None
    deviation: Maybe[Annotated[int, Field(ge=-32_768, le=32_767)]] = None
    status: Maybe[Annotated[int, Field(ge=0, le=255)]] = None
    suspect: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=MAX_COLUMNS)], ...], Field(max_length=MAX_COLUMNS)
    ] = ()
    trusted: bool = True
    raw: Maybe[Annotated[str, Field(pattern=RAW_PATTERN)]] = None
    capture_id: Maybe[Identifier] = None


class BlockClock(Part):
    """What speaks for or against times that are not trusted; central judges by it.

    `steady` is there where the gateway's own clock had no evidence: the run of its machine, and the seconds that
    it had run at receipt. `drift` is by how many seconds the meter's clock was ahead of the gateway's at that
    poll, `held` for how many seconds it had run evenly until then, and `former` the drift before, where the
    meter's clock was set lately and the captures may be from before that.
    """

    steady: Maybe[Annotated[str, Field(pattern=STEADY_PATTERN)]] = None
    drift: Maybe[Decimal] = None
    held: Maybe[Annotated[int, Field(ge=0, le=MAX_SEQ)]] = None
    former: Maybe[Decimal] = None


class Block(Part):
    """Captures of one meter and profile, numbered seq, seq + 1, … in their order, and what they share.

    `holders` names whose they are, `reason` says why they stand under no account (or under one that has no
    number yet): one of them is there. `directory` is `{generation}/{version}` of the directory that said so,
    `epoch` that of the meter's allocation to the gateway. `interval` is in seconds, of interval profiles.
    `clock` is there only with the reason `untrusted_time`.
    """

    seq: Seq
    meter: Identifier
    layout: Key
    received_at: InstantText
    directory: Annotated[str, Field(pattern=DIRECTORY_PATTERN)]
    interval: Maybe[Interval] = None
    holders: Maybe[Key] = None
    reason: Maybe[Annotated[Code, FromList(UNATTRIBUTED_REASONS)]] = None
    epoch: Version = 0
    clock: Maybe[BlockClock] = None
    captures: Annotated[tuple[BlockRow, ...], Field(min_length=1, max_length=MAX_CAPTURES)]


class _OfOneJournal(Part):
    journal: Identifier
    generation: GenerationText
    gateway: Identifier
    first_seq: Seq
    last_seq: Seq


class BlockBatch(_OfOneJournal):
    """The data of readings and events topics: blocks of one journal in rising seq, with what they name by key."""

    layouts: dict[Key, BlockLayout]
    holders: dict[Key, Annotated[tuple[Holder, ...], Field(min_length=1, max_length=MAX_HOLDERS)]] = {}
    blocks: Annotated[tuple[Block, ...], Field(min_length=1, max_length=MAX_BLOCKS)]


class BlockGap(Part):
    """A span that is known to be missing for one meter and profile: after < at <= until.

    A `refused_entry` stands in the place of an entry that no consumer would take.
    """

    seq: Seq
    gap_id: Identifier
    meter: Identifier
    profile: Identifier
    after: InstantText
    until: InstantText
    state: Literal["open", "filled", "unfillable"]
    reason: Annotated[Code, FromList(GAP_REASONS)]
    noticed_at: InstantText


class GapBatch(_OfOneJournal):
    """The data of gaps topics: gaps of one journal in rising seq."""

    gaps: Annotated[tuple[BlockGap, ...], Field(min_length=1, max_length=MAX_CAPTURES)]


class _GapsOfOneJournal(_OfOneJournal):
    gaps: Annotated[tuple[dict[str, Any], ...], Field(min_length=1, max_length=MAX_CAPTURES)]


class GapFrame(Part):
    """A batch of gaps in its envelope, the gaps themselves unread: one that is wrong spoils no other."""

    specversion: Literal["1.0"]
    id: Identifier
    source: Identifier
    type: Literal["meter-gateway.gaps.changed.v2"]
    time: InstantText
    data: _GapsOfOneJournal
