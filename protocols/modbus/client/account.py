"""What is known of a line from turn to turn: answers that may still come, who talks on it, how fast meters answer.

One `LineAccount` lives with each line (`account_of`), beyond sessions: what one session leaves unanswered, the next
one's meter must not take for its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from protocols.errors import MeterProtocolError
from protocols.line import LineMemory, memory_of
from protocols.modbus.client.latency import LatencyFacts
from protocols.modbus.client.outstanding import Outstanding, Shape
from protocols.modbus.framing.frames import Frames
from protocols.modbus.framing.hunt import Frame, Hunt, Passed, as_request
from protocols.modbus.framing.requests import Answer, Request, answer_pdu
from protocols.unused import Unused, UnusedCounter, unused_of

BETWEEN_PIECES = 0.25
"""Seconds of silence after which octets are not the rest of a frame that was overheard before."""
GATEWAY_CODES = (10, 11)
"""Exceptions by which a gateway speaks for a meter: no path to it, or no answer from it."""
MAX_TRANSACTIONS = 64
"""Requests to a gateway without answer that are remembered, for its word on a meter that comes late."""

FOREIGN_WAIT = 2.0
"""Seconds in which the answer to another master's request may come."""
_COUNTED = (1, 2, 3, 4, 17, 20)
"""Functions whose answers begin with the octets of their data."""
SECOND_WITHIN = 5.0
"""Seconds in which a second answer to one request comes, if one does."""
MAX_BELIEVED = 32
"""Answers of one unit that are remembered, so that copies of them are known."""
GATEWAY_PATIENCE = 5.0
"""Seconds for which the word of a gateway on a silent meter is waited for until its manner is known."""
IDLE_CONNECTION = 10.0
"""Seconds without an octet after which a silent connection may be one that the far end knows no more."""
REOPEN_REST = 60.0
"""Seconds for which no new connection is tried again after one that was as silent as the last."""
LEARNED_CLOSINGS = 2
"""Connections closed after their one answer, in succession, that make it a rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayFacts:
    """What a gateway does for a meter that is silent: says so after `speaks_after` seconds, or `keeps_silent`."""

    speaks_after: float | None = None
    keeps_silent: bool = False

    def patience(self, wait: float) -> float:
        """Return how long to wait for an answer or the gateway's word, where the meter alone is worth `wait`."""
        if self.keeps_silent:
            return wait
        return max(wait, GATEWAY_PATIENCE if self.speaks_after is None else 1.2 * self.speaks_after + 0.2)


@dataclass(frozen=True, slots=True)
class Overheard:
    """A frame that is not used, why, and whether something that was asked before explains it."""

    frame: Frame
    cause: Unused
    explained: bool


@dataclass(frozen=True, slots=True)
class _Believed:
    request: Request
    pdu: bytes
    at: float
    doubtful: bool


@dataclass(frozen=True, slots=True)
class _Sent:
    transaction: int
    at: float


@dataclass(slots=True)
class ConnectionFacts:
    """What is known of the far end of a connection: how it treats connections."""

    number: int = 0
    """Which connection of the line it is."""
    requests: int = 0
    """Requests on it."""
    answers: int = 0
    closings: int = 0
    """Connections in succession that were closed after their one answer."""
    reopened_in_vain_until: float = 0.0
    """Until when a new connection is not worth trying: the last one was as silent."""

    @property
    def one_request(self) -> bool:
        """Say whether the far end takes one request a connection, as far as was learned."""
        return self.closings >= LEARNED_CLOSINGS

    def expect_closings(self) -> None:
        """Take over from an earlier run that the far end takes one request a connection."""
        self.closings = max(self.closings, LEARNED_CLOSINGS)

    def worth_another(self, now: float, *, idle: float, silences: int) -> bool:
        """Say whether another connection may answer where this one is silent, and the last try is long enough ago."""
        old, quiet = self.requests > 1, silences > 1
        return ((old and quiet) or idle > IDLE_CONNECTION) and now >= self.reopened_in_vain_until

    def opened(self, number: int) -> None:
        """Take note of a new connection, unless it is the one that is known."""
        if number != self.number:
            self.number, self.requests, self.answers = number, 0, 0


