"""Calendars, special days and push setups as files that people write; mistakes are named by file, line and field."""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from gateway.config.mistakes import ConfigMistakes, Source
from gateway.config.types import Section
from gateway.errors import ConfigError
from protocols.dlms.acts.calendar import Calendar, calendar_date, run_time, switch_time
from protocols.dlms.acts.programming import PushWish
from protocols.dlms.data.cosem_dates import CosemDate, CosemDateTime
from protocols.dlms.objects import CaptureObject, Day, DayAction, Destination, PushObject, Season, Week
from protocols.errors import LocalError
from protocols.reading import Obis

MAX_FILE = 256 << 10
TARIFF_SCRIPTS = "0-0:10.0.100*255"
"""The tariffication script table (Blue Book 6.2.6)."""
TRANSPORTS = {"tcp": 0, "udp": 1, "sms": 4, "hdlc": 5}
S = TypeVar("S", bound=Section)


def _checked(check: Callable[[str], object]) -> AfterValidator:
    def keep(text: str) -> str:
        check(text)
        return text

    return AfterValidator(keep)


def _name(text: str) -> bytes:
    octets = bytes.fromhex(text[4:]) if text.startswith("hex:") else text.encode("ascii")
    if not 0 < len(octets) <= 8:
        raise ValueError("a name has 1 to 8 characters, or hex: and 1 to 8 octets")
    return octets


def _moment(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"`{text}` is no time: write 2027-01-01T00:00, or now") from None
    if at.utcoffset() is not None:
        raise ValueError("write the time of the meter's own clock, without an offset")
    return at


Name = Annotated[str, _checked(_name)]
RunTime = Annotated[str, _checked(run_time)]
TimeOfDay = Annotated[str, _checked(switch_time)]
Date = Annotated[str, _checked(calendar_date)]
Code = Annotated[str, _checked(Obis.parse)]
Octet = Annotated[int, Field(ge=0, le=255)]


class SeasonSection(Section):
    """From a date on a week rules."""

    name: Name
    start: Date
    week: Name


class WeekSection(Section):
    """Day profiles of a week; `all` stands for each day that is not given."""

    name: Name
    all: Octet | None = None
    monday: Octet | None = None
    tuesday: Octet | None = None
    wednesday: Octet | None = None
    thursday: Octet | None = None
    friday: Octet | None = None
    saturday: Octet | None = None
    sunday: Octet | None = None

    def days(self) -> list[int]:
        """Return the seven days, Monday first; ValueError names one that is not given."""
        names = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
        found = [getattr(self, name) if getattr(self, name) is not None else self.all for name in names]
        if None in found:
            raise ValueError(f"{names[found.index(None)]} is not given, and neither is `all`")
        return [day for day in found if day is not None]


class SwitchSection(Section):
    """At a time of day a script selects the tariff."""

    at: TimeOfDay
    script: Annotated[int, Field(ge=0, le=65_535)]


class DaySection(Section):
    """A day profile: its switches in the order of their times."""

    id: Octet
    switches: Annotated[tuple[SwitchSection, ...], Field(min_length=1, max_length=48)]


class CalendarSection(Section):
    """A tariff calendar; `activate` is `now`, or a time of the meter's clock."""

    name: Name
    activate: str = "now"
    scripts: Code = TARIFF_SCRIPTS
    seasons: Annotated[tuple[SeasonSection, ...], Field(min_length=1, max_length=32)]
    weeks: Annotated[tuple[WeekSection, ...], Field(min_length=1, max_length=32)]
    days: Annotated[tuple[DaySection, ...], Field(min_length=1, max_length=64)]


class CalendarFile(Section):
    """The file of an activity calendar."""

    calendar: CalendarSection


def load_calendar(path: Path) -> tuple[Calendar, CosemDateTime | None]:
    """Return the calendar of a TOML file and when it is to rule (None: at once); ConfigMistakes otherwise."""
    source, file = _read(path, CalendarFile)
    section = file.calendar
    at: CosemDateTime | None = None
    if section.activate != "now":
        at = _at(source, ("calendar", "activate"), lambda: _wall(_moment(section.activate)))
    weeks = tuple(
        _at(source, ("calendar", "weeks", n), lambda w=week: Week(_name(w.name), *w.days()))  # type: ignore[misc]
        for n, week in enumerate(section.weeks)
    )
    scripts = Obis.parse(section.scripts)
    days = tuple(
        Day(day.id, tuple(DayAction(switch_time(s.at), scripts, s.script) for s in day.switches))
        for day in section.days
    )
    seasons = tuple(
        Season(
            _name(s.name),
            CosemDateTime(date=calendar_date(s.start), time=switch_time("00:00")),
            _name(s.week),
        )
        for s in section.seasons
    )
    calendar = _at(
        source,
        ("calendar",),
        lambda: Calendar(name=_name(section.name), seasons=seasons, weeks=weeks, days=days),
    )
    return calendar, at


