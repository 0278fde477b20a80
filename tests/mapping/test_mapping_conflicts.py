"""What files left undone waits in a queue with owner and age; lists of what is missing, by route and feeder."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mapping.changes import Change, Install, MoveIn, MoveOut, Name, Remove, SetAttributes
from mapping.conflicts import ConflictRow, Conflicts, Noting
from mapping.directory import AttributeKind, NumberKind, Role
from mapping.errors import ChangeRefused
from mapping.imports import apply_import, plan_import
from mapping.lists import PAGE, Missing, metered_places, places_without
from mapping.proposals import Proposals, asked_undo
from mapping.rekey import apply_rekey, plan_rekey
from mapping.store import DirectoryStore
from tests.support.mapping.strategies import at

BY: dict[str, Any] = {"by": "tester", "source": "test"}
HEAD = "meter,usage_point,role,legacy_number,account_number,valid_from\n"
GOOD = "GEN:1,UP1,consumer,K1,,2026-01-01T00:00:00Z\n"
BAD = "GEN:2,UP2,landlord,K2,,2026-01-01T00:00:00Z\n"


def put(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def imported(store: DirectoryStore, file: Path, hour: int) -> None:
    plan = plan_import(store.snapshot(), file, at=at(hour))
    apply_import(store, plan, by="meera", at=at(hour))


def test_what_an_import_left_waits_until_a_file_puts_it_right(store: DirectoryStore, tmp_path: Path) -> None:
    queue = Conflicts(store.database)
    file = put(tmp_path, "meters.csv", HEAD + GOOD + BAD)
    for hour in (4, 5):  # the file sent in twice is noted once
        imported(store, file, hour)
    [held] = queue.page()
    assert (held.origin, held.source, held.line, held.code) == ("import", "meters.csv", 3, "ROLE")
    assert (held.subject, held.owner, held.noted_by, held.cells[0]) == ("meter GEN:2", None, "meera", "GEN:2")
    assert held.age(at(4) + timedelta(days=3)).days == 3
    assert (queue.counts().open, queue.counts().unowned) == (1, 1)
    imported(store, put(tmp_path, "back.csv", HEAD + BAD.replace("landlord", "consumer")), 6)
    assert queue.page() == []
    [done] = queue.page(settled=True)
    assert (done.settled_by, done.how) == ("meera", "put right by back.csv, directory version 2")


def test_what_a_file_put_right_waits_again_once_the_file_is_undone(
    store: DirectoryStore, tmp_path: Path
) -> None:
    queue = Conflicts(store.database)
    imported(store, put(tmp_path, "meters.csv", HEAD + GOOD + BAD), 4)
    imported(store, put(tmp_path, "back.csv", HEAD + BAD.replace("landlord", "consumer")), 6)
    assert queue.page() == []
    for version, waits in ((1, 0), (2, 1)):  # another version's file settled nothing
        held = Proposals(store).keep(
            asked_undo(version, rest_alone=True), by="meera", at=at(7), source="undo",
            version=store.version, meters=1, accounts=1,
        )  # fmt: skip
        Proposals(store).approve(held.fingerprint, by="verma", at=at(7))
        assert len(queue.page()) == waits
    [again] = queue.page()
    assert (again.code, again.settled_at, again.settled_by) == ("ROLE", None, None)
    assert again.how is not None
    assert again.how.startswith("version 2 put it right; undone by")


def test_what_a_re_key_left_waits_too(store: DirectoryStore, tmp_path: Path) -> None:
    store.apply([Name("a", NumberKind.LEGACY, "K1"), Name("b", NumberKind.LEGACY, "K2")], **BY, at=at(0))

    def rekeyed(name: str, row: str) -> None:
        file = put(tmp_path, name, f"legacy_number,account_number\n{row}\n")
        with plan_rekey(store.snapshot(), file, at=at(4), part=True) as plan:
            apply_rekey(store, plan, by="meera", approver="verma", at=at(4))

    rekeyed("a.csv", "K1,12345O7890\nK2,1234567891")
    [held] = Conflicts(store.database).page(origin="rekey")
    assert (held.line, held.code, held.subject) == (2, "LOOKALIKE", "legacy_number K1")
    assert "letter that looks like a digit" in held.reason
    rekeyed("b.csv", "K1,1234507890")
    assert Conflicts(store.database).counts().open == 0


def test_a_conflict_is_taken_and_settled_with_a_reason(store: DirectoryStore) -> None:
    queue = Conflicts(store.database)
    noting = Noting(origin="field", source="commission", digest="d", by="engineer", at=at(0))
    rows = [ConflictRow(n, "conflict", "HELD", f"meter GEN:{n}", "held by another") for n in range(1, 4)]
    assert (queue.note(noting, rows), queue.note(noting, rows)) == (3, 0)
    first, second, third = (one.id for one in queue.page())
    assert queue.take(first, by="meera", at=at(1)).owner == "meera"
    assert queue.take(second, by="meera", at=at(1), owner="verma").owner == "verma"
    assert [one.id for one in queue.page(owner="verma")] == [second]
    assert [one.id for one in queue.page(unowned=True)] == [third]
    assert [one.id for one in queue.page(after=first, limit=1)] == [second]
    assert queue.settle(first, by="meera", at=at(2), how=" house  visited ").how == "house visited"

    def code(act: Callable[[], object]) -> str:
        with pytest.raises(ChangeRefused) as refused:
            act()
        return refused.value.code

    assert code(lambda: queue.settle(first, by="x", at=at(3), how="again")) == "SETTLED"
    assert code(lambda: queue.take(first, by="x", at=at(3))) == "SETTLED"
    assert code(lambda: queue.take(99, by="x", at=at(3))) == "CONFLICT_ID"
    assert code(lambda: queue.settle(second, by="x", at=at(3), how=" ")) == "NAME"
    assert queue.counts().open == 2


def test_a_crash_notes_neither_rows_nor_changes(store: DirectoryStore, tmp_path: Path) -> None:
    plan = plan_import(store.snapshot(), put(tmp_path, "m.csv", HEAD + GOOD + BAD), at=at(4))

    def broken(*_: Any) -> None:
        raise OSError("power cut")

    with pytest.raises(Exception, match="power cut"):
        store.apply(plan.changes, **BY, at=at(4), beside=broken)
    assert (store.version, Conflicts(store.database).counts().open) == (0, 0)


def test_an_account_of_several_places_is_taken_from_a_file_where_that_is_said(
    store: DirectoryStore, tmp_path: Path
) -> None:
    second = "GEN:2,UP2,consumer,K1,,2026-01-01T00:00:00Z\n"
    file = put(tmp_path, "m.csv", HEAD + GOOD + second)
    codes = [row.code for row in plan_import(store.snapshot(), file, at=at(4)).rows]
    assert codes == ["LEGACY_NUMBER_TWICE", "LEGACY_NUMBER_TWICE"]
    plan = plan_import(store.snapshot(), file, at=at(4), several=True)
    apply_import(store, plan, by="meera", at=at(4))
    owner = store.snapshot().account_by_number(NumberKind.LEGACY, "K1")
    assert owner is not None
    assert store.snapshot().usage_points_of(owner) == ("UP1", "UP2")
    third = put(tmp_path, "n.csv", HEAD + second.replace("GEN:2,UP2", "GEN:3,UP3"))
    [row] = plan_import(store.snapshot(), third, at=at(5)).rows
    assert (row.code, "--several-points" in row.reason) == ("ACCOUNT_ELSEWHERE", True)
    assert not plan_import(store.snapshot(), third, at=at(5), several=True).rows[0].code


@pytest.fixture
def town(store: DirectoryStore) -> DirectoryStore:
    """Five places: whole, without meter, without number, without holder, vacant; and an account that holds nothing."""
    changes: list[Change] = []
    for n in (1, 2, 3, 4, 5):
        route = {AttributeKind.ROUTE: f"R{n % 2}", AttributeKind.FEEDER: "F1"}
        changes += [
            Install(f"GEN:{n}", f"UP{n}", Role.CONSUMER, at(0)),
            SetAttributes(f"UP{n}", route, at(0)),
        ]
        if n != 4:
            changes += [MoveIn(f"UP{n}", f"acc{n}", at(0)), Name(f"acc{n}", NumberKind.LEGACY, f"K{n}")]
            changes += [] if n == 3 else [Name(f"acc{n}", NumberKind.ACCOUNT, f"000000000{n}")]
    changes += [Remove("GEN:2", at(3)), MoveOut("UP5", at(3)), Name("none", NumberKind.LEGACY, "K9")]
    store.apply(changes, **BY, at=at(4))
    return store


def test_lists_name_what_is_missing(town: DirectoryStore) -> None:
    def listed(missing: Missing, **along: str) -> list[tuple[str | None, str | None, str | None]]:
        found = places_without(town.database, missing, at=at(5), **along)
        return [(one.usage_point, one.account_id, one.meter) for one in found]

    nowhere = [(None, "acc5", None), (None, "none", None)]
    assert listed(Missing.METER) == [("UP2", "acc2", None), *nowhere]
    assert listed(Missing.NUMBER) == [("UP3", "acc3", "GEN:3"), nowhere[1]]
    assert listed(Missing.HOLDER) == [("UP4", None, "GEN:4"), ("UP5", None, "GEN:5")]
    assert listed(Missing.HOLDER, route="R1") == [("UP5", None, "GEN:5")]
    assert listed(Missing.NUMBER, feeder="F2") == []
    metered = [
        (one.usage_point, one.legacy_number, one.route) for one in metered_places(town.database, at=at(5))
    ]
    assert metered == [("UP1", "K1", "R1"), ("UP3", "K3", "R1")]


def test_a_list_longer_than_a_page_is_whole(store: DirectoryStore) -> None:
    count = 2 * PAGE + 7
    held: list[Change] = [MoveIn(f"UP{n:05d}", f"acc{n}", at(0)) for n in range(count)]
    store.apply(held, **BY, at=at(1))
    found = [one.usage_point for one in places_without(store.database, Missing.METER, at=at(2))]
    assert found == [f"UP{n:05d}" for n in range(count)]
