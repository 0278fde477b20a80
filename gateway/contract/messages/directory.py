"""An edge's part of the directory, in numbered pieces, and its request for it."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, model_validator

from gateway.contract.messages.base import Identifier, Message, UtcTime, Version
from gateway.contract.messages.generation import NO_GENERATION, GenerationText

MAX_CHUNKS: Final = 1_000
"""Chunks of one part: a part of 10,000 meters has some 30."""
MAX_PART_NUMBER: Final = 2**53 - 1


class PartAllocation(Message):
    """A meter that is allocated to the gateway, the epoch of that allocation, and since when it holds."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, serialize_by_alias=True)

    meter: Identifier
    epoch: Annotated[int, Field(ge=1, le=MAX_PART_NUMBER)]
    since: UtcTime = Field(alias="from")


class DirectoryPart(Message):
    """One gateway's part of the directory, of the meters allocated to it: a snapshot, or the change after `previous`.

    `number` counts the parts that central has made for this gateway; a change follows the part numbered `previous`.
    A part travels in `chunks` messages, each signed (see `Signed`): the texts of `rows` put together are the mapping
    snapshot or change as JSON, and the lists are put together, too. A snapshot lists every allocation; a change those
    that are new or another, and the meters that are `released`. Of a later `generation` of the directory (it was set
    back) a lower `version` counts, too; it begins with a snapshot.
    """

    gateway: Identifier
    generation: GenerationText = NO_GENERATION
    version: Version
    number: Annotated[int, Field(ge=0, le=MAX_PART_NUMBER)] = 0
    kind: Literal["snapshot", "change"]
    previous: Annotated[int, Field(ge=0, le=MAX_PART_NUMBER)] | None = None
    chunk: Annotated[int, Field(ge=1, le=MAX_CHUNKS)] = 1
    chunks: Annotated[int, Field(ge=1, le=MAX_CHUNKS)] = 1
    rows: str
    allocations: tuple[PartAllocation, ...] = ()
    released: tuple[Identifier, ...] = ()
    issued_at: UtcTime

    @model_validator(mode="after")
    def _hangs_together(self) -> DirectoryPart:
        if self.chunk > self.chunks:
            raise ValueError(f"chunk {self.chunk} of {self.chunks}")
        if (self.kind == "change") != (self.previous is not None):
            raise ValueError("a change follows a part, and a snapshot none")
        return self


class DirectoryRequest(Message):
    """An edge asks for its part of the directory: it has the part of this number (0: none), of this version.

    `meters` was what an edge of version 1 asked for; what it gets is decided by central's allocations.
    """

    gateway: Identifier
    have_version: Version
    number: Annotated[int, Field(ge=0, le=MAX_PART_NUMBER)] = 0
    meters: tuple[Identifier, ...] = ()
