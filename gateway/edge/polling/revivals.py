"""Power that is back: the silent meters of other lines that share a meter's way are tried when it answers again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from gateway.edge.polling.admission import Route
from gateway.edge.polling.line import LinePoll
from gateway.edge.polling.line_state import REVIVE_EVERY
from protocols.session import Clock


class Revivals:
    """Tries them, of each way at most once in REVIVE_EVERY."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._revived: dict[str, datetime] = {}

    def power_is_back(self, route: Route | None, lines: Iterable[LinePoll]) -> None:
        """Try the silent meters of the lines that share a way, where a meter on it came back: a feeder, say."""
        now = self._clock.now()
        if route is None:
            return
        way = route.segment or route.host
        if now < self._revived.get(way, now - REVIVE_EVERY) + REVIVE_EVERY:
            return
        self._revived[way] = now
        for line in lines:
            if (other := line.route) is not None and other.shares(route):
                line.revive()