def _wall(at: datetime) -> CosemDateTime:
    return CosemDateTime(
        date=CosemDate(year=at.year, month=at.month, day=at.day),
        time=switch_time(f"{at:%H:%M:%S}"),
    )


class SpecialDaySection(Section):
    """A date with a day profile of its own."""

    date: Date
    day: Octet


class SpecialDaysFile(Section):
    """The file of special days."""

    special_days: Annotated[tuple[SpecialDaySection, ...], Field(max_length=512)]


def load_special_days(path: Path) -> list[tuple[CosemDate, int]]:
    """Return the special days of a CSV file (columns date, day) or a TOML file; ConfigMistakes otherwise."""
    if path.suffix != ".csv":
        _, file = _read(path, SpecialDaysFile)
        return [(calendar_date(one.date), one.day) for one in file.special_days]
    try:
        rows = list(csv.reader(io.StringIO(_text(path), newline=None)))
    except csv.Error as error:
        raise ConfigError(f"{path} is no CSV file: {error}") from error
    if not rows or [name.strip() for name in rows[0]] != ["date", "day"]:
        raise ConfigError(f"{path}:1: the first line names the columns: date,day")
    found, wrong = [], []
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        try:
            one = SpecialDaySection.model_validate(dict(zip(("date", "day"), row, strict=True)))
            found.append((calendar_date(one.date), one.day))
        except ValidationError as error:
            first = error.errors()[0]
            wrong.append(f"{path}:{number}: {first['loc'][0]}: {first['msg'].removeprefix('Value error, ')}")
        except ValueError:
            wrong.append(f"{path}:{number}: {len(row)} columns, not date,day")
    if wrong:
        raise ConfigError("\n".join(wrong))
    return found


class PushObjectSection(Section):
    """One attribute that is pushed; attribute 0 is all of the object."""

    class_id: Annotated[int, Field(ge=1, le=65_535, alias="class")]
    obis: Code
    attribute: Annotated[int, Field(ge=0, le=127)] = 2
    index: Annotated[int, Field(ge=0, le=65_535)] = 0


class PushTargetSection(Section):
    """A push setup: `destination` as HOST:PORT, `objects` in their order, delays in seconds, `times` it runs at."""

    setup: Code
    transport: Literal["tcp", "udp", "sms", "hdlc"] = "tcp"
    destination: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    objects: Annotated[tuple[PushObjectSection, ...], Field(min_length=1, max_length=64)] | None = None
    randomisation: Annotated[int, Field(ge=0, le=65_535)] | None = None
    retries: Octet | None = None
    repetition: Annotated[int, Field(ge=0, le=65_535)] | None = None
    schedule: Code | None = None
    times: Annotated[tuple[RunTime, ...], Field(min_length=1, max_length=96)] | None = None


class PushFile(Section):
    """The file of a push setup."""

    push: PushTargetSection


def load_push(path: Path) -> tuple[Obis, PushWish]:
    """Return which push setup a TOML file is about, and what is to stand in it; ConfigMistakes otherwise."""
    source, file = _read(path, PushFile)
    push = file.push
    if push.schedule is not None and push.times is None:
        raise ConfigMistakes([source.mistake(("push", "schedule"), "a schedule without `times`")])
    destination = None
    if push.destination is not None:
        destination = Destination(TRANSPORTS[push.transport], push.destination.encode(), 0)
    objects = None
    if push.objects is not None:
        objects = tuple(
            PushObject(CaptureObject(o.class_id, Obis.parse(o.obis), o.attribute, o.index))
            for o in push.objects
        )
    wish = PushWish(
        destination=destination,
        objects=objects,
        randomisation=push.randomisation,
        retries=push.retries,
        repetition=push.repetition,
        schedule=None if push.schedule is None else Obis.parse(push.schedule),
        times=None if push.times is None else tuple(map(run_time, push.times)),
    )
    return Obis.parse(push.setup), wish


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_FILE + 1)
        text = octets.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if len(octets) > MAX_FILE:
        raise ConfigError(f"{path} has more than {MAX_FILE} octets")
    return text


def _read(path: Path, model: type[S]) -> tuple[Source, S]:
    source = Source(path, _text(path))
    try:
        return source, model.model_validate(tomllib.loads(source.text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigMistakes([source.mistake((), f"not TOML: {error}")]) from error
    except ValidationError as error:
        raise ConfigMistakes([source.explain_in(one, model) for one in error.errors()]) from error


T = TypeVar("T")


def _at(source: Source, trail: tuple[str | int, ...], make: Callable[[], T]) -> T:
    """Return what `make` makes; what it complains of is a mistake of the field at `trail`."""
    try:
        return make()
    except (ValueError, LocalError) as error:
        raise ConfigMistakes([source.mistake(trail, str(error))]) from error
