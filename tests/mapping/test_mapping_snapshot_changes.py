"""A change of a snapshot says exactly what differs, and fits no other snapshot."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapping.changes import Change, Install, MoveIn, Name
from mapping.directory import NumberKind, Role
from mapping.errors import ChangeRefused, DirectoryFault
from mapping.snapshot import DirectorySnapshot
from mapping.snapshot_changes import SnapshotRows, difference, is_empty
from mapping.store import DirectoryStore

T0 = datetime(2026, 11, 1, tzinfo=UTC)
METERS = [f"GEN:{n}" for n in range(1, 4)]


def made(steps: list[tuple[int, int, int]]) -> list[DirectorySnapshot]:
    """The snapshots of a directory after each of some changes."""
    found = [DirectorySnapshot()]
    with tempfile.TemporaryDirectory() as folder, DirectoryStore(Path(folder) / "directory.db") as store:
        for number, (kind, meter, day) in enumerate(steps):
            name, at = METERS[meter], T0 + timedelta(days=day)
            change: Change = (
                Install(name, f"UP-{meter}", Role.CONSUMER, at),
                MoveIn(f"UP-{meter}", f"acc-{day}", at),
                Name(f"acc-{meter}", NumberKind.LEGACY, f"KE-{day}"),
            )[kind]
            try:
                store.apply([change], by="test", source="x", at=T0 + timedelta(days=100 + number))
            except ChangeRefused:
                continue
            found.append(store.snapshot().part(METERS))  # in memory: the store does not last
    return found


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 5)), max_size=8),
    st.lists(st.sets(st.sampled_from(METERS)), min_size=2, max_size=2),
    st.data(),
)
def test_a_change_leads_from_any_part_to_any_other(
    steps: list[tuple[int, int, int]], meters: list[set[str]], data: st.DataObject
) -> None:
    snapshots = made(steps)
    old, new = (data.draw(st.sampled_from(snapshots)).part(some) for some in meters)
    change = difference(old.to_json(), new.to_json())
    text = SnapshotRows.read(old.to_json()).after(change).text()
    assert DirectorySnapshot.from_json(text) == new
    assert is_empty(change) == (old.relations() == new.relations())


def test_a_change_of_other_rows_is_refused() -> None:
    first, *_, last = made([(0, 0, 0), (1, 0, 1), (1, 0, 3)])
    change = difference(last.to_json(), first.to_json())
    with pytest.raises(DirectoryFault, match="it is of other rows"):
        SnapshotRows.read(first.to_json()).after(change)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "[" * 100_000, '{"format":2}', '{"format":1}', '{"format":1,"removed":1,"added":2}'],
)
def test_hostile_text_is_refused(text: str) -> None:
    rows = SnapshotRows.read(DirectorySnapshot().to_json())
    with pytest.raises(DirectoryFault):
        rows.after(text)
    with pytest.raises(DirectoryFault):
        SnapshotRows.read(text)
