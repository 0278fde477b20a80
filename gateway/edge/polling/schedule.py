"""When to ask which meter: due times on local boundaries, back-off, the budget of dead meters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from zoneinfo import ZoneInfo

from gateway.edge.polling.admission import Route
from protocols.reading import ProfileName
from protocols.session import MeterSpec

FIRST_PROBE, LAST_PROBE = 1.0, 40.0
"""A meter or line that does not answer is tried again after 1 s, 2 s, 4 s … 40 s; any answer sets it back.

So it is read within a minute of its power. On a bus the tries use idle wire, elsewhere admission control bounds them.
"""
LAST_RETRY = 300.0
"""Seconds between tries of a meter that answers and refuses, at most."""
SETTLE = timedelta(seconds=30)
"""Time that a meter gets to store its row after a boundary."""
SPREAD_SHARE = 2 / 3
"""Part of a period over which meters are spread at most: the rest is for those that need a second try."""
SPREAD_LEAST = timedelta(minutes=30)
"""Shorter periods are spread as this one, so that what is due at the half hour is read in one visit."""

DEFAULT_PERIODS: Mapping[ProfileName, timedelta] = {
    ProfileName.INSTANTANEOUS: timedelta(minutes=15),
    ProfileName.PREPAYMENT: timedelta(minutes=15),
    ProfileName.BLOCK_LOAD: timedelta(minutes=30),
    ProfileName.EVENTS: timedelta(minutes=30),
    ProfileName.DAILY: timedelta(hours=6),
    ProfileName.BILLING: timedelta(days=1),
    ProfileName.NAMEPLATE: timedelta(days=7),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How often each profile is read, and over how long after a boundary the meters' turns are spread."""

    periods: Mapping[ProfileName, timedelta] = field(default_factory=lambda: dict(DEFAULT_PERIODS))
    spread: timedelta = timedelta(0)

    def period(self, profile: ProfileName) -> timedelta:
        """Return how often a profile is read."""
        return self.periods.get(profile) or DEFAULT_PERIODS[profile]

    def next_due(
        self, profile: ProfileName, after: datetime, zone: str = "Asia/Kolkata", meter: str = ""
    ) -> datetime:
        """The first boundary (of the meter's local time) later than `after`, plus time to settle.

        Each meter comes a part of `spread` later, the same for all its profiles and in every run: ten thousand
        that became due together would fail together. Runs that were missed meanwhile are not made up for: a
        stored profile is read from its watermark.
        """
        period = self.period(profile)
        spread = min(self.spread, max(period, SPREAD_LEAST) * SPREAD_SHARE)
        settle = SETTLE + spread * _share_of(meter) % period
        local = after.astimezone(ZoneInfo(zone))
        anchor = datetime(2000, 1, 1, tzinfo=local.tzinfo).replace(tzinfo=None)
        passed: int = (local.replace(tzinfo=None) - settle - anchor) // period
        boundary = anchor + (passed + 1) * period + settle
        wait: timedelta = boundary - local.replace(tzinfo=None)
        return after + wait

    def boundary(
        self, profile: ProfileName, at: datetime, zone: str = "Asia/Kolkata", meter: str = ""
    ) -> datetime:
        """Return the meter's last due time up to and with `at`."""
        return self.next_due(profile, at, zone, meter) - self.period(profile)


def _share_of(meter: str) -> float:
    """Return a number from 0 to below 1 that is the meter's own."""
    return int.from_bytes(blake2b(meter.encode(), digest_size=6).digest(), "big") / (1 << 48)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolledMeter:
    """One meter to poll: its identity `GEN:12345678`, its line's name, how to reach it, what to read.

    `route` is what its sessions share with those of other lines, None for a bus, which is a limit of its own.
    `setter` is how it is met by the client that may set its clock, None for the one that reads.
    """

    meter: str
    line: str
    spec: MeterSpec
    profiles: tuple[ProfileName, ...]
    route: Route | None = None
    setter: MeterSpec | None = None
