"""Central's orders to read a meter's memory once more: verified, carried out once, answered each time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from gateway.contract.central_word import parse_signed
from gateway.contract.envelope import wrap
from gateway.contract.messages import ReadAgain, ReadAgainTaken
from gateway.contract.messages.generation import Generation
from gateway.contract.messages.texts import gateway_source
from gateway.contract.topics import Topics
from gateway.errors import ContractError, JournalError
from gateway.mqtt.connection import MqttConnection
from protocols.session import Clock

MAX_ORDERS = 50_000
"""Orders that wait: ten thousand meters of four profiles; central repeats what it hears nothing of."""
log = structlog.get_logger("gateway.edge.sinks")


class Rereader(Protocol):
    """What carries orders out: the journal, while the meter is not read."""

    async def read_again(self, order: ReadAgain, since: datetime, name: str) -> bool:
        """Set a watermark back, so that the span is read and journaled once more; False where it is not read here."""

    async def last_order(self, meter: str, profile: str) -> str | None:
        """Return the name of the last order by which a meter's profile was read again."""


class ReadAgainOrders:
    """Takes the orders and answers them.

    `furthest` is how far back the first read of a profile goes. `keys` are central's public keys.
    """

    def __init__(
        self,
        gateway: str,
        *,
        root: str,
        keys: Sequence[bytes],
        rereader: Rereader,
        furthest: timedelta,
        clock: Clock,
    ) -> None:
        self._gateway = gateway
        self._topics = Topics(root)
        self._keys = tuple(keys)
        self._rereader = rereader
        self._furthest = furthest
        self._clock = clock
        self._orders: dict[tuple[str, str], ReadAgain] = {}
        self._wanted = asyncio.Event()

    def take(self, payload: bytes) -> None:
        """Note an order of central; ContractError says why it is none, or that too many wait."""
        order, _ = parse_signed(payload, ReadAgain, self._keys)
        if order.gateway != self._gateway:
            raise ContractError(f"$.gateway: an order for {order.gateway!r}, not for us")
        where = order.meter, order.profile
        waiting = self._orders.get(where)
        if waiting is None and len(self._orders) >= MAX_ORDERS:
            raise ContractError(f"$: {MAX_ORDERS} orders to read again are waiting already")
        if waiting is None or _rank(_name(waiting)) < _rank(_name(order)):
            self._orders[where] = order
        self._wanted.set()

    async def work(self, connection: MqttConnection) -> None:
        """Carry orders out and answer them until the connection ends, which raises PeerError.

        An order waits for the read of its meter that is running: that would move the watermark on once more. One
        that the journal cannot keep now is not answered: central repeats it.
        """
        topic = self._topics.order_results(self._gateway)
        while True:
            while self._orders:
                where, order = next(iter(self._orders.items()))
                try:
                    refused = await self._carry_out(order)
                except JournalError as error:  # a full disk must not end the connection that empties it
                    log.warning("read_again_failed", meter=order.meter, error=str(error))
                else:
                    await connection.offer(topic, self._answer(order, refused))
                if self._orders.get(where) is order:
                    del self._orders[where]
            self._wanted.clear()
            await self._wanted.wait()

    async def _carry_out(self, order: ReadAgain) -> str | None:
        last = await self._rereader.last_order(order.meter, order.profile)
        if last is not None and _rank(last) >= _rank(_name(order)):
            return None  # carried out already: central missed the answer, or an old message came again
        since = order.since or order.until - self._furthest
        if not await self._rereader.read_again(order, since, _name(order)):
            return f"{order.profile} of {order.meter} is not read here"
        log.warning("read_again", meter=order.meter, profile=order.profile, since=since.isoformat())
        return None

    def _answer(self, order: ReadAgain, refused: str | None) -> bytes:
        answer = ReadAgainTaken(
            gateway=self._gateway,
            number=order.number,
            meter=order.meter,
            profile=order.profile,
            refused=refused,
        )
        identity = f"{self._gateway}/read-again/{order.number}"
        return wrap(answer, id=identity, source=gateway_source(self._gateway), time=self._clock.now())


def _name(order: ReadAgain) -> str:
    return f"{order.ledger_generation}/{order.number}"


def _rank(name: str) -> tuple[int, int]:
    life, _, number = name.partition("/")
    return Generation.parse(life).counter, int(number)
