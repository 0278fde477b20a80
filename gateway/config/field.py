"""The part of the configuration about the field's work beside a running edge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from gateway.config.types import Name, Section


class FieldSection(Section):
    """Commands beside a running edge (`read`, `scan`, `clock`, …) take turns on its lines over a local socket.

    The socket is `DATA/edge/field.sock` for the edge's own user and root (mode 0600); with `group` its members may use
    it, too (0660): whoever may, may do on the lines what a laptop on the wire may do. A turn lasts `turn_seconds` at
    most, then the edge takes its line back.
    """

    socket: Path | None = None
    group: Name | None = None
    turn_seconds: Annotated[int, Field(ge=10, le=840)] = 300
