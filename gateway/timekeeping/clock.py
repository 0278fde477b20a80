"""A clock that says whether it may be believed: the machine's time beside the evidence for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol, runtime_checkable

import structlog

from gateway.timekeeping import host
from gateway.timekeeping.evidence import (
    ClockState,
    Judgement,
    Observation,
    Voice,
    judge,
    quorum,
)
from gateway.timekeeping.saved import SavedTime, load_saved, store_saved
from protocols.clock import SystemClock
from protocols.reading import MeterClock
from protocols.session import Clock

MAX_METERS = 20_000
"""Meter clocks remembered: twice what one edge reads."""
MAX_SETTINGS = 50
"""Settings of the clock remembered: those of one poll are wanted."""
STEPPED = 1.0
"""Seconds that two looks at one clock may differ by: more, and it was set in between."""
METER_SPREAD = 40.0
"""Seconds within which meters agree."""
_FLAGGED = 0b0000_0011

log = structlog.get_logger("gateway.timekeeping")


@runtime_checkable
class JudgedClock(Protocol):
    """A clock whose right to be believed is judged by evidence."""

    def judgement(self) -> Judgement:
        """Say what the evidence comes to now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSettings:
    """Which sources are heard (`kernel`, `timesync`, `chrony`, `central`, `meters`), and what counts as right."""

    sources: frozenset[str] = frozenset({"kernel", "timesync", "chrony", "central", "meters"})
    max_error: float = 30.0
    quorum: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockBase:
    """When this run of the machine began, in true time: what the steady clock's seconds are counted from."""

    boot: str
    at: datetime
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStatistics:
    """A clock that is judged: `trusted` is 1 or 0; by `offset` seconds, give or take `error`, it should be moved.

    `voices` speak of it now, `meters` are the meter clocks that were heard, `settings` how often it was set.
    """

    trusted: int
    offset: float | None
    error: float | None
    voices: int
    meters: int
    settings: int


