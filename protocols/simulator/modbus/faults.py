"""Faults of a simulated Modbus meter: what its registers hold, what it refuses, and frames that are not its own.

The octets that leave at last have the faults of any line (`protocols.simulator.faults.wire`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from protocols.modbus.format.registers import RegisterSpec
from protocols.modbus.format.writes import AmountWrite, RelayWrite
from protocols.simulator.faults import wire
from protocols.simulator.faults.kinds import FaultKind
from protocols.simulator.faults.script import Fault, FaultFile, FaultPlayer
from protocols.simulator.faults.wire import PortStep
from protocols.simulator.household.state import TrueState
from protocols.simulator.modbus.frames import Asked
from protocols.simulator.modbus.writes import Write

SERVER_BUSY = 6
WRITING = (5, 6, 16)


@dataclass
class ModbusFaults:
    """The faults of one meter; `now` gives the seconds of the port's clock."""

    player: FaultPlayer
    _deaf_until: float = field(default=float("-inf"))

    def other_asked(self, now: float) -> None:
        """Note that another unit on the bus was asked."""
        if fault := self.player.fires(FaultKind.DEAF_AFTER_OTHERS):
            self._deaf_until = max(self._deaf_until, now + fault.amount / 1000)

    def instead(self, pdu: bytes, now: float, *, across_holes: bool) -> bytes | None:
        """Return the PDU that is sent in place of the meter's, b"" for none; None where the meter answers itself."""
        self.player.turn()
        if now < self._deaf_until or self.player.fires(FaultKind.SILENT):
            return b""
        if fault := self.player.fires(FaultKind.DEAF):
            self._deaf_until = now + fault.amount / 1000
            return b""
        if across_holes and self.player.fires(FaultKind.HOLES_SILENT):
            return b""
        if pdu[0] in WRITING and (fault := self.player.fires(FaultKind.WRITE_REFUSED)):
            return _refusal(pdu, fault.amount)
        if self.player.fires(FaultKind.BUSY):
            return _refusal(pdu, SERVER_BUSY)
        if fault := self.player.fires(FaultKind.EXCEPTION):
            return _refusal(pdu, fault.amount)
        return None

    def unanswered(self, pdu: bytes) -> bool:
        """Say whether a write that was carried out draws no answer."""
        return pdu[0] in WRITING and self.player.fires(FaultKind.ACTION_UNANSWERED) is not None

    def stuck(self, cell: Write) -> bool:
        """Say whether a write is answered, and nothing comes of it."""
        if isinstance(cell, AmountWrite):
            kind = FaultKind.CREDIT_STUCK
        else:
            kind = FaultKind.RELAY_STUCK if isinstance(cell, RelayWrite) else FaultKind.CLOCK_STUCK
        return self.player.fires(kind) is not None

    def state(self, state: TrueState) -> TrueState:
        """Return what the registers show of the household."""
        if fault := self.player.standing(FaultKind.ENERGY_OFF):
            return replace(state, energy_import_wh=max(0, state.energy_import_wh + fault.amount))
        return state

    def words(self, register: RegisterSpec, words: list[int], *, serial: bool) -> list[int]:
        """Return the registers of one entry, perhaps not as the model says."""
        if not serial and self.player.standing(FaultKind.ZEROS):
            return [0] * len(words)
        if not register.has_own_order and self.player.standing(FaultKind.WORD_ORDER):
            return words[::-1]
        return words

    def steps(self, asked: Asked, pdu: bytes) -> list[PortStep]:
        """Return what leaves in place of the answer with this PDU."""
        player, unit, transaction = self.player, asked.unit, asked.transaction
        if transaction is None:
            return wire.plan(player, self._before(asked, pdu) + asked.frame(unit, pdu), _closes)
        if fault := player.standing(FaultKind.OWN_TRANSACTION):
            transaction = fault.amount & 0xFFFF
        if fault := player.standing(FaultKind.OWN_UNIT):
            unit = fault.amount & 0xFF
        return wire.plan(player, asked.frame(unit, pdu, transaction), _closes)

    def _before(self, asked: Asked, pdu: bytes) -> bytes:
        """Return what comes on a bus before the answer."""
        player, octets = self.player, b""
        if fault := player.fires(FaultKind.ECHO):
            octets += asked.octets[-fault.amount :] if fault.amount else asked.octets
        if fault := player.fires(FaultKind.SECOND_MASTER):
            octets += asked.frame(fault.amount & 0xFF, asked.pdu) + asked.frame(fault.amount & 0xFF, pdu)
        if fault := player.fires(FaultKind.FOREIGN_UNIT):
            octets += asked.frame(fault.amount & 0xFF, pdu)
        if fault := player.fires(FaultKind.LEAD_IN):
            octets += bytes((fault.amount & 0xFF,)) * 2
        return octets


def modbus_faults(meter: str, file: FaultFile | None) -> ModbusFaults | None:
    """Return the faults of the meter with this text (`EAS:10000001`); None where nothing goes wrong with it."""
    script = None if file is None else file.script(meter)
    return ModbusFaults(FaultPlayer(script, meter)) if script is not None and script.faults else None


def _refusal(pdu: bytes, code: int) -> bytes:
    return bytes((pdu[0] | 0x80, code & 0xFF))


def _closes(player: FaultPlayer, answer: bytes) -> Fault | None:
    _ = answer
    fault = player.fires(FaultKind.CLOSES)
    return None if fault is None else replace(fault, value=0)
