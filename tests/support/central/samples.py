"""Captures, batches and directories for the tests of central."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.central.intake.arrivals import Arrival, received_batch
from gateway.central.ledger.bodies import bodies
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import ReceivedBatch
from gateway.contract.envelope import EVENTS_TYPE, GAPS_TYPE, READINGS_TYPE, wrap
from gateway.contract.messages import (
    Batch,
    Capture,
    CaptureValue,
    Gap,
    LineStatus,
    MeterStatus,
    Status,
    StatusChanges,
)

T0 = datetime(2026, 11, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 20, 6, 0, tzinfo=UTC)
HALF_HOUR = timedelta(minutes=30)
DAY = timedelta(days=1)


def capture(
    seq: int, *, meter: str = "GEN:1", number: int | None = None, value: str = "1.50", **over: Any
) -> Capture:
    """A half-hour of one meter; `number` is which half-hour, by default `seq`."""
    at = over.get("at", T0 + HALF_HOUR * (seq if number is None else number))
    fields: dict[str, Any] = {
        "capture_id": f"{meter}/block_load/{at:%Y-%m-%dT%H:%M:%SZ}/0",
        "value_rev": 1,
        "seq": seq,
        "meter": meter,
        "profile": "block_load",
        "at": at,
        "start": at - HALF_HOUR,
        "meter_time": None,
        "received_at": at + timedelta(minutes=1),
        "quality": "1.0.0",
        "values": (CaptureValue(q="1-0:1.29.0*255", name="interval_energy_import", unit="Wh", value=value),),
        "attributions": (),
        "reason": "no_account",
        "directory_version": 0,
    }
    return Capture.model_validate(fields | over)


def snapshot(seq: int, *, at: datetime, meter: str = "GEN:1", value: str = "100", **over: Any) -> Capture:
    """A daily register read."""
    fields: dict[str, Any] = {
        "profile": "daily",
        "at": at,
        "start": None,
        "capture_id": f"{meter}/daily/{at:%Y-%m-%dT%H:%M:%SZ}/0",
    }
    return capture(seq, meter=meter, value=value, **(fields | over))


def gap(seq: int, *, state: str = "open", gap_id: str = "gap-1") -> Gap:
    """A gap of one day."""
    return Gap.model_validate(
        {
            "gap_id": gap_id,
            "seq": seq,
            "meter": "GEN:1",
            "profile": "block_load",
            "after": T0,
            "until": T0 + DAY,
            "state": state,
            "reason": "meter_silent",
            "noticed_at": T0 + DAY,
        }
    )


def batch(
    captures: Iterable[Capture] = (),
    gaps: Iterable[Gap] = (),
    journal: str = "journal-1",
    gateway: str = "edge-1",
) -> Batch:
    """A batch of a gateway."""
    captures, gaps = tuple(captures), tuple(gaps)
    seqs = sorted([one.seq or 0 for one in captures] + [one.seq or 0 for one in gaps])
    return Batch(
        journal=journal, gateway=gateway, first_seq=seqs[0], last_seq=seqs[-1], captures=captures, gaps=gaps
    )


def received(data: Batch, at: datetime = NOW) -> ReceivedBatch:
    """A batch as central takes it from its octets."""
    payload = octets(data)
    topic = f"test/v1/{data.gateway}/readings/block_load"
    return received_batch(data, bodies(payload, data), Arrival(topic, payload, at))


def octets(data: Batch) -> bytes:
    """The envelope of a batch as an edge sends it."""
    kind = GAPS_TYPE if data.gaps else READINGS_TYPE
    if data.captures and data.captures[0].profile == "events":
        kind = EVENTS_TYPE
    identity = f"{data.journal}/{data.first_seq}-{data.last_seq}"
    return wrap(data, id=identity, source="/gateways/edge-1", time=NOW, type=kind)


def tell_status(
    ledger: Ledger,
    status: Status,
    lines: Iterable[LineStatus] = (),
    meters: Iterable[MeterStatus] = (),
    *,
    received: datetime | None = None,
) -> None:
    """Store a summary, and a full list of the gateway's lines and meters."""
    listing = StatusChanges(
        gateway=status.gateway,
        run="0123abcd",
        from_seq=0,
        to_seq=1,
        lines=tuple(lines),
        meters=tuple(meters),
        at=status.at,
    )
    at = received or status.at
    ledger.statuses.take([(status, at, False), (listing, at, False)])
