"""What happens in one household on one day: load, voltage, cuts and sags, as a pure function of its habits.

Seconds are counted since 1970 in UTC; days are local (UTC+05:30), slots are half-hours 0..47.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from protocols.simulator.household.chance import Dice

LOCAL_OFFSET_S = 330 * 60
DAY_S = 86_400
SLOT_S = 1_800
STEP_S = 300
SLOTS = DAY_S // SLOT_S
STEPS = SLOT_S // STEP_S

_INT = "i"  # arrays keep a month of a thousand homes small
NOMINAL_MV = 236_000
LOW_VOLTAGE_CODE = (9, 10)
OVER_VOLTAGE_CODE = (7, 8)

# Watts of an ordinary home by local hour; the evening peak and the morning water heater stand out.
_WEEKDAY_W = (
    90, 80, 75, 75, 80, 140, 380, 520, 430, 260, 210, 200,
    210, 200, 190, 200, 240, 330, 520, 780, 860, 720, 420, 180,
)  # fmt: skip
_WEEKEND_W = (
    110, 90, 80, 75, 80, 110, 240, 430, 560, 520, 430, 400,
    450, 430, 380, 340, 330, 400, 560, 800, 900, 780, 520, 240,
)  # fmt: skip
# Millivolts that the feeder loses by local hour: the evening sag.
_SAG_MV = (
    0, 0, 0, 0, 0, 1000, 4000, 6000, 5000, 3000, 2000, 2000,
    2500, 2500, 2000, 2000, 3000, 6000, 11000, 16000, 18000, 14000, 7000, 2000,
)  # fmt: skip
# Fans and coolers by month, per cent.
_SEASON = (85, 88, 100, 118, 130, 128, 120, 115, 112, 104, 92, 86)


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How a household lives. `area` names the feeder whose cuts it shares; `load_percent` scales its load.

    No power cut lasts beyond `cuts_until` (seconds), so that a demonstration ends with every meter in reach.
    """

    seed: str
    area: str
    load_percent: int = 100
    power_factor_milli: int = 950
    cuts_until: int | None = None


@dataclass(frozen=True, slots=True)
class Sag:
    """A span of bad voltage: seconds from..until, millivolts added, event codes at both ends."""

    start: int
    end: int
    delta_mv: int
    codes: tuple[int, int]


@dataclass(frozen=True, slots=True)
class DayPlan:
    """One local day: watts, extra volt-amperes, millivolts and ripple by slot; cuts and a sag in seconds.

    Ripple (a, b, c for each slot in turn) moves the six five-minute steps of a slot by +a -b +c -a +b -c
    watts: it never changes the energy of a whole slot.
    """

    start: int
    watts: array[int]
    extra_va: array[int]
    millivolts: array[int]
    ripple: array[int]
    cuts: tuple[tuple[int, int], ...]
    sag: Sag | None

    def step_watts(self, slot: int, step: int) -> int:
        """Return the load in one five-minute step of a slot."""
        a, b, c = self.ripple[slot * 3 : slot * 3 + 3]
        return self.watts[slot] + (a, -b, c, -a, b, -c)[step]

    def voltage(self, second: int) -> int:
        """Return millivolts at a second of this day, as if there were no cut."""
        slot, rest = divmod(second - self.start, SLOT_S)
        a, b, c = self.ripple[slot * 3 : slot * 3 + 3]
        swing = (b, -a, c, -c, a, -b)[rest // STEP_S] * 7
        sag = self.sag
        delta = sag.delta_mv if sag is not None and sag.start <= second < sag.end else 0
        return self.millivolts[slot] - max(-1500, min(1500, swing)) + delta


def local_date(second: int) -> date:
    """Return the local date of a second since 1970."""
    return date(1970, 1, 1) + timedelta(days=(second + LOCAL_OFFSET_S) // DAY_S)


def midnight(second: int) -> int:
    """Return the local midnight at or before a second."""
    return second - (second + LOCAL_OFFSET_S) % DAY_S


def local_midnight(at: datetime) -> datetime:
    """Return the local midnight at or before an instant, in UTC."""
    return datetime.fromtimestamp(midnight(int(at.timestamp())), UTC)


def month_start(second: int) -> int:
    """Return the local midnight that begins the month of a second."""
    return midnight(second) - (local_date(second).day - 1) * DAY_S


def plan_day(habits: Habits, start: int) -> DayPlan:
    """Work out the local day that begins at second `start`."""
    day = local_date(start)
    dice = Dice(habits.seed, "day", day.isoformat(), draws=SLOTS * 6 + 16)
    shape = _WEEKEND_W if day.weekday() >= 5 else _WEEKDAY_W
    mood = dice.between(80, 120) * _SEASON[day.month - 1] * habits.load_percent
    watts, extra, volts, ripple = array(_INT), array(_INT), array(_INT), array(_INT)
    for slot in range(SLOTS):
        load = shape[slot // 2] * mood * dice.between(70, 130) // 100_000_000
        factor = habits.power_factor_milli - dice.below(40)
        most = load // 6 + 1
        watts.append(load)
        extra.append(load * 1000 // factor - load)
        volts.append(NOMINAL_MV - _SAG_MV[slot // 2] + dice.between(-2000, 2000))
        ripple.extend((dice.below(most), dice.below(most), dice.below(most)))
    cuts = _cuts(habits, start)
    return DayPlan(start, watts, extra, volts, ripple, cuts, _sag(dice, start, cuts))


def _cuts(habits: Habits, start: int) -> tuple[tuple[int, int], ...]:
    """Draw the day's cuts: the feeder's, shared by the area, and now and then a blown fuse of one's own."""
    found: list[tuple[int, int]] = []
    for name, likely, longest in ((habits.area, 350, 150), (habits.seed, 40, 240)):
        dice = Dice(name, "cuts", local_date(start).isoformat(), draws=4)
        if dice.chance(likely):
            begin = start + dice.between(30 * 60, 18 * 3600)
            found.append((begin, begin + dice.between(4 * 60, longest * 60)))
    found.sort()
    if len(found) == 2 and found[1][0] <= found[0][1] + 600:
        found = [(found[0][0], max(found[0][1], found[1][1]))]
    limit = habits.cuts_until
    return tuple(cut for cut in found if limit is None or cut[1] <= limit)


def _sag(dice: Dice, start: int, cuts: tuple[tuple[int, int], ...]) -> Sag | None:
    """Draw a span of low (evening) or high (night) voltage that no cut touches."""
    low = dice.chance(600)
    if not dice.chance(220):
        return None
    begin = start + (dice.between(18 * 3600, 20 * 3600) if low else dice.between(3600, 4 * 3600))
    end = begin + dice.between(10 * 60, 100 * 60)
    if any(begin < cut_end and cut_start < end for cut_start, cut_end in cuts):
        return None
    if low:
        return Sag(begin, end, -dice.between(28_000, 40_000), LOW_VOLTAGE_CODE)
    return Sag(begin, end, dice.between(34_000, 44_000), OVER_VOLTAGE_CODE)
