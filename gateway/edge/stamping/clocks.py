"""When a meter's clock, or the time on one of its rows, is believed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.timekeeping.clock import EvidenceClock
from protocols.reading import MeterClock, ReadingSet
from protocols.session import Clock

DRIFT_ALARM = timedelta(seconds=60)
"""Drift beyond which somebody should look at the clock, and a row counts as dated ahead."""
DRIFT_UNTRUSTED = timedelta(minutes=15)
"""Half a block: beyond it a stored row may lie in the wrong interval, so its time is not trusted."""
STEPPED = 1.0
"""Seconds that two looks at one clock may differ by: more, and it was set in between."""
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
    return not flagged and abs(clock.drift) <= DRIFT_UNTRUSTED.total_seconds()


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
        """Note a meter's clock, read just now; return what it says of the rows of this poll."""
        if isinstance(self._clock, EvidenceClock):
            self._clock.meter_seen(meter, seen)
            steady = self._clock.steady()
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
        if run is None:
            run = _Run(steady, base, seen.drift)
        elif abs(base - run.base) > DRIFT_ALARM.total_seconds():
            moved = run.base - base  # so far ahead of its present self the clock was before
            run = _Run(steady, base, seen.drift)
            if abs(moved) > DRIFT_UNTRUSTED.total_seconds():
                run.former = seen.drift + moved
                run.suspect_until = seen.meter + timedelta(seconds=max(moved, 0.0))
        run.base, run.drift = base, seen.drift
        if run.suspect_until is not None and seen.meter > run.suspect_until + _SUSPECT_READ:
            run.former = run.suspect_until = None
        self._runs[meter] = run
        return run


def steady_receipt(row: ReadingSet, own: EvidenceClock, meter: MeterEvidence) -> float | None:
    """Return where our steady clock stood when a row came; None where that cannot be told.

    The row says when it came by our clock, which may have been set since: then it was by the clock as it was when
    the meter's was looked at. Only one of the two lies within the poll.
    """
    now = own.steady()
    earliest = now - PUSH_TAKES if meter.looked is None else meter.looked - STEPPED
    for shown in (own.now().timestamp() - now, meter.shown):
        if shown is not None and earliest <= row.received_at.timestamp() - shown <= now + STEPPED:
            return row.received_at.timestamp() - shown
    return None


def knows_receipt(row: ReadingSet, own: Clock, meter: MeterEvidence) -> bool:
    """Say whether our clock was trusted when the row came and when the meter's was looked at, and is now."""
    if not own.disciplined() or not meter.known:
        return False
    if not isinstance(own, EvidenceClock):
        return row.received_at <= own.now() + timedelta(seconds=STEPPED)
    steady = steady_receipt(row, own, meter)
    if steady is None:
        return False
    ago = own.now().timestamp() - row.received_at.timestamp()
    return abs(ago - (own.steady() - steady)) <= STEPPED


def evidence_json(row: ReadingSet, own: Clock, meter: MeterEvidence) -> str:
    """Return what speaks of the time of a row that is not trusted, as the contract's CaptureClock; "" where nothing."""
    found: dict[str, object] = {}
    moved = 0.0
    if isinstance(own, EvidenceClock) and not knows_receipt(row, own, meter):
        steady = steady_receipt(row, own, meter)
        found["steady"] = "unknown/0.000" if steady is None else f"{own.boot}/{max(0.0, steady):.3f}"
        if steady is not None and meter.shown is not None:
            # Told against the clock by which the row came: ours may have been set since the meter's was looked at.
            moved = meter.shown - (row.received_at.timestamp() - steady)
    if meter.drift is not None:
        found["drift"] = f"{meter.drift + moved:.3f}"
    if meter.held is not None:
        found["held"] = int(meter.held)
    if meter.former is not None and meter.suspect_until is not None and row.at <= meter.suspect_until:
        found["former"] = f"{meter.former + moved:.3f}"
    return json.dumps(found, separators=(",", ":")) if found else ""
