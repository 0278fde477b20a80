"""Blocks of captures for tests, and a stranger's computation of their checksums."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

from msgspec import structs

from gateway.contract.blocks import (
    READINGS_TYPE,
    BlockTemplate,
    EncodedBlock,
    NumberedBlock,
    Sender,
    assemble_blocks,
    encode_block,
    holders_of,
    interval_of,
    layout_of,
)
from gateway.contract.messages.generation import Generation
from mapping.directory import Attribution
from protocols.reading import (
    Bits,
    Instant,
    MeterTime,
    Missing,
    MissingReason,
    Number,
    ProfileName,
    Quantity,
    ReadingSet,
    Text,
    Value,
)

AT = datetime(2026, 11, 23, 18, 30, tzinfo=UTC)
HALF_HOUR = timedelta(minutes=30)
ENERGY = Quantity.of("1-0:1.29.0*255")
VOLTAGE = Quantity.of("1-0:12.27.0*255")
HOLDER = Attribution(
    account_id="acc-17", account_number="0012345678", legacy_number="KE0012345", usage_point="up-17"
)
SENDER = Sender(journal="j-1", generation=Generation(3, "9f2c01ab"), gateway="edge-1")


def block_load(number: int = 0, **changed: Any) -> ReadingSet:
    at = AT + number * HALF_HOUR
    values: tuple[tuple[Quantity, Value], ...] = (
        (ENERGY, Number(412 + number, 0, "Wh")),
        (VOLTAGE, Number(23_140, -2, "V")),
    )
    return replace(
        ReadingSet(
            profile=ProfileName.BLOCK_LOAD,
            at=at,
            start=at - HALF_HOUR,
            received_at=AT + timedelta(days=1),
            values=values,
            meter_time=MeterTime(wall="2026-11-24T00:00:00", deviation=-330, status=0),
        ),
        **changed,
    )


def encoded(*readings: ReadingSet, **changed: Any) -> EncodedBlock:
    first = readings[0]
    template = BlockTemplate(
        meter="GEN:1",
        layout=layout_of(first),
        received_at=first.received_at,
        directory="3.9f2c01ab/7",
        holders=holders_of((HOLDER,)),
        interval=interval_of(first),
    )
    return encode_block(structs.replace(template, **changed), readings)


def strangers_checksum(block: dict[str, Any], row: dict[str, Any]) -> str:
    """Compute the checksum by what the documents say, with nothing of the gateway's."""
    covered = {name: value for name, value in row.items() if name not in ("checksum", "value_rev")}
    return canonical_key(
        [block["layout"], block["meter"], block["received_at"], block.get("interval"), covered]
    )


def canonical_key(value: Any) -> str:
    """Name a JSON value by its canonical text, as the documents say."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return blake2b(text.encode(), digest_size=8).hexdigest()


EVERY_KIND = (
    (ENERGY, Number(-412, -3, "Wh")),
    (VOLTAGE, Missing(MissingReason.NOT_SUPPORTED)),
    (Quantity.of("0-0:96.1.0*255"), Text('"क"\n')),
    (Quantity.of("0-0:96.10.1*255"), Bits("0101")),
    (Quantity.of("1-0:1.6.0*255#5"), Instant(AT)),
)


EIGHT = tuple(
    (Quantity.of(q), Number(1_234_567, scaler, unit))
    for q, unit, scaler in (
        ("1-0:1.8.0*255", "Wh", 0),
        ("1-0:9.8.0*255", "VAh", 0),
        ("1-0:12.7.0*255", "V", -2),
        ("1-0:11.7.0*255", "A", -2),
        ("1-0:14.7.0*255", "Hz", -2),
        ("1-0:1.7.0*255", "W", 0),
        ("1-0:13.7.0*255", "", -3),
        ("0-0:94.96.24*255", "INR", -2),
    )
)


def numbered_block(first: int, made: EncodedBlock) -> NumberedBlock:
    return NumberedBlock(
        first=first,
        last=first + len(made.rows) - 1,
        body=made.body(),
        layout=made.template.layout.keyed,
        holders=made.template.holders,
    )


def batch_of(*blocks: EncodedBlock, type: str = READINGS_TYPE, first: int = 17) -> bytes:
    """Assemble blocks whose captures are numbered from `first` on without a hole."""
    placed = []
    for block in blocks:
        placed.append(numbered_block(first, block))
        first += len(block.rows)
    return assemble_blocks(placed, SENDER, type=type, time="2026-11-24T18:31:00Z")
