"""Readings, events and gaps: batches of the entries of one journal."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

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
    """One account that the capture belongs to, as named when it was published."""

    account_id: Identifier
    account_number: AccountNumberText | None
    legacy_number: Identifier | None
    usage_point: Identifier
    role: Literal["normal", "final", "opening", "partial"]


class MessageMeterTime(Message):
    """The meter's own stamp."""

    wall: str
    deviation: int | None
    status: int | None
    trusted: bool


class Capture(Message):
    """What one meter recorded for one profile at one instant. `seq` is filled in when it is sent."""

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
    reason: Literal["no_account", "not_a_consumer", "untrusted_time", "identity_mismatch"] | None
    directory_version: Version
    raw: str | None = None


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
    """The data of readings, events and gaps topics: entries of one journal in rising seq."""

    journal: Identifier
    gateway: Identifier
    first_seq: Seq
    last_seq: Seq
    captures: tuple[Capture, ...] = ()
    gaps: tuple[Gap, ...] = ()
