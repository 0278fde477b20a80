"""What was read since a meter last proved its identity, once another one answers: it may have been the other's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import structlog

from gateway.edge.journal.entry import Entry, EntryKind, JournalBatch
from gateway.edge.journal.journal import Journal
from gateway.edge.stamping.appender import ReadingAppender
from gateway.edge.stamping.clocks import MeterEvidence
from gateway.edge.stamping.disowning import disowned, last_before
from gateway.edge.stamping.remarks import event_of
from protocols.errors import IdentityMismatch
from protocols.known import Known
from protocols.modbus.belief.judge import Judge
from protocols.modbus.belief.memories import PROVE_EVERY, remembered, settled
from protocols.modbus.belief.meter_memory import MeterMemory
from protocols.modbus.format.library import load_model
from protocols.reading import Number, Quantity, Remark, RemarkWord
from protocols.session import Clock, ModbusSettings

SECONDS = timedelta(seconds=2)
"""The journal notes whole seconds."""
log = structlog.get_logger("gateway.edge.polling")


class Settlement:
    """Takes back from their accounts the captures of meters that turned out to be others; `known` has the proofs.

    They get a revision with the same values that stands under no account (`identity_mismatch`), in one transaction.
    What is settled is settled: the longer it is ago, the more could the other one have shown.
    A DLMS meter proves its identity at each visit.
    """

    def __init__(self, journal: Journal, appender: ReadingAppender, known: Known, clock: Clock) -> None:
        self._journal = journal
        self._appender = appender
        self._known = known
        self._clock = clock

    async def disproved(
        self, meter: str, modbus: ModbusSettings, error: IdentityMismatch, *, news: bool
    ) -> int:
        """Take back what was read of a meter since its last proof; return how many captures. Raises JournalError.

        What the meter that answers now cannot have given, by its energy registers, is the old one's, and so is all
        before it.

        Where nothing is known of the last proof it is no longer ago than proofs are apart. `news`: it is told as an
        event, too.
        """
        now = self._clock.now()
        if news:
            event = event_of(
                Remark(word=RemarkWord.METER_CHANGED, detail=str(error)), now.replace(microsecond=0)
            )
            await self._appender.append(meter, [event], clock=MeterEvidence())
        memory = remembered(self._known, meter) or MeterMemory(model="")
        known = [at for at in (memory.proved_at, memory.settled_at) if at is not None]
        since = max(known, default=now - PROVE_EVERY)
        entries = await self._journal.of_meter(meter, since - SECONDS)
        since = max(since, _last_of_the_old(entries, modbus, error) or since)
        blocks = disowned(entries, since)
        if blocks:
            await self._journal.append(JournalBatch(blocks=blocks))
        settled(self._known, meter, load_model(modbus.model, modbus.models).name, now)
        count = sum(len(block.rows) for block in blocks)
        log.warning(
            "captures_taken_back", meter=meter, since=since.isoformat(), captures=count, found=error.found
        )
        return count


def _last_of_the_old(
    entries: Sequence[Entry], modbus: ModbusSettings, error: IdentityMismatch
) -> datetime | None:
    """Return when the last capture was read that cannot be the other meter's; None where all of them can be."""
    if error.shown_at is None:
        return None
    load = modbus.sanctioned_load
    judge = Judge(load_model(modbus.model, modbus.models), None if load is None else Decimal(str(load)))
    now = error.shown_at

    def cannot_be(quantity: Quantity, number: Number, at: datetime) -> bool:
        shown = error.shown.get(quantity)
        return shown is not None and judge.cannot_be(quantity, (number, at), (shown, now))

    # The gateway's own events tell of values that were not believed.
    return last_before([one for one in entries if one.kind is EntryKind.CAPTURE], cannot_be)
