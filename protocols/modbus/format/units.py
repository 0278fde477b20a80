"""Units of registers: prefixes made exact powers of ten, and which unit a quantity can have at all."""

from __future__ import annotations

from protocols.reading import Quantity

BASES = ("Wh", "varh", "VAh", "W", "var", "VA", "V", "A", "Hz")
"""Units that take a prefix; values are kept in them."""
PREFIXES = {"": 0, "m": -3, "k": 3, "M": 6, "G": 9}
PLAIN = ("", "%", "deg", "degC", "s", "min", "h", "d", "INR")
"""Units without prefixes."""
UNITS = {
    **{prefix + base: (base, exponent) for base in BASES for prefix, exponent in PREFIXES.items()},
    **{unit: (unit, 0) for unit in PLAIN},
}
"""Base unit and power of ten by the unit as a map prints it: `kWh` is (`Wh`, 3)."""

_ACTIVE = (1, 2, 15, 16, 17, 18, 19, 20)
_REACTIVE = (3, 4, 5, 6, 7, 8)
_APPARENT = (9, 10)
_CURRENT, _VOLTAGE, _FACTOR, _FREQUENCY = 11, 12, 13, 14
_NEUTRAL_CURRENT = 91
LIVE = 7
_ENERGY = (8, 9, 29)
"""Group D: time integrals since the beginning, of a billing period, of a capture period (OBIS, IEC 62056-61)."""
_POWER = (2, 3, 4, 5, 6, 7, 23, 24, 25, 26, 27)
"""Group D: instantaneous values, averages, least and most of them, demands."""


def expected_unit(quantity: Quantity) -> str | None:
    """Return the base unit that a quantity has, "" where it has none; None where its code does not tell.

    >>> expected_unit(Quantity.of("1-0:1.8.0")), expected_unit(Quantity.of("1-0:13.7.0"))
    ('Wh', '')
    """
    obis = quantity.obis
    if obis.a != 1 or quantity.attribute != 2:
        return None
    kind = obis.c
    if kind == _NEUTRAL_CURRENT:
        kind = _CURRENT
    elif 20 < kind <= 80:  # 21 to 34 are L1's, 41 to 54 L2's, 61 to 74 L3's
        kind = (kind - 1) % 20 + 1
    if obis.d in _ENERGY:
        return _of_energy(kind)
    if obis.d == LIVE and obis.e != 0:
        return None  # harmonics and angles of what E 0 is: %, degrees
    return _of_power(kind) if obis.d in _POWER else None


def _of_energy(kind: int) -> str | None:
    if kind in _ACTIVE:
        return "Wh"
    if kind in _REACTIVE:
        return "varh"
    return "VAh" if kind in _APPARENT else None


def _of_power(kind: int) -> str | None:
    if kind in _ACTIVE:
        return "W"
    if kind in _REACTIVE:
        return "var"
    if kind in _APPARENT:
        return "VA"
    return {_CURRENT: "A", _VOLTAGE: "V", _FACTOR: "", _FREQUENCY: "Hz"}.get(kind)
