"""Batches as they arrive, of either version, in the form that the ledger stores; sans-IO."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from gateway.central.intake.salvage import SpoiledEntry, salvage
from gateway.central.ledger.bodies import bodies
from gateway.central.ledger.records import ReceivedBatch
from gateway.central.ledger.rows import CaptureRow
from gateway.contract.batches import batch_type, parse_batch_of_version_1, read_gaps
from gateway.contract.blocks import EVENTS_TYPE, GAPS_TYPE, READINGS_TYPE, BlocksRead, RefusedRow, read_blocks
from gateway.contract.entries import entries_alone
from gateway.contract.envelope import of_version_1
from gateway.contract.messages import Batch
from gateway.contract.topics import TopicKind, TopicName
from gateway.errors import ContractError
from mapping.instants import EPOCH, MICROSECOND, micros

MAX_BATCH = 4 << 20
"""Largest batch that is read, in octets."""
BATCH_TYPE = {
    TopicKind.READINGS: READINGS_TYPE,
    TopicKind.EVENTS: EVENTS_TYPE,
    TopicKind.GAPS: GAPS_TYPE,
}


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message with its topic and the time of its arrival."""

    topic: str
    payload: bytes
    at: datetime


@dataclass(frozen=True, slots=True)
class TakenBatch:
    """What can be stored of a batch (perhaps nothing), and the entries that cannot be taken, each by itself."""

    received: ReceivedBatch
    spoiled: tuple[SpoiledEntry, ...] = ()


def take_batch(name: TopicName, arrival: Arrival) -> TakenBatch:
    """Read a batch; ContractError where nothing of it can be believed."""
    if len(arrival.payload) > MAX_BATCH:
        raise ContractError(f"$: {len(arrival.payload)} octets, more than the {MAX_BATCH} that are accepted")
    # By what it says, not by its topic: what waits in quarantine may have come under either.
    if not _is_version_2(arrival.payload):
        return _version_1(name.kind, arrival)
    if name.kind is TopicKind.GAPS:
        parsed, refused = read_gaps(arrival.payload, limit=MAX_BATCH)
        return TakenBatch(received_batch(parsed.data, (), arrival), _spoiled(arrival, refused))
    read = read_blocks(arrival.payload, limit=MAX_BATCH)
    _expect(read.type, BATCH_TYPE[name.kind], name.kind)
    return TakenBatch(_received_blocks(read, arrival), _spoiled(arrival, read.refused))


def _is_version_2(payload: bytes) -> bool:
    try:
        return batch_type(payload).endswith(".v2")
    except ContractError:
        return False  # version 1 knew numbers that are none (NaN)


def _version_1(kind: TopicKind, arrival: Arrival) -> TakenBatch:
    try:
        parsed = parse_batch_of_version_1(arrival.payload, limit=MAX_BATCH)
        _expect(parsed.type, of_version_1(BATCH_TYPE[kind]), kind)
    except ContractError:
        parts = salvage(arrival.payload)
        # Nothing spoiled: it is the frame that breaks the contract, and its entries cannot be believed either.
        if parts is None or not parts.spoiled:
            raise
        return TakenBatch(received_batch(parts.batch, parts.bodies, arrival), parts.spoiled)
    return TakenBatch(received_batch(parsed.data, bodies(arrival.payload, parsed.data), arrival))


def _expect(found: str, belongs: str, kind: TopicKind) -> None:
    if found != belongs:
        raise ContractError(f"$.type: {found!r} does not belong on a topic of {kind}")


def received_batch(batch: Batch, texts: Sequence[str], arrival: Arrival) -> ReceivedBatch:
    """Return a batch of captures one by one (version 1), or of gaps, as the ledger takes it."""
    return ReceivedBatch(
        journal=batch.journal,
        gateway=batch.gateway,
        generation=batch.generation,
        rows=tuple(_rows(batch, texts, arrival)),
        gaps=batch.gaps,
        named=frozenset(one.seq for one in batch.captures if one.seq is not None),
        at=arrival.at,
        topic=arrival.topic,
        payload=arrival.payload,
    )


def _rows(batch: Batch, texts: Sequence[str], arrival: Arrival) -> Iterator[CaptureRow]:
    for capture, body in zip(batch.captures, texts, strict=True):
        if capture.seq is None:
            raise ContractError("$.data.captures: a capture without seq")
        yield CaptureRow(
            capture_id=capture.capture_id,
            value_rev=capture.value_rev,
            meter=capture.meter,
            profile=capture.profile,
            at=micros(capture.at),
            start=None if capture.start is None else micros(capture.start),
            received_at=micros(capture.received_at),
            quality=capture.quality,
            reason=capture.reason,
            directory_version=capture.directory_version,
            gateway=batch.gateway,
            journal=batch.journal,
            seq=capture.seq,
            ingested_at=micros(arrival.at),
            body=body,
            raw=capture.raw,
            epoch=capture.epoch,
            directory_generation=str(capture.directory_generation),
        )


def _received_blocks(read: BlocksRead, arrival: Arrival) -> ReceivedBatch:
    return ReceivedBatch(
        journal=read.journal,
        gateway=read.gateway,
        generation=read.generation,
        rows=tuple(_rows_of_blocks(read, micros(arrival.at))),
        named=frozenset([row.seq for block in read.blocks for row in block.rows if row.named]),
        layouts={key: one.text.decode() for key, one in read.layouts.items()},
        holders={key: one.text.decode() for key, one in read.holders.items()},
        at=arrival.at,
        topic=arrival.topic,
        payload=arrival.payload,
    )


def _rows_of_blocks(read: BlocksRead, ingested_at: int) -> Iterator[CaptureRow]:
    gateway, journal, make = read.gateway, read.journal, partial(tuple.__new__, CaptureRow)
    for block in read.blocks:
        meter, profile, reason, version = block.meter, block.profile, block.reason, block.directory_version
        received_at, generation = micros(block.received_at), str(block.generation)
        epoch, layout, holders, clock = block.epoch, block.layout, block.holders, block.clock
        for seq, capture_id, at, start, value_rev, quality, raw, checksum, body, _ in block.rows:
            # By position and past the constructor: this is done for every capture that arrives.
            yield make(
                (
                    capture_id,
                    value_rev,
                    meter,
                    profile,
                    (at - EPOCH) // MICROSECOND,
                    None if start is None else micros(start),
                    received_at,
                    quality,
                    reason,
                    version,
                    gateway,
                    journal,
                    seq,
                    ingested_at,
                    body.decode(),
                    raw,
                    epoch,
                    generation,
                    layout,
                    holders,
                    clock,
                    checksum,
                )
            )


def _spoiled(arrival: Arrival, refused: Sequence[RefusedRow]) -> tuple[SpoiledEntry, ...]:
    if not refused:
        return ()
    try:
        alone = entries_alone(arrival.payload, {one.seq for one in refused})
        return tuple(
            SpoiledEntry(one.seq, one.meter, alone[one.seq], one.detail, one.reason) for one in refused
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ContractError(f"{refused[0].detail} (and it cannot be set aside alone: {error})") from error
