"""Reading the registers of one unit: blocks as planned, refused ones narrowed down to the refused values."""

from __future__ import annotations

from collections.abc import Iterable

from protocols.errors import MeterRefused
from protocols.modbus.client import REFUSED_ADDRESS, ModbusClient
from protocols.modbus.model import MeterModel
from protocols.modbus.plan import RegisterBlock, RegisterSpan, halves, plan

Words = dict[RegisterSpan, list[int] | None]
"""Words of each span; None where the meter refuses it."""


class RegisterReader:
    """Reads spans of one unit by its model's limits; `barriers` keeps what was learned (the model's own)."""

    def __init__(
        self,
        client: ModbusClient,
        model: MeterModel,
        unit: int,
        *,
        barriers: set[tuple[int, int]] | None = None,
    ) -> None:
        self._client = client
        self._model = model
        self._unit = unit
        self._barriers = model.barriers if barriers is None else barriers

    async def words(self, spans: Iterable[RegisterSpan]) -> Words:
        """Read all spans; raises what `ModbusClient.read_registers` raises, save for refused addresses."""
        got: Words = {}
        model = self._model
        for block in plan(
            spans, max_read=model.max_read, align=model.align, hole=model.hole, barriers=self._barriers
        ):
            got.update(await self._block(block))
        return got

    async def _block(self, block: RegisterBlock) -> Words:
        """Read one block; a refused one is read in halves, down to the value that the meter refuses."""
        try:
            words = await self._client.read_registers(self._unit, block.function, block.address, block.count)
        except MeterRefused as refused:
            if refused.reason_code not in REFUSED_ADDRESS:  # busy, broken: parts of it would be refused, too
                raise
            if not block.divisible:
                return dict.fromkeys(block.spans)
        else:
            return {span: block.take(span, words) for span in block.spans}
        # A meter refuses a whole request for one register in it that it does not have. The barrier spares later
        # sessions the refusals.
        second = halves(block)[1]
        self._barriers.add((block.function, min(s.address for s in second)))
        return await self.words(block.spans)
