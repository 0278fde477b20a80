"""Golden batches: readings, events and gaps as an edge sends them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.contract.blocks import (
    EVENTS_TYPE,
    READINGS_TYPE,
    BlockTemplate,
    EncodedBlock,
    NumberedBlock,
    Sender,
    assemble_blocks,
    assemble_gaps,
    encode_block,
    holders_of,
    interval_of,
    layout_of,
    revised,
)
from gateway.contract.messages import Gap, rfc3339
from gateway.contract.messages.generation import Generation
from mapping.directory import Attribution, AttributionRole, Unattributed
from protocols.reading import (
    Bits,
    Instant,
    MeterTime,
    Missing,
    MissingReason,
    Number,
    ProfileName,
    Quality,
    Quantity,
    ReadingSet,
    RemarkWord,
    Text,
    Value,
)

JOURNAL = "0b9c7a52-4a0e-4f7a-9a53-0d2f3f1e7c11"
GATEWAY = "edge-1"
GENERATION = Generation(3, "9f2c01ab")
AT = datetime(2026, 11, 23, 18, 30, tzinfo=UTC)
"""Midnight between 23 and 24 November in Kanpur."""
METER = "GEN:12345678"

_HALF_HOUR = timedelta(minutes=30)
_INDIA = timedelta(hours=5, minutes=30)
_OLD = {
    "account_id": "acc-17",
    "account_number": "0012345678",
    "legacy_number": "KE0012345",
    "usage_point": "up-17",
}
_NEW = {
    "account_id": "acc-99",
    "account_number": None,
    "legacy_number": "KE0099999",
    "usage_point": "up-17",
}


def golden_batches() -> dict[str, bytes]:
    """Return the octets of every golden batch by name; the same in every run."""
    whole, straddling = _block(_load(), _load(1)), _block(_load(2), holders=_partial(AT + _HALF_HOUR))
    raised = _block(_load(0, "415", Quality.SUSPECT))
    event = _block(_event())
    missing = _block(_missing())
    handover = (_account(_OLD, AttributionRole.FINAL), _account(_NEW, AttributionRole.OPENING))
    nobody = _block(_load(0, "7"), meter="GEN:777", holders=(), reason=Unattributed.NO_ACCOUNT)
    made = {
        "readings-block-load": [(41, whole.body(), whole), (43, straddling.body(), straddling)],
        "readings-revised": [(57, raised.body([revised(raised.rows[0].body, 2)]), raised)],
        "readings-unattributed": [(44, nobody.body(), nobody)],
        "readings-billing-handover": [_at(45, _block(_billing(), holders=handover))],
        "readings-instantaneous-missing": [_at(46, missing)],
        "events": [_at(47, event)],
        "readings-suspect": [_at(59, _block(_suspect()))],
        "events-of-gateway": [_at(60, _block(_own_event()))],
    }
    sender = Sender(journal=JOURNAL, generation=GENERATION, gateway=GATEWAY)
    time = rfc3339(AT)
    batches = {
        name: assemble_blocks(
            [_numbered(*one) for one in blocks],
            sender,
            type=EVENTS_TYPE if name.startswith("events") else READINGS_TYPE,
            time=time,
        )
        for name, blocks in made.items()
    }
    gaps = [(48, _gap("open")), (58, _gap("filled"))]
    return {**batches, "gaps": assemble_gaps(gaps, sender, time=time)}


def _at(seq: int, block: EncodedBlock) -> tuple[int, bytes, EncodedBlock]:
    return seq, block.body(), block


def _numbered(seq: int, body: bytes, block: EncodedBlock) -> NumberedBlock:
    return NumberedBlock(
        first=seq,
        last=seq + len(block.rows) - 1,
        body=body,
        layout=block.template.layout.keyed,
        holders=block.template.holders,
    )


def _block(*readings: ReadingSet, **changed: Any) -> EncodedBlock:
    first = readings[0]
    holders = changed.get("holders", (_account(_OLD, AttributionRole.NORMAL),))
    template = BlockTemplate(
        meter=changed.get("meter", METER),
        layout=layout_of(first),
        received_at=first.received_at,
        directory=f"{GENERATION}/7",
        holders=holders_of(holders),
        reason=changed.get("reason"),
        interval=interval_of(first),
        epoch=1,
    )
    return encode_block(template, readings)


def _account(account: dict[str, Any], role: AttributionRole, **span: Any) -> Attribution:
    return Attribution(role=role, **account, **span)


def _partial(begin: datetime) -> tuple[Attribution, ...]:
    """Two accounts of a half hour in which the meter changed hands after 20 minutes."""
    moved, end = begin + timedelta(minutes=20), begin + _HALF_HOUR
    return (
        _account(_OLD, AttributionRole.PARTIAL, since=begin, until=moved),
        _account(_NEW, AttributionRole.PARTIAL, since=moved, until=end),
    )


def _reading(
    profile: ProfileName, at: datetime, values: Sequence[tuple[str, Value]], **more: Any
) -> ReadingSet:
    given: dict[str, Any] = {
        "received_at": AT + timedelta(hours=1, seconds=42),
        "meter_time": MeterTime(wall=(at + _INDIA).strftime("%Y-%m-%dT%H:%M:%S"), deviation=-330, status=0),
        **more,
    }
    return ReadingSet(profile=profile, at=at, values=tuple((Quantity.of(q), v) for q, v in values), **given)


def _load(number: int = 0, energy: str = "412", quality: Quality = Quality.VALID) -> ReadingSet:
    at = AT + number * _HALF_HOUR
    values = (
        ("1-0:1.29.0*255", Number.from_text(energy, "Wh")),
        ("1-0:12.27.0*255", Number(2314, -1, "V")),
    )
    return _reading(ProfileName.BLOCK_LOAD, at, values, start=at - _HALF_HOUR, quality=quality)


def _billing() -> ReadingSet:
    values = (
        ("1-0:1.8.0*255", Number(12_345_670, -1, "Wh")),
        ("1-0:1.6.0*255", Number(1_810, 0, "W")),
        ("1-0:1.6.0*255#5", Instant(AT - timedelta(days=3, minutes=30))),
    )
    return _reading(ProfileName.BILLING, AT, values, raw=b"\x01\x02\x03\x04")


def _missing() -> ReadingSet:
    values = (
        ("1-0:12.7.0*255", Number(2314, -1, "V")),
        ("1-0:91.7.0*255", Missing(MissingReason.NOT_SUPPORTED)),
        ("0-0:96.10.1*255", Bits("00000010")),
        ("0-0:96.1.0*255", Text("12345678")),
    )
    return _reading(ProfileName.INSTANTANEOUS, AT, values, meter_time=None)


def _event() -> ReadingSet:
    values = (
        ("0-0:96.11.4*255", Number(201)),
        ("1-0:12.7.0*255", Number(2290, -1, "V")),
    )
    return _reading(ProfileName.EVENTS, AT, values, occurrence=400_000_017)


def _suspect() -> ReadingSet:
    """A register that fell: the voltage beside it is as good as ever."""
    energy = Quantity.of("1-0:1.8.0*255")
    values = ((str(energy), Number(0, 0, "Wh")), ("1-0:12.7.0*255", Number(2314, -1, "V")))
    return _reading(
        ProfileName.INSTANTANEOUS, AT, values, meter_time=None, quality=Quality.SUSPECT, suspect=(energy,)
    )


def _own_event() -> ReadingSet:
    values = (
        ("0-0:96.98.0*255", Text(RemarkWord.ZEROED)),
        ("0-0:96.98.1*255", Text("1-0:1.8.0*255")),
        ("0-0:96.98.2*255", Number(1_234_560, 0, "Wh")),
        ("0-0:96.98.3*255", Number(0, 0, "Wh")),
    )
    return _reading(ProfileName.EVENTS, AT, values, meter_time=None, occurrence=9_000_000_002)


def _gap(state: str) -> bytes:
    gap = Gap.model_validate(
        {
            "gap_id": f"{METER}/block_load/2026-11-23T12:00:00Z/2026-11-23T13:30:00Z",
            "meter": METER,
            "profile": "block_load",
            "after": AT - timedelta(hours=6, minutes=30),
            "until": AT - timedelta(hours=5),
            "state": state,
            "reason": "not_in_meter",
            "noticed_at": AT - timedelta(hours=5),
        }
    )
    return gap.model_dump_json(exclude_none=True).encode()
