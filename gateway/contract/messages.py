"""The messages between edge, central and billing, version 1 (JSON Schema is generated from these models)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer

CONTRACT_VERSION = 1
MAX_SEQ = 2**63 - 1
"""Sequence numbers and versions fit a signed 64-bit integer, as databases store them."""


def rfc3339(at: datetime) -> str:
    """Write an instant as RFC 3339 in UTC; microseconds only when there are any. `at` carries a zone."""
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return at.isoformat()[:-6] + "Z"


def _utc(at: datetime) -> datetime:
    if at.utcoffset() is None:
        raise ValueError("a time needs a zone (RFC 3339)")
    try:
        return at.astimezone(UTC)
    except OverflowError:  # year 1 or 9999 with an offset
        raise ValueError("a time is outside the years 1 to 9999 in UTC") from None


UtcTime = Annotated[datetime, AfterValidator(_utc), PlainSerializer(rfc3339, when_used="json")]
Decimals = Annotated[str, Field(pattern=r"^-?[0-9]+(\.[0-9]+)?$")]
AccountNumberText = Annotated[str, Field(pattern=r"^[0-9]{10}$")]
Identifier = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A name or key: no control characters, so that every store and log can hold it."""
Seq = Annotated[int, Field(ge=1, le=MAX_SEQ)]
Version = Annotated[int, Field(ge=0, le=MAX_SEQ)]


class Message(BaseModel):
    """Base of all messages: frozen; a newer sender may add fields, which are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


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


class LineStatus(Message):
    """One communication path as the edge sees it."""

    name: Identifier
    state: Literal["up", "down", "idle", "busy"]
    detail: str | None = None
    since: UtcTime | None = None


class MeterStatus(Message):
    """One meter's health; `health` is `ok` or the stable code of what is wrong (`meter_silent`)."""

    meter: Identifier
    health: Identifier
    last_reading_at: UtcTime | None = None
    detail: str | None = None


class ClockStatus(Message):
    """Whether the edge trusts its own clock."""

    disciplined: bool
    at: UtcTime
    detail: str | None = None


class Alarm(Message):
    """Something a person should look at; `code` is stable, `count` how often since `since`."""

    code: Identifier
    text: str
    since: UtcTime | None = None
    count: int = Field(default=1, ge=0)


class Status(Message):
    """A gateway's retained state; the broker publishes the last will (`online: false`) when it vanishes.

    `first_seq` is the oldest sequence the journal still holds: what is below can no longer be replayed.
    `backlog` counts entries not yet taken by the broker, `unattributed` those under no account
    (null where the edge does not count them).
    """

    gateway: Identifier
    online: bool
    version: str
    journal: Identifier
    first_seq: Annotated[int, Field(ge=0, le=MAX_SEQ)] = 0
    last_seq: Annotated[int, Field(ge=0, le=MAX_SEQ)] = 0
    lines: tuple[LineStatus, ...] = ()
    meters: tuple[MeterStatus, ...] = ()
    backlog: int = Field(default=0, ge=0)
    unattributed: int | None = Field(default=None, ge=0)
    directory_version: Version = 0
    clock: ClockStatus | None = None
    alarms: tuple[Alarm, ...] = ()
    at: UtcTime


class Ack(Message):
    """A consumer has durably stored every entry of this journal up to and with `seq`."""

    journal: Identifier
    seq: Annotated[int, Field(ge=0, le=MAX_SEQ)]
    consumer: Identifier = "central"


class ReplayRequest(Message):
    """A consumer wants the entries first..last of this journal again."""

    journal: Identifier
    first: Seq
    last: Seq
    consumer: Identifier = "central"


class DirectoryPart(Message):
    """One gateway's part of the directory: a snapshot, or the change that follows `previous`.

    It travels signed (see `Signed`); `rows` is the mapping snapshot or change as JSON text.
    """

    gateway: Identifier
    version: Version
    kind: Literal["snapshot", "change"]
    previous: Version | None = None
    rows: str
    issued_at: UtcTime


class DirectoryRequest(Message):
    """An edge asks for its part of the directory for the meters that it polls."""

    gateway: Identifier
    have_version: Version
    meters: tuple[Identifier, ...]


class Signed(Message):
    """A signed message: compact JWS (RFC 7515), EdDSA; its payload is the message as JSON."""

    jws: str


class AttributedAccount(Message):
    """An account that a span belongs to."""

    account_id: Identifier
    account_number: AccountNumberText | None
    legacy_number: Identifier | None
    usage_point: Identifier


class AttributionChanged(Message):
    """From `from` (inclusive) to `to` (exclusive; null = until further notice) the meter belongs to `new`.

    Boundaries are instants of the meter's timeline; empty `new` means that it belongs to nobody.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, serialize_by_alias=True)

    meter: Identifier
    since: UtcTime = Field(alias="from")
    until: UtcTime | None = Field(alias="to")
    old: tuple[AttributedAccount, ...]
    new: tuple[AttributedAccount, ...]
    directory_version: Version


class NamingChanged(Message):
    """An account got another number; no reading changes hands."""

    account_id: Identifier
    kind: Literal["legacy", "account_number"]
    old: Identifier | None
    new: Identifier | None
    directory_version: Version


class Balance(Message):
    """An account's wallet as billing knows it."""

    account_id: Identifier
    amount: Decimals
    currency: Literal["INR"] = "INR"
    at: UtcTime
    source: Identifier


class Envelope(Message):
    """CloudEvents 1.0, structured mode."""

    specversion: Literal["1.0"] = "1.0"
    id: Identifier
    source: Identifier
    type: Identifier
    time: UtcTime
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: str | None = None
    subject: str | None = None
    data: dict[str, object]
