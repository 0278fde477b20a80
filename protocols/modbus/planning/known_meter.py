"""What is known of one Modbus meter: how fast it answers, what it does not answer, how long a read may be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median

from protocols.known import Known, Notes, keep
from protocols.modbus.planning.plan import ReadLimits, RegisterRange

KEPT_FOR = timedelta(days=1)
"""How long a fact is believed: a meter gets new firmware, a hole was a meter that was just starting."""
MAX_REFUSALS = 64
"""Ranges kept of one meter; beyond them the oldest is learned anew."""
CERTAIN = 3
"""Visits in which a value was refused before it is asked for rarely: a starting meter refuses what it has."""
ASK_REFUSED = timedelta(hours=1)
"""Time from one question for a value that is refused for certain to the next."""
MEASURE_AGAIN = timedelta(minutes=15)
"""Least age of a latency that is replaced by another, unless the meter became much slower."""
DIFFERENT = 0.15
"""Part by which a latency differs before it is noted: smaller changes change no plan."""
SLOPE_COUNTS = 8
"""Registers by which two reads differ before the time for one register is told from them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Registers that the meter does not answer when they are asked for together.

    It did so in `times` visits, first at `since`, last at `asked`. It is doubtful where most of that one visit was
    refused, as by a meter that is just starting: then it changes no plan.
    """

    range: RegisterRange
    since: datetime
    asked: datetime
    times: int = 1
    doubtful: bool = False

    def stands(self, now: datetime) -> bool:
        """Say whether it is still believed."""
        return timedelta() <= now - self.since < KEPT_FOR

    def certain(self, now: datetime) -> bool:
        """Say whether a value need not be asked for now."""
        return self.times >= CERTAIN and timedelta() <= now - self.asked < ASK_REFUSED


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModbusMeter:
    """What a meter showed under its present firmware, "" where it does not tell one.

    `latency` is its turnaround in seconds: beyond t3.5 and its octets on a line that knows its speed, else all that
    does not grow with the registers; then `register` is what one register more takes. Both were measured at
    `measured_at`. Reads of more than `longest` registers are not answered, as was found at `longest_at`. The far end of
    its line takes one request a connection, as was found at `closes_since`.
    """

    firmware: str = ""
    latency: float | None = None
    register: float | None = None
    measured_at: datetime | None = None
    refusals: tuple[Refusal, ...] = ()
    longest: int | None = None
    longest_at: datetime | None = None
    closes_since: datetime | None = None


class ModbusNotes(Notes[KnownModbusMeter]):
    """What was known of a meter at `now`, without what is too old, and what this session found out."""

    def __init__(self, now: datetime, known: KnownModbusMeter | None = None) -> None:
        super().__init__(known or KnownModbusMeter())
        self._now = now
        known = self.known
        if not _fresh(known.measured_at, now):
            self.note(latency=None, register=None, measured_at=None)
        if not _fresh(known.longest_at, now):
            self.note(longest=None, longest_at=None)
        if not _fresh(known.closes_since, now):
            self.note(closes_since=None)
        self.note(refusals=tuple(one for one in known.refusals if one.stands(now)))
        self._round_trips: list[tuple[int, float]] = []

    def limited(self, limits: ReadLimits) -> ReadLimits:
        """Return limits that keep to what was learned, too."""
        longest = self.known.longest
        return replace(
            limits,
            max_read=limits.max_read if longest is None else min(limits.max_read, longest),
            refused=(*limits.refused, *sorted(r.range for r in self.known.refusals if not r.doubtful)),
        )

    def need_not_ask(self, asked: RegisterRange) -> bool:
        """Say whether these registers were refused so often that they are asked for rarely."""
        return any(one.range == asked and one.certain(self._now) for one in self.known.refusals)

    def refused(self, asked: RegisterRange, *, doubtful: bool = False) -> None:
        """Note registers that were not answered, while others of this meter were; `doubtful` where they were few."""
        known = next((one for one in self.known.refusals if one.range == asked), None)
        if known is None:
            known = Refusal(range=asked, since=self._now, asked=self._now, doubtful=doubtful)
        else:
            known = replace(known, asked=self._now, times=known.times + 1, doubtful=False)
        others = [one for one in self.known.refusals if one.range != asked]
        self.note(refusals=(*others[-(MAX_REFUSALS - 1) :], known))

    def answered(self, asked: RegisterRange) -> None:
        """Note registers that were answered: what was said of a part of them is wrong."""
        left = tuple(one for one in self.known.refusals if not asked.contains(one.range))
        if len(left) < len(self.known.refusals):
            self.note(refusals=left)

    def too_long(self, longest: int) -> None:
        """Note that reads of more than `longest` registers are not answered, whatever they ask for."""
        self.note(longest=longest, longest_at=self._now)

    def closes(self) -> None:
        """Note that the far end closes its connection after each answer."""
        if self.known.closes_since is None:
            self.note(closes_since=self._now)

    def took(self, count: int, seconds: float) -> None:
        """Note how long an answer of `count` registers took, in seconds, without what the wire explains."""
        self._round_trips.append((count, seconds))

    def sum_up(self, *, by_register: bool) -> None:
        """Note the latency that this session measured; `by_register` where the wire's speed is not known."""
        if not self._round_trips:
            return
        register = self.known.register
        if by_register:
            (least, short), (most, long) = _ends(self._round_trips)
            if most - least >= SLOPE_COUNTS:
                register = max(0.0, (long - short) / (most - least))
        slope = (register or 0.0) if by_register else 0.0
        latency = max(0.0, median(seconds - slope * count for count, seconds in self._round_trips))
        if self._differs(latency):
            self.note(latency=latency, register=register, measured_at=self._now)

    def firmware_is(self, firmware: str) -> None:
        """Note the meter's firmware; forget all that was learned under another one."""
        if self.known.firmware in ("", firmware):
            self.note(firmware=firmware)
        else:
            self.known = KnownModbusMeter(firmware=firmware)

    def _differs(self, latency: float) -> bool:
        before, at = self.known.latency, self.known.measured_at
        if before is None or at is None or latency > 2 * before:
            return True
        return self._now - at >= MEASURE_AGAIN and abs(latency - before) > DIFFERENT * before


def known_modbus(entries: Known | None, meter: str | None, model: str) -> KnownModbusMeter | None:
    """Return what is known of a meter that is read by a model; None for one without identity."""
    found = None if entries is None or meter is None else entries.get((meter, model, "modbus"))
    return found if isinstance(found, KnownModbusMeter) else None


def keep_modbus(entries: Known | None, meter: str | None, model: str, notes: ModbusNotes) -> None:
    """Keep what a session found out, if there is anything new."""
    if entries is not None and meter is not None and notes.changed:
        keep(entries, (meter, model, "modbus"), notes.known)


def _fresh(at: datetime | None, now: datetime) -> bool:
    return at is not None and timedelta() <= now - at < KEPT_FOR


def _ends(round_trips: Iterable[tuple[int, float]]) -> tuple[tuple[int, float], tuple[int, float]]:
    """Return the quickest of the shortest reads and of the longest."""
    ordered = sorted(round_trips)
    most = ordered[-1][0]
    return ordered[0], min(one for one in ordered if one[0] == most)
