"""Typed rows: whatever capture goes in comes out the same, to the last digit; rows are small."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.packing import Packer, instant_text, unpack
from gateway.central.ledger.records import ReceivedBatch
from gateway.central.ledger.rows import CaptureRow
from gateway.contract.blocks import block_prefix, canonical, row_checksum
from gateway.contract.messages.generation import Generation
from mapping.instants import micros
from tests.support.central.ledgers import FreshLedger
from tests.support.central.samples import NOW, T0


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


@settings(max_examples=30, phases=[Phase.explicit, Phase.reuse, Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
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
