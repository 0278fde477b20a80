"""Typed rows: whatever capture goes in comes out the same, to the last digit; rows are small."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gateway.central.intake.batches import MessageStore, ReceivedMessage
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.packing import MAX_SHAPES, DamagedRow, Packer, instant_text, unpack
from gateway.central.ledger.records import ReceivedBatch
from gateway.central.ledger.rows import CaptureRow
from gateway.contract.batches import parse_batch
from gateway.contract.blocks import block_prefix, canonical, row_checksum
from gateway.contract.messages.generation import Generation
from gateway.contract.topics import Topics
from mapping.instants import micros
from protocols.reading import ProfileName
from tests.support.blocks import AT as AT_BLOCKS
from tests.support.blocks import batch_of, block_load, encoded
from tests.support.central.ledgers import FreshLedger
from tests.support.central.samples import NOW, T0, capture

TOPICS = Topics("test")
DECIMAL = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**9), max_value=10**9).map(
        str
    ),
    st.integers(-(10**20), 10**20).map(str),
    st.from_regex(r"\A-?[0-9]{1,25}(\.[0-9]{1,25})?\Z"),
    st.sampled_from(
        ["0", "-0", "-0.00", "007", "0.5", "-0.05", "00123.4500", "9" * 18, "9" * 19, "-" + "9" * 18]
    ),
)
VALUE = st.one_of(
    DECIMAL,
    DECIMAL,
    st.fixed_dictionaries({"missing": st.sampled_from(["not_supported", "meter_silent"])}),
    st.fixed_dictionaries({"text": st.text(max_size=12)}),
    st.fixed_dictionaries({"bits": st.from_regex(r"\A[01]{0,9}\Z")}),
)
AT = st.integers(micros(T0) - 400 * 86_400 * 10**6, micros(NOW)).flatmap(
    lambda at: st.sampled_from([at, at - at % (1_800 * 10**6), at - at % 10**6])
)
OTHERS = st.fixed_dictionaries(
    {},
    optional={
        "deviation": st.sampled_from([-330, 0, 7, 345]),
        "status": st.integers(0, 255),
        "trusted": st.just(False),
        "quality": st.sampled_from(["1.0.0", "3.2.1"]),
        "suspect": st.just([0]),
        "a newer member": st.recursive(
            st.one_of(
                st.none(),
                st.integers(),
                st.floats(allow_nan=False, allow_infinity=False),
                st.text(max_size=5),
            ),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=4,
        ),
    },
)


@st.composite
def rows(draw: st.DrawFn) -> CaptureRow:
    """A row of contract version 2 as it comes from a block."""
    at = draw(AT)
    values = draw(st.lists(VALUE, max_size=4))
    wall = draw(st.sampled_from(["", "own", "2026-11-24 00:00", "nonsense", instant_text(at)[:-1]]))
    members: dict[str, Any] = {"at": instant_text(at), "values": values, **draw(OTHERS)}
    if wall:
        members["wall"] = instant_text(at + 19_800 * 10**6)[:-1] if wall == "own" else wall
    occurrence = draw(st.sampled_from([0, 0, 1, 2**53 - 1]))
    if occurrence:
        members["occurrence"] = occurrence
    meter, profile, layout = draw(st.sampled_from(["GEN:1", "GEN:2/x"])), "block_load", f"{len(values):016x}"
    capture_id = f"{meter}/{profile}/{instant_text(at)}/{occurrence}"
    if draw(st.booleans()):
        capture_id = draw(
            st.sampled_from([capture_id, capture_id.replace("Z/", "+00:00/"), f"{capture_id[:-1]}00"])
        )
        members["capture_id"] = capture_id
    raw = draw(st.sampled_from([None, "AAEC", ""]))
    covered = members if raw is None else members | {"raw": raw}
    came = at + draw(st.integers(-(10**12), 10**12))
    span = draw(st.sampled_from([None, 1_800, 900]))
    prefix = block_prefix(layout, meter, instant_text(came), span)
    return CaptureRow(
        capture_id=capture_id,
        value_rev=draw(st.integers(1, 3)),
        meter=meter,
        profile=profile,
        at=at,
        start=None if span is None else at - span * 10**6,
        received_at=came,
        quality=members.get("quality", "1.0.0"),
        reason=draw(st.sampled_from([None, "no_account"])),
        directory_version=draw(st.integers(0, 2**53 - 1)),
        gateway="edge-1",
        journal="journal-1",
        seq=draw(st.integers(1, 2**53 - 1)),
        ingested_at=micros(NOW),
        body=canonical(members).decode(),
        raw=raw,
        layout=layout,
        holders=draw(st.sampled_from([None, "0" * 16])),
        clock=draw(st.sampled_from([None, '{"drift":"1.5"}'])),
        checksum=row_checksum(prefix, covered),
    )


@settings(max_examples=400)
@given(st.lists(rows(), max_size=6))
def test_any_row_comes_back_as_it_was_packed(given_rows: list[CaptureRow]) -> None:
    packer = Packer()
    for row in given_rows:
        assert unpack(packer.pack(row)) == row
        moved = row._replace(
            at=row.at + 61_000_000, start=None if row.start is None else row.start + 61_000_000
        )
        if "+00:00" not in row.capture_id and not row.capture_id.endswith("00"):
            assert unpack(packer.pack(moved)) == moved


@settings(
    max_examples=30,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(sent=st.lists(rows(), min_size=1, max_size=6, unique_by=lambda row: row.capture_id))
def test_any_capture_comes_back_from_the_ledger(fresh_ledger: FreshLedger, sent: list[CaptureRow]) -> None:
    kept = [row._replace(profile=row.profile, seq=n, raw=None) for n, row in enumerate(sent, start=1)]
    layouts = {row.layout or "": "{}" for row in kept}
    arrived = ReceivedBatch(
        journal="journal-1",
        gateway="edge-1",
        generation=Generation.parse("1.0badcafe"),
        rows=tuple(kept),
        layouts=layouts,
        holders={"0" * 16: "[]"},
        at=NOW,
        topic="t",
        payload=b"{}",
    )
    with closing(Ledger(fresh_ledger())) as ledger:
        assert ledger.ingest([arrived]).stored == len(kept)
        for row in kept:
            found = ledger.captures.get(row.capture_id)
            assert found is not None
            same = {name: getattr(found, name) for name in CaptureRow._fields}
            for name in ("at", "start", "received_at", "ingested_at"):
                same[name] = None if same[name] is None else micros(same[name])
            assert same == row._asdict()
        assert {one.capture_id for one in ledger.captures.each()} == {row.capture_id for row in kept}


def test_raw_octets_are_kept_of_billing_only_and_the_rest_stays_provable(ledger: Ledger) -> None:
    handled = {}
    for number, profile in enumerate((ProfileName.BILLING, ProfileName.DAILY)):
        one = block_load(profile=profile, start=None, raw=b"\1\2\3")
        payload = batch_of(encoded(one), first=1 + number)
        handled[profile] = MessageStore(ledger, TOPICS).handle(
            [ReceivedMessage(TOPICS.readings("edge-1", profile), payload, AT_BLOCKS + timedelta(days=2))]
        )
        assert handled[profile].result.stored == 1
    daily, billing = sorted(ledger.captures.between("GEN:1"), key=lambda one: one.profile, reverse=True)
    assert (billing.raw, daily.raw) == ("AQID", None)
    assert billing.is_sound()
    assert daily.is_sound()
    assert daily.checksum != parse_batch(payload).data.captures[0].checksum


def test_a_damaged_row_is_named() -> None:
    row = Packer().pack(row_of(["1.50"]))
    with pytest.raises(DamagedRow, match="the capture of GEN:1, block_load, 2026-11-01T00:30:00Z is damaged"):
        unpack(row._replace(packed=row.packed[:-1]))
    with pytest.raises(DamagedRow):
        unpack(row._replace(packed=row.packed[:1] + b"\x01" * 9))


def row_of(values: list[Any], layout: str = "0" * 16) -> CaptureRow:
    """A half-hour with these values."""
    one = capture(1)
    at = micros(one.at)
    return CaptureRow(
        capture_id=one.capture_id,
        value_rev=1,
        meter=one.meter,
        profile=one.profile,
        at=at,
        start=at - 1_800_000_000,
        received_at=at + 60_000_000,
        quality="1.0.0",
        reason=None,
        directory_version=7,
        gateway="edge-1",
        journal="journal-1",
        seq=1,
        ingested_at=at + 90_000_000,
        body=canonical({"at": instant_text(at), "values": values}).decode(),
        layout=layout,
        holders="1" * 16,
        checksum="2" * 16,
    )


def test_values_are_whole_mantissas_and_a_missing_one_makes_no_other_form() -> None:
    packer = Packer()
    first = packer.pack(row_of(["230.00", "-5", "0.050"]))
    assert first.form.digits == "2,0,3"
    assert msgspec.msgpack.decode(first.packed)[3:] == [23_000, -5, 50]
    second = packer.pack(row_of(["231.00", {"missing": "not_supported"}, "12345678901234567890.123"]))
    assert second.form == first.form
    assert msgspec.msgpack.decode(second.packed)[3:] == [
        23_100,
        {"missing": "not_supported"},
        "12345678901234567890.123",
    ]


def test_digits_that_change_with_every_value_make_few_forms() -> None:
    packer = Packer()
    rows = [row_of([f"1.{'5' * (n % 17 + 1)}", f"2.{'5' * (n // 17 + 1)}"]) for n in range(17 * 17)]
    packed = [packer.pack(row) for row in rows]
    assert len({one.form for one in packed}) <= MAX_SHAPES
    assert [unpack(one) for one in packed] == rows
