"""What runs when: script table, special days, activity calendar, single action schedule (9, 11, 20, 22)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from protocols.dlms.data.cosem_dates import CosemDate, CosemDateTime, CosemTime
from protocols.dlms.data.types import Data, Tag
from protocols.dlms.objects.catalogue import attribute_label, method_label
from protocols.dlms.objects.codec import (
    ANY,
    DATE,
    DATE_TIME,
    INTEGER,
    LOGICAL_NAME,
    LONG_UNSIGNED,
    TIME,
    UNSIGNED,
    Shown,
    listing,
    number,
    octet_string,
    record,
    show_data,
    show_octets,
)
from protocols.dlms.objects.interface import NOTHING, Attribute, CosemObject, Method
from protocols.reading import Obis

WRITE_ATTRIBUTE, EXECUTE_METHOD = 1, 2
"""Services of a script's action."""
MAX_NAME_OCTETS = 64
_TYPES = {
    1: "one time, wildcards in its date",
    2: "times equal, dates without wildcards",
    3: "times equal, wildcards in dates",
    4: "times differ, dates without wildcards",
    5: "times differ, wildcards in dates",
}
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
NAME = octet_string(0, MAX_NAME_OCTETS)


@dataclass(frozen=True, slots=True)
class ScriptRef:
    """A script of a script table; 0.0.0.0.0.0 is none."""

    script_logical_name: Obis
    script_selector: int

    def __str__(self) -> str:
        return f"script {self.script_selector} of {self.script_logical_name}"


SCRIPT_REF = replace(
    record(ScriptRef, script_logical_name=LOGICAL_NAME, script_selector=LONG_UNSIGNED),
    show=str,
    kind="script",
)


@dataclass(frozen=True, slots=True)
class ScriptAction:
    """One action: write an attribute (service 1) or execute a method (service 2) with a parameter."""

    service_id: int
    class_id: int
    logical_name: Obis
    index: int
    parameter: Data


@dataclass(frozen=True, slots=True)
class Script:
    """A numbered list of actions."""

    script_identifier: int
    actions: tuple[ScriptAction, ...]


def _show_action(value: ScriptAction) -> Shown:
    if value.service_id == EXECUTE_METHOD:
        what = f"execute {method_label(value.class_id, value.logical_name, value.index)}"
    elif value.service_id == WRITE_ATTRIBUTE:
        what = f"write {attribute_label(value.class_id, value.logical_name, value.index)}"
    else:
        what = f"service {value.service_id} of {value.logical_name} {value.index}"
    return f"{what} with {show_data(value.parameter)}"


ACTION = replace(
    record(
        ScriptAction,
        service_id=number(Tag.ENUM),
        class_id=LONG_UNSIGNED,
        logical_name=LOGICAL_NAME,
        index=INTEGER,
        parameter=ANY,
    ),
    show=_show_action,
)
SCRIPTS = listing(record(Script, script_identifier=LONG_UNSIGNED, actions=listing(ACTION)))


class ScriptTable(CosemObject):
    """Script table (class 9)."""

    CLASS_ID = 9
    scripts = Attribute(SCRIPTS)
    execute = Method(LONG_UNSIGNED)


@dataclass(frozen=True, slots=True)
class SpecialDay:
    """A date on which the day profile `day_id` of the calendar rules."""

    index: int
    specialday_date: CosemDate
    day_id: int


SPECIAL_DAY = record(SpecialDay, index=LONG_UNSIGNED, specialday_date=DATE, day_id=UNSIGNED)


class SpecialDaysTable(CosemObject):
    """Special days table (class 11); `delete` takes the index."""

    CLASS_ID = 11
    entries = Attribute(listing(SPECIAL_DAY))
    insert = Method(SPECIAL_DAY)
    delete = Method(LONG_UNSIGNED)


@dataclass(frozen=True, slots=True)
class Season:
    """A season begins at a date-time (wildcards repeat it each year) and has a week."""

    season_profile_name: bytes
    season_start: CosemDateTime
    week_name: bytes


@dataclass(frozen=True, slots=True)
class Week:
    """The day profiles of a week."""

    week_profile_name: bytes
    monday: int
    tuesday: int
    wednesday: int
    thursday: int
    friday: int
    saturday: int
    sunday: int


@dataclass(frozen=True, slots=True)
class DayAction:
    """At a time of day a script is run: it selects the tariff registers."""

    start_time: CosemTime
    script_logical_name: Obis
    script_selector: int


@dataclass(frozen=True, slots=True)
class Day:
    """A day profile."""

    day_id: int
    day_schedule: tuple[DayAction, ...]


def _show_season(value: Season) -> Shown:
    names = show_octets(value.season_profile_name), show_octets(value.week_name)
    return f"season {names[0]} from {value.season_start}: week {names[1]}"


def _show_week(value: Week) -> Shown:
    days = ", ".join(f"{day[:3].title()} {getattr(value, day)}" for day in _DAYS)
    return f"week {show_octets(value.week_profile_name)}: {days}"


def _show_day_action(value: DayAction) -> Shown:
    return f"{value.start_time} script {value.script_selector} of {value.script_logical_name}"


SEASONS = listing(
    replace(
        record(Season, season_profile_name=NAME, season_start=DATE_TIME, week_name=NAME),
        show=_show_season,
    )
)
WEEKS = listing(
    replace(record(Week, week_profile_name=NAME, **dict.fromkeys(_DAYS, UNSIGNED)), show=_show_week)
)
DAY_ACTION = replace(
    record(DayAction, start_time=TIME, script_logical_name=LOGICAL_NAME, script_selector=LONG_UNSIGNED),
    show=_show_day_action,
)
DAYS = listing(record(Day, day_id=UNSIGNED, day_schedule=listing(DAY_ACTION)))


class ActivityCalendar(CosemObject):
    """Activity calendar (class 20): seasons, weeks and days of tariffs; the passive set waits."""

    CLASS_ID = 20
    calendar_name_active = Attribute(NAME)
    season_profile_active = Attribute(SEASONS)
    week_profile_table_active = Attribute(WEEKS)
    day_profile_table_active = Attribute(DAYS)
    calendar_name_passive = Attribute(NAME)
    season_profile_passive = Attribute(SEASONS)
    week_profile_table_passive = Attribute(WEEKS)
    day_profile_table_passive = Attribute(DAYS)
    activate_passive_calendar_time = Attribute(DATE_TIME)
    activate_passive_calendar = Method(NOTHING)


@dataclass(frozen=True, slots=True)
class ExecutionTime:
    """When an action runs: a time of day on the dates that match."""

    time: CosemTime
    date: CosemDate


EXECUTION_TIMES = listing(
    replace(
        record(ExecutionTime, time=TIME, date=DATE),
        show=lambda v: f"{v.date} {v.time}",
        kind="execution_time",
    )
)


class SingleActionSchedule(CosemObject):
    """Single action schedule (class 22): billing date, push schedule, image activation."""

    CLASS_ID = 22
    executed_script = Attribute(SCRIPT_REF)
    type = Attribute(number(Tag.ENUM, _TYPES))
    execution_time = Attribute(EXECUTION_TIMES)
