"""The client for one meter's turn on a line: what its settings and model say, and what is known of the line."""

from __future__ import annotations

from protocols.line import Line, LineIO, memory_of
from protocols.modbus.client.account import account_of
from protocols.modbus.client.client import ModbusClient, Pauses
from protocols.modbus.format.model import MeterModel
from protocols.modbus.framing.frames import Frames, TcpManners, frames_for
from protocols.session import ModbusSettings


def frames_of(settings: ModbusSettings) -> Frames:
    """Return the framing that the settings name; MeterConfigError for one that there is none of."""
    manners = TcpManners(answer_unit=settings.answer_unit, own_transactions=settings.own_transactions)
    return frames_for(settings.framing, manners)


def client_for(
    line: Line, io: LineIO, frames: Frames, settings: ModbusSettings, model: MeterModel
) -> ModbusClient:
    """Return the client for a held line."""
    account = account_of(line)
    account.connected(line.statistics().connects)
    return ModbusClient(
        io,
        frames,
        timeout=settings.timeout,
        worst_latency=settings.worst_latency,
        account=account,
        late_answer_max=settings.late_answer_max,
        pauses=Pauses(after_answer=model.pause, after_other_unit=model.pause_after_other_unit),
        redials=memory_of(line).redials,
        one_request=settings.one_request,
    )
