"""How long a meter takes to answer, learned from each answer: how long it is worth waiting for the next one."""

from __future__ import annotations

from dataclasses import dataclass

LEAST = 0.25
"""Seconds that are always waited: systems and converters hold octets back for a moment now and then."""
ENOUGH = 8
"""Answers after which the wait may become shorter than at first contact."""
FORGETTING = 64
"""Answers after which the slowest one is nearly forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyFacts:
    """What is known of one meter's latency: seconds between a request and the first octet of its answer.

    `answers` counts those that were measured, `usual` is their running mean, `spread` the running mean of what they
    differ from it, `slowest` the longest of late, fading by and by. Plain numbers: a program may keep them and give
    them back (`LineAccount.learn`).
    """

    answers: int = 0
    usual: float = 0.0
    spread: float = 0.0
    slowest: float = 0.0

    def heard(self, seconds: float) -> LatencyFacts:
        """Return the facts with one more answer."""
        seconds = max(seconds, 0.0)
        if not self.answers:
            return LatencyFacts(answers=1, usual=seconds, spread=seconds / 2, slowest=seconds)
        error = seconds - self.usual
        fading = self.slowest - (self.slowest - self.usual) / FORGETTING
        return LatencyFacts(
            answers=self.answers + 1,
            usual=self.usual + error / 8,
            spread=self.spread + (abs(error) - self.spread) / 4,
            slowest=max(seconds, fading),
        )

    def patience(self, first: float, most: float) -> float:
        """Return how many seconds to wait for an answer to begin: `first` at first contact, `most` at most.

        Half as long again as the slowest of late; no shorter than `first` before ENOUGH answers, never below LEAST
        (or `first`, where that is less).
        """
        if not self.answers:
            return first
        wait = max(1.5 * self.slowest + 0.02, self.usual + 4 * self.spread, min(LEAST, first))
        return min(max(wait, first) if self.answers < ENOUGH else wait, max(most, first))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """Seconds of silence that a meter needs: after its own answer, and after another unit was talked with."""

    after_answer: float = 0.0
    after_other_unit: float = 0.0
