"""Setting a meter's clock: written with the deviation that the meter uses, read back, tried the other way round.

Meters differ in the sign of the deviation (Blue Book 4.1.6.1: minutes from local time to UTC, IST = -330; many
Indian meters: +330), and some show one sign and take the other: set, they end eleven hours off with "success".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

from protocols.dlms.acts.judged import Form, Judgement, ReadsAndWrites, Wish, write_judged
from protocols.dlms.apdu.lists import Target
from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import Data, octets
from protocols.dlms.objects.clock import CLOCK, Clock
from protocols.errors import LocalError, MeterProtocolError

CLOCK_TOLERANCE = 30
"""Seconds that a clock may be away when it is read back: the request's way to the meter, less than any deviation."""
PLAINLY_OFF = timedelta(seconds=5)
"""A clock that was off by more than this and is still off by as much was not set, within the tolerance or not."""
STILL = timedelta(seconds=1)
"""How far two readings of a clock that nobody set may differ: it shows whole seconds."""
TIME = Target(Clock.CLASS_ID, CLOCK, 2)
_UTC = ZoneInfo("UTC")


async def set_clock(
    exchange: ReadsAndWrites,
    now: Callable[[], datetime],
    zone: ZoneInfo,
    *,
    tolerance: int = CLOCK_TOLERANCE,
) -> Judgement:
    """Set the meter's clock to `now()`, as it is when the request leaves; the wall clock is that of `zone`.

    The deviation is written as the meter shows it, then by the Blue Book, then the other way round, then
    "unspecified", until the clock shows `now()` within `tolerance` seconds and not what it showed before; else the
    time that it showed before is set again, run on meanwhile.

    Raises LocalError for a time without a zone, and what `write_judged` raises.
    """
    if now().utcoffset() is None:
        raise LocalError("a clock is set to an instant with a zone")
    setting = _Setting(now, zone, timedelta(seconds=tolerance))
    return await write_judged(exchange, TIME, setting.wish, restore=setting.restore, show=setting.show)


async def shift_clock(
    exchange: ReadsAndWrites, now: Callable[[], datetime], zone: ZoneInfo, by: timedelta
) -> Judgement:
    """Move the meter's clock by `by` from what it shows, with the deviation and status that it shows.

    No other form is tried: for a moment it could show another hour, and the meter close intervals. Where the clock
    does not stand where it should (by half of `by` and a second, PLAINLY_OFF at most), the time that it showed is set
    again, run on meanwhile. Raises what `write_judged` raises.
    """
    setting = _Setting(now, zone, max(PLAINLY_OFF, abs(by) / 2))

    def wish(before: Data) -> Wish:
        stood, shown, read_at = setting.off(before), _octets(before), now()
        if stood is None:
            raise MeterProtocolError(f"the meter's clock ({CLOCK} #2) shows no time")

        def holds(found: Data) -> bool:
            off = setting.off(found)
            return off is not None and abs(off - stood - by) <= min(PLAINLY_OFF, abs(by) / 2 + STILL)

        return Wish(forms=[lambda: octets(_run_on(shown, now() - read_at + by))], holds=holds)

    return await write_judged(exchange, TIME, wish, restore=setting.restore, show=setting.show)


@dataclass(frozen=True, slots=True)
class _Setting:
    """What is wished for, and what is put back, as the time runs on."""

    now: Callable[[], datetime]
    zone: ZoneInfo
    tolerance: timedelta

    def wish(self, before: Data) -> Wish:
        stood = self.off(before)

        def holds(found: Data) -> bool:
            off = self.off(found)
            return off is not None and abs(off) <= self.tolerance and not _untouched(stood, off)

        return Wish(forms=self._forms(before, timedelta()), holds=holds)

    def restore(self, before: Data) -> Wish | None:
        """Put back what was shown, octet for octet: also where nothing is known of what the meter means by it."""
        stood, shown, read_at = self.off(before), _octets(before), self.now()
        if stood is None:
            return None

        def holds(found: Data) -> bool:
            off = self.off(found)
            return off is not None and abs(off - stood) <= self.tolerance

        def as_shown() -> Data:
            return octets(_run_on(shown, self.now() - read_at))

        return Wish(forms=[as_shown, *self._forms(before, stood)], holds=holds)

    def show(self, found: Data) -> str:
        written = cosem_time.octets_of(found)
        if written is None:
            return str(found)
        off = self.off(found)
        wall = cosem_time.decode(written, self.zone).wall
        return wall if off is None else f"{wall} ({off.total_seconds():+,.0f} s)"

    def off(self, found: Data) -> timedelta | None:
        """Return how far a clock is ahead; None where it shows no time."""
        shown = cosem_time.decode(_octets(found), self.zone).at
        return None if shown is None else shown - self.now()

    def _forms(self, before: Data, ahead: timedelta) -> list[Form]:
        return [partial(self._form, ahead, d) for d in _deviations(before, self.now(), self.zone)]

    def _form(self, ahead: timedelta, deviation: int | None) -> Data:
        at = (self.now() + ahead).astimezone(UTC)
        status = cosem_time.STATUS_DST if at.astimezone(self.zone).dst() else 0
        return octets(cosem_time.encode(at, self.zone, deviation=deviation, status=status))


def _untouched(stood: timedelta | None, off: timedelta) -> bool:
    """Say whether a clock is plainly as far off as it stood before."""
    return stood is not None and abs(stood) > PLAINLY_OFF and abs(off - stood) <= STILL


def _run_on(shown: bytes, time: timedelta) -> bytes:
    """Return what a clock shows some time later: the same deviation and status."""
    unspecified = cosem_time.UNSPECIFIED_DEVIATION.to_bytes(2, "big", signed=True)
    wall = cosem_time.decode(shown[:9] + unspecified + shown[11:], _UTC).at
    assert wall is not None
    deviation = int.from_bytes(shown[9:11], "big", signed=True)
    return cosem_time.encode(wall + time, _UTC, deviation=deviation, status=shown[11])


def _deviations(before: Data, at: datetime, zone: ZoneInfo) -> list[int | None]:
    """Return the deviations to write, the meter's own first; None is "unspecified"."""
    raw = int.from_bytes(_octets(before)[9:11], "big", signed=True)
    own = None if raw == cosem_time.UNSPECIFIED_DEVIATION else raw
    east = (at.astimezone(zone).utcoffset() or timedelta()) // timedelta(minutes=1)
    return list(dict.fromkeys((own, -east, east, None)))


def _octets(data: Data) -> bytes:
    value = cosem_time.octets_of(data)
    if value is None:
        raise MeterProtocolError(
            f"the meter's clock ({CLOCK} #2): expected date-time (12 octets), got {data.tag.name}"
        )
    return value
