"""How well a line carries: answers, errors, latencies, the share of the wire, and what to do about it; pure.

A `TraceSink` sees every octet with its time, so any protocol is measured in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from protocols.line import LinePace
from protocols.unused import Unused

NOISY = 0.01
"""Part of questions without a sound answer beyond which a line is bad."""
SLOW = 0.5
"""Seconds of latency that hold a bus up."""
UNEVEN = 5
"""How many times its usual latency a meter may take before that is worth a word."""


def broken_of(unused: Mapping[Unused, int]) -> int:
    """Return how much came that was spoiled: a late answer is sound, and its meter slow."""
    return sum(count for cause, count in unused.items() if cause is not Unused.LATE_ANSWER)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterQuality:
    """What was measured with one meter; latencies in seconds from the end of a question to the first octet back."""

    meter: str
    asked: int = 0
    unanswered: int = 0
    broken: int = 0
    latencies: tuple[float, ...] = ()
    error: str | None = None

    @property
    def failed(self) -> float:
        """Part of the questions that drew no sound answer, 0 to 1."""
        return min(1.0, (self.unanswered + self.broken) / self.asked) if self.asked else 0.0

    def latency(self, part: float) -> float | None:
        """Return the latency below which this part of all answers lies (0.5: the usual one); None without answers."""
        if not self.latencies:
            return None
        return sorted(self.latencies)[min(int(part * len(self.latencies)), len(self.latencies) - 1)]


@dataclass(slots=True)
class Measure:
    """The sink of a traced line: counts questions and answers of the meter that is in hand.

    `now` is a clock that only goes forward, in seconds; `pace` the wire's, None where it is not known.
    """

    now: Callable[[], float]
    pace: LinePace | None = None
    octets_passed: int = 0
    _asked: int = 0
    _unanswered: int = 0
    _latencies: list[float] = field(default_factory=list)
    _since: float | None = None

    def take(self, meter: str, *, broken: int, error: str | None) -> MeterQuality:
        """Return what was measured since the last call, as of this meter."""
        self._give_up()
        found = MeterQuality(
            meter=meter,
            asked=self._asked,
            unanswered=self._unanswered,
            broken=broken,
            latencies=tuple(self._latencies),
            error=error,
        )
        self._asked = self._unanswered = 0
        self._latencies = []
        return found

    def octets(self, *, sent: bool, octets: bytes) -> None:
        """Note octets that are about to be sent, or that came."""
        self.octets_passed += len(octets)
        if sent:
            self._give_up()
            self._asked += 1
            on_the_wire = len(octets) * self.pace.octet if self.pace is not None else 0.0
            self._since = self.now() + on_the_wire
        elif self._since is not None:
            self._latencies.append(max(self.now() - self._since, 0.0))
            self._since = None

    def remark(self, text: str) -> None:
        """Take no note of remarks."""

    def close(self) -> None:
        """Keep what was measured."""

    def _give_up(self) -> None:
        self._unanswered += self._since is not None
        self._since = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LineQuality:
    """What was measured on a line. `wire` is the part of the time in which octets passed, None where unknown."""

    meters: tuple[MeterQuality, ...]
    seconds: float
    wire: float | None = None
    causes: str = ""

    @property
    def advice(self) -> list[str]:
        """What to look at, the most likely first; what is in order is said, too."""
        answering = [one for one in self.meters if one.latencies]
        silent = [one.meter for one in self.meters if not one.latencies]
        if not answering:
            return [
                "nobody answers: A and B swapped, no supply, or other serial settings; `scan` tries them all"
            ]
        said = []
        if silent:
            said.append(
                f"{_names(silent)} silent: supply, address (`scan`), or the cable behind the last that answers"
            )
        bad = [one for one in answering if one.failed > NOISY]
        if len(bad) > 1 and 2 * len(bad) >= len(answering):
            said.append(
                "many meters have errors: the bus itself; terminate both ends (120 Ω) and nowhere else, one bias,"
                " screen earthed at one end, no stubs, a lower baud rate on long cables"
            )
        elif bad:
            said.append(
                f"{_names([one.meter for one in bad])} with errors and the others without: their stub or terminals, or"
                " two meters at one address"
            )
        said += self._slow(answering)
        return said or ["in order"]

    @staticmethod
    def _slow(answering: Sequence[MeterQuality]) -> list[str]:
        said = []
        slow = [one.meter for one in answering if (one.latency(0.5) or 0.0) > SLOW]
        if slow:
            said.append(
                f"{_names(slow)} slow to answer: nothing is wrong with the line, each reading takes longer"
            )
        uneven = [
            one.meter
            for one in answering
            if one.meter not in slow
            and (one.latency(1.0) or 0.0) > max(UNEVEN * (one.latency(0.5) or 0.0), 0.1)
        ]
        if uneven:
            said.append(
                f"{_names(uneven)} with uneven latency: a busy converter or a second master on the line (`watch`)"
            )
        return said


def _names(meters: Sequence[str]) -> str:
    few = ", ".join(meters[:5])
    return few if len(meters) <= 5 else f"{few} and {len(meters) - 5} more"
