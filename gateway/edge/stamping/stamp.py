"""Stamping: a reading set becomes a capture that stands under the accounts that held the meter then."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Protocol

from gateway.contract.blocks.hashes import value_hash
from gateway.contract.capture_body import encode_capture
from gateway.contract.messages import Gap, rfc3339
from gateway.contract.values import values_json
from gateway.edge.journal.entry import CaptureRecord, EntryKind, GapRecord
from mapping.directory import Attributions, Unattributed
from protocols.reading import ProfileName, Quality, ReadingSet

LIVE_PROFILES = frozenset({ProfileName.INSTANTANEOUS, ProfileName.PREPAYMENT, ProfileName.NAMEPLATE})
"""Read as they are now: the gateway's own disciplined time may stand for a meter's that is not trusted."""


class DirectoryLike(Protocol):
    """What stamping needs of a directory snapshot: a pure lookup in memory."""

    @property
    def version(self) -> int:
        """The directory version of this snapshot."""

    def attributions(
        self, meter: str, start: datetime | None, end: datetime, known_at: datetime | None = None
    ) -> Attributions:
        """Return whose the interval start..end is, or the snapshot at `end` (start None)."""


def stamp(
    reading: ReadingSet,
    meter: str,
    directory: DirectoryLike,
    *,
    disciplined: bool,
    clock_trusted: bool = True,
    evidence: str = "",
) -> CaptureRecord:
    """Return the capture of a reading set of `meter` (`GEN:12345678`), ready for the journal.

    `disciplined` says whether the gateway's time may be trusted, `clock_trusted` whether the meter's clock
    was found good. Stored rows with an untrusted meter time keep their time and values, and stand under no
    account (`untrusted_time`); a live read with one is stamped with the gateway's time instead. While the
    gateway's own time is not trusted nothing is: every capture stands under no account until central settles
    its time by `evidence` (CaptureClock as JSON), or it is read again. Delivered in each case: nothing waits.

    An untrusted capture is stamped as by no directory (version 0), so that whatever central published of its
    meter, before or later, applies once its time is settled.
    """
    reading, trusted = _with_judged_time(reading, disciplined=disciplined, clock_trusted=clock_trusted)
    if trusted:
        whose = directory.attributions(meter, reading.start, reading.at)
        accounts, reason, version = whose.accounts, whose.reason, whose.directory_version
    else:
        accounts, reason, version = (), Unattributed.UNTRUSTED_TIME, 0
    profile = reading.profile.value
    at = rfc3339(reading.at)
    capture_id = f"{meter}/{profile}/{at}/{reading.occurrence}"
    values = values_json(reading.values)
    body = encode_capture(
        capture_id=capture_id,
        meter=meter,
        profile=profile,
        at=at,
        start=reading.start,
        meter_time=reading.meter_time,
        received_at=reading.received_at,
        quality=reading.quality.value,
        values=values,
        accounts=accounts,
        reason=reason,
        directory_version=version,
        raw=reading.raw,
        clock="" if trusted else evidence,
    )
    return CaptureRecord(
        kind=EntryKind.EVENT if reading.profile is ProfileName.EVENTS else EntryKind.CAPTURE,
        meter=meter,
        profile=profile,
        capture_id=capture_id,
        at=reading.at,
        value_hash=value_hash(values.encode(), provisional=not (trusted or disciplined)),
        body=body,
    )


def _with_judged_time(
    reading: ReadingSet, *, disciplined: bool, clock_trusted: bool
) -> tuple[ReadingSet, bool]:
    """Return the reading with its time judged, and whether it may be attributed by that time."""
    own = reading.meter_time
    if own is None:
        # A meter without a clock: the gateway stamped the row when it was read, and said then if it doubted.
        trusted = disciplined and reading.quality is not Quality.CLOCK_ERROR
    elif own.trusted and clock_trusted:
        trusted = disciplined
    else:
        # A stored row keeps its own time, right or wrong: nobody knows better when it was recorded, and its
        # identity hangs on it. What was read just now happened now, whatever the meter's clock shows.
        reading = replace(reading, meter_time=replace(own, trusted=False))
        trusted = disciplined and reading.profile in LIVE_PROFILES
        if trusted:
            reading = replace(reading, at=reading.received_at)
    sound = trusted and (own is None or (own.trusted and clock_trusted))
    if reading.quality is Quality.VALID and not sound:
        reading = replace(reading, quality=Quality.CLOCK_ERROR)
    return reading, trusted


def gap_record(
    meter: str,
    profile: str,
    after: datetime,
    until: datetime,
    *,
    state: str,
    reason: str,
    noticed_at: datetime,
) -> GapRecord:
    """Return the record of a gap, after < missing <= until, in state `open`, `filled` or `unfillable`.

    Its id is made of meter, profile and span: opening the same gap again is a repeat.
    """
    gap = Gap.model_validate(
        {
            "gap_id": f"{meter}/{profile}/{rfc3339(after)}/{rfc3339(until)}",
            "meter": meter,
            "profile": profile,
            "after": after,
            "until": until,
            "state": state,
            "reason": reason,
            "noticed_at": noticed_at,
        }
    )
    return GapRecord(
        gap_id=gap.gap_id,
        meter=meter,
        profile=profile,
        after=after,
        until=until,
        state=state,
        body=gap.model_dump_json(exclude_defaults=True).encode(),
    )
