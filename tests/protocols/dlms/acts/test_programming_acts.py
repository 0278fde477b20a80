"""Programming acts against meters in memory: types, other places, methods whose effect is read, companions without."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from protocols.dlms.acts import programming
from protocols.dlms.acts.calendar import Calendar, activity_calendar, special_days
from protocols.dlms.acts.load_limit import load_limit
from protocols.dlms.acts.programming import ACTS, perform, places_of, preview, standing
from protocols.dlms.apdu.lists import Target
from protocols.dlms.companion import companion
from protocols.dlms.data.cosem_dates import CosemDate, CosemDateTime, CosemTime
from protocols.dlms.data.types import (
    Data,
    Tag,
    array,
    double_long_unsigned,
    integer,
    long_unsigned,
    octets,
    structure,
    unsigned,
)
from protocols.dlms.objects import Day, DayAction, Season, Week
from protocols.dlms.objects.schedules import ActivityCalendar, SpecialDay, SpecialDaysTable
from protocols.errors import LocalError, MeterRefused, NotSupported, WriteNotKept
from protocols.reading import Obis

INDIA = companion()
CALENDAR = Obis(0, 0, 13, 0, 0)
DEMAND = Target(1, Obis(1, 0, 0, 8, 0), 2)


class Meter:
    """Attributes in a dictionary; `activates` says whether the calendar's method does anything."""

    def __init__(self, *stands: tuple[Target, Data], activates: bool = True) -> None:
        self.stands = dict(stands)
        self.activates = activates
        self.writes = 0

    async def get(self, target: Target) -> Data:
        if target not in self.stands:
            raise NotSupported("object undefined")
        return self.stands[target]

    async def set(self, target: Target, value: Data) -> None:
        before = await self.get(target)
        if value.tag is not before.tag:
            raise MeterRefused("type unmatched", reason_code=12)
        self.writes += 1
        self.stands[target] = value

    async def action(self, target: Target, parameter: Data) -> Data | None:
        if self.activates:
            for number in range(2, 6):
                passive = Target(20, CALENDAR, number + 4)
                self.stands[Target(20, CALENDAR, number)] = self.stands[passive]
        return None


def calendar() -> Calendar:
    return Calendar(
        name=b"TOD",
        seasons=(Season(b"S1", CosemDateTime(), b"W1"),),
        weeks=(Week(b"W1", *(1 for _ in range(7))),),
        days=(Day(1, (DayAction(CosemTime(hour=0, minute=0), Obis(0, 0, 10, 0, 100), 1),)),),
    )


def calendar_meter(*, activates: bool = True) -> Meter:
    stands = [(Target(20, CALENDAR, n), octets(b"") if n in (2, 6) else array()) for n in range(2, 10)]
    return Meter(*stands, (Target(20, CALENDAR, 10), octets(b"\xff" * 12)), activates=activates)


async def test_a_number_is_written_in_the_type_that_the_meter_shows() -> None:
    for shown, wanted in (
        (long_unsigned(1800), long_unsigned(900)),
        (double_long_unsigned(1800), double_long_unsigned(900)),
    ):
        meter = Meter((DEMAND, shown))
        (judged,) = await perform(meter, programming.demand_period(INDIA, 900))
        assert (judged.before, judged.found, meter.stands[DEMAND]) == (shown, wanted, wanted)
    with pytest.raises(LocalError, match="does not fit"):
        await preview(Meter((DEMAND, unsigned(1))), programming.demand_period(INDIA, 900))


async def test_what_stands_already_is_not_written() -> None:
    meter = Meter((DEMAND, long_unsigned(900)))
    await perform(meter, programming.demand_period(INDIA, 900))
    assert meter.writes == 0


async def test_an_older_meter_has_its_mode_elsewhere() -> None:
    older = Target(1, Obis(0, 0, 94, 91, 20), 2)
    meter = Meter((older, unsigned(1)))
    await perform(meter, programming.mode(INDIA, "payment_mode", "postpaid"))
    assert meter.stands[older] == unsigned(0)
    with pytest.raises(NotSupported):
        await perform(Meter(), programming.mode(INDIA, "payment_mode", "postpaid"))


async def test_activation_is_believed_when_the_active_calendar_is_read() -> None:
    act = activity_calendar(INDIA, calendar(), None)
    meter = calendar_meter()
    shown = await preview(meter, act)
    assert len(shown) == 8
    await perform(meter, act)
    assert meter.stands[Target(20, CALENDAR, 2)] == octets(b"TOD")
    with pytest.raises(WriteNotKept, match="calendar_name_active"):
        await perform(calendar_meter(activates=False), act)


async def test_what_a_meter_lacks_is_shown_as_such() -> None:
    found = dict(
        await standing(Meter((DEMAND, long_unsigned(900))), [(DEMAND,), (Target(1, Obis(0, 0, 1, 1, 1), 2),)])
    )
    assert list(found.values()) == ["900", "! object undefined"]
    assert all(places_of(INDIA, act) for act in ACTS)


def test_a_companion_that_names_no_place_is_said_so() -> None:
    generic = companion("generic")
    makers: list[Callable[[], object]] = [
        lambda: programming.demand_period(generic, 900),
        lambda: load_limit(generic, 900),
        lambda: programming.esw_filter(generic, frozenset()),
        lambda: programming.billing_date(generic, 1, CosemTime()),
        lambda: programming.mode(generic, "payment_mode", "prepaid"),
        lambda: special_days(generic, []),
        lambda: activity_calendar(generic, calendar(), None),
    ]
    for make in makers:
        with pytest.raises(NotSupported):
            make()


