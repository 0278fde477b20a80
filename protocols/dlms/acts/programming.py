"""Named acts that program a meter: what each writes, where, and how it is judged. Acts are data; `perform` does them.

Places are the companion's (`control`, `schedules`, `esw`, `prepayment`); one that names none is NotSupported. Every
change is read back and judged (`judged`); an act of several changes stops at the first that is not kept, and says
what stands. What only takes effect by a method ends with it, and its effect is read as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from protocols.dlms.acts.judged import Holds, Judgement, ReadsAndWrites, Verdict, Wish, write_judged
from protocols.dlms.acts.values import in_type_of
from protocols.dlms.apdu.lists import Target
from protocols.dlms.companion import Companion, ControlObject
from protocols.dlms.data.cosem_dates import CosemDate, CosemTime
from protocols.dlms.data.types import Data, Tag, integer
from protocols.dlms.objects.catalogue import attribute_label
from protocols.dlms.objects.describe import describe
from protocols.dlms.objects.schedules import ExecutionTime, SingleActionSchedule
from protocols.dlms.objects.setups import Destination, PushObject, PushSetup
from protocols.errors import LocalError, MeterRefused, NotSupported, WriteNotKept
from protocols.reading import Obis

HISTORY = "the meter may clear its stored load profile when this changes: read it to the end first"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One attribute that an act writes. `places` are where it may be, the usual one first.

    With `number` the value is written in the integer type that the meter shows; else `value` as it is. `holds` judges
    what is read back, by default the same value. `counted` makes of `value` what the meter counts in, by what it shows.
    """

    places: tuple[Target, ...]
    value: Data
    number: bool = False
    holds: Holds | None = None
    counted: Counted | None = None
    unit: str = ""

    def wish(self, before: Data) -> Wish:
        """Return what to write where `before` stands; LocalError when it does not fit the meter's type."""
        value = in_type_of(self.value, before) if self.number else self.value
        return Wish.of(value, holds=self.holds)


