"""What was done to a simulated meter: orders, clock sets, money, resets, settings; each from its instant on."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from protocols.simulator.household.daybook import DatedAmount, TimeSpan

_FOREVER = 1 << 62


@dataclass(slots=True)
class Interventions:
    """Seconds since 1970 and what happened then, oldest first."""

    relay: list[tuple[int, bool]] = field(default_factory=list)
    paid: list[DatedAmount] = field(default_factory=list)
    corrections: list[DatedAmount] = field(default_factory=list)
    drifts: list[DatedAmount] = field(default_factory=list)
    resets: list[int] = field(default_factory=list)
    events: list[tuple[int, int, int]] = field(default_factory=list)
    periods: list[DatedAmount] = field(default_factory=list)
    cleared: int = 0

    def relay_closed(self, second: int) -> bool:
        """Say whether the contact is closed."""
        return next((closed for at, closed in reversed(self.relay) if at <= second), True)

    def open_spans(self) -> list[TimeSpan]:
        """Return the spans in which the contact is open."""
        ends = [at for at, _ in self.relay[1:]] + [_FOREVER]
        return [(at, end) for (at, closed), end in zip(self.relay, ends, strict=False) if not closed]

    def drift(self, second: int) -> int:
        """Return the seconds that the clock is ahead."""
        return next((d for at, d in reversed(self.drifts) if at <= second), self.drifts[0][1])

    def corrected(self, second: int) -> int:
        """Return the paise that written balances added."""
        return sum(paise for at, paise in self.corrections if at <= second)

    def resets_until(self, second: int) -> int:
        """Count the resets of the maximum demand until a second."""
        return bisect_right(self.resets, second)

    def log(self, second: int, log: int, code: int) -> None:
        """Note an event; each log numbers its own."""
        self.events.append((second, log, code))

    def numbered(self, log: int) -> list[tuple[int, int, int]]:
        """Return (second, number, code) of a log's noted events."""
        own = sorted((at, code) for at, name, code in self.events if name == log)
        return [(at, number, code) for number, (at, code) in enumerate(own, 1)]

    def period(self, second: int) -> int:
        """Return the capture period in force."""
        return next(period for at, period in reversed(self.periods) if at <= second)
