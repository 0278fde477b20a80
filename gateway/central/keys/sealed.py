"""One row of what central keeps: sealed keys, of a change or of a maker's consignment."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedKeys:
    """One change of a meter's keys, or what a maker consigned (`source` names the file; `gateway` is empty)."""

    key_id: str
    gateway: str
    meter: str
    slots: tuple[str, ...]
    sealed: bytes = field(repr=False)
    made_at: datetime
    kept_at: datetime | None = None
    proved_at: datetime | None = None
    source: str = ""
