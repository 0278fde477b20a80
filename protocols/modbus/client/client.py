"""Asking a meter over a line: deadlines, late answers, connections that end, exceptions as errors that say who acts."""

from __future__ import annotations

import asyncio

from protocols.errors import (
    AnswerOwed,
    LineClosed,
    LineError,
    LineTimeout,
    MeterBusy,
    MeterError,
    MeterProtocolError,
    MeterSilent,
)
from protocols.line import LineIO
from protocols.modbus.client.account import GATEWAY_CODES, GATEWAY_PATIENCE, REOPEN_REST, LineAccount
from protocols.modbus.client.failure import no_answer, refusal
from protocols.modbus.client.latency import ENOUGH, Pauses
from protocols.modbus.framing.frames import Frames, frames_for
from protocols.modbus.framing.hunt import Hunt
from protocols.modbus.framing.requests import Answer, Request

__all__ = ["ModbusClient", "Pauses", "frames_for"]

OCTET_GAP = 0.25
"""Least pause that ends an answer; operating systems and converters stretch t1.5 by far."""

SLOWEST_FRAME = 3.0
"""Seconds that the longest frame may take after its beginning (1200 baud: 2.4 s)."""

GARBAGE_SILENCE = 0.03
"""Silence that ends garbage, in seconds: above t3.5 at 1200 baud."""

BUSY_TRIES, BUSY_WAIT = 3, 0.2
"""How often and after how many seconds a meter that says "busy" (6) is asked again."""

COPY_SILENCE = 0.1
"""Silence that is waited for before a request on a line where answers come twice, in seconds."""

DEVICE_BUSY = 6


