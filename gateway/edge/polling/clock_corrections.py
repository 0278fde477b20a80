"""Meters' clocks that are put right without being asked: which, when, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

import structlog

from gateway.edge.polling.clock_rule import AS_TAKEN, ONCE_IN, ClockRule, is_doubted, may_again
from gateway.edge.stamping.clocks import DRIFT_ALARM
from gateway.timekeeping.clock import surely_within
from protocols.errors import MeterRefused, NotSupported, ProtocolError, WriteNotKept
from protocols.known import Known, keep
from protocols.reading import MeterClock, Number, Remark, RemarkWord
from protocols.session import Clock, MeterSession, ShiftsClock

AFTER_REFUSAL = timedelta(days=30)
"""A meter that did not take a correction is not asked for another one for so long: somebody has to look."""
METERS_NAMED = 4
"""Meters named in an alarm; the rest is counted."""
log = structlog.get_logger("gateway.edge.polling")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockNote:
    """The last correction of a clock, kept across restarts: when, how far ahead it was, whether it was refused."""

    at: datetime
    before: float
    refused: bool = False


class Record(Protocol):
    """Where each act on a meter is recorded durably before it is done, and what came of it."""

    def __call__(self, meter: str, *, before: str, after: str, outcome: str) -> None:
        """Note a correction that begins or ended; JournalError where that cannot be kept: then nothing is done."""


class ClockCorrections:
    """Decides by `rule` (None: no clock is moved), carries out, and remembers in `known`.

    `corrected` and `refused` count; `off` are the drifts of clocks that wait for an order, `stuck` says of each meter
    that did not take a correction why.
    """

    def __init__(
        self,
        clock: Clock,
        known: Known,
        *,
        rule: ClockRule | None = None,
        record: Record | None = None,
    ) -> None:
        self.corrected = self.refused = 0
        self.off: dict[str, float] = {}
        self.stuck: dict[str, str] = {}
        self._clock = clock
        self._known = known
        self._rule = rule
        self._record = record
        self._drifts: dict[str, float] = {}

    def seen(self, meter: str, seen: MeterClock, zone: ZoneInfo, period: timedelta | None) -> datetime | None:
        """Take note of a meter's clock; return when it is to be corrected, None where it is not.

        Call it while the gateway's own clock is disciplined. `period` is that of the meter's intervals, None while it
        is not known: then nothing is moved.
        """
        most = DRIFT_ALARM.total_seconds() if self._rule is None else self._rule.most
        if seen.is_off(most):
            if meter not in self.off:
                log.warning("meter_clock_off", meter=meter, drift=seen.drift, most=most)
            self.off[meter] = seen.drift
        else:
            self.off.pop(meter, None)
        if self._rule is not None and not seen.is_off(self._rule.least):
            self.stuck.pop(meter, None)  # somebody set it
        self._drifts[meter] = seen.drift
        found = self._plan(meter, seen, zone, period)
        return None if found is None else found[1]

    def forget(self, meter: str) -> None:
        """Note that a meter is not polled any more."""
        self.off.pop(meter, None)
        self.stuck.pop(meter, None)
        self._drifts.pop(meter, None)

    async def correct(
        self, session: MeterSession, meter: str, zone: ZoneInfo, period: timedelta | None
    ) -> tuple[Remark | None, datetime | None]:
        """Look at the clock once more and move it, if that is still right.

        Returns what is to be told of it, and when it should be tried where this was no moment for it. Raises what the
        session raises but for a refusal, which is told, and JournalError where the act cannot be recorded.
        """
        before = await session.clock()
        if abs(before.drift - self._drifts.get(meter, before.drift)) > AS_TAKEN + before.takes:
            return None, None  # it does not run evenly: one look more decides
        found = self._plan(meter, before, zone, period)
        if found is None or not isinstance(session, ShiftsClock):
            return None, None
        by, at = found
        if at > before.gateway:
            return None, at
        wanted = f"{before.drift + by.total_seconds():+.0f} s"
        self._note(meter, before, wanted, "begun")
        keep(self._known, _key(meter), ClockNote(at=self._clock.now(), before=before.drift))
        try:
            await session.shift_clock(by)
            after = await session.clock()
        except (MeterRefused, NotSupported, WriteNotKept) as error:
            return self._refused(meter, before, wanted, str(error)), None
        except ProtocolError as error:
            self._note(meter, before, wanted, f"not known: {error}")
            raise
        assert self._rule is not None
        doubt = (before.takes + after.takes) / 2
        if not self._rule.was_taken(before.drift, by, after.drift, doubt):
            told = f"it was {before.drift:+.0f} s ahead, should be {wanted}, and is {after.drift:+.0f} s"
            return self._refused(meter, before, wanted, told, after), None
        self.corrected += 1
        self.stuck.pop(meter, None)
        self._note(meter, before, f"{after.drift:+.0f} s", "done")
        log.info("meter_clock_corrected", meter=meter, before=before.drift, after=after.drift)
        return _remark(RemarkWord.CLOCK_CORRECTED, before, after), None

    def alarms(self) -> Iterator[tuple[str, str, int]]:
        """Yield code, text and count of what somebody should look at."""
        if self.off:
            told = (f"{meter} {drift:+.0f} s" for meter, drift in self.off.items())
            yield "clock_drift", f"clocks of meters are off: {_some(told, len(self.off))}", len(self.off)
        if self.stuck:
            told = (f"{meter}: {why}" for meter, why in self.stuck.items())
            text = f"meters did not take a correction of their clock: {_some(told, len(self.stuck))}"
            yield "clock_not_corrected", text, len(self.stuck)

    def _plan(
        self, meter: str, seen: MeterClock, zone: ZoneInfo, period: timedelta | None
    ) -> tuple[timedelta, datetime] | None:
        """Return by how much a clock is to be moved, and when by ours; None where it is not by itself."""
        rule, sure = self._rule, surely_within(self._clock)
        if rule is None or period is None or is_doubted(seen.status):
            return None
        if sure is None or sure > rule.least / 2:
            return None
        by = rule.shift(seen.drift, seen.takes / 2 + sure)
        if not by:
            return None
        note = self._known.get(_key(meter))
        if isinstance(note, ClockNote):
            wait = AFTER_REFUSAL if note.refused else ONCE_IN
            if not may_again(note.at, seen.gateway, wait):
                return None
        clear = rule.clear_at(seen.meter, by, zone, period)
        return None if clear is None else (by, seen.gateway + (clear - seen.meter))

    def _refused(
        self, meter: str, before: MeterClock, wanted: str, why: str, after: MeterClock | None = None
    ) -> Remark:
        self.refused += 1
        keep(self._known, _key(meter), ClockNote(at=self._clock.now(), before=before.drift, refused=True))
        self.stuck[meter] = why
        self._note(meter, before, wanted, why)
        log.warning("meter_clock_not_corrected", meter=meter, before=before.drift, why=why)
        return _remark(RemarkWord.CLOCK_NOT_CORRECTED, before, after, why)

    def _note(self, meter: str, before: MeterClock, after: str, outcome: str) -> None:
        if self._record is not None:
            self._record(meter, before=f"{before.drift:+.0f} s", after=after, outcome=outcome)


def _key(meter: str) -> tuple[str, str, str]:
    return meter, "", "clock"


def _remark(word: RemarkWord, before: MeterClock, after: MeterClock | None, why: str = "") -> Remark:
    return Remark(
        word=word,
        before=_seconds(before),
        found=None if after is None else _seconds(after),
        detail=why,
    )


def _seconds(clock: MeterClock) -> Number:
    return Number(round(clock.drift), 0, "s")


def _some(told: Iterator[str], count: int) -> str:
    named = [one for one, _ in zip(told, range(METERS_NAMED), strict=False)]
    more = f", and {count - METERS_NAMED} more" if count > METERS_NAMED else ""
    return ", ".join(named) + more
