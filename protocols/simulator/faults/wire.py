"""Faults on the wire, sans-IO: turns an answer into what leaves instead, with pauses and hang-ups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from protocols.dlms.framing import hdlc, wrapper
from protocols.dlms.framing.hdlc import Frame, FrameDecoder
from protocols.simulator.faults.kinds import FaultKind
from protocols.simulator.faults.script import Fault, FaultPlayer

_RLRE = b"\x63"
MAX_NOISE = 4096
"""Octets of one burst of noise."""
MAX_DELAY_MS = 120_000


@dataclass(frozen=True, slots=True)
class PortStep:
    """One thing that the port does: waits `pause` seconds, sends `octets`, perhaps hangs up or ends its direction."""

    octets: bytes
    pause: float = 0.0
    hang_up: bool = False
    last_octets: bool = False


Goodbye = Callable[[FaultPlayer, bytes], Fault | None]
"""Returns the fault that ends the connection after this answer; value 1: the meter's direction only."""


def plan(player: FaultPlayer | None, answer: bytes, goodbye: Goodbye | None = None) -> list[PortStep]:
    """Return the steps for one answer of the meter behind `player` (None: nothing goes wrong).

    `goodbye` is DLMS's where none is given.
    """
    if player is None or not answer:
        return [PortStep(answer)] if answer else []
    if player.fires(FaultKind.DROP):
        return []
    if fault := (goodbye or _goodbye)(player, answer):
        return [PortStep(answer, hang_up=not fault.amount, last_octets=bool(fault.amount))]
    if player.fires(FaultKind.HANG_UP):
        return [PortStep(answer[: len(answer) // 2], hang_up=True)]
    pause = 0.0
    if fault := player.fires(FaultKind.DELAY):
        pause = min(fault.amount, MAX_DELAY_MS) / 1000
    answer = _damaged(player, answer)
    if fault := player.fires(FaultKind.NOISE):
        answer = player.octets(min(fault.amount, MAX_NOISE)) + answer
    steps = [PortStep(answer, pause)]
    if fault := player.fires(FaultKind.SPLIT):
        steps = _pieces(player, answer, pause, min(fault.amount, MAX_DELAY_MS) / 1000)
    if player.fires(FaultKind.DUPLICATE):
        steps.append(PortStep(answer))
    return steps


def _goodbye(player: FaultPlayer, answer: bytes) -> Fault | None:
    """Return the fault that ends the connection after this answer: RLRE, or the UA to DISC."""
    if answer[:1] == bytes((hdlc.FLAG,)):
        frame = next((f for f in FrameDecoder().receive_data(answer) if isinstance(f, Frame)), None)
        if frame is not None and frame.kind == hdlc.UA and not frame.info:
            return player.fires(FaultKind.CLOSES_AFTER_DISC)
        apdu = b"" if frame is None else hdlc.without_llc(frame.info)
    else:
        apdu = answer[wrapper.HEADER_OCTETS :]
    return player.fires(FaultKind.CLOSES_AFTER_RLRE) if apdu[:1] == _RLRE else None


def _damaged(player: FaultPlayer, answer: bytes) -> bytes:
    if fault := player.fires(FaultKind.NOISE_INSIDE):
        at = 1 + player.below(max(1, len(answer) - 1))
        answer = answer[:at] + player.octets(min(fault.amount, MAX_NOISE)) + answer[at:]
    if player.fires(FaultKind.FLIP):
        at = player.below(len(answer))
        answer = answer[:at] + bytes((answer[at] ^ 1 << player.below(8),)) + answer[at + 1 :]
    return answer


def _pieces(player: FaultPlayer, answer: bytes, first: float, gap: float) -> list[PortStep]:
    """Cut an answer into up to four pieces."""
    cuts = sorted({player.below(len(answer)) for _ in range(3)} | {0})
    ends = [*cuts[1:], len(answer)]
    return [
        PortStep(answer[begin:end], gap if number else first)
        for number, (begin, end) in enumerate(zip(cuts, ends, strict=True))
    ]


def plan_bus(players: Mapping[int, FaultPlayer], answers: bytes) -> list[PortStep]:
    """Return the steps for what a bus sends: each frame by the faults of the meter that it comes from."""
    if not players:
        return [PortStep(answers)] if answers else []
    steps: list[PortStep] = []
    for frame in FrameDecoder().receive_data(answers):
        if isinstance(frame, Frame):
            player = players.get(frame.source.lower or 0)
            if player is None and frame.source.lower is None:
                player = next(iter(players.values()))  # one octet addresses the only meter there is
            steps += plan(player, _not_ready(player, frame).encode())
    return steps


def _not_ready(player: FaultPlayer | None, frame: Frame) -> Frame:
    """Put RNR in the place of an information frame; asked again, the channel sends that once more."""
    if player is None or frame.kind != 0 or not player.fires(FaultKind.NOT_READY):
        return frame
    control = frame.control & 0xE0 | hdlc.POLL | hdlc.RNR
    return Frame(destination=frame.destination, source=frame.source, control=control)
