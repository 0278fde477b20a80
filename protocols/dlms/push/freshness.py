"""Whether a ciphered push is new: its invocation counter rises, or evidence shows that the counter began anew.

A meter that loses its counter in a power cut pushes with small counters again, and everything that it pushed before
could be played to us as well. What tells them apart is the meter's clock in the body, which an authentication tag
proves: a push whose clock is later than that of every push taken so far is none of those. From then on no push is
taken whose clock is not later than the latest one from before the cut, whatever its counter. A push without a clock
has no such evidence. Neither has a "first breath" event by itself: it can be played again like anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from protocols.dlms.data import cosem_time

NEVER = -1


@dataclass(frozen=True, slots=True)
class PushMark:
    """What was taken from one sender: its last `counter`, and the latest wall `clock` (seconds; NEVER: none).

    `floor` is the latest clock from before the counter began anew, `peak` the greatest counter of all.
    """

    counter: int = NEVER
    clock: int = NEVER
    floor: int = NEVER
    peak: int = NEVER


NOTHING = PushMark()


def wall_seconds(octets: bytes) -> int:
    """Return the wall clock of a date-time of twelve octets in seconds; NEVER where a part is not specified."""
    if len(octets) != cosem_time.OCTETS:
        return NEVER
    year, (month, day, _, hour, minute, second) = int.from_bytes(octets[:2], "big"), octets[2:8]
    try:
        days = date(year, month, day).toordinal()
    except ValueError:
        return NEVER
    if hour > 23 or minute > 59 or second > 59:
        return NEVER
    return ((days * 24 + hour) * 60 + minute) * 60 + second


def judged(mark: PushMark, counter: int, clock: int, *, evidence: bool) -> PushMark | None:
    """Return the mark after a push with this counter and clock; None when it may have been played to us.

    `evidence` says that the clock of this push may show that the counter began anew.
    """
    latest = max(mark.clock, clock)
    peak = max(mark.peak, mark.counter, counter)
    # After a restart the counters from before it would fit again: then a clock must show that it is of this life.
    of_this_life = mark.floor == NEVER or (clock > mark.floor if clock != NEVER else counter > mark.peak)
    if counter > mark.counter and of_this_life:
        return PushMark(counter=counter, clock=latest, floor=mark.floor, peak=peak)
    if evidence and mark.clock != NEVER and clock > mark.clock:
        return PushMark(counter=counter, clock=clock, floor=mark.clock, peak=peak)
    return None
