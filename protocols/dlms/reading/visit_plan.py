"""What a visit asks for at once: from the profiles that are due and what is known of the meter to attributes; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from protocols.dlms.apdu.lists import Target
from protocols.dlms.companion import BufferSource, Companion, LogsSource, ObjectRead, ObjectsSource
from protocols.dlms.data.types import Data
from protocols.dlms.objects.object_list import ObjectEntry
from protocols.dlms.profile.layouts import CLOCK, Layout
from protocols.dlms.reading.deviations import Deviations
from protocols.dlms.reading.known_meter import KnownMeter
from protocols.dlms.reading.layout_cache import KnownLayout, kept_for
from protocols.dlms.reading.layout_reader import (
    BILLED,
    PRESENT,
    VALUE,
    may_have_scales,
    own_scale,
    scale_witnesses,
)
from protocols.dlms.reading.range_reader import asked_range, range_selection
from protocols.errors import NotSupported, ProtocolError
from protocols.event_marks import EventMarks, LogMark
from protocols.reading import Obis, ProfileName

SERIAL = Obis(0, 0, 96, 1, 0)
MANUFACTURER = Obis(0, 0, 96, 1, 1)
FIRMWARE = Obis(1, 0, 0, 2, 0)
MODEL = Obis(0, 0, 94, 91, 9)
YEAR = Obis(0, 0, 96, 1, 4)
IDENTITY = (SERIAL, YEAR, MANUFACTURER, FIRMWARE, MODEL)
TAMPERS = Obis(0, 0, 94, 91, 0)
PROGRAMMINGS = Obis(0, 0, 96, 2, 0)
EVENT_LOGS = (99, 98)
"""Groups C and D of event logs."""
CLOCK_TIME = Target(8, CLOCK)
STORED = (*BILLED, ProfileName.EVENTS)
BUFFER, COLUMNS, PERIOD, ORDER, ENTRIES, CAPACITY = 2, 3, 4, 5, 7, 8
SHORT = timedelta(hours=6)
"""Span whose rows go into a list with other things: a dozen, while more could fill blocks that a fault loses."""
CHECK_AFTER = timedelta(hours=1)
"""Age from which a visit looks at a layout beside its other questions: at one of them, the oldest first.

