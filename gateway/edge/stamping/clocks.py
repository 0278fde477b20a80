"""When a meter's clock, or the time on one of its rows, is believed."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gateway.timekeeping.clock import STEPPED, EvidenceClock
from protocols.reading import MeterClock, ReadingSet
from protocols.session import Clock

DRIFT_ALARM = timedelta(seconds=60)
"""Drift beyond which somebody should look at the clock, and a row counts as dated ahead."""
DRIFT_UNTRUSTED = timedelta(minutes=15)
"""Half a block: beyond it a stored row may lie in the wrong interval, so its time is not trusted."""
PUSH_TAKES = 60.0
"""Seconds in which what a meter pushed is stamped."""
_SUSPECT_READ = timedelta(days=40)
"""Rows are read again for so long, those of a month's end too."""
_CLOCK_DOUBT = 0b0000_0011
_STATUS_UNSPECIFIED = 0xFF


def clock_is_trusted(clock: MeterClock) -> bool:
    """Say whether a clock is neither flagged by the meter nor far off.

    Flags: clock status bit 0 invalid, bit 1 doubtful (Blue Book).
    """
    flagged = clock.status not in (None, _STATUS_UNSPECIFIED) and bool((clock.status or 0) & _CLOCK_DOUBT)
    return not flagged and not clock.is_off(DRIFT_UNTRUSTED.total_seconds())


def is_ahead(row: ReadingSet, now: datetime) -> bool:
    """Say whether the row's time is still to come."""
    return row.at > now + DRIFT_ALARM


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterEvidence:
    """What a poll saw of the meter's clock: how far it was ahead of ours, and for how long it had run evenly.

    `trusted`: nothing speaks against it. A row at `suspect_until` or before it may have been recorded while the
    clock was `former` seconds ahead: it was set since. `known`: our own clock was trusted when we looked, at the
    steady clock's second `looked`; what it showed then, less that, is `shown`.
    """

    trusted: bool = True
    drift: float | None = None
    held: float | None = None
    former: float | None = None
    suspect_until: datetime | None = None
    known: bool = True
    looked: float | None = None
    shown: float | None = None

    def trusts(self, row: ReadingSet) -> bool:
        """Say whether the meter's clock was right when it recorded the row, as far as this poll saw."""
        return self.trusted and (self.suspect_until is None or row.at > self.suspect_until)


@dataclass(slots=True)
class _Run:
    """A meter's clock while it ran evenly: since when, and how it stood to ours."""

    since: float
    base: float
    drift: float
    takes: float
    former: float | None = None
    suspect_until: datetime | None = None


class MeterClocks:
    """Remembers how each meter's clock ran, and lets our own clock hear it.

    What a meter shows is compared with the steady clock, so that a jump of ours is not taken for one of the meter.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._runs: dict[str, _Run] = {}

    def seen(self, meter: str, seen: MeterClock) -> MeterEvidence:
        """Note a meter's clock, read just now or at its `steady`; return what it says of the rows of this poll."""
        if isinstance(self._clock, EvidenceClock):
            seen = _by_present_setting(self._clock, seen)
            self._clock.meter_seen(meter, seen)
            # when `seen.gateway` was
            steady = self._clock.steady() - seen.takes / 2 if seen.steady is None else seen.steady
        else:
            steady = seen.gateway.timestamp()
        run = self._run(meter, seen, steady)
        known = self._clock.disciplined()
        return MeterEvidence(
            # A clock that does not know the time itself cannot say that the meter's is wrong.
            trusted=not known or clock_is_trusted(seen),
            known=known,
            looked=steady,
            shown=seen.gateway.timestamp() - steady,
            drift=seen.drift,
            held=max(0.0, steady - run.since),
            former=run.former,
            suspect_until=run.suspect_until,
        )

    def _run(self, meter: str, seen: MeterClock, steady: float) -> _Run:
        base = seen.meter.timestamp() - steady
        run = self._runs.get(meter)
        doubt = seen.takes + (0.0 if run is None else run.takes)
        if run is None:
            run = _Run(steady, base, seen.drift, seen.takes)
        elif abs(base - run.base) > DRIFT_ALARM.total_seconds() + doubt:
            moved = run.base - base  # so far ahead of its present self the clock was before
            run = _Run(steady, base, seen.drift, seen.takes)
            if abs(moved) > DRIFT_UNTRUSTED.total_seconds() + doubt:
                run.former = seen.drift + moved
                run.suspect_until = seen.meter + timedelta(seconds=max(moved, 0.0))
        run.base, run.drift, run.takes = base, seen.drift, seen.takes
        if run.suspect_until is not None and seen.meter > run.suspect_until + _SUSPECT_READ:
            run.former = run.suspect_until = None
        self._runs[meter] = run
        return run


