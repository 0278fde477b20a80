"""The one door to meters: a spec says which protocol, the session is the same for all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from protocols.dlms.client.association_pool import AssociationPool
from protocols.dlms.reading.layout_cache import Layouts
from protocols.dlms.session import open_dlms
from protocols.errors import MeterConfigError
from protocols.line import Line
from protocols.modbus.belief.memories import Memories
from protocols.modbus.session.session import open_modbus
from protocols.session import MeterSession, MeterSpec, SessionContext, Visit

__all__ = ["Layouts", "open_session"]


@asynccontextmanager
async def open_session(
    line: Line,
    spec: MeterSpec,
    context: SessionContext,
    *,
    layouts: Layouts | None = None,
    pool: AssociationPool | None = None,
    visit: Visit | None = None,
    memories: Memories | None = None,
) -> AsyncIterator[MeterSession]:
    """Hold the line for a session with the meter of `spec`, whichever protocol it speaks, and yield the session.

    `line` is any `protocols.line.Line`; it is taken for the block and opened when it is not. `context` has
    secrets, invocation counters and clock. `layouts` spares sessions from asking again what an earlier one learned of
    a meter; `pool` keeps associations open for the next session where a spec asks for that (`keep_open`), and
    is to be closed before the lines are. `visit` says what is about to be read: it is asked for together. `memories`
    is what earlier sessions believed of Modbus meters.

    Raises MeterConfigError when the spec names no protocol or both, IdentityMismatch when another meter
    answers, and the errors of line and meter; afterwards the line is free.

    Example::

        async with open_session(line, spec, context) as session:
            print(await session.identify())
    """
    if (spec.dlms is None) == (spec.modbus is None):
        raise MeterConfigError("a meter has either DLMS or Modbus settings").with_context(meter=spec.meter)
    if spec.modbus is not None:
        async with open_modbus(line, spec, context, known=layouts, visit=visit, memories=memories) as modbus:
            yield modbus
        return
    async with open_dlms(line, spec, context, layouts=layouts, pool=pool, visit=visit) as dlms:
        yield dlms
