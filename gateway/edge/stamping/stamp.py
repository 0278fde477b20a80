"""Stamping: reading sets become blocks of captures that stand under the accounts that held the meter then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from msgspec import structs

from gateway.bisection import halves
from gateway.contract.blocks import (
    BlockTemplate,
    EncodedBlock,
    Layout,
    encode_block,
    holders_of,
    interval_of,
    layout_of,
)
from gateway.contract.messages import Gap, rfc3339
from gateway.contract.messages.generation import NO_GENERATION, Generation
from gateway.edge.journal.entry import GapRecord
from gateway.edge.stamping.remarks import with_events
from mapping.directory import AttributionRole, Attributions, Unattributed
from mapping.instants import MICROSECOND
from protocols.reading import ProfileName, Quality, ReadingSet

MAX_ROWS = 200
"""Captures of one block: what is damaged, refused or sent again as one stays small."""
MAX_OCTETS = 64 << 10
"""Octets of the captures of one block, where there is more than one."""
LIVE_PROFILES = frozenset({ProfileName.INSTANTANEOUS, ProfileName.PREPAYMENT, ProfileName.NAMEPLATE})
"""Read as they are now: the gateway's own disciplined time may stand for a meter's that is not trusted."""


class DirectoryLike(Protocol):
    """What stamping needs of a directory snapshot: a pure lookup in memory."""

    @property
    def version(self) -> int:
        """The directory version of this snapshot."""

    @property
    def generation(self) -> Generation:
        """The life of the directory that the version belongs to."""

    def epoch(self, meter: str) -> int:
        """Return the epoch of the meter's allocation to this gateway; 0 where there is none."""

    def attributions(
        self, meter: str, start: datetime | None, end: datetime, known_at: datetime | None = None
    ) -> Attributions:
        """Return whose the interval start..end is, or the snapshot at `end` (start None)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What is known of a row's time: whether the gateway knows the time, and the meter's clock was found good.

    `evidence` (CaptureClock as JSON) is what central settles a time by that is not trusted.
    """

    disciplined: bool
    clock_trusted: bool = True
    evidence: str = ""


TRUSTED = Trust(disciplined=True)


def stamp(
    readings: Sequence[ReadingSet],
    meter: str,
    directory: DirectoryLike,
    trust: Callable[[ReadingSet], Trust] = lambda _: TRUSTED,
) -> tuple[EncodedBlock, ...]:
    """Return the captures of reading sets of `meter` (`GEN:12345678`), in blocks ready for the journal.

    Stored rows with an untrusted meter time keep their time and values, and stand under no account
    (`untrusted_time`); a live read with one is stamped with the gateway's time instead. While the gateway's own
    time is not trusted nothing is: every capture stands under no account until central settles its time by the
    evidence, or it is read again. Delivered in each case: nothing waits.

    What is remarkable about a row is an event beside it, under the same account.

    Rows that follow each other share a block as long as layout, account, receipt and interval are the same. An
    untrusted capture is stamped as by no directory (version 0), so that whatever central published of its
    meter, before or later, applies once its time is settled.
    """
    judged = [_judged(one, trust(one)) for one in with_events(readings)]
    whose = _Lookup(directory, meter, [reading for reading, trusted, _ in judged if trusted])
    blocks: list[EncodedBlock] = []
    rows: list[ReadingSet] = []
    layout: Layout | None = None
    shared: tuple[object, ...] = ()
    template: BlockTemplate | None = None
    for reading, trusted, why in judged:
        answer = whose.of(reading) if trusted else None
        if layout is None or not layout.fits(reading):
            layout = layout_of(reading)
        interval = None if reading.start is None else interval_of(reading)
        now = (layout, answer, why, reading.received_at, interval)
        if template is None or now != shared or len(rows) == MAX_ROWS:
            if template is not None:
                blocks += _encoded(template, rows)
            rows, shared = [], now
            template = _template(reading, meter, directory, layout, answer, why)
        rows.append(reading)
    if template is not None:
        blocks += _encoded(template, rows)
    return tuple(blocks)


def _encoded(template: BlockTemplate, readings: Sequence[ReadingSet]) -> list[EncodedBlock]:
    """Encode rows of one template, in more than one block where they are long."""
    return list(_short(encode_block(template, readings)))


def _short(block: EncodedBlock) -> Iterator[EncodedBlock]:
    if len(block.rows) == 1 or sum([len(row.body) for row in block.rows]) <= MAX_OCTETS:
        yield block
        return
    for rows in halves(block.rows):
        yield from _short(structs.replace(block, rows=tuple(rows)))


def _template(
    reading: ReadingSet,
    meter: str,
    directory: DirectoryLike,
    layout: Layout,
    answer: Attributions | None,
    trust: Trust,
) -> BlockTemplate:
    version = 0 if answer is None else answer.directory_version
    # By version 0, of no directory, nothing was said in any life of it.
    generation = directory.generation if version else NO_GENERATION
    return BlockTemplate(
        meter=meter,
        layout=layout,
        received_at=reading.received_at,
        directory=f"{generation}/{version}",
        holders=None if answer is None else holders_of(answer.accounts),
        reason=Unattributed.UNTRUSTED_TIME if answer is None else answer.reason,
        interval=interval_of(reading),
        epoch=directory.epoch(meter),
        clock="" if answer is not None else trust.evidence,
        provisional=answer is None and not trust.disciplined,
    )


class _Lookup:
    """Whose the rows of one meter are: one question for all of them where one account held it all the time."""

    def __init__(self, directory: DirectoryLike, meter: str, readings: Sequence[ReadingSet]) -> None:
        self._directory = directory
        self._meter = meter
        self._all = self._of_all(readings) if len(readings) > 1 else None

    def _of_all(self, readings: Sequence[ReadingSet]) -> Attributions | None:
        # A little beyond both ends: on the very boundary a snapshot closes one account and opens another.
        start = min([one.start or one.at for one in readings]) - MICROSECOND
        end = max([one.at for one in readings]) + MICROSECOND
        answer = self._directory.attributions(self._meter, start, end)
        alone = len(answer.accounts) == 1 and answer.accounts[0].role is AttributionRole.NORMAL
        return answer if alone else None

    def of(self, reading: ReadingSet) -> Attributions:
        """Return whose a row is."""
        if self._all is not None:
            return self._all
        return self._directory.attributions(self._meter, reading.start, reading.at)


def _judged(reading: ReadingSet, trust: Trust) -> tuple[ReadingSet, bool, Trust]:
    """Return the reading with its time judged, whether it may be attributed by it, and what is known of it."""
    own = reading.meter_time
    if trust is TRUSTED and reading.quality is Quality.VALID and (own is None or own.trusted):
        return reading, True, TRUSTED
    reading, trusted = _with_judged_time(
        reading, disciplined=trust.disciplined, clock_trusted=trust.clock_trusted
    )
    return reading, trusted, TRUSTED if trusted else trust


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
