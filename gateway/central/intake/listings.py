"""Which gateways central asks for a list of all their lines and meters, because it missed changes; sans-IO."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.backoff import Backoff

PATIENCE = 5.0
"""Seconds that missed changes may still be on their way."""
ASK_FIRST, ASK_MOST = 60.0, 900.0
"""Seconds after which an unanswered request is repeated, growing to the longest."""


class ListingWatch:
    """Says which requests are due; `now` is monotonic, in seconds."""

    def __init__(self) -> None:
        self._due: dict[str, tuple[float, Backoff]] = {}

    def behind(self, gateways: Iterable[str], now: float) -> None:
        """Note all gateways whose changes were missed; one that is not among them any more is forgotten."""
        found = set(gateways)
        for gateway in self._due.keys() - found:
            del self._due[gateway]
        for gateway in found - self._due.keys():
            self._due[gateway] = (now + PATIENCE, Backoff(ASK_FIRST, ASK_MOST, chance=0.0))

    def requests_due(self, now: float) -> list[str]:
        """Return the gateways to ask now; each is due again later, until it is no longer behind."""
        asked = sorted(gateway for gateway, (at, _) in self._due.items() if at <= now)
        for gateway in asked:
            backoff = self._due[gateway][1]
            self._due[gateway] = (now + backoff.next(), backoff)
        return asked
