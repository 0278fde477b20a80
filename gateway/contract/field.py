"""The name under which field work delivers: beside the gateway whose meters it visits, from a journal of its own."""

from __future__ import annotations

from typing import Final

_SUFFIX: Final = "-field"


def field_gateway(gateway: str) -> str:
    """Return the name under which field work at a gateway's meters delivers."""
    return f"{gateway}{_SUFFIX}"


def visited_gateway(name: str) -> str:
    """Return the gateway that `field_gateway` was given, or the name itself where it is no field work's."""
    return name.removesuffix(_SUFFIX)