def _by_present_setting(own: EvidenceClock, seen: MeterClock) -> MeterClock:
    """Return a meter's clock beside ours as ours is set now: it may have been set since the meter's was read."""
    if seen.steady is None:
        return seen
    shown = own.now() - timedelta(seconds=own.steady() - seen.steady)
    was_set = abs((shown - seen.gateway).total_seconds()) > STEPPED
    return replace(seen, gateway=shown) if was_set else seen


class Receipts:
    """When the rows of one poll came: by our clock, which may have been set since, and by the steady one.

    A row says when it came by our clock as it was then. Of all that the clock showed during the poll only one fits.
    """

    def __init__(self, own: Clock, meter: MeterEvidence) -> None:
        self._own = own
        self._judged = own if isinstance(own, EvidenceClock) else None
        # Judged first: that notes how the clock is set now.
        self._sure = own.disciplined() and meter.known
        self.now = own.now()
        self._steady = 0.0 if self._judged is None else self._judged.steady()
        self._earliest = self._steady - PUSH_TAKES if meter.looked is None else meter.looked - STEPPED
        self._meter = meter
        self._found: dict[datetime, float | None] = {}

    def steady(self, row: ReadingSet) -> float | None:
        """Return where our steady clock stood when a row came; None where that cannot be told."""
        if row.received_at not in self._found:
            self._found[row.received_at] = self._find(row.received_at.timestamp())
        return self._found[row.received_at]

    def _find(self, received: float) -> float | None:
        settings = () if self._judged is None else self._judged.shown()
        for shown in (self.now.timestamp() - self._steady, self._meter.shown, *settings):
            if shown is not None and self._earliest <= received - shown <= self._steady + STEPPED:
                return received - shown
        return None

    def known(self, row: ReadingSet) -> bool:
        """Say whether our clock was trusted when the row came and when the meter's was looked at, and is now."""
        if not self._sure or self._judged is None:
            return self._sure and row.received_at <= self.now + timedelta(seconds=STEPPED)
        steady = self.steady(row)
        if steady is None:
            return False
        ago = (self.now - row.received_at).total_seconds()
        return abs(ago - (self._steady - steady)) <= STEPPED

    def evidence(self, row: ReadingSet) -> str:
        """Return what speaks of the time of a row that is not trusted (the contract's CaptureClock); "" for nothing."""
        meter, found, moved = self._meter, dict[str, object](), 0.0
        if self._judged is not None and not self.known(row):
            steady = self.steady(row)
            found["steady"] = "unknown/0.000"
            if steady is not None:
                found["steady"] = f"{self._judged.boot}/{max(0.0, steady):.3f}"
                # Told against the clock by which the row came: ours may have been set since the meter's was looked at.
                shown = row.received_at.timestamp() - steady
                moved = 0.0 if meter.shown is None else meter.shown - shown
        if meter.drift is not None:
            found["drift"] = f"{meter.drift + moved:.3f}"
        if meter.held is not None:
            found["held"] = int(meter.held)
        if meter.former is not None and meter.suspect_until is not None and row.at <= meter.suspect_until:
            found["former"] = f"{meter.former + moved:.3f}"
        return json.dumps(found, separators=(",", ":")) if found else ""
