"""Central's answers to edges that ask for the time: signed, for the nonce that they sent."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from gateway.contract.envelope import TIME_TYPE, parse, wrap
from gateway.contract.messages import Signed, TimeAnswer, TimeRequest
from gateway.contract.signing import TIME_TYP, sign
from gateway.contract.topics import TopicKind, Topics
from gateway.errors import NOT_TAKEN, ContractError
from gateway.timekeeping.clock import JudgedClock
from protocols.session import Clock

SOURCE = "/central"
MAX_WAITING = 10_000
"""Edges whose question waits; beyond that they ask again."""
DECLARED_ERROR = 1.0
"""Seconds by which a clock that is taken on trust may be off."""

log = structlog.get_logger("gateway.central.intake")


class Publisher(Protocol):
    """What the answers need of a connection; errors are PeerError."""

    def send(self, topic: str, payload: bytes) -> asyncio.Future[None]:
        """Send at QoS 1; the future is the broker's receipt."""


class TimeAnswers:
    """Answers questions for the time; `host` names central's machine, `key` signs as for the directory."""

    def __init__(self, *, root: str, key: bytes, clock: Clock, host: str) -> None:
        self._topics = Topics(root)
        self._key = key
        self._clock = clock
        self._host = host
        self._waiting: dict[str, TimeRequest] = {}
        self._woken = asyncio.Event()
        self.answered = 0

    def requested(self, topic: str, payload: bytes) -> bool:
        """Note a question; False when the message is none. Of several from one edge the last counts."""
        try:
            name = self._topics.parse(topic)
            if name.kind is not TopicKind.TIME_REQUEST:
                return False
            request = parse(payload, TimeRequest).data
        except ContractError:
            return False
        if request.gateway != name.gateway:
            return False
        if len(self._waiting) < MAX_WAITING or request.gateway in self._waiting:
            self._waiting[request.gateway] = request
            self._woken.set()
        return True

    def answer(self, request: TimeRequest) -> bytes:
        """Return the signed answer to a question, with the time of now."""
        trusted, error = self._clock.disciplined(), DECLARED_ERROR
        if isinstance(self._clock, JudgedClock):
            found = self._clock.judgement()
            error = abs(found.offset or 0.0) + (found.error or 0.0)
        now = self._clock.now()
        told = TimeAnswer(
            gateway=request.gateway,
            nonce=request.nonce,
            at=now,
            host=self._host,
            trusted=trusted,
            error=f"{error:.3f}",
        )
        signed = Signed(jws=sign(told.model_dump_json().encode(), key=self._key, typ=TIME_TYP))
        return wrap(signed, id=f"time/{request.nonce}", source=SOURCE, time=now, type=TIME_TYPE)

    async def serve(self, publisher: Publisher) -> None:
        """Answer until the connection ends (PeerError) or it is cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._waiting:
                gateway = next(iter(self._waiting))
                payload = self.answer(self._waiting.pop(gateway))
                try:
                    await publisher.send(self._topics.time(gateway), payload)
                except NOT_TAKEN as error:  # one edge's topic is closed to us: the others go on
                    log.warning("time_refused", gateway=gateway, error=str(error))
                    continue
                self.answered += 1
