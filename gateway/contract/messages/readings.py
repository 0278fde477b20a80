"""Readings, events and gaps: batches of the entries of one journal."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from gateway.contract.messages.base import (
    MAX_SEQ,
    AccountNumberText,
    Decimals,
    Identifier,
    Message,
    Seq,
    UtcTime,
    Version,
)
from gateway.contract.messages.generation import NO_GENERATION, DirectoryVersion, GenerationText
from protocols.reading import Quality


class CaptureValue(Message):
    """One value: `q` is OBIS (+ #attribute, [index]); one of value, instant, text, bits, missing is set."""

    q: str
    name: str
    unit: str | None = None
    value: Decimals | None = None
    instant: UtcTime | None = None
    text: str | None = None
    bits: str | None = None
    missing: str | None = None


class MessageAttribution(Message):
    """One account that the capture belongs to, as named when it was published.

    A `partial` one held the meter from `from` (inclusive) to `to` (exclusive), inside the capture's interval.
    Version 1 did not say so.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, serialize_by_alias=True)

    account_id: Identifier
    account_number: AccountNumberText | None = None
    legacy_number: Identifier | None = None
    usage_point: Identifier
    role: Literal["normal", "final", "opening", "partial"]
    since: UtcTime | None = Field(default=None, alias="from")
    until: UtcTime | None = Field(default=None, alias="to")


class MessageMeterTime(Message):
    """The meter's own stamp."""

    wall: str
    deviation: int | None
    status: int | None
    trusted: bool


class CaptureClock(Message):
    """What speaks for or against the time of a capture that is not trusted; central judges by it.

    `steady` is where the gateway's own clock had no evidence: the run of its machine, and the seconds that it
    had run when the capture was received (`9f2c01ab/12345.678`). `drift` is by how many seconds the meter's
    clock was ahead of the gateway's at that poll, and `held` for how many seconds it had run evenly until then.
    `former` is the drift before, where the meter's clock was set lately and the row may be from before that.
    """

    steady: Annotated[str, Field(pattern=r"^[0-9a-z]{1,16}/[0-9]{1,12}\.[0-9]{3}$")] | None = None
    drift: Decimals | None = None
    held: Annotated[int, Field(ge=0, le=MAX_SEQ)] | None = None
    former: Decimals | None = None


class Capture(Message):
    """What one meter recorded for one profile at one instant. `seq` is filled in when it is sent.

    `suspect` are the places of values that are not believed; see `is_doubted`.
    """

    capture_id: Identifier
    value_rev: int = Field(ge=1, le=MAX_SEQ)
    seq: Seq | None = None
    meter: Identifier
    profile: Identifier
    at: UtcTime
    start: UtcTime | None
    meter_time: MessageMeterTime | None
    received_at: UtcTime
    quality: str
    values: tuple[CaptureValue, ...]
    attributions: tuple[MessageAttribution, ...]
    reason: Identifier | None
    directory_version: Version
    directory_generation: GenerationText = NO_GENERATION
    epoch: int = Field(default=0, ge=0, le=MAX_SEQ)
    clock: CaptureClock | None = None
    raw: str | None = None
    checksum: str | None = None
    suspect: tuple[Annotated[int, Field(ge=0)], ...] = ()

    @property
    def directory(self) -> DirectoryVersion:
        """The state of the directory that stamped it."""
        return DirectoryVersion(self.directory_generation, self.directory_version)

    def is_doubted(self, place: int) -> bool:
        """Return whether the value at a place of `values` is not believed.

        Where the sender does not say which are, a quality of suspect is that of all.
        """
        return place in self.suspect or (not self.suspect and self.quality == Quality.SUSPECT)


class Gap(Message):
    """A span that is known to be missing for one meter and profile: after < at <= until."""

    gap_id: Identifier
    seq: Seq | None = None
    meter: Identifier
    profile: Identifier
    after: UtcTime
    until: UtcTime
    state: Literal["open", "filled", "unfillable"]
    reason: str
    noticed_at: UtcTime


class Batch(Message):
    """The data of readings, events and gaps topics: entries of one journal in rising seq.

    A sender of version 1 names no generation.
    """

    journal: Identifier
    generation: GenerationText = NO_GENERATION
    gateway: Identifier
    first_seq: Seq
    last_seq: Seq
    captures: tuple[Capture, ...] = ()
    gaps: tuple[Gap, ...] = ()
