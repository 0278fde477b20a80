"""Stamping and the fast encoder: equal to the contract's models, right account, right reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.messages import Capture, CaptureValue, Gap, rfc3339
from gateway.contract.values import values_json
from gateway.edge.journal.entry import EntryKind
from gateway.edge.stamping.directory_part import StampingPart
from gateway.edge.stamping.stamp import gap_record, stamp
from mapping.changes import Change, Install, MoveIn
from mapping.directory import Attribution, AttributionRole, Attributions, Role, Unattributed
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore
from protocols.reading import (
    Bits,
    Instant,
    MeterTime,
    Missing,
    MissingReason,
    Number,
    Obis,
    ProfileName,
    Quality,
    Quantity,
    ReadingSet,
    Text,
    Value,
    name_of,
)
from tests.support.edge.poller_bench import HALF, block

Pairs = tuple[tuple[Quantity, Value], ...]
T0 = datetime(2026, 11, 23, 10, tzinfo=UTC)
MINE = Attribution(account_id="a1", account_number="1234567890", legacy_number='L"1', usage_point="up1")


class Directory:
    """Answers the same for every meter and notes what was asked."""

    def __init__(self, *accounts: Attribution, reason: Unattributed | None = None) -> None:
        self.version = 7
        self.answer = Attributions(accounts=accounts, reason=reason, directory_version=7)
        self.asked: list[tuple[str, datetime | None, datetime]] = []

    def attributions(
        self, meter: str, start: datetime | None, end: datetime, known_at: datetime | None = None
    ) -> Attributions:
        self.asked.append((meter, start, end))
        return self.answer


instants = st.datetimes(datetime(1990, 1, 1), datetime(2099, 1, 1)).map(lambda t: t.replace(tzinfo=UTC))
zoned = st.builds(
    lambda t, m: t.astimezone(timezone(timedelta(minutes=m))), instants, st.sampled_from([0, 330, -60])
)
octet = st.integers(0, 255)
quantities = st.one_of(
    st.sampled_from([Quantity.of("1-0:1.8.0*255"), Quantity.of("1-0:1.6.0*255#5")]),
    st.builds(Quantity, st.builds(Obis, octet, octet, octet, octet, octet), st.integers(1, 9), octet),
)
values = st.one_of(
    st.builds(
        Number, st.integers(-(2**63), 2**64), st.integers(-14, 5), st.sampled_from(["", "Wh", "V", "°C"])
    ),
    st.builds(Instant, zoned),
    st.builds(Text, st.text(st.characters(exclude_categories=["Cs"]), max_size=20)),
    st.builds(Bits, st.text("01", max_size=16)),
    st.builds(Missing, st.sampled_from(MissingReason)),
)
pairs = st.lists(st.tuples(quantities, values), max_size=9).map(tuple)
stamps = st.builds(
    MeterTime,
    wall=st.text(max_size=20).filter(lambda t: t.isprintable()),
    deviation=st.none() | st.integers(-720, 720),
    status=st.none() | octet,
    trusted=st.booleans(),
)


def as_model(quantity: Quantity, value: Value) -> CaptureValue:
    fields: dict[str, object] = {"q": str(quantity), "name": name_of(quantity)}
    match value:
        case Number():
            fields |= {"unit": value.unit or None, "value": value.text()}
        case Instant(at):
            fields["instant"] = at
        case Text(text):
            fields["text"] = text
        case Bits(bits):
            fields["bits"] = bits
        case Missing(reason):
            fields["missing"] = reason.value
    return CaptureValue.model_validate(fields)


@settings(max_examples=100)
@given(
    pairs,
    instants,
    zoned,
    st.none() | stamps,
    st.booleans(),
    st.booleans(),
    st.sampled_from(ProfileName),
    st.none() | st.binary(max_size=9),
)
def test_octets_equal_the_models(
    pairs: Pairs,
    at: datetime,
    received: datetime,
    own: MeterTime | None,
    disciplined: bool,
    clock_good: bool,
    profile: ProfileName,
    raw: bytes | None,
) -> None:
    start = at - timedelta(minutes=30) if profile is ProfileName.BLOCK_LOAD else None
    reading = ReadingSet(
        profile=profile,
        at=at,
        start=start,
        values=pairs,
        received_at=received,
        meter_time=own,
        raw=raw,
        occurrence=3,
    )
    record = stamp(reading, 'GEN:"é1', Directory(MINE), disciplined=disciplined, clock_trusted=clock_good)
    model = Capture.model_validate_json(record.body)
    assert model.model_dump_json(exclude_defaults=True).encode() == record.body
    assert model.values == tuple(as_model(q, v) for q, v in pairs)
    assert model.capture_id == record.capture_id
    assert record.capture_id == f'GEN:"é1/{profile.value}/{rfc3339(record.at)}/3'
    assert model.at == record.at
    assert model.raw is None or raw is not None
    head = json.dumps(record.capture_id, ensure_ascii=False)
    assert record.body.startswith(f'{{"capture_id":{head},"value_rev":1,'.encode())
    assert b'"seq"' not in record.body.split(b'"values"')[0]


@settings(max_examples=100)
@given(pairs, pairs)
def test_hash_tells_values_apart_only(one: Pairs, two: Pairs) -> None:
    def made(values: Pairs, received: datetime) -> bytes:
        reading = ReadingSet(profile=ProfileName.DAILY, at=T0, values=values, received_at=received)
        return stamp(reading, "GEN:1", Directory(MINE), disciplined=True).value_hash

    assert made(one, T0) == made(one, T0 + timedelta(hours=1))
    assert (made(one, T0) == made(two, T0)) == (values_json(one) == values_json(two))


def reading(
    profile: ProfileName = ProfileName.DAILY, own: MeterTime | None = None, quality: Quality = Quality.VALID
) -> ReadingSet:
    return ReadingSet(
        profile=profile,
        at=T0,
        start=T0 - timedelta(minutes=30) if profile is ProfileName.BLOCK_LOAD else None,
        values=((Quantity.of("1-0:1.8.0*255"), Number(5, 0, "Wh")),),
        received_at=T0 + timedelta(hours=9),
        meter_time=own,
        quality=quality,
    )


GOOD = MeterTime(wall="2026-11-23T15:30:00", deviation=330, status=0)
BAD = MeterTime(wall="2026-11-23T15:30:00", deviation=None, status=1, trusted=False)


def captured(
    own: MeterTime | None,
    profile: ProfileName = ProfileName.DAILY,
    disciplined: bool = True,
    clock_trusted: bool = True,
) -> Capture:
    record = stamp(
        reading(profile, own), "GEN:1", Directory(MINE), disciplined=disciplined, clock_trusted=clock_trusted
    )
    return Capture.model_validate_json(record.body)


def test_interval_is_looked_up_as_interval_and_snapshot_as_instant() -> None:
    directory = Directory(MINE)
    stamp(reading(ProfileName.BLOCK_LOAD, GOOD), "GEN:1", directory, disciplined=True)
    stamp(reading(ProfileName.DAILY, GOOD), "GEN:1", directory, disciplined=True)
    assert directory.asked == [("GEN:1", T0 - timedelta(minutes=30), T0), ("GEN:1", None, T0)]


@pytest.mark.parametrize(
    ("own", "profile", "disciplined", "clock_trusted", "reason", "quality", "at"),
    [
        (GOOD, "daily", True, True, None, "1.0.0", T0),
        (GOOD, "daily", False, True, "untrusted_time", "1.1.9", T0),
        (GOOD, "instantaneous", False, True, "untrusted_time", "1.1.9", T0),
        (BAD, "daily", True, True, "untrusted_time", "1.1.9", T0),
        (GOOD, "daily", True, False, "untrusted_time", "1.1.9", T0),
        (BAD, "block_load", True, True, "untrusted_time", "1.1.9", T0),
        (None, "instantaneous", True, True, None, "1.0.0", T0),
        (None, "instantaneous", False, True, "untrusted_time", "1.1.9", T0),
        (BAD, "instantaneous", True, True, None, "1.1.9", T0 + timedelta(hours=9)),
        (BAD, "instantaneous", False, True, "untrusted_time", "1.1.9", T0),
    ],
)
def test_reason_rules(
    own: MeterTime | None,
    profile: str,
    disciplined: bool,
    clock_trusted: bool,
    reason: str | None,
    quality: str,
    at: datetime,
) -> None:
    capture = captured(own, ProfileName(profile), disciplined, clock_trusted)
    assert (capture.reason, capture.quality, capture.at) == (reason, quality, at)
    assert bool(capture.attributions) == (reason is None)
    assert capture.directory_version == (0 if reason else 7)
    if capture.meter_time is not None:
        assert capture.meter_time.trusted == (own is GOOD and clock_trusted)


def test_unmapped_meter_is_delivered_with_its_reason() -> None:
    record = stamp(reading(own=GOOD), "GEN:1", Directory(reason=Unattributed.NO_ACCOUNT), disciplined=True)
    capture = Capture.model_validate_json(record.body)
    assert (capture.attributions, capture.reason) == ((), "no_account")


def test_both_accounts_of_a_hand_over_are_kept() -> None:
    two = Attribution(
        account_id="a2",
        account_number=None,
        legacy_number=None,
        usage_point="u",
        role=AttributionRole.PARTIAL,
    )
    record = stamp(reading(own=GOOD), "GEN:1", Directory(MINE, two), disciplined=True)
    assert [a.role for a in Capture.model_validate_json(record.body).attributions] == ["normal", "partial"]


def test_quality_of_the_driver_stays_and_events_are_events() -> None:
    manual = stamp(reading(own=BAD, quality=Quality.MANUAL_READ), "GEN:1", Directory(MINE), disciplined=True)
    assert Capture.model_validate_json(manual.body).quality == "2.4.131"
    event = stamp(reading(ProfileName.EVENTS, GOOD), "GEN:1", Directory(MINE), disciplined=True)
    assert (event.kind, manual.kind) == (EntryKind.EVENT, EntryKind.CAPTURE)


def test_a_half_surrogate_does_not_stop_a_capture() -> None:
    bad = ReadingSet(
        profile=ProfileName.DAILY,
        at=T0,
        received_at=T0,
        values=((Quantity.of("0-0:96.1.0*255"), Text("a\udc80b")),),
    )
    record = stamp(bad, "GEN:1", Directory(MINE), disciplined=True)
    assert Capture.model_validate_json(record.body).values[0].text == "a?b"


def test_gap_record_is_the_contracts_gap() -> None:
    gap = gap_record(
        "GEN:1",
        "block_load",
        T0,
        T0 + timedelta(hours=1),
        state="open",
        reason="not_in_meter",
        noticed_at=T0 + timedelta(hours=2),
    )
    model = Gap.model_validate_json(gap.body)
    assert (model.state, model.after, model.until) == ("open", gap.after, gap.until)
    assert gap.gap_id == "GEN:1/block_load/2026-11-23T10:00:00Z/2026-11-23T11:00:00Z"


def test_a_meter_outside_the_edges_part_is_stamped_as_by_no_directory(tmp_path: Path) -> None:
    """The part was made for other meters: its version says nothing of this one.

    A change that central published before stays applicable: `_applies` asks for a higher version.
    """
    with DirectoryStore(tmp_path / "directory.db") as store:
        for meter in ("GEN:1", "GEN:2"):
            changes: list[Change] = [
                Install(meter, f"up-{meter[-1]}", Role.CONSUMER, T0),
                MoveIn(f"up-{meter[-1]}", "a", T0),
            ]
            store.apply(changes, by="t", source="t", at=T0)
        part = StampingPart(DirectorySnapshot.from_json(store.snapshot().part({"GEN:1"}).to_json()))
    assert part.version == 2
    strange = stamp(block(T0 + HALF), "GEN:2", part, disciplined=True)
    assert b'"reason":"no_account","directory_version":0' in strange.body
    known = stamp(block(T0 + HALF), "GEN:1", part, disciplined=True)
    assert b'"directory_version":2' in known.body