Counted = Callable[["Association", Data], Awaitable[tuple[Data, str]]]
"""Returns a value as a meter counts it, and the unit of that; LocalError when it cannot be said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A method that makes the changes take effect, and pairs (from, to) of attributes that are equal afterwards."""

    method: Target
    copies: tuple[tuple[Target, Target], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What an act must agree with that stands in the meter already: attributes, and what is wrong beside them.

    `wrong` is given those that the meter has, and returns "" where the act fits.
    """

    targets: tuple[Target, ...]
    wrong: Callable[[Mapping[Target, Data]], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """A named act: its changes in their order, what it does besides, and what a person must know before."""

    name: str
    changes: tuple[Change, ...]
    effect: Effect | None = None
    warning: str = ""
    fits: tuple[Fit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """One change as it would be: which attribute, what stands, what is wanted."""

    label: str
    target: Target
    before: str
    after: str


class Association(ReadsAndWrites, Protocol):
    """What an act needs of an association."""

    async def action(self, target: Target, parameter: Data) -> Data | None:
        """Run one method, once."""


async def preview(association: Association, act: Act) -> list[Preview]:
    """Return what stands in the meter beside what the act would write; raises what reading raises.

    LocalError where what stands in the meter and the act do not fit each other.
    """
    await _check_fits(association, act)
    found = []
    for change in await _counted(association, act):
        target, before = await _find(association, change)
        after = change.wish(before).forms[0]()
        found.append(
            Preview(
                label=label_of(target) + (f", in {change.unit}" if change.unit else ""),
                target=target,
                before=shown(target, before),
                after=shown(target, after),
            )
        )
    for source, copy in act.effect.copies if act.effect else ():
        wanted = next(change.value for change in act.changes if source in change.places)
        stands = await association.get(copy)
        found.append(
            Preview(label=label_of(copy), target=copy, before=shown(copy, stands), after=shown(copy, wanted))
        )
    return found


async def perform(association: Association, act: Act) -> list[Judgement]:
    """Do the act; return the judgement of each change.

    Raises WriteNotKept, WriteUnproven, MeterRefused, NotSupported as `write_judged` does: the changes before stand.
    LocalError, before anything is written, where what stands in the meter and the act do not fit each other.
    """
    await _check_fits(association, act)
    judged = []
    for change in await _counted(association, act):
        target, before = await _find(association, change)
        if change.wish(before).holds(before):  # each write costs the meter an event, and some a history
            judged.append(Judgement(verdict=Verdict.AS_ASKED, before=before, found=before, form=0))
        else:
            judged.append(await write_judged(association, target, change.wish))
    if act.effect is not None:
        await association.action(act.effect.method, integer(0))
        for source, copy in act.effect.copies:
            wanted, found = await association.get(source), await association.get(copy)
            if wanted != found:
                raise WriteNotKept(
                    what=label_of(copy),
                    answered=True,
                    found=shown(copy, found),
                    now=shown(copy, found),
                    restored=False,
                )
    return judged


async def _counted(association: Association, act: Act) -> list[Change]:
    found = []
    for change in act.changes:
        if change.counted is None:
            found.append(change)
        else:
            value, unit = await change.counted(association, change.value)
            found.append(replace(change, value=value, unit=unit))
    return found


async def _check_fits(association: Association, act: Act) -> None:
    for fit in act.fits:
        found = {}
        for target in fit.targets:
            with suppress(NotSupported, MeterRefused):
                found[target] = await association.get(target)
        if why := fit.wrong(found):
            raise LocalError(why)


async def _find(association: Association, change: Change) -> tuple[Target, Data]:
    missing: NotSupported | None = None
    for target in change.places:
        try:
            return target, await association.get(target)
        except NotSupported as error:
            missing = error
    raise missing or NotSupported("the companion names no place for it")


def label_of(target: Target) -> str:
    """Return an attribute with its names."""
    return attribute_label(target.class_id, target.obis, target.index)


def shown(target: Target, data: Data) -> str:
    """Return a value as people read it; never a secret."""
    found = describe(target.class_id, 0, target.index, data)
    return str(found) if found not in ([], "") else "nothing"


def places_of(companion: Companion, act: str) -> list[tuple[Target, ...]]:
    """Return the attributes that an act of this name is about, each with the places where it may be."""
    switch = (
        [(attribute_of(companion, "load_switch", "control_mode"),)]
        if "load_switch" in companion.control
        else []
    )
    match act:
        case "demand-period":
            return [(attribute_of(companion, "demand_period", "value"),)]
        case "capture-period":
            return [(attribute_of(companion, "block_capture_period", "value"),)]
        case "load-limit":
            return [(attribute_of(companion, "limiter", "threshold_normal"),), *switch]
        case "billing-date":
            return [change.places for change in billing_date(companion, 1, CosemTime()).changes]
        case "payment-mode" | "metering-mode":
            name = act.replace("-", "_")
            return [
                (Target(1, i.obis, 2), Target(1, i.older, 2)) for i in companion.prepayment if i.name == name
            ]
        case "esw-filter":
            return [change.places for change in esw_filter(companion, frozenset()).changes]
        case "push-setup":
            plans = [obis for name, obis in companion.schedules.items() if name.startswith("push")]
            places = [(Target(40, obis, number),) for obis in companion.push_setups for number in (2, 3)]
            return [*places, *((Target(22, obis, 4),) for obis in plans)]
        case "activity-calendar":
            found = control_object(companion, "activity_calendar")
            return [(Target(found.class_id, found.obis, number),) for number in range(2, 11)]
        case "special-days":
            return [(attribute_of(companion, "special_days", "entries"),)]
    raise LocalError(f"there is no act {act}")


async def standing(association: Association, places: Sequence[Sequence[Target]]) -> list[tuple[str, str]]:
    """Return each attribute with what stands there; what the meter lacks is said so."""
    found = []
    for several in places:
        change = Change(places=tuple(several), value=integer(0))
        try:
            target, data = await _find(association, change)
            found.append((label_of(target), shown(target, data)))
        except (NotSupported, MeterRefused) as error:
            found.append((label_of(several[0]), f"! {error}"))
    return found


# ---- the acts


def demand_period(companion: Companion, seconds: int) -> Act:
    """Set the demand integration period in seconds."""
    return _number("demand-period", companion, "demand_period", seconds)


def capture_period(companion: Companion, seconds: int) -> Act:
    """Set the block load's capture period in seconds; LocalError for one that no meter of the companion has."""
    allowed = sorted({p for category in companion.categories.values() for p in category.block_periods})
    if allowed and seconds not in allowed:
        raise LocalError(f"a capture period is one of {', '.join(map(str, allowed))} seconds")
    return replace(_number("capture-period", companion, "block_capture_period", seconds), warning=HISTORY)


def mode(companion: Companion, item: str, value: str) -> Act:
    """Set a prepayment mode (`payment_mode`, `metering_mode`) by its name; LocalError lists the names."""
    found = next((one for one in companion.prepayment if one.name == item and one.modes), None)
    if found is None:
        raise NotSupported(f"{companion.name} declares no {item.replace('_', ' ')}")
    number = next((n for n, name in found.modes.items() if value in (name, name.replace(" ", "-"))), None)
    if number is None:
        names = ", ".join(name.replace(" ", "-") for name in found.modes.values())
        raise LocalError(f"`{value}` is no {item.replace('_', ' ')}: {names}")
    places = (Target(1, found.obis, 2), Target(1, found.older, 2))
    change = Change(places=places, value=Data(found.tag, number), number=True)
    return Act(name=item.replace("_", "-"), changes=(change,))


Times = Sequence[tuple[CosemTime, CosemDate]]
"""When a schedule runs; what is not specified is every."""


def runs_at(schedule: Obis, times: Times) -> Change:
    """Return the change that lets a schedule (single action schedule, class 22) run at these times and no others."""
    attribute = SingleActionSchedule(schedule).execution_time
    wanted = tuple(ExecutionTime(time, date) for time, date in times)

    def holds(found: Data) -> bool:
        return [_bare(one) for one in attribute.parse(found)] == [_bare(one) for one in wanted]

    target = Target(attribute.class_id, schedule, attribute.number)
    return Change(places=(target,), value=attribute.build(wanted), holds=holds)


def _bare(one: ExecutionTime) -> ExecutionTime:
    # meters write hundredths and the day of the week as they like
    return ExecutionTime(replace(one.time, hundredths=0), replace(one.date, weekday=None))


def billing_date(companion: Companion, day: int, time: CosemTime) -> Act:
    """Close each month's bill on a day (1 to 28, or LAST_DAY) at a time of day."""
    schedule = companion.schedules.get("billing_date")
    if schedule is None:
        raise NotSupported(f"{companion.name} declares no schedule billing_date")
    return Act(name="billing-date", changes=(runs_at(schedule, ((time, CosemDate(day=day)),)),))


def esw_filter(companion: Companion, bits: frozenset[int]) -> Act:
    """Let these bits of the event status word through, and no others; LocalError for one that is not in it."""
    esw = companion.esw
    if esw is None:
        raise NotSupported(f"{companion.name} declares no event status word")
    if wrong := sorted(bit for bit in bits if not 0 <= bit < esw.length):
        raise LocalError(f"the event status word has bits 0 to {esw.length - 1}, not {wrong[0]}")
    value = Data(Tag.BIT_STRING, "".join("1" if bit in bits else "0" for bit in range(esw.length)))
    return Act(name="esw-filter", changes=(Change(places=(Target(1, esw.filter, 2),), value=value),))


@dataclass(frozen=True, slots=True, kw_only=True)
class PushWish:
    """What is to stand in a push setup and in the schedule that runs it; None leaves it as it is. Delays in seconds."""

    destination: Destination | None = None
    objects: tuple[PushObject, ...] | None = None
    randomisation: int | None = None
    retries: int | None = None
    repetition: int | None = None
    schedule: Obis | None = None
    times: Times | None = None


def push_setup(setup: Obis, wish: PushWish) -> Act:
    """Set where, what and when a push setup pushes; LocalError when nothing of it is wished for.

    Without a `schedule` the times are written to the one beside it: 0-b:15.0.4 of 0-b:25.9.0, as Indian meters have it.
    """
    at = PushSetup(setup)
    values = (
        (at.push_object_list, wish.objects),
        (at.send_destination_and_method, wish.destination),
        (at.randomisation_start_interval, wish.randomisation),
        (at.number_of_retries, wish.retries),
        (at.repetition_delay, wish.repetition),
    )
    changes = tuple(
        Change(
            places=(Target(40, setup, attribute.number),),
            value=attribute.build(value),  # type: ignore[arg-type]  # each beside its own kind of value
            number=isinstance(value, int),
        )
        for attribute, value in values
        if value is not None
    )
    if wish.times is not None:
        changes = (*changes, runs_at(wish.schedule or Obis(0, setup.b, 15, 0, 4), wish.times))
    if not changes:
        raise LocalError("nothing of the push setup is to be changed")
    return Act(name="push-setup", changes=changes)


def _number(name: str, companion: Companion, control: str, value: int) -> Act:
    if value <= 0:
        raise LocalError(f"{value} is no number of seconds for {name}")
    tag = Tag.LONG_UNSIGNED if value < 1 << 16 else Tag.DOUBLE_LONG_UNSIGNED
    change = Change(places=(attribute_of(companion, control, "value"),), value=Data(tag, value), number=True)
    return Act(name=name, changes=(change,))


def control_object(companion: Companion, control: str) -> ControlObject:
    """Return an object that orders go to; NotSupported when the companion has none."""
    found = companion.control.get(control)
    if found is None:
        raise NotSupported(
            f"the companion {companion.name} says not where a meter has its {control.replace('_', ' ')}"
        )
    return found


def attribute_of(companion: Companion, control: str, attribute: str) -> Target:
    """Return an attribute of such an object by its name; NotSupported when the companion has none."""
    found = control_object(companion, control)
    return Target(found.class_id, found.obis, found.attributes[attribute])


Names = Mapping[str, str]
ACTS: Names = {
    "demand-period": "seconds over which demand is averaged",
    "capture-period": "seconds of the block load's interval",
    "load-limit": "watts at which the load switch opens, or on, off",
    "billing-date": "day of the month (1-28 or last), perhaps with a time: 1, 15T06:00",
    "payment-mode": "prepaid or postpaid",
    "metering-mode": "forward-only or import-and-export",
    "esw-filter": "bits of the event status word that may alert: 0-5,51,81-87, or none",
    "push-setup": "a TOML file: destination, objects, delays, times of a push setup",
    "activity-calendar": "a TOML file: seasons, weeks, days of tariffs, and when they rule",
    "special-days": "a CSV or TOML file: dates with a day of the calendar of their own",
}
"""The named acts with what each takes."""
