"""Whether our clock is right, judged by what others say of the time; pure: no clock is read here.

What was observed is tied to the steady clock (seconds since the machine started, which nobody sets). So a
clock that jumps is noticed at the very next judgement, and an observation grows vague with its age instead of
wrong. Sources that hang on one another are one voice: whatever NTP program runs, the host speaks once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

DRIFT = 200e-6
"""Seconds that a steady clock may lose or win in a second: twice what bad crystals do."""
OLDEST = 86_400.0
"""Seconds after which an observation says nothing any more."""
VAGUE = 120.0
"""An observation that may be off by more seconds than this says nothing."""


class Voice(StrEnum):
    """Who speaks of the time, independently of the others."""

    HOST = "host"
    CENTRAL = "central"
    METERS = "meters"


class ClockState(StrEnum):
    """What the evidence comes to. Only `trusted` and `declared` may stamp a time that is believed.

    `unproven`: nobody says anything. `disputed`: as many say one thing as another. `wrong`: most agree on
    another time. `declared`: the configuration says so, and nobody was asked.
    """

    TRUSTED = "trusted"
    DECLARED = "declared"
    UNPROVEN = "unproven"
    DISPUTED = "disputed"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One source's word: when the steady clock showed `steady`, it was `instant`, give or take `error` seconds."""

    voice: Voice
    source: str
    steady: float
    instant: datetime
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """An observation as it stands now: our clock should show `offset` seconds more, give or take `error`."""

    voice: Voice
    source: str
    offset: float
    error: float
    age: float

    @property
    def low(self) -> float:
        """The least that our clock should be moved by."""
        return self.offset - self.error

    @property
    def high(self) -> float:
        """The most that our clock should be moved by."""
        return self.offset + self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the evidence comes to; `offset` seconds would put our clock right, where most agree on that."""

    state: ClockState
    text: str
    offset: float | None = None
    error: float | None = None
    opinions: tuple[Opinion, ...] = ()

    @property
    def trusted(self) -> bool:
        """Whether our clock may be believed."""
        return self.state in (ClockState.TRUSTED, ClockState.DECLARED)


DECLARED = Judgement(
    state=ClockState.DECLARED, text='[time] trust = "host": taken on trust, nobody was asked'
)
"""The judgement of a clock that the configuration declares to be right."""


def judge(
    observations: Iterable[Observation],
    *,
    steady: float,
    now: datetime,
    max_error: float,
    known_after: datetime | None = None,
    doubt: str = "",
) -> Judgement:
    """Judge our clock, which shows `now` while the steady clock shows `steady`.

    `max_error`: seconds by which a clock may be off and still be called right. `known_after` is the last
    instant at which our clock was right: meters that say an earlier one are not heard. `doubt` says why the
    clock is doubted where nobody says anything (a saved clock).
    """
    opinions = _opinions(observations, steady=steady, now=now, known_after=known_after)
    if not opinions:
        return Judgement(state=ClockState.UNPROVEN, text=doubt or "nobody has told the time yet")
    support, low, high = _agreed(opinions)
    if 2 * support <= len(opinions):
        text = "the sources contradict each other: " + _told(opinions)
        return Judgement(state=ClockState.DISPUTED, text=text, opinions=opinions)
    offset, error = (low + high) / 2, (high - low) / 2
    if -max_error <= low and high <= max_error:
        state, text = ClockState.TRUSTED, _told(opinions)
    elif high < -max_error or max_error < low:
        how = "slow" if offset > 0 else "fast"
        state, text = ClockState.WRONG, f"our clock is {abs(offset):.0f} s {how}: {_told(opinions)}"
    else:
        state, text = ClockState.UNPROVEN, f"what is known is too vague: {_told(opinions)}"
    return Judgement(state=state, text=text, offset=offset, error=error, opinions=opinions)


def quorum(
    seen: Mapping[str, tuple[float, datetime]], *, steady: float, least: int, spread: float
) -> Observation | None:
    """Return what meter clocks agree on: more than two thirds of them, `least` at least, within `spread` seconds.

    `seen` has, by meter, what its clock showed at a moment of the steady clock.
    """
    fresh = {meter: one for meter, one in seen.items() if 0 <= steady - one[0] <= OLDEST}
    if len(fresh) < least:
        return None
    # What each would show now, as seconds from the first: a common scale in which they can be compared.
    origin = next(iter(fresh.values()))[1]
    shown = sorted((at - origin).total_seconds() + steady - when for when, at in fresh.values())
    best: Sequence[float] = ()
    begin = 0
    for end, value in enumerate(shown):
        while value - shown[begin] > spread:
            begin += 1
        if end + 1 - begin > len(best):
            best = shown[begin : end + 1]
    if len(best) < least or 3 * len(best) <= 2 * len(fresh):
        return None
    middle = best[len(best) // 2]
    error = max(best[-1] - middle, middle - best[0], 1.0)
    instant = origin + timedelta(seconds=middle)
    return Observation(voice=Voice.METERS, source="meters", steady=steady, instant=instant, error=error)


def _opinions(
    observations: Iterable[Observation], *, steady: float, now: datetime, known_after: datetime | None
) -> tuple[Opinion, ...]:
    """Return the sharpest opinion of each voice."""
    best: dict[Voice, Opinion] = {}
    for one in observations:
        age = steady - one.steady
        error = one.error + DRIFT * age
        if not 0 <= age <= OLDEST or error > VAGUE:
            continue
        true = one.instant + timedelta(seconds=age)
        past = known_after is not None and true + timedelta(seconds=error) < known_after
        if past and one.voice is Voice.METERS:
            continue  # time does not run backwards, whatever a few meters say
        opinion = Opinion(
            voice=one.voice,
            source=one.source,
            offset=(true - now).total_seconds(),
            error=error,
            age=age,
        )
        held = best.get(one.voice)
        if held is None or _rank(opinion) < _rank(held):
            best[one.voice] = opinion
    return tuple(best[voice] for voice in Voice if voice in best)


def _rank(one: Opinion) -> tuple[float, str, float, float]:
    """Order opinions of one voice: the sharpest first; the rest makes that the same in any order."""
    return one.error, one.source, one.offset, one.age


def _agreed(opinions: Sequence[Opinion]) -> tuple[int, float, float]:
    """Return how many opinions share an interval, most first, and that interval (Marzullo's algorithm)."""
    edges = sorted([(o.low, 0) for o in opinions] + [(o.high, 1) for o in opinions])
    best = count = 0
    low = high = 0.0
    for at, (edge, closes) in enumerate(edges):
        if closes:
            count -= 1
            continue
        count += 1
        if count > best:
            best, low, high = count, edge, edges[at + 1][0]
    return best, low, high


def _told(opinions: Sequence[Opinion]) -> str:
    return ", ".join(f"{o.source} {o.offset:+.1f} s (±{o.error:.1f} s)" for o in opinions)