class ModbusClient:
    """Asks the meters behind one held line; one object for one turn.

    `timeout` is the wait for an answer to begin at first contact; later it follows the meter's latency. After a
    request without answer the line is kept quiet for `worst_latency`, so that a late answer meets nobody's request,
    and for `late_answer_max` nothing is asked whose answer could be taken for it: both where no transaction id tells
    answers apart. What is known of the line is in `account`, which outlives the turn.

    `redials` says that a new connection may work where this one is silent or closed (TCP); `one_request` that the
    far end takes one request a connection.
    """

    def __init__(
        self,
        io: LineIO,
        frames: Frames,
        *,
        timeout: float,
        worst_latency: float,
        account: LineAccount,
        late_answer_max: float = 10.0,
        pauses: Pauses | None = None,
        redials: bool = False,
        one_request: bool = False,
    ) -> None:
        self._io = io
        self._frames = frames
        self._timeout = timeout
        self._worst_latency = worst_latency
        self._account = account
        self._late_answer_max = late_answer_max
        self._pauses = pauses or Pauses()
        self._redials = redials
        self._one_request = one_request
        self._has_answered = False
        """Whether the last request was answered: a unit that just answered is worth a second request."""
        self.round_trip = 0.0
        """Seconds from the first octet of the last answered request to the last of its answer."""
        self._answered: set[int] = set()
        """Units that have answered in this turn."""
        self._two_meters: set[int] = set()
        """Units at which two meters answered in this turn."""
        self._gateway_spoke = False
        self._doubtful = False
        """Whether the last answer may be a copy of an earlier one that came twice."""
        self._asked = 0.0

    @property
    def framing(self) -> str:
        """Name of its framing: tcp, rtu or ascii."""
        return self._frames.name

    @property
    def sequenced(self) -> bool:
        """Whether answers carry the number of their request, so that none is taken for another."""
        return self._frames.sequenced

    @property
    def account(self) -> LineAccount:
        """What is known of the line."""
        return self._account

    async def read_registers(self, unit: int, function: int, address: int, count: int) -> list[int]:
        """Read `count` words from wire address `address` with function 3 or 4; raises what `ask` raises."""
        request = Request(unit=unit, function=function, address=address, count=count)
        return list((await self.ask(request)).words)

    async def ask(self, request: Request) -> Answer:
        """Send a request and return the answer, which is no refusal.

        Raises MeterSilent (no answer in time, exceptions 10 and 11), MeterProtocolError (no sound answer: the text
        names what came), AnswerOwed (an earlier answer could be taken for this one's), MeterBusy (5, 6), MeterRefused
        with `reason_code` (other exceptions) and the errors of the line. A reading is asked a second time when its
        answer was broken, or when a meter that has answered in this turn is silent; a writing never is.
        """
        since = asyncio.get_running_loop().time()
        for _ in range(BUSY_TRIES - 1):
            try:
                return await self._ask_again_once(request, since)
            except MeterBusy as busy:
                if (
                    request.writes or busy.reason_code != DEVICE_BUSY
                ):  # "acknowledge" (5): it is at work for long
                    raise
            await asyncio.sleep(BUSY_WAIT)
        return await self._ask_again_once(request, since)

    async def _ask_again_once(self, request: Request, since: float) -> Answer:
        account = self._account
        had_answered, self._has_answered = self._has_answered, False
        try:
            return await self._ask(request, since)
        except MeterProtocolError:  # something came: somebody is there
            if request.writes:
                raise
        except MeterSilent:
            # A unit that has not answered yet is probably not there: a second timeout for each would double the
            # time that a bus with dead meters takes.
            if request.writes or self._gateway_spoke:
                raise
            if not (had_answered or account.memory.lossy or await self._heard_late(request)):
                raise
        return await self._ask(request, since)

    async def _heard_late(self, request: Request) -> bool:
        """Say whether the unit answers in the quiet time, so that its latency is known now."""
        if self._frames.sequenced:
            return False
        loop = asyncio.get_running_loop()
        end = loop.time() + self._quiet(request.unit)
        while request.unit not in self._account.heard_late and (left := end - loop.time()) > 0:
            try:
                octets = await self._io.receive(left)
            except LineTimeout:
                break
            self._account.overhear(octets, loop.time())
        return request.unit in self._account.heard_late

    async def _ask(self, request: Request, since: float) -> Answer:
        try:
            answer = await self._connected(request, since)
            if self._doubtful and answer != await self._connected(request, since):
                self._account.doubles = True
                raise MeterProtocolError("answers come twice on this line: there is a repeater that does so")
        except (LineError, MeterError) as error:
            error.with_context(doing=str(request))
            raise
        if answer.exception is not None:
            raise refusal(answer.exception).with_context(doing=str(request))
        return answer

    def _refuse_two_meters(self, unit: int) -> None:
        """Raise MeterProtocolError where two meters have this unit: in this turn nothing of it is believed."""
        if unit in self._account.contradicted:
            self._account.contradicted.discard(unit)
            self._two_meters.add(unit)
        if unit in self._two_meters:
            raise MeterProtocolError(f"two meters answer at {unit}: two different answers to one request")

    async def _connected(self, request: Request, since: float) -> Answer:
        """Exchange once, and once more on a new connection where the old one had ended or was dead."""
        far_end = self._account.connection
        if far_end.requests and (self._one_request or far_end.one_request):
            await self._reopen()
        try:
            return await self._exchange(request, since)
        except LineClosed:
            if far_end.requests > 0:
                far_end.closings = far_end.closings + 1 if far_end.answers == 1 else 0
            if not self._redials or request.writes:
                raise
            await self._reopen()
        except MeterSilent:
            if not self._may_be_half_open(request):
                raise
            await self._reopen()
            try:
                return await self._exchange(request, since)
            except MeterSilent:
                far_end.reopened_in_vain_until = asyncio.get_running_loop().time() + REOPEN_REST
                raise
        return await self._exchange(request, since)

    def _may_be_half_open(self, request: Request) -> bool:
        """Say whether a new connection is worth trying: this one is old, and gave no octet for a while."""
        account, now = self._account, asyncio.get_running_loop().time()
        idle = self._asked - account.last_heard
        worth = account.connection.worth_another(now, idle=idle, silences=account.silences)
        return worth and self._redials and not request.writes and not self._gateway_spoke

    async def _reopen(self) -> None:
        await self._io.reopen()
        self._account.connection.opened(self._account.connection.number + 1)

    async def _exchange(self, request: Request, since: float) -> Answer:
        account, loop = self._account, asyncio.get_running_loop()
        await self._clear_the_way(request, since)
        self._asked = loop.time()
        account.talks(self._frames, request.unit, self._asked)
        account.connection.requests += 1
        sends = account.memory.sends
        try:
            await self._io.send(self._frames.encode(request))
            self._asked = loop.time()
            account.sent(request, self._asked)
            answer = await self._answer(request)
        except asyncio.CancelledError:
            if account.memory.sends > sends:
                self._unanswered(request)  # the answer is still to come, and the next talker must not have it
            raise
        account.connection.answers += 1
        self._has_answered = True
        self._answered.add(request.unit)
        return answer

    async def _clear_the_way(self, request: Request, since: float) -> None:
        """Wait for what must be over before the request may leave; AnswerOwed where that takes too long."""
        account, loop = self._account, asyncio.get_running_loop()
        if not self._frames.sequenced:
            account.talks(
                self._frames,
                request.unit if account.last_unit is None else account.last_unit,
                account.last_at,
            )
            # What is there before we ask is not the answer; nor is a copy of the last one.
            await self._io.drain(COPY_SILENCE if account.doubles else 0)
            self._refuse_two_meters(request.unit)
            await self._wait_for_owed(request, since)
        pauses = self._pauses
        pause = pauses.after_answer if account.last_unit == request.unit else pauses.after_other_unit
        if account.last_unit is not None and (left := account.last_at + pause - loop.time()) > 0:
            await asyncio.sleep(left)

    async def _wait_for_owed(self, request: Request, since: float) -> None:
        """Listen until no earlier answer could be taken for this one's, as long as that one is probable.

        A meter that has not answered in this turn and is late already may be dead, and others want the line.
        """
        account, loop = self._account, asyncio.get_running_loop()
        probable = self._patience(request.unit) + self._worst_latency
        limit = (account.outstanding.last_asked(request, loop.time()) or 0.0) + probable
        if request.unit in self._answered:
            limit = loop.time() + probable
        while (until := account.outstanding.barred(request, loop.time(), since=since)) is not None:
            if (left := min(until, limit) - loop.time()) <= 0:
                raise AnswerOwed(until - loop.time())
            try:
                octets = await self._io.receive(left)
            except LineTimeout:
                continue
            account.overhear(octets, loop.time())

    async def _answer(self, request: Request) -> Answer:
        account, loop = self._account, asyncio.get_running_loop()
        frames = self._frames
        hunt = frames.hunt(
            request,
            takes_refusals=frames.sequenced or account.outstanding.takes_refusals(request, self._asked),
            echoes=account.echoes,
        )
        wait = self._wait(request.unit)
        try:
            answer, begun = await self._hunt(hunt, wait)
        except MeterProtocolError:
            # Garbage may go on: the next request waits until the line is silent, or it is lost in it.
            self._unanswered(request)
            await self._io.drain(GARBAGE_SILENCE)
            raise
        now = loop.time()
        if answer is None:
            await self._give_up(request, hunt, wait)
        assert answer is not None
        self.round_trip = now - self._asked
        account.talks(frames, request.unit, now)
        account.heard(now)
        account.note(hunt.passed, request, now)
        self._judge_refusal(answer, now)
        self._refuse_two_meters(request.unit)
        repeated = not frames.sequenced and account.outstanding.repeated(
            request, asked=self._asked, until=now + self._late_answer_max
        )
        if not repeated and answer.exception not in GATEWAY_CODES:
            account.measured(request.unit, begun - self._asked)
        self._doubtful = not frames.sequenced and not account.believed(request, answer, now)
        if rest := hunt.rest():  # perhaps the answer of a second meter
            account.overhear(rest, now)
        self._refuse_two_meters(request.unit)
        return answer

    async def _hunt(self, hunt: Hunt, wait: float) -> tuple[Answer | None, float]:
        """Return the answer and when it began; None when it did not come by the deadline.

        `wait` is for the beginning. An answer that has begun may take as long as the slowest frame, but no pause in
        it may be longer than the gap.
        """
        loop = asyncio.get_running_loop()
        end, gap = self._asked + wait, max(OCTET_GAP, self._worst_latency)
        came, begun = False, self._asked
        while True:
            now = loop.time()
            left = (end + SLOWEST_FRAME if came and hunt.begun else end) - now
            if left < 0.001:
                return hunt.silence(), begun
            try:
                octets = await self._io.receive(min(left, gap) if came else left)
            except LineTimeout:
                if (answer := hunt.silence()) is not None:
                    return answer, begun
                if hunt.passed.bad_checks and not hunt.begun:  # that was the answer, and it was spoiled
                    return None, begun
                came = False
                continue
            now = loop.time()
            if not hunt.begun:
                begun = now
            came = True
            if (answer := hunt.feed(octets)) is not None:
                return answer, begun

    async def _give_up(self, request: Request, hunt: Hunt, wait: float) -> None:
        """Take note of what came instead of an answer, and raise what it means."""
        account, passed, now = self._account, hunt.passed, asyncio.get_running_loop().time()
        begun = hunt.begun
        hunt.end()
        if passed.bad_checks:
            self._keep_quiet(request.unit)
        else:
            self._unanswered(request)
        found = account.note(passed, request, now)
        if not passed.octets:
            account.silences += 1
            if self._hears_gateway and wait >= GATEWAY_PATIENCE:
                account.gateway_kept_silent()
            raise MeterSilent(f"no answer in {wait:g} s")
        account.heard(now)
        if passed.garbage:
            await self._io.drain(GARBAGE_SILENCE)
        raise no_answer(request, passed, found, begun=begun, wait=wait)

    def _judge_refusal(self, answer: Answer, now: float) -> None:
        self._gateway_spoke = answer.exception in GATEWAY_CODES
        if self._gateway_spoke:
            self._account.gateway_spoke(now - self._asked)

    def _unanswered(self, request: Request) -> None:
        """Take note that the answer may still come; keep the line silent where no number would tell it."""
        if self._frames.sequenced:
            return
        now = asyncio.get_running_loop().time()
        self._account.outstanding.owe(request, asked=self._asked, until=now + self._late_answer_max)
        self._keep_quiet(request.unit)

    def _keep_quiet(self, unit: int) -> None:
        if not self._frames.sequenced:
            self._io.hold_quiet(self._quiet(unit))

    def _quiet(self, unit: int) -> float:
        """Return for how long a late answer of this unit is probable: a request meanwhile would collide with it."""
        if self._account.latency(unit).answers >= ENOUGH:
            return min(self._worst_latency, self._patience(unit))
        return self._worst_latency

    def _patience(self, unit: int) -> float:
        return self._account.latency(unit).patience(self._timeout, self._late_answer_max)

    @property
    def _hears_gateway(self) -> bool:
        """Say whether a gateway may stand between, which speaks for silent meters."""
        return self._redials and not self._account.memory.lossy and self._frames.name == "tcp"

    def _wait(self, unit: int) -> float:
        """Return how long to wait for an answer: for the meter, and for the word of a gateway before it."""
        wait = self._patience(unit)
        return self._account.gateway.patience(wait) if self._hears_gateway else wait
