"""What a meter sends unasked: data-notification (0F) and event-notification-request (C2), each declared once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from protocols.dlms.apdu import gbt
from protocols.dlms.apdu.fields import ATTRIBUTE, VALUE
from protocols.dlms.data import axdr, cosem_time
from protocols.dlms.data.cosem_time import OCTETS as TIME_OCTETS
from protocols.dlms.data.cursor import Cursor
from protocols.dlms.data.syntax import Field, Optional, Record, UnsignedNumber
from protocols.dlms.data.types import Data, Tag
from protocols.dlms.security.ciphered_forms import DED_TAGS, GENERAL_DED, GENERAL_GLO, GLO_TAGS
from protocols.errors import LocalError, MeterProtocolError
from protocols.obis import Obis

DATA_NOTIFICATION = 0x0F
CONFIRM = 0x10
"""The tag of data-notification-confirm."""
SERVICE_CLASS = 0x40000000
"""The bit of a long invoke id that says that the service is confirmed."""
EVENT_NOTIFICATION = 0xC2
PLAIN_TAGS = (DATA_NOTIFICATION, EVENT_NOTIFICATION)
GLO_EVENT, DED_EVENT = GLO_TAGS[EVENT_NOTIFICATION], DED_TAGS[EVENT_NOTIFICATION]
NEVER_ANSWERS = frozenset((*PLAIN_TAGS, GLO_EVENT, DED_EVENT))
"""First octets of APDUs that answer no request: they may come at any time."""
PUSH_TAGS = NEVER_ANSWERS | {GENERAL_GLO, GENERAL_DED}
"""First octets of all that a meter may send unasked."""
LONG_BITS = 128
"""Bits of the event status word; the only bit-string of a push that needs a length of two octets."""
_SHORT_FORM = b"\x04\x80"
_LONG_FORM = b"\x04\x81\x80"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataNotification:
    """A push (Green Book, DataNotification): `invoke` is long-invoke-id-and-priority, 32 bits.

    `date_time` holds the twelve octets of the header's time, or nothing.
    """

    body: Data
    invoke: int = 0
    date_time: bytes = b""

    @property
    def asks_confirmation(self) -> bool:
        """Say whether its service class is confirmed, so that its sender may wait for an answer."""
        return bool(self.invoke & SERVICE_CLASS)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventNotification:
    """One attribute that changed (Green Book, EventNotificationRequest); `time` as `date_time` above."""

    class_id: int
    obis: Obis
    attribute: int
    value: Data
    time: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataNotificationConfirm:
    """The answer to a confirmed push: its long invoke id, and a time or nothing."""

    invoke: int
    date_time: bytes = b""


Notification = DataNotification | EventNotification


class Time(Field[bytes]):
    """A date-time of twelve octets with its length, or nothing.

    Kaifa writes it as a value: a tag before it (`09 0C`, as an octet-string, or `09 00` for none). No length is 9 or
    25, so that a tag is never mistaken for one.
    """

    name = "time"

    def read(self, cursor: Cursor) -> bytes:
        if cursor.peek() == Tag.DATE_TIME:
            cursor.u8()
            return cursor.take(TIME_OCTETS)
        count = cursor.length()
        if count == Tag.OCTET_STRING and cursor.peek() in (0, TIME_OCTETS):
            count = cursor.length()
        if count not in (0, TIME_OCTETS):
            cursor.refuse(f"a date-time of {count} octets")
        return cursor.take(count)

    def write(self, value: bytes) -> bytes:
        if len(value) not in (0, TIME_OCTETS):
            raise LocalError(f"a date-time has {TIME_OCTETS} octets, not {len(value)}")
        return bytes((len(value),)) + value

    def show(self, value: bytes) -> str:
        if len(value) != TIME_OCTETS:
            return value.hex(" ") or "none"
        stamp = cosem_time.decode(value)
        return f"{value.hex(' ')} ({stamp.wall}, deviation {stamp.deviation})"


class Body(Field[Data]):
    """The value, up to the end of the APDU.

    One module format writes the length of the 128-bit event status word as `04 80` instead of `04 81 80`.
    """

    def read(self, cursor: Cursor) -> Data:
        octets = cursor.data[cursor.offset :]
        at = len(octets) - len(_SHORT_FORM) - LONG_BITS // 8
        # 80 begins no valid A-XDR length, so that the word is mended only where the value cannot be read as it
        # is, and only where it is the last thing in the body.
        if at >= 0 and octets.startswith(_SHORT_FORM, at) and not _is_value(octets):
            mended = octets[:at] + _LONG_FORM + octets[at + len(_SHORT_FORM) :]
            if _is_value(mended, last=Tag.BIT_STRING):
                cursor.insert(cursor.offset + at + 1, b"\x81")
        return cursor.field(VALUE)

    def write(self, value: Data) -> bytes:
        return VALUE.write(value)


def _is_value(octets: bytes, last: Tag | None = None) -> bool:
    try:
        value = axdr.decode(octets)
    except MeterProtocolError:
        return False
    return last is None or (value.items[-1] if value.items else value).tag is last


TIME = Time()
BODY = Body()
CONFIRMATION = Record(
    DataNotificationConfirm, ("invoke", UnsignedNumber("long invoke id", 4)), ("date_time", TIME)
)
APDUS: dict[int, tuple[str, Record[Any]]] = {
    DATA_NOTIFICATION: (
        "data-notification",
        Record(
            DataNotification,
            ("invoke", UnsignedNumber("long invoke id", 4)),
            ("date_time", TIME),
            ("body", BODY),
        ),
    ),
    EVENT_NOTIFICATION: (
        "event-notification-request",
        Record(
            EventNotification,
            ("time", Optional("time present", TIME, absent=b"")),
            ("class_id obis attribute", ATTRIBUTE),
            ("value", BODY),
        ),
    ),
}
"""Name and field of each APDU by its tag."""


def confirmation(invoke: int) -> bytes:
    """Return the data-notification-confirm of a push with this long invoke id, without a time."""
    return bytes((CONFIRM,)) + CONFIRMATION.write(DataNotificationConfirm(invoke=invoke))


def encode(apdu: Notification) -> bytes:
    """Return the octets of one; LocalError when a field does not fit."""
    tag = DATA_NOTIFICATION if isinstance(apdu, DataNotification) else EVENT_NOTIFICATION
    _, record = APDUS[tag]
    return bytes((tag,)) + record.write(apdu)


def measured(octets: bytes) -> int | None:
    """Return how many octets the APDU at the beginning has, by its own lengths; None while that cannot be told."""
    cursor = Cursor(octets)
    try:
        tag = cursor.u8()
        if tag in APDUS:
            cursor.field(APDUS[tag][1])
        elif tag == gbt.TAG:
            cursor.field(gbt.BLOCK)
        else:
            if tag in (GENERAL_GLO, GENERAL_DED):
                cursor.take(cursor.length())
            cursor.take(cursor.length())
    except MeterProtocolError:
        return None
    return cursor.offset


def parts(octets: bytes) -> tuple[list[bytes], int]:
    """Return the APDUs that stand one behind the other in one frame, and how many octets are left over behind them.

    Octets that are no APDU by their own lengths, or of which that cannot be told, are returned whole.
    """
    found: list[bytes] = []
    rest = octets
    while rest and (not found or rest[0] in PUSH_TAGS):
        end = measured(rest)
        if end is None or end > len(rest):
            return (found, len(rest)) if found else ([octets], 0)
        found.append(rest[:end])
        rest = rest[end:]
    return found, len(rest)


def decode(octets: bytes) -> Notification:
    """Return the one that fills `octets`; MeterProtocolError with the offset otherwise."""
    cursor = Cursor(octets)
    tag = cursor.u8()
    if tag not in APDUS:
        raise MeterProtocolError(f"APDU {tag:#04x} is no notification")
    name, record = APDUS[tag]
    apdu: Notification = cursor.field(record)
    cursor.finish(f"the {name}")
    return apdu
