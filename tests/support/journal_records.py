"""Journal records whose bodies are true contract messages, for tests of delivery."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from gateway.contract.messages import Capture, CaptureValue, Gap, MessageAttribution
from gateway.edge.journal.entry import CaptureRecord, EntryKind, GapRecord, JournalBatch

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


def record(n: int, *, profile: str = "block_load", value: int = 1, pad: int = 0) -> CaptureRecord:
    made = capture(n, profile=profile, value=value, pad=pad)
    return CaptureRecord(
        kind=EntryKind.EVENT if profile == "events" else EntryKind.CAPTURE,
        meter=made.meter,
        profile=profile,
        capture_id=made.capture_id,
        at=made.at,
        value_hash=value.to_bytes(16, "big"),
        body=made.model_dump_json(exclude_defaults=True).encode(),
    )


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
    """`count` captures, spread over profiles in turn."""
    made = (record(n, profile=profiles[n % len(profiles)]) for n in range(first, first + count))
    return JournalBatch(captures=tuple(made))
