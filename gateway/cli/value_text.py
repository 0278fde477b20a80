"""A value of a meter as it is written in words and in JSON."""

from __future__ import annotations

from protocols.reading import Bits, Instant, Number, Text


def value_text(value: object) -> str:
    """Return a value with its unit, as it is written in words and in JSON."""
    match value:
        case Number():
            return f"{value.text()} {value.unit}".strip()
        case Instant():
            return value.at.isoformat()
        case Text():
            return value.text
        case Bits():
            return value.bits
        case _:
            return f"missing: {getattr(value, 'reason', '')}"
