"""Find the line of a field in TOML text, so that a mistake can be shown where it stands."""

from __future__ import annotations

from protocols.toml_lines import Path as Trail
from protocols.toml_lines import TomlLines

__all__ = ["Trail", "locate"]


def locate(text: str, trail: Trail) -> int | None:
    """Return the 1-based line of the field at `trail`, else of what it is in, else None."""
    return TomlLines(text).line(tuple(trail))
