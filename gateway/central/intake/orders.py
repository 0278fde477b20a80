"""Sends central's orders to read meters again, some at a time, until each is answered."""

from __future__ import annotations

from time import monotonic
from typing import Final

from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.rereads import Reread
from gateway.contract.central_word import wrap_signed
from gateway.contract.messages import ReadAgain
from gateway.contract.topics import Topics
from protocols.session import Clock

AT_ONCE: Final = 100
"""Orders of one round: acknowledgements and replays must not wait for thousands of them."""
REPEAT: Final = 60.0
"""Seconds after which what was not answered is sent again."""
SOURCE: Final = "/central"


class RereadOrders:
    """Knows which orders go out now. `due` blocks for the ledger; `key` as `signing.sign` takes it."""

    def __init__(
        self, ledger: Ledger, topics: Topics, key: bytes, clock: Clock, repeat: float = REPEAT
    ) -> None:
        self._ledger = ledger
        self._topics = topics
        self._key = key
        self._clock = clock
        self._repeat = repeat
        self._waiting: list[Reread] = []
        self._look_at = 0.0

    def look(self) -> None:
        """Look at once what waits: there is something new, or the connection is."""
        self._waiting, self._look_at = [], 0.0

    def due(self) -> list[tuple[str, bytes]]:
        """Return topics and messages to publish now."""
        if not self._waiting and monotonic() >= self._look_at:
            self._waiting = self._ledger.rereads.waiting()
            self._look_at = monotonic() + self._repeat
        some, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
        return [(self._topics.orders(one.gateway), self._signed(one)) for one in some]

    def _signed(self, one: Reread) -> bytes:
        now = self._clock.now()
        order = ReadAgain(
            gateway=one.gateway,
            number=one.number,
            meter=one.meter,
            profile=one.profile,
            since=one.since,
            until=one.until,
            ledger_generation=self._ledger.identity.generation,
            issued_at=now,
        )
        identity = f"central/read-again/{order.ledger_generation}/{one.number}"
        return wrap_signed(order, key=self._key, id=identity, source=SOURCE, time=now)
