"""Batches of readings, events and gaps, of versions 1 and 2 of the contract, read into one form: `Batch`."""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import msgspec
from pydantic import TypeAdapter, ValidationError

from gateway.contract.blocks import (
    EVENTS_TYPE,
    GAPS_TYPE,
    READINGS_TYPE,
    BlockLayout,
    BlocksRead,
    Holder,
    ReadBlock,
    ReadRow,
    RefusedRow,
    read_blocks,
)
from gateway.contract.blocks.wire import BlockGap, GapFrame
from gateway.contract.envelope import BATCH_TYPES, MAX_MESSAGE, Parsed, first_problem, parse
from gateway.contract.messages import (
    Batch,
    Capture,
    CaptureClock,
    CaptureValue,
    Gap,
    MessageAttribution,
    MessageMeterTime,
)
from gateway.errors import ContractError

_HOLDERS: Final = TypeAdapter(tuple[Holder, ...])


class _TypeOnly(msgspec.Struct):
    type: str


_TYPE: Final = msgspec.json.Decoder(_TypeOnly)


def parse_batch(payload: bytes, *, limit: int = MAX_MESSAGE) -> Parsed[Batch]:
    """Read a batch of readings, events or gaps, of version 1 or 2.

    Raises ContractError, which names the JSON path, where anything of it is wrong: also one capture or gap.
    """
    parsed, refused = parse_sound(payload, limit=limit)
    if refused:
        raise ContractError(refused[0].detail)
    return parsed


def parse_sound(payload: bytes, *, limit: int = MAX_MESSAGE) -> tuple[Parsed[Batch], tuple[RefusedRow, ...]]:
    """Read what is sound of a batch; with it, by their numbers, the captures and gaps that are not.

    Those are to be asked for again: one was altered on its way, or a newer sender says what this version cannot
    read. A batch of version 1 is whole or wrong. Raises ContractError where the frame is wrong.
    """
    if len(payload) > limit:
        raise ContractError(f"$: {len(payload)} octets, more than the {limit} that are accepted")
    try:
        kind = batch_type(payload)
    except ContractError:
        kind = ""  # version 1 knew numbers that are none (NaN)
    if kind in (READINGS_TYPE, EVENTS_TYPE):
        read = read_blocks(payload, limit=limit)
        return Parsed(read.id, read.source, read.type, read.time, expanded(read)), read.refused
    if kind == GAPS_TYPE:
        return read_gaps(payload, limit=limit)
    return parse_batch_of_version_1(payload, limit=limit), ()


def batch_type(payload: bytes) -> str:
    """Return the `type` of an envelope; ContractError where there is none."""
    try:
        return _TYPE.decode(payload).type
    except (ValueError, RecursionError) as error:
        raise ContractError(f"$: {error}") from error


def parse_batch_of_version_1(payload: bytes, *, limit: int = MAX_MESSAGE) -> Parsed[Batch]:
    """Read a batch of version 1.

    Raises ContractError as `parse` does, and where the sequence numbers are missing, do not rise, or lie
    outside first_seq..last_seq; a batch without entries is none.
    """
    parsed = parse(payload, Batch, limit=limit)
    if parsed.type not in BATCH_TYPES:
        raise ContractError(f"$.type: {parsed.type!r} is no batch of readings, events or gaps")
    batch = parsed.data
    previous = 0
    for path, seq in _sequence(batch):
        if seq is None:
            raise ContractError(f"{path}.seq: missing")
        if not max(previous + 1, batch.first_seq) <= seq <= batch.last_seq:
            raise ContractError(f"{path}.seq: {seq} does not rise within {batch.first_seq}..{batch.last_seq}")
        previous = seq
    if not previous:
        raise ContractError("$.data: a batch without entries")
    return parsed


def _sequence(batch: Batch) -> list[tuple[str, int | None]]:
    if batch.captures and batch.gaps:
        raise ContractError("$.data: captures and gaps do not share a batch")
    captures = [(f"$.data.captures[{i}]", capture.seq) for i, capture in enumerate(batch.captures)]
    return captures or [(f"$.data.gaps[{i}]", gap.seq) for i, gap in enumerate(batch.gaps)]


