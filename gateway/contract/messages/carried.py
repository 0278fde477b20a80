"""What outlives an edge's box: reserved invocation counters, told to central, and all that a new box is given."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gateway.contract.messages.base import Identifier, Message, UtcTime

Counter = Annotated[int, Field(ge=0, le=2**32)]
Counters = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=80)], Counter], Field(max_length=1_000)
]
"""By key (an opaque name of key and system title): the first counter that was never reserved."""


class CountersReserved(Message):
    """Blocks of invocation counters that an edge has reserved: nobody may use one below again."""

    gateway: Identifier
    counters: Counters
    at: UtcTime


class CarriedMark(Message):
    """Up to where a profile of a meter is in the ledger without a gap: a new box reads on from there."""

    meter: Identifier
    profile: Identifier
    at: UtcTime


class CarriedOver(Message):
    """What central knows of a gateway, for a box that begins with nothing: `part` of `parts`, signed (see `Signed`).

    Counters only ever rise by it, and a watermark that the box has already stays.
    """

    gateway: Identifier
    part: Annotated[int, Field(ge=1, le=10_000)] = 1
    parts: Annotated[int, Field(ge=1, le=10_000)] = 1
    counters: Counters = Field(default_factory=dict)
    marks: Annotated[tuple[CarriedMark, ...], Field(max_length=1_000)] = ()
    issued_at: UtcTime
