"""What outlives the box: its reserved counters are told to central; a new box takes what central kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Protocol

import structlog

from gateway.contract.central_word import parse_signed
from gateway.contract.envelope import wrap
from gateway.contract.messages import CarriedMark, CarriedOver, CountersReserved
from gateway.contract.messages.texts import gateway_source
from gateway.contract.topics import Topics
from gateway.errors import ContractError
from gateway.mqtt.connection import MqttConnection
from gateway.mqtt.steady import Steady
from protocols.session import Clock

TELL_EVERY = 5.0
"""Seconds between looks for blocks that were reserved since."""
AT_ONCE = 500
"""Counters of one message."""
log = structlog.get_logger("gateway.edge.sinks")


class Keeper(Protocol):
    """Where counters and watermarks are kept."""

    def reserved(self) -> Mapping[str, int]:
        """Return, by key, the first counter that was never reserved."""

    def start_above(self, counters: Mapping[str, int]) -> None:
        """Let no key use a counter that may have been used before."""

    async def begin_at(self, marks: Sequence[CarriedMark]) -> None:
        """Set the watermarks that are not there yet."""


class CarriedLife:
    """Tells central of reserved counters, and takes what central carries over. `keys` are central's public keys.

    `complete` is set, and `on_complete` called, when all of it has come.
    """

    def __init__(
        self,
        gateway: str,
        *,
        root: str,
        keys: Sequence[bytes],
        keeper: Keeper,
        clock: Clock,
        on_complete: Callable[[], None] = lambda: None,
    ) -> None:
        self._gateway = gateway
        self._topics = Topics(root)
        self._keys = tuple(keys)
        self._keeper = keeper
        self._clock = clock
        self._on_complete = on_complete
        self._parts: set[int] = set()
        self.complete = asyncio.Event()

    async def take(self, payload: bytes) -> None:
        """Take a part of what central knows of this gateway; ContractError says why not."""
        carried, _ = parse_signed(payload, CarriedOver, self._keys)
        if carried.gateway != self._gateway:
            raise ContractError(f"$.gateway: what {carried.gateway!r} left, not for us")
        self._keeper.start_above(carried.counters)
        await self._keeper.begin_at(carried.marks)
        self._parts.add(carried.part)
        if len(self._parts) >= carried.parts:
            log.info("carried_over", parts=carried.parts)
            self._parts.clear()
            self.complete.set()
            self._on_complete()

    async def tell(self, connection: MqttConnection) -> None:
        """Publish reserved counters until the connection ends (PeerError).

        All when it opens and once more when central surely hears us again (`Steady`), then those that rose: a new box
        that starts above too low a counter would use one twice.
        """
        told: dict[str, int] = {}
        steady = Steady()
        topic = self._topics.counters(self._gateway)
        while True:
            if steady.step(monotonic()) == 1:
                told = {}
            risen = [(key, n) for key, n in self._keeper.reserved().items() if n > told.get(key, -1)]
            for begin in range(0, len(risen), AT_ONCE):
                some = dict(risen[begin : begin + AT_ONCE])
                if not await connection.offer(topic, self._message(some)):
                    break  # told by the sink, and tried again with the next
                told |= some
            await asyncio.sleep(TELL_EVERY)

    def _message(self, counters: Mapping[str, int]) -> bytes:
        now = self._clock.now()
        return wrap(
            CountersReserved(gateway=self._gateway, counters=dict(counters), at=now),
            id=f"{self._gateway}/counters/{now.timestamp():.6f}",
            source=gateway_source(self._gateway),
            time=now,
        )
