"""Asking which Modbus units are there: any sound answer proves one, even a refusal, whatever unit was asked last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from protocols.errors import MeterProtocolError
from protocols.modbus.client.account import GATEWAY_CODES
from protocols.modbus.framing.frames import GATEWAY_UNITS, Frames
from protocols.modbus.framing.hunt import Frame
from protocols.modbus.framing.requests import Request

MAX_REMEMBERED = 512
"""Questions over TCP whose transactions are remembered."""


class ModbusVoice:
    """The `protocols.sweep.Voice` of Modbus: two input registers are asked for, which a meter gives or refuses."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._hunt = frames.hunt(None)
        self._units: OrderedDict[int, int] = OrderedDict()
        self.gateway_spoke = False
        """Whether a gateway has said of a unit that it does not answer."""

    def question(self, key: int) -> bytes:
        """Return the request to a unit."""
        request = Request(unit=key, function=4, address=0, count=2)
        self._units[request.transaction] = key
        while len(self._units) > MAX_REMEMBERED:
            self._units.popitem(last=False)
        return self._frames.encode(request)

    def hear(self, octets: bytes) -> Sequence[int | None]:
        """Return the units of the answers in these octets."""
        try:
            self._hunt.feed(octets)
        except MeterProtocolError:
            self._hunt = self._frames.hunt(None)
            return (None,)
        return self._taken()

    def silence(self) -> Sequence[int | None]:
        """Give a frame up that was begun."""
        begun = self._hunt.begun
        self._hunt.silence()
        self._hunt.end()
        return self._taken() or ((None,) if begun else ())

    @property
    def begun(self) -> bool:
        """Say whether a frame was begun."""
        return self._hunt.begun

    def goodbye(self, key: int) -> bytes:
        """Return nothing: a question begins no conversation."""
        del key
        return b""

    def _taken(self) -> list[int | None]:
        passed, self._hunt.passed = self._hunt.passed, type(self._hunt.passed)()
        found: list[int | None] = [self._unit_of(frame) for frame in passed.frames if self._is_answer(frame)]
        if passed.garbage or passed.bad_checks:
            found.append(None)
        return found

    def _is_answer(self, frame: Frame) -> bool:
        if frame.request:  # an echo of ours, or another master's
            return False
        refused = bool(frame.pdu[0] & 0x80)
        if refused and frame.transaction is not None and frame.pdu[1:2] in _GATEWAY_WORDS:
            self.gateway_spoke = True
            return False
        return True

    def _unit_of(self, frame: Frame) -> int:
        if frame.transaction is not None and frame.unit in GATEWAY_UNITS:
            return self._units.get(frame.transaction, frame.unit)
        return frame.unit


_GATEWAY_WORDS = tuple(bytes((code,)) for code in GATEWAY_CODES)
