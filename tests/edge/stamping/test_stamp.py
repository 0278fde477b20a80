"""Stamping: the right account, the right reason, and rows of one poll in one block."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.blocks import EncodedBlock
from gateway.contract.messages import Gap, rfc3339
from gateway.contract.messages.generation import NO_GENERATION, Generation
from gateway.edge.stamping.directory_part import StampingPart
from gateway.edge.stamping.stamp import MAX_OCTETS, TRUSTED, Trust, gap_record, stamp
from mapping.changes import Change, Install, MoveIn, MoveOut
from mapping.directory import Attribution, AttributionRole, Attributions, Role, Unattributed
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore
from protocols.reading import MeterTime, Number, ProfileName, Quality, Quantity, ReadingSet, Text
from tests.support.edge.poller_bench import HALF, block

ENERGY = Quantity.of("1-0:1.8.0*255")
T0 = datetime(2026, 11, 23, 10, tzinfo=UTC)
MINE = Attribution(account_id="a1", account_number="1234567890", legacy_number='L"1', usage_point="up1")


class Directory:
    """Answers the same for every meter and notes what was asked."""

    def __init__(self, *accounts: Attribution, reason: Unattributed | None = None) -> None:
        self.version = 7
        self.generation = Generation(3, "9f2c01ab")
        self.answer = Attributions(accounts=accounts, reason=reason, directory_version=7)
        self.asked: list[tuple[str, datetime | None, datetime]] = []

    def epoch(self, meter: str) -> int:
        return 4

    def attributions(
        self, meter: str, start: datetime | None, end: datetime, known_at: datetime | None = None
    ) -> Attributions:
        self.asked.append((meter, start, end))
        return self.answer


@dataclass
class Told:
    """A block of one capture as a consumer reads it."""

    block: dict[str, Any]
    row: dict[str, Any]
    holders: list[dict[str, str]]


def told(block: EncodedBlock) -> Told:
    data = json.loads(block.body())
    [row] = data.pop("captures")
    holders = block.template.holders
    assert data.get("holders") == (None if holders is None else holders.key)
    return Told(data, row, [] if holders is None else json.loads(holders.text))


def stamped(row: ReadingSet, directory: Directory, trust: Trust = TRUSTED) -> Told:
    [block] = stamp([row], "GEN:1", directory, lambda _: trust)
    return told(block)


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


def test_interval_is_looked_up_as_interval_and_snapshot_as_instant() -> None:
    directory = Directory(MINE)
    stamp([reading(ProfileName.BLOCK_LOAD, GOOD)], "GEN:1", directory)
    stamp([reading(ProfileName.DAILY, GOOD)], "GEN:1", directory)
    assert directory.asked == [("GEN:1", T0 - HALF, T0), ("GEN:1", None, T0)]


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
    trust = Trust(disciplined=disciplined, clock_trusted=clock_trusted, evidence='{"gateway":"x"}')
    one = stamped(reading(ProfileName(profile), own), Directory(MINE), trust)
    row = one.row
    assert (one.block.get("reason"), row.get("quality", "1.0.0"), row["at"]) == (reason, quality, rfc3339(at))
    assert bool(one.holders) == (reason is None)
    assert one.block["directory"] == (f"{NO_GENERATION}/0" if reason else "3.9f2c01ab/7")
    assert one.block.get("clock") == ({"gateway": "x"} if reason else None)
    assert one.block["epoch"] == 4
    if own is not None:
        assert row.get("trusted", True) == (own is GOOD and clock_trusted)


def test_unmapped_meter_is_delivered_with_its_reason() -> None:
    one = stamped(reading(own=GOOD), Directory(reason=Unattributed.NO_ACCOUNT))
    assert (one.holders, one.block["reason"]) == ([], "no_account")


def test_both_accounts_of_a_hand_over_are_kept() -> None:
    two = Attribution(
        account_id="a2",
        account_number=None,
        legacy_number=None,
        usage_point="u",
        role=AttributionRole.PARTIAL,
    )
    one = stamped(reading(own=GOOD), Directory(MINE, two))
    assert [holder["role"] for holder in one.holders] == ["normal", "partial"]


def test_quality_of_the_driver_stays() -> None:
    manual = stamped(reading(own=BAD, quality=Quality.MANUAL_READ), Directory(MINE))
    assert manual.row["quality"] == "2.4.131"


def test_a_half_surrogate_does_not_stop_a_capture() -> None:
    bad = ReadingSet(
        profile=ProfileName.DAILY,
        at=T0,
        received_at=T0,
        values=((Quantity.of("0-0:96.1.0*255"), Text("a\udc80b")),),
    )
    assert stamped(bad, Directory(MINE)).row["values"] == [{"text": "a?b"}]


# -- blocks


def sizes(rows: Sequence[ReadingSet], trust: Callable[[ReadingSet], Trust] = lambda _: TRUSTED) -> list[int]:
    return [len(one.rows) for one in stamp(rows, "GEN:1", Directory(MINE), trust)]


def test_the_rows_of_one_poll_share_a_block_and_one_lookup() -> None:
    directory = Directory(MINE)
    rows = [replace(reading(own=GOOD), at=T0 + n * HALF) for n in range(50)]
    [block] = stamp(rows, "GEN:1", directory)
    assert [row.at for row in block.rows] == [row.at for row in rows]
    assert len(directory.asked) == 1


def test_a_row_that_differs_opens_another_block() -> None:
    one = reading(own=GOOD)
    unit = replace(one, values=((ENERGY, Number(5, 0, "kWh")),))
    later = replace(one, received_at=one.received_at + HALF)
    half = reading(ProfileName.BLOCK_LOAD, GOOD)
    hour = replace(half, start=T0 - 2 * HALF)
    assert sizes([one, one, unit, unit, one, later, half, hour, half]) == [2, 2, 1, 1, 1, 1, 1]
    doubted = Trust(disciplined=True, clock_trusted=False, evidence="{}")
    assert sizes([one] * 4, lambda row, n=iter(range(4)): doubted if next(n) == 2 else TRUSTED) == [2, 1, 1]  # type: ignore[misc]


def test_a_block_has_a_bound_in_rows_and_in_octets() -> None:
    assert sizes([reading()] * 450) == [200, 200, 50]
    long = replace(reading(), raw=bytes(10_000))
    assert max(sizes([long] * 20)) * 13_000 < MAX_OCTETS
    assert sum(sizes([long] * 20)) == 20
    assert sizes([replace(long, raw=bytes(100_000))] * 2) == [1, 1]


@settings(max_examples=60)
@given(
    st.lists(st.integers(-6, 6), min_size=1, max_size=3, unique=True).map(sorted),
    st.lists(st.integers(-8, 8), min_size=1, max_size=8),
    st.sampled_from([ProfileName.DAILY, ProfileName.BLOCK_LOAD]),
)
def test_rows_of_one_poll_are_stamped_as_each_by_itself(
    tmp_path_factory: pytest.TempPathFactory, moves: list[int], times: list[int], profile: ProfileName
) -> None:
    """Whatever hand-overs lie among the rows, or on their very boundaries."""
    with DirectoryStore(tmp_path_factory.mktemp("d") / "directory.db") as store:
        changes: list[Change] = [Install("GEN:1", "up", Role.CONSUMER, T0 - 9 * HALF)]
        for n, move in enumerate(moves):
            changes += [MoveOut("up", T0 + move * HALF)] if n else []
            changes.append(MoveIn("up", f"a{n}", T0 + move * HALF))
        for change in changes:
            store.apply([change], by="t", source="t", at=T0)
        part = StampingPart(store.snapshot())
    rows = [
        replace(reading(profile, GOOD), at=T0 + n * HALF, start=T0 + (n - 1) * HALF)
        if profile is ProfileName.BLOCK_LOAD
        else replace(reading(profile, GOOD), at=T0 + n * HALF)
        for n in times
    ]
    together = [
        (row.capture_id, one.template.holders, one.template.reason)
        for one in stamp(rows, "GEN:1", part)
        for row in one.rows
    ]
    alone = [
        (row.capture_id, one.template.holders, one.template.reason)
        for each in rows
        for one in stamp([each], "GEN:1", part)
        for row in one.rows
    ]
    assert together == alone


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
        part = StampingPart(
            DirectorySnapshot.from_json(store.snapshot().part({"GEN:1"}).to_json()), Generation(5, "0000000a")
        )
    assert part.version == 2
    [strange] = stamp([block(T0 + HALF)], "GEN:2", part)
    assert (told(strange).block["reason"], told(strange).block["directory"]) == (
        "no_account",
        f"{NO_GENERATION}/0",
    )
    [known] = stamp([block(T0 + HALF)], "GEN:1", part)
    assert told(known).block["directory"] == "5.0000000a/2"