def read_gaps(payload: bytes, *, limit: int) -> tuple[Parsed[Batch], tuple[RefusedRow, ...]]:
    """Read a batch of gaps of version 2: those that are sound, and those refused, by their numbers.

    Raises ContractError, which names the JSON path, where the frame is wrong.
    """
    if len(payload) > limit:
        raise ContractError(f"$: {len(payload)} octets, more than the {limit} that are accepted")
    try:
        frame = GapFrame.model_validate_json(payload)
    except ValidationError as error:
        raise ContractError(first_problem(error)) from error
    except RecursionError as error:
        raise ContractError(f"$: {error}") from error
    data, found, refused = frame.data, list[Gap](), list[RefusedRow]()
    previous = data.first_seq - 1
    for number, raw in enumerate(data.gaps):
        path, seq = f"$.data.gaps[{number}]", raw.get("seq")
        if type(seq) is not int or not previous < seq <= data.last_seq:
            raise ContractError(f"{path}.seq: {seq!r} does not rise within {data.first_seq}..{data.last_seq}")
        previous = seq
        try:
            known = BlockGap.model_validate_json(json.dumps(raw))
        except ValidationError as error:
            refused.append(RefusedRow(seq, "malformed", f"{path}{first_problem(error).removeprefix('$')}"))
        else:
            found.append(Gap.model_validate(known.model_dump()))
    batch = Batch(
        journal=data.journal,
        generation=data.generation,
        gateway=data.gateway,
        first_seq=data.first_seq,
        last_seq=data.last_seq,
        gaps=tuple(found),
    )
    time = datetime.fromisoformat(frame.time)
    return Parsed(frame.id, frame.source, frame.type, time, batch), tuple(refused)


def expanded(read: BlocksRead) -> Batch:
    """Return the captures of blocks one by one, each with all that its block says of it."""
    captures = [
        stamped_capture(
            block,
            row,
            read.layouts[block.layout].layout,
            () if block.holders is None else read.holders[block.holders].holders,
        )
        for block in read.blocks
        for row in block.rows
    ]
    return Batch(
        journal=read.journal,
        generation=read.generation,
        gateway=read.gateway,
        first_seq=read.first_seq,
        last_seq=read.last_seq,
        captures=tuple(captures),
    )


def stamped_capture(
    block: ReadBlock, row: ReadRow, layout: BlockLayout, holders: tuple[Holder, ...]
) -> Capture:
    """Return a capture of a block by itself."""
    members = json.loads(row.body)
    return Capture(
        capture_id=row.capture_id,
        value_rev=row.value_rev,
        seq=row.seq,
        meter=block.meter,
        profile=block.profile,
        at=row.at,
        start=row.start,
        meter_time=meter_time_of(members),
        received_at=block.received_at,
        quality=row.quality,
        values=values_of(members, layout),
        attributions=attributions_of(holders),
        reason=block.reason,
        directory_version=block.directory_version,
        directory_generation=block.generation,
        epoch=block.epoch,
        clock=None if block.clock is None else CaptureClock.model_validate_json(block.clock),
        raw=row.raw,
        checksum=row.checksum,
        suspect=suspect_of(members),
    )


def suspect_of(members: dict[str, Any]) -> tuple[int, ...]:
    """Return the places of the values of a decoded row that are not believed."""
    return tuple(members.get("suspect", ()))


def values_of(members: dict[str, Any], layout: BlockLayout) -> tuple[CaptureValue, ...]:
    """Return the values of a decoded row, each with its quantity, name and unit."""
    return tuple(
        CaptureValue(
            q=column.q,
            name=column.name,
            unit=column.unit,
            **({"value": value} if isinstance(value, str) else value),
        )
        for column, value in zip(layout.columns, members["values"], strict=True)
    )


def attributions_of(holders: tuple[Holder, ...]) -> tuple[MessageAttribution, ...]:
    """Return whose a capture is, as stamped."""
    return tuple(MessageAttribution.model_validate(one.model_dump()) for one in holders)


def meter_time_of(members: dict[str, Any]) -> MessageMeterTime | None:
    """Return the meter's own stamp by a decoded row."""
    wall = members.get("wall")
    if wall is None:
        return None
    return MessageMeterTime(
        wall=wall,
        deviation=members.get("deviation"),
        status=members.get("status"),
        trusted=members.get("trusted", True),
    )


@lru_cache(maxsize=512)
def layout_from(text: str) -> BlockLayout:
    """Read the canonical JSON of a layout."""
    return BlockLayout.model_validate_json(text)


@lru_cache(maxsize=512)
def holders_from(text: str | None) -> tuple[Holder, ...]:
    """Read the canonical JSON of a list of holders; None: there are none."""
    return () if text is None else _HOLDERS.validate_json(text)
