"""Pushed values and alarm words to reading sets: quantities, exact decimals with units, names of what happened."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from zlib import crc32
from zoneinfo import ZoneInfo

from protocols.dlms.companion import companion
from protocols.dlms.companion.push_grammar import AlarmWord
from protocols.dlms.data import cosem_time
from protocols.dlms.data.cosem_time import Stamp
from protocols.dlms.profile.layouts import EVENT_LOG_STEP, CapturedColumn, cell_value
from protocols.dlms.profile.stamps import meter_time
from protocols.dlms.push.body import ESW, Alert, PushBody, PushedValues
from protocols.dlms.push.places import PushedValue
from protocols.errors import MeterProtocolError
from protocols.reading import Bits, Number, ProfileName, Quantity, ReadingSet, Text, Value

_STORED = (ProfileName.BLOCK_LOAD, ProfileName.DAILY, ProfileName.BILLING)
ALERT_LOG = 7
"""Occurrences of alerts lie after those of the seven event logs."""


def value_set(body: PushBody, payload: PushedValues, *, zone: ZoneInfo, received_at: datetime) -> ReadingSet:
    """Make one set of what was pushed: a capture of the form's profile, or an event where an alarm word says so.

    It is an event where a word of the companion has a bit set, or where the push holds nothing else. A bit's name
    stands under its word with the bit's number plus one as data index. Forms that come under one stamp are told
    apart by the occurrence. A number of a register that came without any scale is missing. MeterProtocolError for a
    stored profile without a usable clock: whose interval or day it is, only the meter knows.
    """
    values = tuple((value.quantity, _value(value, zone)) for value in payload.values)
    words = [(w, v) for q, v in values if (w := payload.grammar.words.get(q)) is not None]
    named = tuple(pair for word, value in words for pair in _names(word, value))
    measured = any(q not in payload.grammar.words and q.obis not in payload.grammar.device for q, _ in values)
    alarmed = bool(words) and (bool(named) or not measured)
    stamp = _stamp(body, zone)
    profile = ProfileName.EVENTS if alarmed else payload.form.profile
    if profile in _STORED and (stamp is None or stamp.at is None):
        raise MeterProtocolError(f"a push of {profile} without the clock that says which it is")
    at = stamp.at if stamp is not None and stamp.at is not None else received_at.replace(microsecond=0)
    return ReadingSet(
        profile=profile,
        at=at,
        start=at - timedelta(seconds=payload.form.period) if profile is ProfileName.BLOCK_LOAD else None,
        values=values + named,
        received_at=received_at,
        meter_time=None if stamp is None or stamp.at is None else meter_time(stamp),
        occurrence=_occurrence(values) if profile is ProfileName.EVENTS else payload.form.number,
    )


def alert_set(body: PushBody, alert: Alert, *, zone: ZoneInfo, received_at: datetime) -> ReadingSet:
    """Make an events capture of an event status word: the word, and the name of each bit that is set.

    A bit's name stands under the word with the bit's number plus one as data index. An alert repeated by
    the meter is the same capture; another word under the same stamp is another one.
    """
    stamp = _stamp(body, zone)
    names = tuple((Quantity(ESW, 2, bit + 1), Text(companion().esw_bit(bit))) for bit in alert.set_bits)
    return ReadingSet(
        profile=ProfileName.EVENTS,
        at=stamp.at if stamp is not None and stamp.at is not None else received_at.replace(microsecond=0),
        values=((Quantity(ESW), Bits(alert.bits)), *names),
        received_at=received_at,
        meter_time=None if stamp is None or stamp.at is None else meter_time(stamp),
        occurrence=ALERT_LOG * EVENT_LOG_STEP + crc32(alert.bits.encode()) % EVENT_LOG_STEP,
    )


def _stamp(body: PushBody, zone: ZoneInfo) -> Stamp | None:
    return cosem_time.decode(body.clock, zone) if len(body.clock) == cosem_time.OCTETS else None


def _value(value: PushedValue, zone: ZoneInfo) -> Value:
    column = CapturedColumn(class_id=value.class_id, quantity=value.quantity, scale=value.scale)
    return cell_value(column, value.data, zone)


def _names(word: AlarmWord, value: Value) -> Iterator[tuple[Quantity, Value]]:
    match value:
        case Number(mantissa, 0, _) if mantissa >= 0:
            bits = [bit for bit in range(mantissa.bit_length()) if mantissa >> bit & 1]
        case Bits(text):
            bits = [bit for bit, character in enumerate(text) if character == "1"]
        case _:
            return
    for bit in bits:
        yield Quantity(word.quantity.obis, word.quantity.attribute, bit + 1), Text(word.name_of(bit))


def _occurrence(values: tuple[tuple[Quantity, Value], ...]) -> int:
    """Tell events of one stamp apart by what they hold; the same event pushed again is the same one."""
    return ALERT_LOG * EVENT_LOG_STEP + crc32(repr(values).encode()) % EVENT_LOG_STEP
