"""Where an edge keeps what outlives its box, the counters' file and the journal's watermarks; when it needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.contract.messages import CarriedMark
from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from protocols.meters.counters import FileCounters
from protocols.reading import ProfileName

MARGIN = 4_096
"""Counters left out above what was told: blocks may have been reserved when the old box could not tell any more."""


async def taken_over(before: Mapping[str, int], now: Mapping[str, int], journal: Journal) -> list[str]:
    """Return the meters of a new part that another gateway read until now and of which our journal knows nothing.

    `before` and `now` are the epochs of allocations by meter; the first gateway that reads a meter has epoch 1.
    """
    gained = [meter for meter, epoch in now.items() if epoch > 1 and before.get(meter) != epoch]
    return [
        meter
        for meter in gained
        if not any([await journal.watermark(meter, profile) for profile in ProfileName])
    ]


class EdgeKeeper:
    """See `gateway.edge.sinks.carried.Keeper`."""

    def __init__(self, journal: Journal, counters: FileCounters) -> None:
        self._journal = journal
        self._counters = counters

    def reserved(self) -> Mapping[str, int]:
        """Return, by key, the first counter that was never reserved."""
        return self._counters.reserved()

    def start_above(self, counters: Mapping[str, int]) -> None:
        """Let no key use a counter that another box may have used."""
        for key, reserved in counters.items():
            self._counters.start_above(key, reserved, MARGIN)

    async def begin_at(self, marks: Sequence[CarriedMark]) -> None:
        """Set the watermarks that are not there yet."""
        missing = [
            (one.meter, one.profile, one.at)
            for one in marks
            if await self._journal.watermark(one.meter, one.profile) is None
        ]
        if missing:
            await self._journal.append(JournalBatch(watermarks=tuple(missing)))
