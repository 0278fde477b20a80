"""Asking central for the time: a fresh nonce each time, a signed answer, and what it proves."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from gateway.contract.envelope import parse, parse_data, wrap
from gateway.contract.messages import Signed, TimeAnswer, TimeRequest
from gateway.contract.messages.texts import gateway_source
from gateway.contract.signing import TIME_TYP, verify
from gateway.contract.topics import Topics
from gateway.errors import ContractError
from gateway.mqtt.connection import MqttConnection
from gateway.timekeeping.evidence import Judgement, Observation, Voice
from protocols.session import Clock

ASK_DOUBTING, ASK_CALM = 30.0, 900.0
"""Seconds between questions while the clock is not trusted, and while it is."""
MAX_ROUND_TRIP = 20.0
"""Seconds after which an answer is too old to say anything: it may have waited in a queue."""


class EvidenceTaker(Clock, Protocol):
    """The clock that is judged, and takes what central says."""

    def steady(self) -> float:
        """Return the seconds that the machine has run."""

    def observe(self, one: Observation) -> None:
        """Hear what a source says."""

    def judgement(self) -> Judgement:
        """Say what the evidence comes to now."""


class TimeRequests:
    """Asks central for the time, and takes signed answers to the very question that waits.

    `keys` are central's public keys; `host` names our machine: an answer of the same one proves nothing.
    """

    def __init__(
        self, gateway: str, *, root: str, keys: Sequence[bytes], clock: EvidenceTaker, host: str
    ) -> None:
        self._gateway = gateway
        self._topics = Topics(root)
        self._keys = tuple(keys)
        self._clock = clock
        self._host = host
        self._asked: tuple[str, float] | None = None

    def question(self) -> bytes:
        """Return a question with a fresh nonce; the one before is forgotten."""
        nonce = secrets.token_hex(16)
        self._asked = nonce, self._clock.steady()
        return wrap(
            TimeRequest(gateway=self._gateway, nonce=nonce),
            id=f"{self._gateway}/time/{nonce}",
            source=gateway_source(self._gateway),
            time=self._clock.now(),
        )

    def take(self, payload: bytes) -> None:
        """Hear an answer; ContractError says why it proves nothing."""
        arrived = self._clock.steady()
        jws = parse(payload, Signed).data.jws
        answer = parse_data(verify(jws, keys=self._keys, typ=TIME_TYP), TimeAnswer)
        if answer.gateway != self._gateway:
            raise ContractError(f"$.gateway: the time for {answer.gateway!r}, not for us")
        if self._asked is None or answer.nonce != self._asked[0]:
            raise ContractError("$.nonce: not an answer to the question that waits")
        trip = arrived - self._asked[1]
        self._asked = None
        if trip > MAX_ROUND_TRIP:
            raise ContractError(f"$.at: the answer took {trip:.0f} s and is too old")
        if not answer.trusted or answer.host == self._host:
            return
        # Central read the question somewhen between our asking and its arrival here.
        self._clock.observe(
            Observation(
                voice=Voice.CENTRAL,
                source="central",
                steady=arrived,
                instant=answer.at + timedelta(seconds=trip / 2),
                error=trip / 2 + abs(float(answer.error)),
            )
        )

    async def ask(self, connection: MqttConnection) -> None:
        """Ask at a steady pace until the connection ends, which raises PeerError."""
        while True:
            await connection.offer(self._topics.time_request(self._gateway), self.question())
            await asyncio.sleep(ASK_CALM if self._clock.judgement().trusted else ASK_DOUBTING)
