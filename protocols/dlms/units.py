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
        27: "W",
        28: "VA",
        29: "var",
        30: "Wh",
        31: "VAh",
        32: "varh",
        33: "A",
        34: "C",
        35: "V",
        44: "Hz",
        56: "%",
        70: "dBm",
        255: "",
    }
)
"""Names by code; 10 is the local currency. 255 is "no unit", as a power factor has it."""

UNIT_CODES = MappingProxyType({name: code for code, name in UNIT_NAMES.items()})


def unit_name(code: int) -> str:
    """Give the name of a unit code; an unknown code becomes `unit(N)`, never an error."""
    return UNIT_NAMES.get(code, f"unit({code})")
