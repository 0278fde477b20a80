"""COSEM unit codes (Blue Book 4.3.2, table of units) and the names that values carry."""

from __future__ import annotations

from types import MappingProxyType

UNIT_NAMES = MappingProxyType(
    {
        1: "a",
        2: "mo",
        3: "wk",
        4: "d",
        5: "h",
        6: "min",
        7: "s",
        8: "deg",
        9: "degC",
        10: "INR",
        11: "m",
        12: "m/s",
        13: "m3",
        19: "l",
        20: "kg",
        21: "N",
        22: "Nm",
        23: "Pa",
        24: "bar",
        25: "J",
        26: "J/h",
        27: "W",
        28: "VA",
        29: "var",
        30: "Wh",
        31: "VAh",
        32: "varh",
        33: "A",
        34: "C",
        35: "V",
        36: "V/m",
        37: "F",
        38: "ohm",
        43: "H",
        44: "Hz",
        48: "V2h",
        49: "A2h",
        52: "K",
        56: "%",
        57: "Ah",
        70: "dBm",
        71: "dBuV",
        72: "dB",
        255: "",
    }
)
"""Names by code; 10 is the local currency. 255 is "no unit", as a power factor has it."""

UNIT_CODES = MappingProxyType({name: code for code, name in UNIT_NAMES.items()})


def unit_name(code: int) -> str:
    """Return the name of a unit code; an unknown code becomes `unit(N)`, never an error."""
    return UNIT_NAMES.get(code, f"unit({code})")