What is billed does not wait: its layout is looked at in each visit that reads it.
"""


@dataclass(frozen=True, slots=True)
class LayoutCheck:
    """What shows whether a layout's columns or scales are what they were at `at`."""

    profile: ProfileName
    place: Obis
    source: BufferSource
    targets: tuple[Target, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class VisitPlan:
    """The attributes to ask for together, each once: the clock first; and the layouts that are looked at beside."""

    targets: tuple[Target, ...]
    checks: tuple[LayoutCheck, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a plan stands on: the companion, and what is known of the meter and its layouts at `now`.

    `layouts` are by profile and place, `listed` is the meter's object list where the companion goes by it, `since`
    where the rows wanted begin.
    """

    companion: Companion
    known: KnownMeter
    layouts: Mapping[tuple[ProfileName, Obis], KnownLayout]
    now: datetime
    zone: ZoneInfo
    listed: Sequence[ObjectEntry] = ()
    since: Mapping[ProfileName, datetime] = field(default_factory=dict)


def plan(profiles: Sequence[ProfileName], ground: Ground) -> VisitPlan:
    """Return what to ask for together for these profiles.

    What is not known yet is not in it; the readers ask for that by themselves.
    """
    found: dict[Target, None] = dict.fromkeys((CLOCK_TIME, *identity(ground)))
    checks: list[LayoutCheck] = []
    waiting: list[LayoutCheck] = []
    for profile in profiles:
        try:
            source = ground.companion.source(profile, ground.listed)
        except NotSupported:
            continue
        match source:
            case ObjectsSource(reads):
                found |= dict.fromkeys(_objects(reads, ground))
            case LogsSource(logs):
                found |= dict.fromkeys(mark_targets(logs, ground))
                for log in logs:
                    for known in _known(profile, log, ground):
                        waiting += _checks(known, log)[1]
            case BufferSource():
                for known in _known(profile, source, ground):
                    found |= dict.fromkeys((*_buffer(known.layout), *_rows(known.layout, ground)))
                    now, later = _checks(known, source)
                    checks += now
                    waiting += later
    crowded = any(profile in STORED for profile in profiles)
    checks += _next_check(waiting, ground.now, crowded=crowded)
    found |= dict.fromkeys(target for check in checks for target in check.targets)
    return VisitPlan(tuple(found), tuple(checks))


def places(
    profiles: Sequence[ProfileName], assumed: Companion, listed: Sequence[ObjectEntry]
) -> Iterator[tuple[ProfileName, Obis]]:
    """Yield every place that a buffer of these profiles may have."""
    for profile in profiles:
        try:
            source = assumed.source(profile, listed)
        except NotSupported:
            continue
        buffers = source.logs if isinstance(source, LogsSource) else (source,)
        yield from ((profile, place) for b in buffers if isinstance(b, BufferSource) for place in b.places)


def identity(ground: Ground) -> Iterator[Target]:
    """Yield what tells who the meter is: serial and firmware always, the rest once a day."""
    whole = not ground.known.named(ground.now)
    yield from (Target(1, obis) for obis in (IDENTITY if whole else (SERIAL, FIRMWARE)))


def _known(profile: ProfileName, source: BufferSource, ground: Ground) -> list[KnownLayout]:
    """Return the layout of the first place that the meter is known to have."""
    held = (ground.layouts.get((profile, place)) for place in source.places)
    return [known for known in held if known is not None][:1]


def _buffer(layout: Layout) -> Iterator[Target]:
    if layout.profile in PRESENT:
        yield Target(7, layout.obis, BUFFER)
        yield from witnesses(layout)
    else:
        yield Target(7, layout.obis, PERIOD)
        yield Target(7, layout.obis, ORDER)


def _rows(layout: Layout, ground: Ground) -> Iterator[Target]:
    """Yield the newest rows of a stored profile where they are few, and how the meter selects them is known."""
    since, known = ground.since.get(layout.profile), ground.known
    if since is None or known.range_form is None or not known.list_ranges or layout.stamp is None:
        return
    if str(layout.obis) in known.methods or not timedelta() < ground.now - since <= SHORT:
        return
    deviations = Deviations(ground.zone, east=ground.companion.clock.east, known=known.range_form)
    ends = asked_range(layout, since, ground.now, ground.zone)
    yield Target(7, layout.obis, BUFFER, range_selection(layout, *ends, deviations))


def _objects(reads: Sequence[ObjectRead], ground: Ground) -> Iterator[Target]:
    for read in reads:
        place = ground.known.places.get(str(read.quantity))
        for obis in read.places if place is None else read.places[place : place + 1]:
            yield Target(read.class_id, obis, read.quantity.attribute)


def _next_check(layouts: Iterable[LayoutCheck], now: datetime, *, crowded: bool) -> list[LayoutCheck]:
    """Return the check that has waited longest for what it may wait; nothing while all is fresh.

    The many columns of the present would make the answer of a `crowded` visit two: they wait for one with room,
    as the quarter hours have it, as long as they may.
    """

    def due(check: LayoutCheck) -> bool:
        late = kept_for(check.profile) - CHECK_AFTER
        after = late if crowded and check.profile in PRESENT else CHECK_AFTER
        return not timedelta() <= now - check.at < after

    waiting = [check for check in layouts if due(check)]
    return sorted(waiting, key=lambda check: abs(now - check.at) / kept_for(check.profile))[-1:]


def _checks(known: KnownLayout, source: BufferSource) -> tuple[list[LayoutCheck], list[LayoutCheck]]:
    """Return how a layout is looked at: in this visit, and in turn with others.

    Of what is billed the columns and the energies' own scales are looked at whenever it is read, of the present
    the energies' scales (with its buffer). What else there is waits for its turn: the many columns of the present,
    those of event logs, scaler profiles.
    """
    layout, scalers = known.layout, source.scaler_profile
    name = layout.profile, layout.obis, source
    columns, scales = [Target(7, layout.obis, COLUMNS)], list[Target]()
    if layout.profile is ProfileName.EVENTS:
        columns.append(Target(7, layout.obis, ORDER))
    if scalers is not None and may_have_scales(layout.columns):
        scales = [Target(7, scalers, COLUMNS), Target(7, scalers, BUFFER), *witnesses(layout)[:1]]
    if layout.profile in BILLED:
        at_once = [LayoutCheck(*name, (*columns, *witnesses(layout)), known.checked_at)]
        return at_once, [LayoutCheck(*name, tuple(scales), known.scaled_at)] if scales else []
    in_turn = [LayoutCheck(*name, tuple(columns), known.checked_at)]
    return [], in_turn + [LayoutCheck(*name, tuple(scales), known.scaled_at)] * bool(scales)


def witnesses(layout: Layout) -> list[Target]:
    """Return what shows whether the scales of a layout are what they were."""
    return [own_scale(column) for column in scale_witnesses(layout.columns)]


# event logs


def mark_targets(logs: Sequence[BufferSource], ground: Ground) -> Iterator[Target]:
    """Yield what shows how the event logs stand, but what the meter does not have."""
    for target in _all_marks(logs, ground):
        if str(target) not in ground.known.without or not ground.known.named(ground.now):
            yield target


def _all_marks(logs: Sequence[BufferSource], ground: Ground) -> Iterator[Target]:
    fresh = ground.known.named(ground.now)
    for log in logs:
        place = log.places[0]
        yield Target(7, place, ENTRIES)
        if not fresh or str(place) not in ground.known.capacities:
            yield Target(7, place, CAPACITY)
        if (sequence := sequence_of(place, ground.companion)) is not None:
            yield Target(1, sequence, VALUE)
    yield from (Target(1, obis, VALUE) for obis in words(ground.companion))


def sequence_of(log: Obis, companion: Companion) -> Obis | None:
    """Return the object with the number of a log's last event: 0.0.96.15.e for 0.0.99.98.e, None for other logs."""
    for one in companion.event_logs:
        if one.obis == log:
            return one.sequence
    return Obis(0, log.b, 96, 15, log.e) if (log.c, log.d) == EVENT_LOGS else None


def words(companion: Companion) -> tuple[Obis, ...]:
    """Return the objects that speak of all logs: tamper and programming counts, event status word."""
    esw = () if companion.esw is None else (companion.esw.word,)
    return (TAMPERS, PROGRAMMINGS, *esw)


def marks(
    logs: Sequence[BufferSource], found: Mapping[Target, Data | ProtocolError], ground: Ground
) -> EventMarks:
    """Read how the logs stand out of answers to `mark_targets`; what was not answered says nothing."""
    said: dict[str, int | str] = {}
    for obis in words(ground.companion):
        match found.get(Target(1, obis, VALUE)):
            case Data(_, int() | str() as word):
                said[str(obis)] = word
    return EventMarks(logs={log.places[0]: _mark(log.places[0], found, ground) for log in logs}, words=said)


def _mark(log: Obis, found: Mapping[Target, Data | ProtocolError], ground: Ground) -> LogMark:
    entries = found.get(Target(7, log, ENTRIES))
    if isinstance(entries, NotSupported):
        return LogMark(absent=True)
    capacity = _number(found.get(Target(7, log, CAPACITY)))
    sequence = sequence_of(log, ground.companion)
    return LogMark(
        entries=_number(entries),
        capacity=ground.known.capacities.get(str(log)) if capacity is None else capacity,
        sequence=_number(None if sequence is None else found.get(Target(1, sequence, VALUE))),
    )


def _number(found: Data | ProtocolError | None) -> int | None:
    return found.integer if isinstance(found, Data) else None
