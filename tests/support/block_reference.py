"""What the contract's models and rules say of a batch of blocks, written plainly: slow, and nobody's but the tests'."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import ValidationError

from gateway.contract.blocks import EVENTS_TYPE, READINGS_TYPE
from gateway.contract.blocks.wire import Block, BlockBatch, InstantText, Part
from gateway.contract.messages import MAX_SEQ, Identifier
from tests.support.blocks import canonical_key, strangers_checksum


class _Envelope(Part):
    specversion: Literal["1.0"]
    id: Identifier
    source: Identifier
    type: Identifier
    time: InstantText
    data: BlockBatch


def accepts(payload: bytes) -> bool:
    """Say whether every capture of a message is to be taken."""
    try:
        message = json.loads(payload)
        envelope = _Envelope.model_validate_json(payload)
        return envelope.type in (READINGS_TYPE, EVENTS_TYPE) and _is_whole(message["data"], envelope.data)
    except (ValidationError, ValueError, TypeError, RecursionError):
        return False


def _is_whole(data: dict[str, Any], batch: BlockBatch) -> bool:
    tables = {**data["layouts"], **data.get("holders", {})}
    if any(canonical_key(value) != key for key, value in tables.items()):
        return False
    next_seq = batch.first_seq
    for raw, block in zip(data["blocks"], batch.blocks, strict=True):
        if block.seq < next_seq or not _is_sound(raw, block, batch):
            return False
        next_seq = block.seq + len(block.captures)
    return next_seq - 1 <= batch.last_seq


def _is_sound(raw: dict[str, Any], block: Block, batch: BlockBatch) -> bool:
    layout = batch.layouts.get(block.layout)
    if layout is None or (block.holders is None and block.reason is None):
        return False
    if block.holders is not None and block.holders not in batch.holders:
        return False
    if int(block.directory.split("/")[1]) > MAX_SEQ:
        return False
    for members, row in zip(raw["captures"], block.captures, strict=True):
        identity = row.capture_id or f"{block.meter}/{layout.profile}/{row.at}/{row.occurrence}"
        if len(identity) > 200 or len(row.values) != len(layout.columns):
            return False
        if row.checksum != strangers_checksum(raw, members):
            return False
        if not _begins_before(row.at, row.start, block.interval):
            return False
    return True


def _begins_before(at: str, start: str | None, interval: int | None) -> bool:
    end = datetime.fromisoformat(at)
    if start is not None:
        return datetime.fromisoformat(start) < end
    try:
        return interval is None or end - timedelta(seconds=interval) < end
    except OverflowError:
        return False
