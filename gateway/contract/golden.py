"""Golden messages: one valid example of every kind, for integrators to test their consumer with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from gateway.contract.envelope import (
    DIRECTORY_TYPE,
    EVENTS_TYPE,
    GAPS_TYPE,
    READINGS_TYPE,
    assemble,
    gateway_source,
    wrap,
)
from gateway.contract.messages import (
    Ack,
    Alarm,
    AttributedAccount,
    AttributionChanged,
    Balance,
    Capture,
    CaptureValue,
    ClockStatus,
    DirectoryPart,
    DirectoryRequest,
    Gap,
    LineStatus,
    Message,
    MessageAttribution,
    MessageMeterTime,
    MeterStatus,
    NamingChanged,
    ReplayRequest,
    Signed,
    Status,
    rfc3339,
)
from gateway.contract.signing import DIRECTORY_TYP, sign

JOURNAL = "0b9c7a52-4a0e-4f7a-9a53-0d2f3f1e7c11"
GATEWAY = "edge-1"
AT = datetime(2026, 11, 23, 18, 30, tzinfo=UTC)
"""Midnight between 23 and 24 November in Kanpur."""
KEY = bytes(range(32))
"""The private key of the golden directory part: public knowledge, never for use."""

_OLD = AttributedAccount(
    account_id="acc-17", account_number="0012345678", legacy_number="KE0012345", usage_point="up-17"
)
_NEW = AttributedAccount(
    account_id="acc-99", account_number=None, legacy_number="KE0099999", usage_point="up-17"
)


def golden_messages() -> dict[str, bytes]:
    """Return the octets of every golden message by name; the same in every run."""
    halves: dict[int, Message] = {41: _block_load("normal"), 42: _block_load("partial")}
    batches: dict[str, tuple[str, dict[int, Message]]] = {
        "readings-block-load": (READINGS_TYPE, halves),
        "readings-revised": (READINGS_TYPE, {57: _revised()}),
        "readings-unattributed": (READINGS_TYPE, {43: _unattributed()}),
        "readings-billing-handover": (READINGS_TYPE, {44: _billing()}),
        "readings-instantaneous-missing": (READINGS_TYPE, {45: _missing()}),
        "events": (EVENTS_TYPE, {46: _event()}),
        "gaps": (GAPS_TYPE, {47: _gap("open"), 58: _gap("filled")}),
    }
    made = {
        name: assemble(
            [(seq, message.model_dump_json(exclude_defaults=True).encode()) for seq, message in rows.items()],
            type=kind,
            journal=JOURNAL,
            gateway=GATEWAY,
            time=rfc3339(AT),
        )
        for name, (kind, rows) in batches.items()
    }
    return {**made, **_single()}


def _single() -> dict[str, bytes]:
    edge, central, billing = gateway_source(GATEWAY), "/central", "/billing"
    span = AttributionChanged(
        meter="GEN:12345678",
        since=AT - timedelta(days=2),
        until=None,
        old=(_OLD,),
        new=(_NEW,),
        directory_version=8,
    )
    named = NamingChanged(
        account_id="acc-99", kind="account_number", old=None, new="1009876543", directory_version=9
    )
    part = DirectoryPart(gateway=GATEWAY, version=8, kind="snapshot", rows="{}", issued_at=AT)
    signed = Signed(jws=sign(part.model_dump_json().encode(), key=KEY, typ=DIRECTORY_TYP))
    wanted = DirectoryRequest(gateway=GATEWAY, have_version=7, meters=("GEN:12345678",))
    messages: dict[str, tuple[Message, str, str]] = {
        "status-online": (_status(), f"{JOURNAL}/status/1", edge),
        "status-offline": (_offline(), f"{JOURNAL}/status/2", edge),
        "ack": (Ack(journal=JOURNAL, seq=47, consumer="central"), f"{JOURNAL}/ack/47", central),
        "replay-request": (
            ReplayRequest(journal=JOURNAL, first=48, last=56, consumer="billing"),
            f"{JOURNAL}/replay/48-56",
            billing,
        ),
        "directory-request": (wanted, f"{GATEWAY}/directory/7", edge),
        "directory-part": (signed, f"{GATEWAY}/directory/8", central),
        "attribution-changed": (span, "attribution/8/GEN:12345678", central),
        "naming-changed": (named, "naming/9/acc-99", central),
        "balance": (
            Balance(account_id="acc-17", amount="-12.50", at=AT, source="billing"),
            "balance/acc-17/1",
            billing,
        ),
    }
    return {
        name: wrap(
            message,
            id=identity,
            source=source,
            time=AT,
            type=DIRECTORY_TYPE if isinstance(message, Signed) else None,
        )
        for name, (message, identity, source) in messages.items()
    }


def _account(account: AttributedAccount, role: str) -> MessageAttribution:
    return MessageAttribution.model_validate({**account.model_dump(), "role": role})


def _capture(profile: str, at: datetime, values: tuple[CaptureValue, ...], **more: object) -> Capture:
    given: dict[str, object] = {
        "capture_id": f"GEN:12345678/{profile}/{rfc3339(at)}/0",
        "value_rev": 1,
        "meter": "GEN:12345678",
        "profile": profile,
        "at": at,
        "start": at - timedelta(minutes=30) if profile == "block_load" else None,
        "meter_time": MessageMeterTime(
            wall=(at + timedelta(hours=5, minutes=30)).strftime("%Y-%m-%dT%H:%M:%S"),
            deviation=-330,
            status=0,
            trusted=True,
        ),
        "received_at": at + timedelta(seconds=42),
        "quality": "1.0.0",
        "values": values,
        "attributions": (_account(_OLD, "normal"),),
        "reason": None,
        "directory_version": 7,
        **more,
    }
    return Capture.model_validate(given)


def _energy(text: str) -> tuple[CaptureValue, ...]:
    return (
        CaptureValue(q="1-0:1.29.0*255", name="interval_energy_import", unit="Wh", value=text),
        CaptureValue(q="1-0:12.27.0*255", name="average_voltage", unit="V", value="231.4"),
    )


def _block_load(role: str) -> Capture:
    at = AT if role == "normal" else AT + timedelta(minutes=30)
    accounts = (_account(_OLD, role),) if role == "normal" else (_account(_OLD, role), _account(_NEW, role))
    return _capture("block_load", at, _energy("412"), attributions=accounts)


def _revised() -> Capture:
    return _capture("block_load", AT, _energy("415"), value_rev=2, quality="2.5.258")


def _unattributed() -> Capture:
    return _capture(
        "block_load",
        AT,
        _energy("7"),
        attributions=(),
        reason="no_account",
        meter="GEN:777",
        capture_id="GEN:777/block_load/2026-11-23T18:30:00Z/0",
    )


def _billing() -> Capture:
    values = (
        CaptureValue(q="1-0:1.8.0*255", name="energy_import", unit="Wh", value="1234567.0"),
        CaptureValue(q="1-0:1.6.0*255", name="max_demand", unit="W", value="1810"),
        CaptureValue(q="1-0:1.6.0*255#5", name="max_demand_time", instant=AT - timedelta(days=3, minutes=30)),
    )
    accounts = (_account(_OLD, "final"), _account(_NEW, "opening"))
    return _capture("billing", AT, values, attributions=accounts, raw="AQIDBA==")


def _missing() -> Capture:
    values = (
        CaptureValue(q="1-0:12.7.0*255", name="voltage", unit="V", value="231.4"),
        CaptureValue(q="1-0:91.7.0*255", name="neutral_current", missing="not_supported"),
        CaptureValue(q="0-0:96.10.1*255", name="meter_health", bits="00000010"),
        CaptureValue(q="0-0:96.1.0*255", name="meter_serial", text="12345678"),
    )
    return _capture("instantaneous", AT, values, meter_time=None)


def _event() -> Capture:
    values = (
        CaptureValue(q="0-0:96.11.4*255", name="other_event_code", value="201"),
        CaptureValue(q="1-0:12.7.0*255", name="voltage", unit="V", value="229.0"),
    )
    return _capture("events", AT, values, capture_id="GEN:12345678/events/other/201/17")


def _gap(state: str) -> Gap:
    return Gap.model_validate(
        {
            "gap_id": "GEN:12345678/block_load/2026-11-23T12:00:00Z",
            "meter": "GEN:12345678",
            "profile": "block_load",
            "after": AT - timedelta(hours=6, minutes=30),
            "until": AT - timedelta(hours=5),
            "state": state,
            "reason": "meter_silent",
            "noticed_at": AT - timedelta(hours=5),
        }
    )


def _status() -> Status:
    return Status(
        gateway=GATEWAY,
        online=True,
        version="0.1.0",
        journal=JOURNAL,
        first_seq=1,
        last_seq=58,
        lines=(LineStatus(name="rs485-1", state="up", since=AT - timedelta(hours=9)),),
        meters=(
            MeterStatus(meter="GEN:12345678", health="ok", last_reading_at=AT),
            MeterStatus(meter="GEN:777", health="meter_silent", detail="no answer in 3 polls"),
        ),
        backlog=0,
        unattributed=1,
        directory_version=7,
        clock=ClockStatus(disciplined=True, at=AT),
        alarms=(Alarm(code="meter_silent", text="GEN:777 does not answer", since=AT),),
        at=AT,
    )


def _offline() -> Status:
    gone = {"online": False, "lines": (), "meters": (), "alarms": ()}
    return _status().model_copy(update=gone)
