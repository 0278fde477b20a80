"""A meter's own octets are kept as evidence where money is settled on them: of billing captures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from gateway.central.ledger.rows import CaptureRow
from gateway.contract.blocks import block_prefix, row_checksum
from gateway.contract.messages import rfc3339
from mapping.instants import instant

KEPT: Final = frozenset({"billing"})
"""Profiles whose raw octets are kept for ever; of the others they were checked when they came, and are not kept."""
_SECOND: Final = 1_000_000


def without_raw(rows: Sequence[CaptureRow]) -> list[CaptureRow]:
    """Return captures without the raw octets that are not kept; their checksum is then that of the rest."""
    return [_without(row) if row.raw is not None and row.profile not in KEPT else row for row in rows]


def _without(row: CaptureRow) -> CaptureRow:
    if row.checksum is None or row.layout is None:
        return row._replace(raw=None)
    members = json.loads(row.body)
    interval = None if row.start is None or "start" in members else (row.at - row.start) // _SECOND
    prefix = block_prefix(row.layout, row.meter, rfc3339(instant(row.received_at)), interval)
    return row._replace(raw=None, checksum=row_checksum(prefix, members))