def test_an_act_says_what_it_costs() -> None:
    assert "clear its stored load profile" in programming.capture_period(INDIA, 900).warning
    assert special_days(INDIA, []).warning == "the table will be empty"
    assert programming.esw_filter(INDIA, frozenset({0})).changes[0].value.tag is Tag.BIT_STRING


LIMIT = Target(71, Obis(0, 0, 17, 0, 0), 4)
WATCHED = Target(71, Obis(0, 0, 17, 0, 0), 2)
POWER = Obis(1, 0, 1, 7, 0)


def limited(scaler: int, unit: int, *, class_id: int = 3) -> Meter:
    """Return a meter whose limiter watches a register of this scaler and unit, at 5000 of it."""
    watched = structure(long_unsigned(class_id), octets(POWER.to_bytes()), integer(2))
    scale = structure(integer(scaler), Data(Tag.ENUM, unit))
    place = Target(class_id, POWER, 4 if class_id == 5 else 3)
    return Meter((LIMIT, double_long_unsigned(5000)), (WATCHED, watched), (place, scale))


@pytest.mark.parametrize(
    ("scaler", "class_id", "raw", "unit"),
    [(0, 3, 3000, "W"), (3, 3, 3, "10^3 W"), (-1, 5, 30_000, "10^-1 W"), (2, 4, 30, "10^2 W")],
)
async def test_a_load_limit_is_written_as_the_meter_counts_it(
    scaler: int, class_id: int, raw: int, unit: str
) -> None:
    """Three thousand written as kilowatts would never cut, as tenths of a watt it would cut everybody."""
    meter = limited(scaler, 27, class_id=class_id)
    act = load_limit(INDIA, 3000)
    (shown,) = await preview(meter, act)
    assert shown.label.endswith(f", in {unit}")
    await perform(meter, act)
    assert meter.stands[LIMIT] == double_long_unsigned(raw)


@pytest.mark.parametrize(
    ("meter", "said"),
    [
        (limited(0, 33), "in 10\\^0 A, which is no power"),
        (limited(100, 27), "which is no power"),
        (limited(3, 27), "no whole number"),
        (limited(0, 27, class_id=1), "does not show in which unit"),
        (Meter((LIMIT, double_long_unsigned(5000))), "does not show in which unit"),
    ],
)
async def test_a_load_limit_whose_unit_is_not_known_is_not_written(meter: Meter, said: str) -> None:
    with pytest.raises(LocalError, match=said):
        await perform(meter, load_limit(INDIA, 2500))
    assert meter.writes == 0


def test_a_load_limit_in_kilowatts_is_refused() -> None:
    with pytest.raises(LocalError, match="watts, not kilowatts"):
        load_limit(INDIA, 3)


def test_a_date_has_one_special_day() -> None:
    republic = CosemDate(month=1, day=26)
    with pytest.raises(LocalError, match="there twice"):
        special_days(INDIA, [(republic, 2), (CosemDate(year=2027, month=1, day=26), 2), (republic, 3)])


# calendars and special days name each other's day profiles

SPECIAL = SpecialDaysTable(Obis(0, 0, 11, 0, 0)).entries


def with_days(active: Sequence[int], passive: Sequence[int], special: Sequence[int]) -> Meter:
    """A meter whose calendar has these day profiles, and special days with those."""
    switch = calendar().days[0].day_schedule
    rules = ActivityCalendar(CALENDAR)
    ref = rules.day_profile_table_active, rules.day_profile_table_passive
    tables = [
        (Target(20, r.obis, r.number), r.build(tuple(Day(n, switch) for n in ids)))
        for r, ids in zip(ref, (active, passive), strict=True)
    ]
    days = SPECIAL.build(tuple(SpecialDay(n, CosemDate(month=1, day=n), d) for n, d in enumerate(special, 1)))
    return Meter(*tables, (Target(11, SPECIAL.obis, 2), days))


@pytest.mark.parametrize(("active", "passive"), [([1, 2, 9], [1]), ([1], [2, 9, 1])])
async def test_a_special_day_has_a_day_profile_of_the_calendar_that_rules_or_will(
    active: list[int], passive: list[int]
) -> None:
    meter = with_days(active, passive, [])
    await perform(
        meter, special_days(INDIA, [(CosemDate(month=1, day=26), 9), (CosemDate(month=8, day=15), 2)])
    )
    assert meter.writes == 1
    with pytest.raises(LocalError, match=r"no day profile 3 \(it has 1, 2, 9\)"):
        await preview(meter, special_days(INDIA, [(CosemDate(month=1, day=26), 3)]))
    with pytest.raises(LocalError, match="no day profile 3"):
        await perform(meter, special_days(INDIA, [(CosemDate(month=1, day=26), 3)]))
    assert meter.writes == 1


async def test_a_calendar_keeps_the_day_profiles_of_the_special_days() -> None:
    meter = with_days([1, 7], [1, 7], [1, 7])
    with pytest.raises(LocalError, match=r"day profile 7, which the calendar lacks \(it has 1\)"):
        await preview(meter, activity_calendar(INDIA, calendar(), None))


async def test_special_days_of_a_meter_that_shows_no_calendar_are_written() -> None:
    meter = Meter((Target(11, SPECIAL.obis, 2), SPECIAL.build(())))
    await perform(meter, special_days(INDIA, [(CosemDate(month=1, day=26), 3)]))
    assert meter.writes == 1
