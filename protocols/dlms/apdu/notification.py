"""Codecs of what a meter sends unasked: data-notification (0F) and event-notification-request (C2)."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.dlms.apdu.fields import attribute_octets, read_attribute
from protocols.dlms.data import axdr
from protocols.dlms.data.cosem_time import OCTETS as TIME_OCTETS
from protocols.dlms.data.cursor import Cursor
from protocols.dlms.data.types import Data, Tag
from protocols.dlms.security.ciphering import DED_TAGS, GENERAL_DED, GENERAL_GLO, GLO_TAGS
from protocols.errors import LocalError, MeterProtocolError
from protocols.reading import Obis

DATA_NOTIFICATION = 0x0F
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


@dataclass(frozen=True, slots=True, kw_only=True)
class EventNotification:
    """One attribute that changed (Green Book, EventNotificationRequest); `time` as `date_time` above."""

    class_id: int
    obis: Obis
    attribute: int
    value: Data
    time: bytes = b""


Unasked = DataNotification | EventNotification


def encode(apdu: Unasked) -> bytes:
    """Write one; LocalError when a field does not fit."""
    match apdu:
        case DataNotification():
            if not 0 <= apdu.invoke <= 0xFFFFFFFF:
                raise LocalError(f"a long invoke id of {apdu.invoke}")
            head = bytes((DATA_NOTIFICATION,)) + apdu.invoke.to_bytes(4, "big")
            return head + _time_octets(apdu.date_time) + axdr.encode(apdu.body)
        case EventNotification():
            time = b"\x01" + _time_octets(apdu.time) if apdu.time else b"\x00"
            name = attribute_octets(apdu.class_id, apdu.obis, apdu.attribute)
            return bytes((EVENT_NOTIFICATION,)) + time + name + axdr.encode(apdu.value)


def decode(octets: bytes) -> Unasked:
    """Read one that fills `octets`; MeterProtocolError with the offset otherwise."""
    cursor = Cursor(octets)
    match cursor.u8():
        case 0x0F:
            invoke = cursor.unsigned(4)
            date_time = _read_time(cursor)
            body = _body(cursor.rest())
            return DataNotification(invoke=invoke, date_time=date_time, body=body)
        case 0xC2:
            time = _read_time(cursor) if cursor.u8() else b""
            class_id, obis, attribute = read_attribute(cursor)
            value = _body(cursor.rest())
            return EventNotification(
                class_id=class_id, obis=obis, attribute=attribute, value=value, time=time
            )
        case tag:
            raise MeterProtocolError(f"APDU {tag:#04x} is no notification")


def _time_octets(time: bytes) -> bytes:
    if len(time) not in (0, TIME_OCTETS):
        raise LocalError(f"a date-time has {TIME_OCTETS} octets, not {len(time)}")
    return bytes((len(time),)) + time


def _read_time(cursor: Cursor) -> bytes:
    count = cursor.u8()
    if count not in (0, TIME_OCTETS):
        raise cursor.error(f"a date-time of {count} octets")
    return cursor.take(count)


def _body(octets: bytes) -> Data:
    """Read the value; one module format writes the 128-bit word's length as `04 80` instead of `04 81 80`.

    `80` begins no valid A-XDR length, so the second try happens only where the first cannot succeed, and
    only where the word is the last thing in the body.
    """
    try:
        return axdr.decode(octets)
    except MeterProtocolError as error:
        at = len(octets) - len(_SHORT_FORM) - LONG_BITS // 8
        if at < 0 or octets[at : at + len(_SHORT_FORM)] != _SHORT_FORM:
            raise
        try:
            body = axdr.decode(octets[:at] + _LONG_FORM + octets[at + len(_SHORT_FORM) :])
        except MeterProtocolError:
            raise error from None
        last = body.items[-1] if body.items else body
        if last.tag is not Tag.BIT_STRING:
            raise
        return body
