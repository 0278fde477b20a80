"""Tariff calendars as acts: the passive set is written and read back, then activated now or at a time."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from protocols.dlms.acts.programming import Act, Change, Effect, Fit, control_object
from protocols.dlms.apdu.lists import Target
from protocols.dlms.companion import Companion
from protocols.dlms.data.cosem_dates import CosemDate, CosemDateTime, CosemTime
from protocols.dlms.data.types import Data
from protocols.dlms.objects.interface import AttributeRef
from protocols.dlms.objects.schedules import (
    ActivityCalendar,
    Day,
    Season,
    SpecialDay,
    SpecialDaysTable,
    Week,
)
from protocols.errors import LocalError

PASSIVE_TO_ACTIVE = 4
"""Attributes 6 to 9 are the passive set of 2 to 5 (Blue Book 4.5.5)."""
MAX_SPECIAL_DAYS = 512
YEARS = range(2000, 2200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """A tariff calendar. LocalError when a season has no week of its name, or a week no day of its number."""

    name: bytes
    seasons: tuple[Season, ...]
    weeks: tuple[Week, ...]
    days: tuple[Day, ...]

    def __post_init__(self) -> None:
        if not self.seasons or not self.weeks or not self.days:
            raise LocalError("a calendar has seasons, weeks and days")
        weeks = [week.week_profile_name for week in self.weeks]
        days = [day.day_id for day in self.days]
        seasons = [season.season_profile_name for season in self.seasons]
        starts_of = [season.season_start.octets for season in self.seasons]
        for what, names in (
            ("season", seasons),
            ("season's start", starts_of),
            ("week", weeks),
            ("day", days),
        ):
            if len(names) != len(set(names)):
                raise LocalError(f"a {what} is there twice")
        for season in self.seasons:
            if season.week_name not in weeks:
                raise LocalError(
                    f"season {_text(season.season_profile_name)}: there is no week {_text(season.week_name)}"
                )
        for week in self.weeks:
            for day in week_days(week):
                if day not in days:
                    raise LocalError(f"week {_text(week.week_profile_name)}: there is no day {day}")
        for one in self.days:
            starts = [action.start_time.octets for action in one.day_schedule]
            if not starts or starts != sorted(set(starts)):
                raise LocalError(
                    f"day {one.day_id}: its switches must come in the order of their times, at least one"
                )
            first = one.day_schedule[0].start_time
            if (first.hour, first.minute) != (0, 0):
                raise LocalError(f"day {one.day_id}: it begins at {first}: say which script rules from 00:00")


def week_days(week: Week) -> tuple[int, ...]:
    """Return the day profiles of a week, Monday first."""
    return (week.monday, week.tuesday, week.wednesday, week.thursday, week.friday, week.saturday, week.sunday)


def activity_calendar(companion: Companion, calendar: Calendar, at: CosemDateTime | None) -> Act:
    """Write the passive calendar, and activate it at a date-time of the meter's clock, or at once (None)."""
    obis = control_object(companion, "activity_calendar").obis
    ref = ActivityCalendar(obis)
    fits = _special_days_fit(companion, calendar)
    changes = [
        _change(ref.calendar_name_passive, ref.calendar_name_passive.build(calendar.name)),
        _change(ref.season_profile_passive, ref.season_profile_passive.build(calendar.seasons)),
        _change(ref.week_profile_table_passive, ref.week_profile_table_passive.build(calendar.weeks)),
        _change(ref.day_profile_table_passive, ref.day_profile_table_passive.build(calendar.days)),
    ]
    if at is not None:
        when = ref.activate_passive_calendar_time

        def holds(found: Data) -> bool:
            # the deviation and the day of the week are the meter's own
            return (
                when.parse(found).octets[:4] + when.parse(found).octets[5:8] == at.octets[:4] + at.octets[5:8]
            )

        changes.append(Change(places=(_target(when),), value=when.build(at), holds=holds))
        return Act(name="activity-calendar", changes=tuple(changes), fits=fits)
    copies = tuple(
        (Target(ref.CLASS_ID, obis, number), Target(ref.CLASS_ID, obis, number - PASSIVE_TO_ACTIVE))
        for number in range(6, 10)
    )
    effect = Effect(method=Target(ref.CLASS_ID, obis, ref.activate_passive_calendar.number), copies=copies)
    return Act(
        name="activity-calendar",
        changes=tuple(changes),
        effect=effect,
        warning="it rules at once: the tariff registers change from now on",
        fits=fits,
    )


