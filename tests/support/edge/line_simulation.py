"""A line in simulated time: the poller's own decisions over meters and orders that are only numbers. No asyncio.

`python -m tests.support.edge.line_simulation` prints the figures of a month with 1, 16 and 31 of 32 meters dead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import heapify, heappop

from gateway.edge.polling.admission import Urgency
from gateway.edge.polling.line_state import Came, LineState
from gateway.edge.polling.pace import MeterPace
from gateway.edge.polling.schedule import DEFAULT_PERIODS, PolledMeter, Schedule
from gateway.edge.polling.turns import NEVER, PROMPT, Claim
from protocols.reading import ProfileName
from protocols.session import MeterSpec

T0 = datetime(2026, 11, 1, tzinfo=UTC)
Span = tuple[datetime, datetime]


@dataclass
class Meter:
    """One meter: seconds of a visit, of a silence and of the quiet time behind it; when it is without power."""

    name: str
    periods: Mapping[ProfileName, timedelta]
    visit: float = 0.4
    silence: float = 1.0
    quiet: float = 0.5
    off: Sequence[Span] = ()
    visits: list[tuple[datetime, datetime]] = field(default_factory=list)
    """When each visit was wanted, and when it began."""

    def dark(self, at: datetime) -> bool:
        return any(begin <= at < end for begin, end in self.off)


@dataclass(frozen=True)
class Job:
    """A turn of somebody else: when it is asked for, how urgent, how long it takes and says that it may take."""

    at: datetime
    urgency: Urgency
    seconds: float
    worst: float
    patience: timedelta = timedelta(seconds=60)


@dataclass(frozen=True)
class Turn:
    """One turn that was given: what it proved to be, wanted from when, begun, and when the line was free again.

    `claimed` is as what it waited: a dead meter that came back waited as a silent one.
    """

    urgency: Urgency
    claimed: Urgency
    wanted: datetime
    began: datetime
    free: datetime
    meter: str = ""
    first_silence: bool = False

    @property
    def seconds(self) -> float:
        return (self.free - self.began).total_seconds()

    @property
    def waited(self) -> float:
        return (self.began - self.wanted).total_seconds()


class LineSimulation:
    """Runs `LineState` on a clock of its own; `turns` are all that were given, in order."""

    def __init__(self, meters: Sequence[Meter], jobs: Sequence[Job] = ()) -> None:
        self.now = T0
        self.state = LineState(T0)
        self.meters = {meter.name: meter for meter in meters}
        for meter in meters:
            polled = PolledMeter(
                meter=meter.name,
                line="sim",
                spec=MeterSpec(meter=meter.name),
                profiles=tuple(meter.periods),
            )
            self.state.paces[meter.name] = MeterPace(polled, Schedule(periods=meter.periods), T0)
        self._jobs = [(job.at, number, job) for number, job in enumerate(jobs, 1)]
        heapify(self._jobs)
        self._waiting: dict[int, Job] = {}
        self.turns: list[Turn] = []
        self.back: dict[str, list[float]] = defaultdict(list)
        """Seconds from power to the first answer, by meter."""

    def run(self, until: datetime) -> None:
        """Go on until a time."""
        while self.now < until:
            self._arrive()
            decision = self.state.next(self.now)
            if decision.claim is None:
                came = self._jobs[0][0] if self._jobs else until
                assert decision.until > self.now, "it must not spin"
                self.now = min(decision.until, came, until)
            elif decision.claim.number:
                self._lend(decision.claim)
            else:
                self._poll(decision.claim)

    def pending(self) -> list[Job]:
        """Return the jobs that still wait."""
        return list(self._waiting.values())

    def _arrive(self) -> None:
        while self._jobs and self._jobs[0][0] <= self.now:
            _, number, job = heappop(self._jobs)
            self._waiting[number] = job
            self.state.waiting[number] = Claim(
                number=number,
                urgency=job.urgency,
                ready=job.at,
                wanted_by=job.at + job.patience,
                worst=job.worst,
            )

    def _lend(self, claim: Claim) -> None:
        job = self._waiting.pop(claim.number)
        began = self.now
        self.now += timedelta(seconds=job.seconds)
        del self.state.waiting[claim.number]
        self._arrive()
        self.state.lent(claim, began, self.now)
        self.turns.append(Turn(claim.urgency, claim.urgency, job.at, began, self.now))

    def _poll(self, claim: Claim) -> None:
        meter, pace = self.meters[claim.meter], self.state.paces[claim.meter]
        began, was_dead = self.now, pace.dead
        if meter.dark(began):
            self.now += timedelta(seconds=meter.silence)
            free = self.now + timedelta(seconds=meter.quiet)
            self._arrive()
            pace.failed(self.now, dead=True)
            self.state.polled(claim, began, free, Came.SILENCE)
            urgency = Urgency.SILENT
        else:
            due = pace.due(began)
            self.now = free = began + timedelta(seconds=meter.visit)
            self._arrive()
            for profile in due:
                pace.read(profile, self.now)
            pace.succeeded()
            self.state.polled(claim, began, free, Came.ANSWER)
            urgency = Urgency.DUE
            meter.visits.append((claim.ready, began))
            if was_dead and (ends := [end for _, end in meter.off if end <= began]):
                self.back[meter.name].append((self.now - max(ends)).total_seconds())
        self.turns.append(
            Turn(
                urgency,
                claim.urgency,
                claim.ready,
                began,
                free,
                meter.name,
                first_silence=not was_dead and pace.dead,
            )
        )


def cost(
    turns: Sequence[Turn], urgency: Urgency, *, against: Sequence[Urgency] = PROMPT, gated: bool = False
) -> float:
    """Return the seconds that orders and living meters that were due waited for turns of an urgency, from outside.

    Counted from what happened: the part of each such turn, its quiet time included, in which somebody more urgent was
    there who had his turn only later. `against` says who is meant; with `gated` only those turns count of which it
    was known before what they are.
    """
    lost, wanted = 0.0, NEVER  # the earliest wish among the more urgent turns behind
    for turn in reversed(turns):
        if turn.urgency is urgency and not (gated and turn.first_silence):
            lost += max(0.0, (turn.free - max(turn.began, wanted)).total_seconds())
        if turn.urgency in against and turn.urgency < urgency:
            wanted = min(wanted, turn.wanted)
    return lost


def bus(
    dead: int, meters: int = 32, *, until: datetime, visit: float = 0.4, minutes: int = 15
) -> list[Meter]:
    """Return the meters of a bus, of which some are without power until `until`."""
    periods = {
        ProfileName.INSTANTANEOUS: timedelta(minutes=minutes),
        ProfileName.BLOCK_LOAD: timedelta(minutes=30),
    }
    return [
        Meter(
            f"GEN:{n}",
            {**periods, ProfileName.DAILY: DEFAULT_PERIODS[ProfileName.DAILY]},
            visit=visit,
            off=[(T0, until)] if n < dead else [],
        )
        for n in range(meters)
    ]


def report() -> None:
    """Print what dead meters cost, and how soon they are back."""
    day = timedelta(days=1)
    for minutes in (15, 1):
        print(
            f"32 meters, visits of 0.4 s every {minutes} min, a silence takes 1.5 s; power back after a day"
        )
        for dead in (1, 16, 31):
            simulation = LineSimulation(bus(dead, until=T0 + day, minutes=minutes))
            simulation.run(T0 + day + timedelta(minutes=5))
            seconds = (simulation.now - T0).total_seconds()
            share = cost(simulation.turns, Urgency.SILENT) / seconds
            busy = sum(turn.seconds for turn in simulation.turns if turn.urgency is Urgency.SILENT) / seconds
            back = [seconds for times in simulation.back.values() for seconds in times]
            print(
                f"  {dead:2} dead: the living lose {share:.3%}; tries use {busy:.1%} of the line, idle wire; back after"
                f" {max(back):.1f} s at the latest ({len(back)} meters)"
            )


if __name__ == "__main__":
    report()
