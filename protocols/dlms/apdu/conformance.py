"""The conformance block (Green Book 9.4.6.1): which services each side offers, 24 bits, first service highest."""

from __future__ import annotations

from enum import IntFlag


def _bit(number: int) -> int:
    return 1 << (23 - number)


class Conformance(IntFlag):
    """Services by their bit in the conformance block."""

    GENERAL_PROTECTION = _bit(1)
    GENERAL_BLOCK_TRANSFER = _bit(2)
    READ = _bit(3)
    WRITE = _bit(4)
    UNCONFIRMED_WRITE = _bit(5)
    DELTA_VALUE_ENCODING = _bit(6)
    ATTRIBUTE_0_SET = _bit(8)
    PRIORITY = _bit(9)
    ATTRIBUTE_0_GET = _bit(10)
    BLOCK_GET = _bit(11)
    BLOCK_SET = _bit(12)
    BLOCK_ACTION = _bit(13)
    MULTIPLE_REFERENCES = _bit(14)
    INFORMATION_REPORT = _bit(15)
    DATA_NOTIFICATION = _bit(16)
    ACCESS = _bit(17)
    PARAMETERIZED_ACCESS = _bit(18)
    GET = _bit(19)
    SET = _bit(20)
    SELECTIVE_ACCESS = _bit(21)
    EVENT_NOTIFICATION = _bit(22)
    ACTION = _bit(23)


BUILT = (
    Conformance.GENERAL_PROTECTION
    | Conformance.GENERAL_BLOCK_TRANSFER
    | Conformance.DELTA_VALUE_ENCODING
    | Conformance.BLOCK_GET
    | Conformance.BLOCK_SET
    | Conformance.BLOCK_ACTION
    | Conformance.MULTIPLE_REFERENCES
    | Conformance.DATA_NOTIFICATION
    | Conformance.ACCESS
    | Conformance.GET
    | Conformance.SET
    | Conformance.SELECTIVE_ACCESS
    | Conformance.EVENT_NOTIFICATION
    | Conformance.ACTION
)
"""What this stack can do, in either role."""


BUILT_SHORT_NAMES = (
    Conformance.GENERAL_PROTECTION
    | Conformance.GENERAL_BLOCK_TRANSFER
    | Conformance.READ
    | Conformance.PARAMETERIZED_ACCESS
    | Conformance.MULTIPLE_REFERENCES
    | Conformance.BLOCK_GET
)
"""What it can do by short names: reading."""


_NAMES = {
    Conformance.BLOCK_GET: "get-blocks",
    Conformance.BLOCK_SET: "set-blocks",
    Conformance.BLOCK_ACTION: "action-blocks",
    Conformance.MULTIPLE_REFERENCES: "lists",
}
_SERVICES = {int(flag): _NAMES.get(flag, str(flag.name).lower().replace("_", "-")) for flag in Conformance}


def service_names(bits: int) -> tuple[str, ...]:
    """Return the names of the services in a conformance block; `bit-N` for one without a name."""
    return tuple(_SERVICES.get(_bit(n), f"bit-{n}") for n in range(24) if bits & _bit(n))
