"""What every message of the contract is made of: the base model, its envelope, and types of single members."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer

CONTRACT_VERSION = 2
MAX_SEQ = 2**63 - 1
"""Sequence numbers and versions fit a signed 64-bit integer, as databases store them."""

_encode = msgspec.json.Encoder().encode


def rfc3339(at: datetime) -> str:
    """Write an instant as RFC 3339 in UTC; microseconds only when there are any. `at` carries a zone."""
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    # Six times as fast as isoformat, which asks the zone.
    return _encode(at)[1:-1].decode()


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
