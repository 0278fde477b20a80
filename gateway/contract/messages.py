"""The messages between edge, central and billing, version 1 (JSON Schema is generated from these models)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer

CONTRACT_VERSION = 1


def rfc3339(at: datetime) -> str:
    """Write an instant as RFC 3339 in UTC; microseconds only when there are any."""
    at = at.astimezone(UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S") + (f".{at.microsecond:06d}Z" if at.microsecond else "Z")


def _utc(at: datetime) -> datetime:
    if at.utcoffset() is None:
        raise ValueError("a time needs a zone (RFC 3339)")
    return at.astimezone(UTC)


UtcTime = Annotated[datetime, AfterValidator(_utc), PlainSerializer(rfc3339, when_used="json")]
Decimals = Annotated[str, Field(pattern=r"^-?[0-9]+(\.[0-9]+)?$")]
AccountNumberText = Annotated[str, Field(pattern=r"^[0-9]{10}$")]


class Message(BaseModel):
    """Base of all messages: frozen; a newer sender may add fields, which are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class CaptureValue(Message):
    """One value: `q` is OBIS (+ #attribute, [index]); just one of value, instant, text, bits, missing is set."""

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

    account_id: str
    account_number: AccountNumberText | None
    legacy_number: str | None
    usage_point: str
    role: Literal["normal", "final", "opening", "partial"]


class MessageMeterTime(Message):
    """The meter's own stamp."""

    wall: str
    deviation: int | None
    status: int | None
    trusted: bool


class Capture(Message):
    """What one meter recorded for one profile at one instant. `seq` is filled in when it is sent."""

    capture_id: str
    value_rev: int = Field(ge=1)
    seq: int | None = None
    meter: str
    profile: str
    at: UtcTime
    start: UtcTime | None
    meter_time: MessageMeterTime | None
    received_at: UtcTime
    quality: str
    values: tuple[CaptureValue, ...]
    attributions: tuple[MessageAttribution, ...]
    reason: Literal["no_account", "not_a_consumer", "untrusted_time", "identity_mismatch"] | None
    directory_version: int
    raw: str | None = None


class Gap(Message):
    """A span that is known to be missing for one meter and profile: from < at <= to."""

    gap_id: str
    seq: int | None = None
    meter: str
    profile: str
    after: UtcTime
    until: UtcTime
    state: Literal["open", "filled", "unfillable"]
    reason: str
    noticed_at: UtcTime


class Batch(Message):
    """The data of readings, events and gaps topics: entries of one journal in rising seq."""

    journal: str
    gateway: str
    first_seq: int
    last_seq: int
    captures: tuple[Capture, ...] = ()
    gaps: tuple[Gap, ...] = ()


class Envelope(Message):
    """CloudEvents 1.0, structured mode."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: str
    time: UtcTime
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: str | None = None
    subject: str | None = None
    data: dict[str, object]