def _special_days_fit(companion: Companion, calendar: Calendar) -> tuple[Fit, ...]:
    """Return that the special days in the meter have day profiles in a calendar that is to rule them."""
    if "special_days" not in companion.control:
        return ()
    entries = SpecialDaysTable(companion.control["special_days"].obis).entries
    known = sorted(day.day_id for day in calendar.days)

    def wrong(found: Mapping[Target, Data]) -> str:
        days = [day for value in found.values() for day in entries.parse(value)]
        return next(
            (
                f"the meter's special day {day.specialday_date} has day profile {day.day_id}, which the calendar lacks"
                f" (it has {_listed(known)}): add it, or write the special days anew before"
                for day in days
                if day.day_id not in known and day.specialday_date != CosemDate()
            ),
            "",
        )

    return (Fit(targets=(_target(entries),), wrong=wrong),)


def special_days(companion: Companion, days: Sequence[tuple[CosemDate, int]]) -> Act:
    """Write the table of special days, in place of what it holds: dates with a day profile of the calendar."""
    if len(days) > MAX_SPECIAL_DAYS:
        raise LocalError(f"{len(days)} special days are more than {MAX_SPECIAL_DAYS}")
    dates = [date for date, _ in days]
    if twice := next((date for n, date in enumerate(dates) if date in dates[:n]), None):
        raise LocalError(f"{twice} is there twice: a special day has one day profile")
    ref = SpecialDaysTable(control_object(companion, "special_days").obis).entries
    value = ref.build(tuple(SpecialDay(n, date, day) for n, (date, day) in enumerate(days, 1)))
    warning = "" if days else "the table will be empty"
    return Act(
        name="special-days",
        changes=(_change(ref, value),),
        warning=warning,
        fits=_calendar_fits(companion, days),
    )


def _calendar_fits(companion: Companion, days: Sequence[tuple[CosemDate, int]]) -> tuple[Fit, ...]:
    """Return that the calendar in the meter has the day profiles of special days: the one that rules, or will."""
    if "activity_calendar" not in companion.control:
        return ()
    ref = ActivityCalendar(companion.control["activity_calendar"].obis)
    tables = (ref.day_profile_table_active, ref.day_profile_table_passive)

    def wrong(found: Mapping[Target, Data]) -> str:
        known = {
            day.day_id
            for table in tables
            if (value := found.get(_target(table))) is not None
            for day in table.parse(value)
        }
        if not found:
            return ""
        return next(
            (
                f"special day {date}: the meter's calendar has no day profile {day} (it has"
                f" {_listed(sorted(known))}): write the activity calendar with it before"
                for date, day in days
                if day not in known
            ),
            "",
        )

    return (Fit(targets=tuple(map(_target, tables)), wrong=wrong),)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"


def switch_time(text: str) -> CosemTime:
    """Return a time of day of `06:30` or `06:30:15`; ValueError otherwise."""
    parts = [int(part) for part in text.split(":")] if text.replace(":", "").isdecimal() else []
    if len(parts) not in (2, 3):
        raise ValueError(f"`{text}` is no time of day: write 06:30")
    try:
        return CosemTime(
            hour=parts[0], minute=parts[1], second=parts[2] if len(parts) > 2 else 0, hundredths=0
        )
    except LocalError as error:
        raise ValueError(str(error)) from error


def calendar_date(text: str) -> CosemDate:
    """Return a date of `2027-01-26`, or `*-01-26` for each year; ValueError otherwise."""
    parts = text.split("-")
    if len(parts) != 3 or not all(part == "*" or part.isdecimal() for part in parts):
        raise ValueError(f"`{text}` is no date: write 2027-01-26, or *-01-26 for each year")
    year, month, day = (None if part == "*" else int(part) for part in parts)
    if (month is not None and not 1 <= month <= 12) or (day is not None and not 1 <= day <= 31):
        raise ValueError(f"`{text}` is no date: months go from 1 to 12, days from 1 to 31")
    if year is not None and year not in YEARS:
        raise ValueError(f"`{text}` is no date: write the year with four digits")
    if month is not None and day is not None and day > monthrange(2000 if year is None else year, month)[1]:
        raise ValueError(f"`{text}` is no date: that month has no day {day}")
    try:
        return CosemDate(year=year, month=month, day=day)
    except LocalError as error:
        raise ValueError(str(error)) from error


def run_time(text: str) -> tuple[CosemTime, CosemDate]:
    """Return when a schedule runs: `06:30` each day, `*:30` each hour, `*-*-01T00:00` monthly; ValueError otherwise."""
    date, divided, time = text.rpartition("T")
    when = calendar_date(date) if divided else CosemDate()
    if time.startswith("*:"):
        return replace(switch_time(f"0:{time[2:]}"), hour=None), when
    return switch_time(time), when


def _change(ref: AttributeRef[Any], value: Data) -> Change:
    return Change(places=(_target(ref),), value=value)


def _target(ref: AttributeRef[Any]) -> Target:
    return Target(ref.class_id, ref.obis, ref.number)


def _text(name: bytes) -> str:
    return name.decode("latin-1")
