"""Live readings at a hand-over: dated by a clock that can be believed, and by one instant for both meters."""

from __future__ import annotations

from dataclasses import replace as with_fields
from datetime import datetime

from gateway.edge.stamping.clocks import DRIFT_ALARM
from protocols.reading import ReadingSet


def dated(taken: ReadingSet) -> ReadingSet:
    """Return a live reading, dated by our own time where the meter's clock is doubtful or off.

    A hand-over must not be dated by the clock of a meter that comes from stock or goes to the scrap.
    """
    own = taken.meter_time
    if (own is None or own.trusted) and abs(taken.at - taken.received_at) <= DRIFT_ALARM:
        return taken
    doubted = None if own is None else with_fields(own, trusted=False)
    return read_at(with_fields(taken, meter_time=doubted), taken.received_at.replace(microsecond=0))


def read_at(reading: ReadingSet, at: datetime) -> ReadingSet:
    """Return a live reading at the hand-over's instant, a few seconds later at most.

    It is received then, too: what is stamped by our own time, for a meter whose clock is in doubt, is stamped
    with the time of receipt, and that must be the hand-over.
    """
    return with_fields(reading, at=at, received_at=at)
