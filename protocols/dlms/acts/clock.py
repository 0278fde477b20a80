"""Setting a meter's clock: written with the deviation that the meter uses, read back, tried the other way round.

Meters differ in the sign of the deviation (Blue Book 4.1.6.1: minutes from local time to UTC, IST = -330; many
Indian meters: +330), and some show one sign and take the other: set, they end eleven hours off with "success".
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

from protocols.dlms.acts.judged import Judgement, ReadsAndWrites, Wish, write_judged
from protocols.dlms.apdu.lists import Target
from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import Data, octets
from protocols.dlms.objects.clock import CLOCK, Clock
from protocols.errors import LocalError, MeterProtocolError

CLOCK_TOLERANCE = 30
"""Seconds that a clock may be away when it is read back: the request's way to the meter, less than any deviation."""
TIME = Target(Clock.CLASS_ID, CLOCK, 2)


async def set_clock(
    exchange: ReadsAndWrites,
    now: Callable[[], datetime],
    zone: ZoneInfo,
    *,
    tolerance: int = CLOCK_TOLERANCE,
) -> Judgement:
    """Set the meter's clock to `now()`, as it is when the request leaves; the wall clock is that of `zone`.

    The deviation is written as the meter shows it, then by the Blue Book, then the other way round, then
    "unspecified", until the clock shows `now()` within `tolerance` seconds; else the time that it showed before
    is set again, run on meanwhile.

    Raises LocalError for a time without a zone, and what `write_judged` raises.
    """
    if now().utcoffset() is None:
        raise LocalError("a clock is set to an instant with a zone")

    def wish(before: Data, ahead: timedelta = timedelta()) -> Wish:
        def at() -> datetime:
            return now() + ahead

        def form(deviation: int | None) -> Data:
            return octets(cosem_time.encode(at().astimezone(UTC), zone, deviation=deviation))

        def holds(found: Data) -> bool:
            shown = cosem_time.decode(_octets(found), zone).at
            return shown is not None and abs(shown - at()) <= timedelta(seconds=tolerance)

        return Wish(forms=[partial(form, d) for d in _deviations(before, now(), zone)], holds=holds)

    def restore(before: Data) -> Wish | None:
        shown = cosem_time.decode(_octets(before), zone).at
        return None if shown is None else wish(before, shown - now())

    def show(found: Data) -> str:
        written = cosem_time.octets_of(found)
        if written is None:
            return str(found)
        stamp = cosem_time.decode(written, zone)
        off = "" if stamp.at is None else f" ({(stamp.at - now()).total_seconds():+,.0f} s)"
        return f"{stamp.wall}{off}"

    return await write_judged(exchange, TIME, wish, restore=restore, show=show)


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
