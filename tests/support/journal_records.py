"""Blocks and gaps for the journal, as the stamping makes them, for tests of journal and delivery."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.contract.batches import parse_batch
from gateway.contract.blocks import (
    EVENTS_TYPE,
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
from gateway.contract.messages import Batch, Capture, CaptureValue, Gap, MessageAttribution, rfc3339
from gateway.contract.messages.generation import Generation
from gateway.edge.journal.entry import Entry, EntryKind, GapRecord, JournalBatch
from mapping.directory import Attribution
from protocols.reading import Number, ProfileName, Quantity, ReadingSet

T0 = datetime(2026, 8, 1, tzinfo=UTC)
"""Long enough ago that thousands of half-hours lie in the past: VictoriaMetrics drops points of the future."""
ACCOUNT = MessageAttribution(
    account_id="acc-1",
    account_number="0123456789",
    legacy_number="KE0012345",
    usage_point="up-1",
    role="normal",
)


def capture(
    n: int, *, profile: str = "block_load", value: int = 1, rev: int = 1, meter: str = "GEN:1", pad: int = 0
) -> Capture:
    """The n-th half-hour of one meter."""
    at = T0 + timedelta(minutes=30 * n)
    return Capture(
        capture_id=f"{meter}/{profile}/{at:%Y-%m-%dT%H:%M:%SZ}/0",
        value_rev=rev,
        meter=meter,
        profile=profile,
        at=at,
        start=at - timedelta(minutes=30) if profile == "block_load" else None,
        meter_time=None,
        received_at=at + timedelta(seconds=5),
        quality="1.0.0",
        values=(
            CaptureValue(q="1-0:1.29.0*255", name="interval_energy_import", unit="Wh", value=f"{value}.50"),
            *((CaptureValue(q="0-0:96.1.0*255", name="meter_serial", text="x" * pad),) if pad else ()),
        ),
        attributions=(ACCOUNT,),
        reason=None,
        directory_version=1,
    )


HOLDER = Attribution(
    account_id="acc-1", account_number="0123456789", legacy_number="KE0012345", usage_point="up-1"
)
ENERGY = Quantity.of("1-0:1.29.0*255")
SERIAL = Quantity.of("0-0:96.1.0*255")


def reading(n: int, *, profile: str = "block_load", value: int = 1, pad: int = 0) -> ReadingSet:
    """The n-th half-hour of a meter as it was read; `pad` octets of evidence make it long."""
    at = T0 + timedelta(minutes=30 * n)
    return ReadingSet(
        profile=ProfileName(profile),
        at=at,
        start=at - timedelta(minutes=30) if profile == "block_load" else None,
        received_at=at + timedelta(seconds=5),
        values=((ENERGY, Number(value * 100 + 50, -2, "Wh")),),
        raw=bytes(pad * 3 // 4) if pad else None,
    )


def block(*readings: ReadingSet, meter: str = "GEN:1", **more: Any) -> EncodedBlock:
    """Readings of one poll as a block: all were received when the first was."""
    first = readings[0]
    template = BlockTemplate(
        meter=meter,
        layout=layout_of(first),
        received_at=first.received_at,
        directory="1.00000001/1",
        holders=holders_of((HOLDER,)),
        interval=interval_of(first),
        **more,
    )
    return encode_block(template, readings)


def record(
    n: int, *, profile: str = "block_load", value: int = 1, pad: int = 0, meter: str = "GEN:1"
) -> EncodedBlock:
    """A block of one capture, the n-th half-hour."""
    return block(reading(n, profile=profile, value=value, pad=pad), meter=meter)


def poll(first: int, count: int, **more: Any) -> EncodedBlock:
    """A block of `count` captures that were read together."""
    return block(*(reading(n, **more) for n in range(first, first + count)))


def ids(entry: Entry) -> list[str]:
    """The ids of an entry's captures."""
    data = json.loads(entry.body)
    return [
        row.get("capture_id", f"{data['meter']}/{entry.profile}/{row['at']}/{row.get('occurrence', 0)}")
        for row in data["captures"]
    ]


def ids_of(batch: JournalBatch) -> list[str]:
    """The ids of all captures of a batch."""
    return [row.capture_id for one in batch.blocks for row in one.rows]


def gap_record(n: int, state: str = "open") -> GapRecord:
    gap = Gap.model_validate(
        {
            "gap_id": f"gap-{n}",
            "meter": "GEN:1",
            "profile": "block_load",
            "after": T0,
            "until": T0 + timedelta(hours=n + 1),
            "state": state,
            "reason": "meter_silent",
            "noticed_at": T0,
        }
    )
    body = gap.model_dump_json(exclude_defaults=True).encode()
    return GapRecord(
        gap_id=gap.gap_id,
        meter=gap.meter,
        profile=gap.profile,
        after=gap.after,
        until=gap.until,
        state=state,
        body=body,
    )


def records(count: int, first: int = 0, profiles: tuple[str, ...] = ("block_load",)) -> JournalBatch:
    """`count` captures in blocks of one, spread over profiles in turn."""
    made = (record(n, profile=profiles[n % len(profiles)]) for n in range(first, first + count))
    return JournalBatch(blocks=tuple(made))


SENDER = Sender(journal="j", generation=Generation(1, "00000001"), gateway="edge-1")


def heard(one: EncodedBlock, seq: int = 1) -> Batch:
    """A block as a consumer reads it."""
    template = one.template
    numbered = NumberedBlock(
        first=seq,
        last=seq + len(one.rows) - 1,
        body=one.body(),
        layout=template.layout.keyed,
        holders=template.holders,
    )
    kind = EVENTS_TYPE if template.layout.profile == ProfileName.EVENTS else READINGS_TYPE
    octets = assemble_blocks([numbered], SENDER, type=kind, time=rfc3339(template.received_at))
    return parse_batch(octets).data


def captures_of(entry: Entry) -> tuple[Capture, ...]:
    """The captures of a journaled block as a consumer reads them; none of a gap."""
    if entry.layout is None:
        return ()
    numbered = NumberedBlock(
        first=entry.seq, last=entry.last, body=entry.body, layout=entry.layout, holders=entry.holders
    )
    kind = EVENTS_TYPE if entry.kind is EntryKind.EVENT else READINGS_TYPE
    octets = assemble_blocks([numbered], SENDER, type=kind, time=rfc3339(T0))
    return parse_batch(octets).data.captures
