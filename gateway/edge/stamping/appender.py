"""Readings into the journal: stamped with the accounts of their meter, checked, appended in one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from gateway.edge.journal.entry import GapRecord, JournalBatch
from gateway.edge.journal.journal import MAX_BODY, Journal
from gateway.edge.stamping.clocks import MeterEvidence, Receipts, is_ahead
from gateway.edge.stamping.stamp import TRUSTED, DirectoryLike, Trust, stamp
from protocols.errors import MeterProtocolError
from protocols.reading import ReadingSet
from protocols.session import Clock


class ReadingAppender:
    """The one way of readings into the journal, for what is polled and for what meters push.

    `directory` gives the part of the directory that stamps now.
    """

    def __init__(self, journal: Journal, directory: Callable[[], DirectoryLike], clock: Clock) -> None:
        self._journal = journal
        self._directory = directory
        self._clock = clock

    def batch(
        self,
        meter: str,
        rows: Sequence[ReadingSet],
        *,
        clock: MeterEvidence,
        watermarks: tuple[tuple[str, str, datetime], ...] = (),
        gaps: tuple[GapRecord, ...] = (),
        revise: bool = True,
        stored: bool = False,
    ) -> JournalBatch:
        """Stamp rows of one meter; return them with watermarks and gaps as what the journal makes durable together.

        `clock` is what was seen of the meter's clock. Without `revise` a row that is there
        already stays as it is: what a meter pushed may hold less than what was read from it. `stored`: they are
        from its memory, and one with other values than before is told.

        Raises MeterProtocolError for a row that is too long for a message.
        """
        receipts = Receipts(self._clock, clock)
        blocks = stamp(rows, meter, self._directory(), lambda row: _trust(row, clock, receipts))
        for block in blocks:
            if sum(len(row.body) for row in block.rows) > MAX_BODY:  # then it is one row
                raise MeterProtocolError(
                    f"a row of {meter}, {block.template.layout.profile}, is longer than {MAX_BODY} octets"
                    " as a message"
                )
        return JournalBatch(
            blocks=blocks, watermarks=watermarks, gaps=gaps, revise=revise, stored=stored and bool(blocks)
        )

    async def append(
        self, meter: str, rows: Sequence[ReadingSet], *, clock: MeterEvidence, revise: bool = True
    ) -> int:
        """Stamp rows of one meter, as `batch` does, and make them durable.

        Returns how many captures are new or revised. Raises MeterProtocolError for a row that is too long
        for a message (then nothing is appended), JournalFull, JournalError.
        """
        batch = self.batch(meter, rows, clock=clock, revise=revise)
        return (await self._journal.append(batch)).count if batch.blocks else 0


def _trust(row: ReadingSet, clock: MeterEvidence, receipts: Receipts) -> Trust:
    disciplined = receipts.known(row)
    # A gateway that does not know the time cannot call a row one of the future.
    clock_trusted = clock.trusts(row) and not (disciplined and is_ahead(row, receipts.now))
    if disciplined and clock_trusted:
        return TRUSTED
    return Trust(disciplined=disciplined, clock_trusted=clock_trusted, evidence=receipts.evidence(row))
