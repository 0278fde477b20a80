"""Gives a box that begins with nothing what central knows of its gateway."""

from __future__ import annotations

from itertools import zip_longest
from time import monotonic
from typing import Final

from gateway.central.ledger.ledger import Ledger
from gateway.contract.central_word import wrap_signed
from gateway.contract.messages import CarriedMark, CarriedOver, DirectoryRequest
from gateway.contract.topics import Topics
from protocols.session import Clock

SOURCE: Final = "/central"
COUNTERS: Final = 400
MARKS: Final = 300
"""Counters and watermarks of one message: some 70 KiB together."""
MAX_WAITING: Final = 1_000
CALM: Final = 60.0
"""Least seconds between two answers to one gateway: each reads the ledger for all its meters."""


class Carrying:
    """Knows which gateways have asked with nothing in hand. `messages` blocks; `key` as `signing.sign` takes it."""

    def __init__(
        self, ledger: Ledger, topics: Topics, key: bytes, clock: Clock, *, calm: float = CALM
    ) -> None:
        self._ledger = ledger
        self._topics = topics
        self._key = key
        self._clock = clock
        self._calm = calm
        self._waiting: dict[str, None] = {}
        self._answered: dict[str, float] = {}

    def asked(self, request: DirectoryRequest) -> None:
        """Note a request; a box that has no part of the directory has nothing else."""
        if request.number == 0 and len(self._waiting) < MAX_WAITING:
            self._waiting[request.gateway] = None

    def next(self) -> str | None:
        """Return a gateway whose turn it is, None for none; one that was just answered waits."""
        now = monotonic()
        self._answered = {name: at for name, at in self._answered.items() if now - at < self._calm}
        gateway = next((name for name in self._waiting if name not in self._answered), None)
        if gateway is not None:
            del self._waiting[gateway]
            self._answered[gateway] = now
        return gateway

    def messages(self, gateway: str) -> list[tuple[str, bytes]]:
        """Return topic and messages of all that is known of a gateway; one that says nothing where that is nothing."""
        meters = [one.meter for one in self._ledger.allocations.current(gateway)]
        marks = [
            CarriedMark(meter=meter, profile=profile, at=at)
            for meter, profile, at in self._ledger.carried.marks(meters)
        ]
        counters = sorted(self._ledger.carried.counters(gateway).items())
        pieces = list(
            zip_longest(
                [dict(counters[i : i + COUNTERS]) for i in range(0, len(counters), COUNTERS)],
                [tuple(marks[i : i + MARKS]) for i in range(0, len(marks), MARKS)],
            )
        ) or [(None, None)]
        now = self._clock.now()
        topic = self._topics.orders(gateway)
        return [
            (
                topic,
                wrap_signed(
                    CarriedOver(
                        gateway=gateway,
                        part=number,
                        parts=len(pieces),
                        counters=some or {},
                        marks=few or (),
                        issued_at=now,
                    ),
                    key=self._key,
                    id=f"central/carried/{gateway}/{now.timestamp():.6f}/{number}",
                    source=SOURCE,
                    time=now,
                ),
            )
            for number, (some, few) in enumerate(pieces, start=1)
        ]
