"""What a request costs on the wire: octets by framing, silence between frames, the meter's latency."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.line import LinePace

SUPPOSED_LATENCY = 0.03
"""Seconds that a meter is supposed to take before it answers, until it was measured (20 to 50 ms are typical)."""
SUPPOSED_REGISTER = 0.0005
"""Seconds for each register on a line that does not know its speed, until it was measured: a gateway may have a
serial bus behind it."""
_STEP = 1.15
"""Latencies are rounded to powers of this, so that plans are kept from one visit to the next."""


@dataclass(frozen=True, slots=True)
class WireCost:
    """What reading costs, in nanoseconds, so that costs of plans compare exactly.

    `request` for each request, `register` for each register that is asked for.
    """

    request: int
    register: int

    def of(self, count: int) -> int:
        """Return what one request for `count` registers costs."""
        return self.request + count * self.register


OCTETS = {"rtu": (13, 2), "ascii": (28, 4), "tcp": (21, 2)}
"""Octets of request and answer together, and for each register: address, PDU and CRC; twice as characters with colon,
LRC and line end; MBAP header and PDU."""


def wire_cost(framing: str, pace: LinePace | None, latency: float, register: float = 0.0) -> WireCost:
    """Return what requests cost in a framing on a line.

    `pace` is the line's, None where it does not know its speed: then `register` seconds are counted for each register
    and `latency` for the rest. `latency` is the meter's turnaround beyond t3.5, in seconds. On a wire T(N) =
    (13 + 2N)·c + 2·t3.5 + L in RTU (Modbus over serial line 2.5.1.1); ASCII has no silence between frames.
    """
    latency = rounded(latency)
    if pace is None:
        return WireCost(_ns(latency), max(1, _ns(rounded(register))))
    fixed, each = OCTETS[framing]
    silence = 2 * pace.gap if framing == "rtu" else 0.0
    return WireCost(_ns(fixed * pace.octet + silence + latency), max(1, _ns(each * pace.octet)))


def turnaround(framing: str, pace: LinePace, count: int, round_trip: float) -> float:
    """Return a meter's latency beyond t3.5, of a `round_trip` in seconds from the first octet to the last."""
    fixed, each = OCTETS[framing]
    silence = pace.gap if framing == "rtu" else 0.0
    return max(0.0, round_trip - (fixed + each * count) * pace.octet - silence)


def rounded(seconds: float) -> float:
    """Return the nearest of steps that are 15 % apart; 0 below 50 µs."""
    step = 0.00005
    if seconds < step:
        return 0.0
    while step * _STEP**0.5 < seconds:
        step *= _STEP
    return step


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
