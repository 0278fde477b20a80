"""The gateway's own events: what is remarkable about readings, as rows of the profile `events` beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain

from protocols.reading import ProfileName, Quantity, ReadingSet, Remark, RemarkWord, Text, Value

FIRST_OCCURRENCE = 9_000_000_000
"""Occurrences of the gateway's events; those of a meter's logs are log x 100,000,000 + sequence, with a few logs."""
_WORD, _QUANTITIES, _BEFORE, _FOUND, _DETAIL = (Quantity.of(f"0-0:96.98.{n}*255") for n in range(5))
_PROFILES, _WORDS = list(ProfileName), list(RemarkWord)


def with_events(readings: Sequence[ReadingSet]) -> Sequence[ReadingSet]:
    """Return the readings, each followed by an event for each of its remarks."""
    if not any(one.remarks for one in readings):
        return readings
    return list(chain.from_iterable((one, *_events(one)) for one in readings))


def _events(reading: ReadingSet) -> Iterator[ReadingSet]:
    for remark in reading.remarks:
        event = event_of(remark, reading.at, reading.profile)
        yield replace(event, received_at=reading.received_at, meter_time=reading.meter_time)


def event_of(remark: Remark, at: datetime, profile: ProfileName = ProfileName.EVENTS) -> ReadingSet:
    """Return the event of a remark at an instant; `profile` is what it is about."""
    # One word is said once of a profile: no two events of one instant have one number.
    number = 100 * _PROFILES.index(profile) + _WORDS.index(remark.word)
    return ReadingSet(
        profile=ProfileName.EVENTS,
        at=at,
        values=tuple(_values(remark)),
        received_at=at,
        occurrence=FIRST_OCCURRENCE + number,
    )


def _values(remark: Remark) -> Iterator[tuple[Quantity, Value]]:
    yield _WORD, Text(remark.word)
    if remark.quantities:
        yield _QUANTITIES, Text(" ".join(map(str, remark.quantities)))
    if remark.before is not None:
        yield _BEFORE, remark.before
    if remark.found is not None:
        yield _FOUND, remark.found
    if remark.detail:
        yield _DETAIL, Text(remark.detail)