class LineAccount:
    """The account of one line. Times are those of the running loop, seconds of waiting are returned as such."""

    def __init__(self) -> None:
        self.memory = LineMemory()
        self.outstanding = Outstanding()
        self.gateway = GatewayFacts()
        self.unused = UnusedCounter()
        self.echoes = False
        """Whether the line gives back what is sent on it."""
        self.heard_late: set[int] = set()
        """Units of which a late answer came since the last request to them."""
        self.last_unit: int | None = None
        self.last_at = 0.0
        """The unit that was talked with last, and when its last octet passed."""
        self.last_heard = 0.0
        """When the last octet came."""
        self.silences = 0
        """Requests without one octet in answer, since octets came last."""
        self.connection = ConnectionFacts()
        self.doubles = False
        """Whether answers come twice on this line (a repeater)."""
        self.contradicted: set[int] = set()
        """Units of which another answer came than the one that was believed: two meters have the same unit."""
        self._believed: dict[int, deque[_Believed]] = {}
        self._latencies: dict[int, LatencyFacts] = {}
        self._sent: deque[_Sent] = deque(maxlen=MAX_TRANSACTIONS)
        self._frames: Frames | None = None
        self._ear: Hunt | None = None
        self._ear_at = 0.0

    def barred_for(self, unit: int) -> float:
        """Return for how many seconds some requests to this unit must still wait for an earlier answer, 0 if none."""
        now = asyncio.get_running_loop().time()
        return max((self.outstanding.barred_until(unit, now) or now) - now, 0.0)

    def barred_shapes(self, unit: int) -> frozenset[Shape]:
        """Return function and data octets of the answers that this unit still owes, which a plan had better avoid."""
        return self.outstanding.barred_shapes(unit, asyncio.get_running_loop().time())

    def latency(self, unit: int) -> LatencyFacts:
        """Return what is known of a unit's latency."""
        return self._latencies.get(unit, LatencyFacts())

    def learn(self, unit: int, facts: LatencyFacts) -> None:
        """Take over what an earlier run knew of a unit's latency, unless something is known already."""
        if not self.latency(unit).answers:
            self._latencies[unit] = facts

    def measured(self, unit: int, seconds: float) -> None:
        """Take note that a unit took so long to answer."""
        self._latencies[unit] = self.latency(unit).heard(seconds)

    def forget_latency(self, unit: int) -> None:
        """Forget a unit's latency: another meter may answer there now."""
        self._latencies.pop(unit, None)

    def connected(self, connects: int) -> None:
        """Take note at the beginning of a turn of how many connections the line has made."""
        self.connection.opened(connects)

    def talks(self, frames: Frames, unit: int, at: float) -> None:
        """Take note that octets were sent to or came from a unit in this framing."""
        known = self._frames
        if known is None or _manner(known) != _manner(frames):
            self._frames, self._ear = frames, None
            self.outstanding.answer_unit = frames.answer_unit
        self.last_unit, self.last_at = unit, at

    def heard(self, at: float) -> None:
        """Take note that octets came."""
        self.last_heard, self.silences = at, 0

    def sent(self, request: Request, at: float) -> None:
        """Take note of a request that left."""
        self.heard_late.discard(request.unit)
        self._sent.append(_Sent(request.transaction, at))

    def overhear(self, octets: bytes, at: float) -> None:
        """Take note of octets that nobody waited for, the last of which came at `at`."""
        if self._frames is None:
            return
        if self._ear is None or at - self._ear_at > BETWEEN_PIECES:
            self._ear = self._frames.hunt(None)
        self._ear_at = self.last_at = at
        self.heard(at)
        try:
            self._ear.feed(octets)
        except MeterProtocolError:  # no Modbus at all
            self._ear = None
            self.unused[Unused.NOT_A_FRAME] += 1
            return
        passed, self._ear.passed = self._ear.passed, Passed()
        self.note(passed, None, at)

    def note(self, passed: Passed, request: Request | None, at: float) -> list[Overheard]:
        """Count what was passed over, by cause; return each frame with its cause.

        `request` is the one that was waited for, whose echo may be among it.
        """
        found = [Overheard(frame, *self._cause(frame, request, at)) for frame in passed.frames]
        self.unused.update(one.cause for one in found)
        if passed.garbage:
            self.unused[Unused.ECHO if self._echo_tail(passed, request) else Unused.NOT_A_FRAME] += 1
        if passed.bad_checks:
            self.unused[Unused.BAD_CHECK] += passed.bad_checks
        return found

    def _echo_tail(self, passed: Passed, request: Request | None) -> bool:
        """Say whether all that came and was no frame is the end of our own request: an adapter mutes too late."""
        if request is None or self._frames is None or passed.garbage != len(passed.lead):
            return False
        return self._frames.encode(request).endswith(passed.lead)

    def gateway_spoke(self, seconds: float) -> None:
        """Take note that a gateway said of a meter after so many seconds that it is silent."""
        known = self.gateway.speaks_after
        self.gateway = GatewayFacts(speaks_after=max(seconds, known or 0.0))

    def gateway_kept_silent(self) -> None:
        """Take note that a gateway's word was waited for in vain."""
        if self.gateway.speaks_after is None:
            self.gateway = GatewayFacts(keeps_silent=True)

    def _cause(self, frame: Frame, request: Request | None, at: float) -> tuple[Unused, bool]:
        """Return why a frame is not used, and whether something that was asked before explains it."""
        if frame.transaction is not None and (self._frames is None or self._frames.sequenced):
            return self._late_transaction(frame, at)
        if frame.request:
            return self._request_of_somebody(frame, request, at), True
        function, refusal = frame.pdu[0] & 0x7F, bool(frame.pdu[0] & 0x80)
        counted = function in _COUNTED and not refusal
        late = self.outstanding.came(frame.unit, function, frame.pdu[1] if counted else None, at)
        if late is None:
            own = frame.unit == (self.last_unit if request is None else request.unit)
            if self._second(frame, at):
                return Unused.LATE_ANSWER, True
            return Unused.LATE_ANSWER if own else Unused.WRONG_ADDRESS, False
        if late.owed.foreign:
            return Unused.OTHER_MASTER, True
        self._late(frame, late.latency, late.owed.request.unit)
        return Unused.LATE_ANSWER, True

    def believed(self, request: Request, answer: Answer, at: float) -> bool:
        """Take note of an answer that is believed; False where it may be a copy of an earlier one.

        That is when it is, octet for octet, an answer of this unit to another request.
        """
        pdu = answer_pdu(request, answer)
        if pdu is None:
            return True
        before = self._recent(request.unit, at)
        copy = not self.doubles and any(one.pdu == pdu and one.request != request for one in before)
        self._believed[request.unit] = deque(
            (*before, _Believed(request, pdu, at, copy)), maxlen=MAX_BELIEVED
        )
        return not copy

    def _second(self, frame: Frame, at: float) -> bool:
        """Take note of an answer to what was answered already: it is a copy, or of a second meter."""
        alike = [one for one in self._recent(frame.unit, at) if one.pdu[:2] == frame.pdu[:2]]
        if any(one.pdu == frame.pdu for one in alike):
            self.doubles = True
        elif alike and not self.doubles and not any(one.doubtful for one in alike):
            self.contradicted.add(frame.unit)
        return bool(alike)

    def _recent(self, unit: int, at: float) -> list[_Believed]:
        return [one for one in self._believed.get(unit, ()) if at - one.at <= SECOND_WITHIN]

    def _late(self, frame: Frame, latency: float, unit: int) -> None:
        if frame.pdu[0] & 0x80 and frame.pdu[1] in GATEWAY_CODES:
            self.gateway_spoke(latency)
        else:
            self.measured(unit, latency)
            self.heard_late.add(unit)

    def _late_transaction(self, frame: Frame, at: float) -> tuple[Unused, bool]:
        for sent in self._sent:
            if sent.transaction == frame.transaction:
                self._sent.remove(sent)
                self._late(frame, at - sent.at, frame.unit)
                return Unused.LATE_ANSWER, True
        return Unused.FOREIGN_TRANSACTION, False

    def _request_of_somebody(self, frame: Frame, request: Request | None, at: float) -> Unused:
        if request is not None and (frame.unit, frame.pdu) == (request.unit, request.pdu()):
            self.echoes = True
            return Unused.ECHO
        asked = as_request(frame)
        if (
            asked is None
        ):  # functions 5 and 6, and 15 and 16: the request of another, or a late answer to our own
            late = self.outstanding.came(frame.unit, frame.pdu[0], None, at)
            return Unused.OTHER_MASTER if late is None else Unused.LATE_ANSWER
        if self.outstanding.owes(asked, at):  # our own, of which nobody waits for the answer any more
            return Unused.ECHO
        self.outstanding.owe(asked, asked=at, until=at + FOREIGN_WAIT, foreign=True)
        return Unused.OTHER_MASTER


def _manner(frames: Frames) -> tuple[str, bool, int | None]:
    return frames.name, frames.sequenced, frames.answer_unit


def account_of(line: object) -> LineAccount:
    """Return the account of a line: its own, or a new one where the line has no memory."""
    memory = memory_of(line)
    account = memory.note(LineAccount)
    account.memory, account.unused = memory, unused_of(line)
    memory.listen(account.overhear)
    return account
