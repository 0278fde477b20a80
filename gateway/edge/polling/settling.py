"""What was read since a meter last proved its identity, once another one answers: it may have been the other's."""

from __future__ import annotations

from datetime import timedelta

import structlog

from gateway.edge.journal.entry import JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.stamping.appender import ReadingAppender
from gateway.edge.stamping.clocks import MeterEvidence
from gateway.edge.stamping.disowning import disowned
from gateway.edge.stamping.remarks import event_of
from protocols.errors import IdentityMismatch
from protocols.known import Known
from protocols.modbus.memories import PROVE_EVERY, remembered
from protocols.reading import Remark, RemarkWord
from protocols.session import Clock

SECONDS = timedelta(seconds=2)
"""The journal notes whole seconds."""
log = structlog.get_logger("gateway.edge.polling")


class Settlement:
    """Takes back from their accounts the captures of meters that turned out to be others; `known` has the proofs.

    They get a revision with the same values that stands under no account (`identity_mismatch`), in one transaction.
    What is settled is settled: another look finds nothing more. A DLMS meter proves its identity at each visit.
    """

    def __init__(self, journal: Journal, appender: ReadingAppender, known: Known, clock: Clock) -> None:
        self._journal = journal
        self._appender = appender
        self._known = known
        self._clock = clock

    async def disproved(self, meter: str, error: IdentityMismatch, *, news: bool) -> int:
        """Take back what was read of a meter since its last proof; return how many captures. Raises JournalError.

        Where nothing is known of the last proof it is no longer ago than proofs are apart. `news`: it is told as an
        event, too.
        """
        now = self._clock.now()
        if news:
            event = event_of(
                Remark(word=RemarkWord.METER_CHANGED, detail=str(error)), now.replace(microsecond=0)
            )
            await self._appender.append(meter, [event], clock=MeterEvidence())
        memory = remembered(self._known, meter)
        proved_at = None if memory is None else memory.proved_at
        since = now - PROVE_EVERY if proved_at is None else proved_at
        blocks = disowned(await self._journal.of_meter(meter, since - SECONDS), since)
        if not blocks:
            return 0
        await self._journal.append(JournalBatch(blocks=blocks))
        count = sum(len(block.rows) for block in blocks)
        log.warning(
            "captures_taken_back", meter=meter, since=since.isoformat(), captures=count, found=error.found
        )
        return count