class EvidenceClock:
    """The machine's clock with the evidence for it, which `refresh` gathers and others add to.

    Any thread may ask; observations are replaced whole. `path` keeps what is known across restarts. `wall`,
    `steady`, `boot` and `sources` are the machine's own unless given.
    """

    def __init__(
        self,
        settings: EvidenceSettings | None = None,
        *,
        path: Path | None = None,
        clock: Clock | None = None,
        steady: Callable[[], float] = host.steady,
        boot: str | None = None,
        sources: Sequence[host.Source] | None = None,
    ) -> None:
        self._settings = settings or EvidenceSettings()
        self._path = path
        self._clock = clock or SystemClock()
        self._steady = steady
        self.boot = host.boot_id() if boot is None else boot
        if sources is None:
            sources = [source for name, source in host.SOURCES.items() if name in self._settings.sources]
        self._sources = tuple(sources)
        self._meters: dict[str, tuple[float, datetime]] = {}
        self._held: dict[str, Observation] = {}
        self._lock = threading.Lock()
        self._told: ClockState | None = None
        self._shown: deque[float] = deque(maxlen=MAX_SETTINGS)
        self._right: datetime | None = None
        self._doubt = ""
        self._learn(None if path is None else load_saved(path))
        self._ask_host()

    # -- the time

    def now(self) -> datetime:
        """Return what the machine's clock shows, in UTC."""
        return self._clock.now()

    async def sleep_until(self, at: datetime) -> None:
        """Sleep until the machine's clock shows `at`, or is set back."""
        await self._clock.sleep_until(at)

    def disciplined(self) -> bool:
        """Say whether there is evidence that the clock is right now."""
        return self.judgement().trusted

    def judgement(self) -> Judgement:
        """Say what the evidence comes to now."""
        steady, now = self._steady(), self.now()
        shown = now.timestamp() - steady
        if not self._shown or abs(shown - self._shown[-1]) > STEPPED:
            self._shown.append(shown)
        return judge(
            self._held.values(),
            steady=steady,
            now=now,
            max_error=self._settings.max_error,
            known_after=self._right,
            doubt=self._doubt,
        )

    def steady(self) -> float:
        """Return the seconds that the machine has run."""
        return self._steady()

    def statistics(self) -> ClockStatistics:
        """Return how the clock stands, frozen."""
        found = self.judgement()
        return ClockStatistics(
            trusted=int(found.trusted),
            offset=found.offset,
            error=found.error,
            voices=len(found.opinions),
            meters=len(self._meters),
            settings=max(0, len(self._shown) - 1),
        )

    def shown(self) -> tuple[float, ...]:
        """Return what the clock showed less the steady one's seconds, at each of its last settings, newest first."""
        return tuple(self._shown)[::-1]

    def base(self) -> ClockBase | None:
        """Return when this run of the machine began, by what most agree on; None while they do not."""
        found = self.judgement()
        if found.offset is None or found.state not in (ClockState.TRUSTED, ClockState.WRONG):
            return None
        began = self.now() + timedelta(seconds=found.offset - self._steady())
        return ClockBase(boot=self.boot, at=began, error=found.error or 0.0)

    # -- evidence

    def observe(self, one: Observation) -> None:
        """Hear what a source says; one that is not configured is not heard."""
        if one.source in self._settings.sources:
            with self._lock:
                self._held = {**self._held, one.source: one}

    def meter_seen(self, meter: str, seen: MeterClock) -> None:
        """Hear a meter's clock, read just now unless it says when; one that it calls doubtful is not heard."""
        doubtful = seen.status not in (None, 0xFF) and bool((seen.status or 0) & _FLAGGED)
        if "meters" not in self._settings.sources or doubtful:
            return
        with self._lock:
            if meter in self._meters or len(self._meters) < MAX_METERS:
                self._meters[meter] = (self._steady() if seen.steady is None else seen.steady, seen.meter)

    def refresh(self) -> Judgement:
        """Ask the host and count the meters; keep what is known. Blocks; call it in a thread."""
        self._ask_host()
        with self._lock:
            seen = dict(self._meters)
        agreed = quorum(seen, steady=self._steady(), least=self._settings.quorum, spread=METER_SPREAD)
        if agreed is not None:
            self.observe(agreed)
        elif seen:
            with self._lock:  # they have fallen out with one another since
                self._held = {n: one for n, one in self._held.items() if one.voice is not Voice.METERS}
        found = self.judgement()
        if found.trusted:
            self._right, self._doubt = self.now(), ""
        self._tell(found)
        self._keep()
        return found

    def _ask_host(self) -> None:
        told = [one for source in self._sources for one in source(self._steady(), self.now())]
        with self._lock:
            held = {name: one for name, one in self._held.items() if one.voice is not Voice.HOST}
            self._held = held | {one.source: one for one in told}

    # -- across restarts

    def _learn(self, saved: SavedTime | None) -> None:
        if saved is None:
            return
        now, ran = self.now(), self._steady()
        self._right = saved.right
        if saved.boot == self.boot:
            for one in saved.observations:
                if one.steady <= ran:
                    self.observe(one)
        self._doubt = saved.doubt(boot=self.boot, now=now, started=now - timedelta(seconds=ran))

    def _keep(self) -> None:
        if self._path is None:
            return
        saved = SavedTime(
            boot=self.boot, seen=self.now(), right=self._right, observations=tuple(self._held.values())
        )
        try:
            store_saved(self._path, saved)
        except OSError as error:  # a full disk: the next start knows less, that is all
            log.warning("clock_not_saved", path=str(self._path), error=str(error))

    def _tell(self, found: Judgement) -> None:
        if found.state is self._told:
            return
        self._told = found.state
        report = log.info if found.trusted else log.warning
        report("clock_judged", state=found.state.value, why=found.text, offset=found.offset)


def surely_within(clock: Clock) -> float | None:
    """Return by how many seconds a clock may be off at most, by its host or central; None where neither vouches for it.

    Meters do not count: their clocks are what is held against it. A clock that is taken on trust or simulated is right.
    """
    if not clock.disciplined():
        return None
    if not isinstance(clock, JudgedClock):
        return 0.0
    voices = [one for one in clock.judgement().opinions if one.voice is not Voice.METERS]
    return min((max(abs(one.low), abs(one.high)) for one in voices), default=None)


def doubt(clock: Clock) -> str:
    """Say why a clock is not believed; "" when it is."""
    if clock.disciplined():
        return ""
    return clock.judgement().text if isinstance(clock, JudgedClock) else "nobody vouches for it"
