"""The directory against a naive model: lookups, as known earlier, differences, round trips."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapping.changes import Change, CorrectHoldings, HoldingSpan, Install, MoveIn, MoveOut, Name, Remove
from mapping.directory import AttributionRole, NumberKind, Role, Unattributed
from mapping.errors import ChangeRefused, DirectoryFault
from mapping.nearest import nearest
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore
from mapping.undo import undo
from tests.support.mapping.naive import Version
from tests.support.mapping.places import Place, in_a_file
from tests.support.mapping.strategies import METERS, STEPS, at, change_sets
from tests.support.waiting import PATIENCE

BY: dict[str, Any] = {"by": "tester", "source": "test"}


def answer(
    snapshot: DirectorySnapshot, meter: str, start: int | None, end: int, **more: Any
) -> list[tuple[str, str, str, str | None]]:
    found = snapshot.attributions(meter, None if start is None else at(start), at(end), **more)
    return [(a.account_id, a.usage_point, a.role.value, a.account_number) for a in found.accounts]


def why(snapshot: DirectorySnapshot, meter: str, start: int | None, end: int) -> str | None:
    return snapshot.attributions(meter, None if start is None else at(start), at(end)).reason


@settings(max_examples=40)
@given(change_sets, st.data())
def test_directory_agrees_with_the_naive_model(sets: list[list[Change]], data: st.DataObject) -> None:
    check_against_the_model(in_a_file, sets, data)


@pytest.mark.postgres
@settings(max_examples=10)
@given(change_sets, st.data())
def test_directory_in_a_postgresql_agrees_with_the_naive_model(
    in_a_database: Place, sets: list[list[Change]], data: st.DataObject
) -> None:
    check_against_the_model(in_a_database, sets, data)


def check_against_the_model(place: Place, sets: list[list[Change]], data: st.DataObject) -> None:
    with place() as where, DirectoryStore(where) as store:
        versions = [Version(store.snapshot())]
        for i, changes in enumerate(sets):
            try:
                store.apply(changes, at=at(100 + i), **BY)
            except ChangeRefused:
                continue
            if store.version != versions[-1].version:
                versions.append(Version(store.snapshot()))
        with DirectoryStore(where) as reopened:
            assert reopened.snapshot() == store.snapshot()
        now = store.snapshot()
        again = DirectorySnapshot.from_json(now.to_json())
        assert again == now
        some = set(data.draw(st.lists(st.sampled_from(METERS))))
        part = now.part(some)
        for version in versions:
            past = store.snapshot(known_at=version.known) if version.known else DirectorySnapshot()
            for meter in METERS:
                for end in range(STEPS + 1):
                    for start in (None, *range(end + 1)):
                        want = version.answer(meter, start, end)
                        assert answer(past, meter, start, end) == want
                        assert why(past, meter, start, end) == version.reason(meter, start, end)
                        if version.known:
                            assert answer(now, meter, start, end, known_at=version.known) == want
                            if meter in some:
                                assert answer(part, meter, start, end, known_at=version.known) == want
        check_differences(store, versions)


def check_differences(store: DirectoryStore, versions: list[Version]) -> None:
    """Painting the spans over the old answer gives the new one.

    Nothing else is painted but the time after a meter became nobody's, as long as it was nobody's all along.
    """
    for old in versions:
        for new in versions[versions.index(old) :]:
            spans, names = store.differences(old.version, new.version)
            for meter in METERS:
                nobody_follows = False
                for step in range(STEPS + 1):
                    was, now = (v.who(meter, step) for v in (old, new))
                    hit = [
                        s
                        for s in spans
                        if s.meter == meter and s.start <= at(step) and (s.end is None or at(step) < s.end)
                    ]
                    told = was != now or (nobody_follows and isinstance(now, str))
                    assert [(s.old, s.new) for s in hit] == ([(was, now)] if told else [])
                    nobody_follows = told and isinstance(now, str)
            changed = {
                key: (old.numbers.get(key), new.numbers.get(key))
                for key in old.numbers.keys() | new.numbers.keys()
                if old.numbers.get(key) != new.numbers.get(key)
            }
            assert {(n.account_id, n.kind): (n.old, n.new) for n in names} == changed


def test_hand_over_gives_final_opening_and_partial(store: DirectoryStore) -> None:
    store.apply([Install("GEN:1", "UP1", Role.CONSUMER, at(0)), MoveIn("UP1", "a", at(0))], at=at(0), **BY)
    store.apply([MoveOut("UP1", at(4)), MoveIn("UP1", "b", at(4))], at=at(5), **BY)
    snapshot = store.snapshot()
    assert answer(snapshot, "GEN:1", None, 4) == [("a", "UP1", "final", None), ("b", "UP1", "opening", None)]
    assert answer(snapshot, "GEN:1", 3, 4) == [("a", "UP1", "normal", None)]
    assert answer(snapshot, "GEN:1", 4, 5) == [("b", "UP1", "normal", None)]
    assert [r for _, _, r, _ in answer(snapshot, "GEN:1", 3, 5)] == ["partial", "partial"]
    assert snapshot.attributions("GEN:1", at(3), at(4)).reason is Unattributed.NO_ACCOUNT


def test_re_key_is_a_renaming_without_a_boundary(store: DirectoryStore) -> None:
    store.apply(
        [
            Install("GEN:1", "UP1", Role.CONSUMER, at(0)),
            MoveIn("UP1", "a", at(0)),
            Name("a", NumberKind.LEGACY, "K1"),
        ],
        at=at(0),
        **BY,
    )
    store.apply([Name("a", NumberKind.ACCOUNT, "0123456789")], at=at(4) + timedelta(minutes=7), **BY)
    snapshot = store.snapshot()
    found = snapshot.attributions("GEN:1", at(3), at(6))
    assert [a.role for a in found.accounts] == [AttributionRole.NORMAL]
    assert (found.accounts[0].account_number, found.accounts[0].legacy_number) == ("0123456789", "K1")
    assert found.reason is None
    before = snapshot.attributions("GEN:1", at(3), at(6), known_at=at(4))
    assert before.accounts[0].account_number is None
    assert (before.directory_version, found.directory_version) == (1, 2)
    assert store.differences(1, 2)[0] == []
    assert snapshot.account_by_number(NumberKind.ACCOUNT, "0123456789") == "a"
    assert snapshot.account_by_number("legacy_number", "0123456789") is None


def test_row_11_old_and_new_numbers_are_kept_apart(store: DirectoryStore) -> None:
    store.apply(
        [Name("a", NumberKind.LEGACY, "0123456789"), Name("b", NumberKind.ACCOUNT, "0123456789")],
        at=at(0),
        **BY,
    )
    snapshot = store.snapshot()
    assert snapshot.account_by_number(NumberKind.LEGACY, "0123456789") == "a"
    assert snapshot.account_by_number(NumberKind.ACCOUNT, "0123456789") == "b"
    assert len(snapshot.candidates("0123456789")) == 2


def test_reasons(store: DirectoryStore) -> None:
    store.apply(
        [
            Install("GEN:1", "UP1", Role.CONSUMER, at(0)),
            Install("GEN:2", "F1", Role.FEEDER, at(0)),
            Install("GEN:3", "UP3", Role.CONSUMER, at(0)),
            MoveIn("UP3", "c", at(0)),
            MoveOut("UP3", at(4)),
        ],
        at=at(0),
        **BY,
    )
    snapshot = store.snapshot()

    def reason(meter: str, start: int | None, end: int) -> object:
        return snapshot.attributions(meter, None if start is None else at(start), at(end)).reason

    assert reason("GEN:9", 1, 2) == reason("GEN:1", 1, 2) == reason("GEN:1", None, 2) == "no_account"
    assert reason("GEN:2", 1, 2) == reason("GEN:2", None, 0) == "not_a_consumer"
    assert reason("GEN:3", 4, 5) == reason("GEN:3", None, 6) == "not_a_consumer"
    assert answer(snapshot, "GEN:3", None, 4) == [("c", "UP3", "final", None)]
    with pytest.raises(ValueError, match="after its end"):
        snapshot.attributions("GEN:1", at(3), at(2))


def test_replacement_changes_installations_only(store: DirectoryStore) -> None:
    store.apply([Install("GEN:1", "UP1", Role.CONSUMER, at(0)), MoveIn("UP1", "a", at(0))], at=at(0), **BY)
    store.apply([Remove("GEN:1", at(4)), Install("GEN:2", "UP1", Role.CONSUMER, at(4))], at=at(4), **BY)
    snapshot = store.snapshot()
    assert answer(snapshot, "GEN:1", None, 4) == [("a", "UP1", "final", None)]
    assert answer(snapshot, "GEN:2", None, 4) == [("a", "UP1", "opening", None)]
    assert [m for m, _ in snapshot.meters_of_account("a")] == ["GEN:1", "GEN:2"]
    assert snapshot.usage_point("GEN:1", at(4)) is None
    spans, _ = store.differences(1, 2)
    assert [(s.meter, s.start, s.end, s.old, s.new) for s in spans] == [
        ("GEN:1", at(4), None, ("a", "UP1"), "no_account"),
        ("GEN:2", at(4), None, "no_account", ("a", "UP1")),
    ]


def test_a_partial_says_from_when_to_when(store: DirectoryStore) -> None:
    store.apply([Install("GEN:1", "UP1", Role.CONSUMER, at(0)), MoveIn("UP1", "a", at(0))], at=at(0), **BY)
    store.apply([MoveOut("UP1", at(2)), MoveIn("UP1", "b", at(4))], at=at(5), **BY)
    found = store.snapshot().attributions("GEN:1", at(1), at(5)).accounts
    assert [(a.account_id, a.since, a.until) for a in found] == [("a", at(1), at(2)), ("b", at(4), at(5))]
    whole = store.snapshot().attributions("GEN:1", at(0), at(1)).accounts
    assert [(a.role, a.since, a.until) for a in whole] == [("normal", None, None)]


def test_a_move_between_usage_points_of_one_account_is_a_difference(store: DirectoryStore) -> None:
    held: list[Change] = [MoveIn(point, "a", at(0)) for point in ("UP1", "UP2")]
    store.apply([Install("GEN:1", "UP1", Role.CONSUMER, at(0)), *held], at=at(0), **BY)
    store.apply([Remove("GEN:1", at(4)), Install("GEN:1", "UP2", Role.CONSUMER, at(4))], at=at(4), **BY)
    spans, _ = store.differences(1, 2)
    assert [(s.start, s.end, s.old, s.new) for s in spans] == [(at(4), None, ("a", "UP1"), ("a", "UP2"))]
    assert [(p, r) for _, p, r, _ in answer(store.snapshot(), "GEN:1", None, 4)] == [
        ("UP1", "final"),
        ("UP2", "opening"),
    ]


def test_what_becomes_nobodys_says_why_as_far_as_it_is_nobodys(store: DirectoryStore) -> None:
    """A capture whose first part alone changes has its reason at its end, which did not change."""
    fitted: list[Change] = [Install("GEN:1", "UP1", Role.CONSUMER, at(0)), MoveIn("UP1", "a", at(0))]
    store.apply([*fitted, MoveOut("UP1", at(4)), Remove("GEN:1", at(6))], at=at(0), **BY)
    store.apply([CorrectHoldings("UP1", (HoldingSpan("a", at(0), at(2)),))], at=at(8), **BY)
    spans, _ = store.differences(1, 2)
    assert [(s.start, s.end, s.new) for s in spans] == [
        (at(2), at(4), "not_a_consumer"),
        (at(4), at(6), "not_a_consumer"),
        (at(6), None, "no_account"),
    ]


def test_a_correction_of_a_correction_keeps_every_view(store: DirectoryStore) -> None:
    store.apply([Install("GEN:1", "UP1", Role.CONSUMER, at(0)), MoveIn("UP1", "a", at(0))], at=at(10), **BY)
    store.apply([CorrectHoldings("UP1", (HoldingSpan("b", at(0), None),))], at=at(11), **BY)
    store.apply([CorrectHoldings("UP1", (HoldingSpan("a", at(0), None),))], at=at(12), **BY)
    seen = [answer(store.snapshot(), "GEN:1", 1, 2, known_at=at(t))[0] for t in (10, 11, 12)]
    assert [a for a, *_ in seen] == ["a", "b", "a"]
    assert store.differences(1, 3) == ([], [])
    assert answer(store.snapshot(), "GEN:1", 1, 2, known_at=at(9)) == []


def test_contradictions_are_refused_and_change_nothing(store: DirectoryStore) -> None:
    store.apply(
        [
            Install("GEN:1", "UP1", Role.CONSUMER, at(0)),
            MoveIn("UP1", "a", at(0)),
            Name("a", NumberKind.ACCOUNT, "0000000001"),
        ],
        at=at(0),
        **BY,
    )
    before = store.snapshot()
    cases: list[tuple[list[Change], str]] = [
        ([Install("GEN:1", "UP2", Role.CONSUMER, at(1))], "METER_IN_USE"),
        ([Install("GEN:2", "UP1", Role.CONSUMER, at(1))], "USAGE_POINT_OCCUPIED"),
        ([MoveIn("UP1", "b", at(1))], "HELD"),
        ([MoveOut("UP9", at(1))], "NOT_HELD"),
        ([Remove("GEN:9", at(1))], "METER_NOT_FITTED"),
        ([Name("b", NumberKind.ACCOUNT, "0000000001")], "NUMBER_TAKEN"),
        ([Name("b", NumberKind.ACCOUNT, "12")], "LENGTH_2"),
        ([Install("gen 1", "UP2", Role.CONSUMER, at(1))], "METER_FORMAT"),
        ([Install("GEN:5", "UP5", Role.CONSUMER, at(1)), MoveIn("UP1", "b", at(1))], "HELD"),
    ]
    for changes, code in cases:
        with pytest.raises(ChangeRefused) as caught:
            store.apply(changes, at=at(1), **BY)
        assert caught.value.code == code
    assert store.snapshot() == before
    with pytest.raises(ChangeRefused):
        store.differences(0, 9)


def test_a_refusal_says_what_holds_then(store: DirectoryStore) -> None:
    fitted: list[Change] = [Install("GEN:1", "UP1", Role.CONSUMER, at(2)), MoveIn("UP1", "a", at(2))]
    store.apply(fitted, at=at(0), **BY)

    def said(change: Change) -> str:
        with pytest.raises(ChangeRefused) as caught:
            store.preview([change], at=at(1), **BY)
        return str(caught.value)

    assert "but from 2026-01-01 01:00 to now (UTC): give a time within" in said(Remove("GEN:1", at(1)))
    assert "never was" in said(Remove("GEN:2", at(1)))
    assert "by account a, since 2026-01-01 01:00 UTC: it must move out first" in said(
        MoveIn("UP1", "b", at(3))
    )
    assert "give a time within" in said(MoveOut("UP1", at(1)))


def test_a_preview_is_what_applying_gives_and_changes_nothing(store: DirectoryStore) -> None:
    changes: list[Change] = [Install("GEN:1", "UP1", Role.CONSUMER, at(0)), MoveIn("UP1", "a", at(0))]
    seen = store.preview(changes, at=at(1), **BY)
    assert (seen.version, store.version) == (1, 0)
    store.apply(changes, at=at(1), **BY)
    assert store.snapshot() == seen
    assert store.preview(changes, at=at(2), **BY) is store.snapshot()


@settings(max_examples=40)
@given(change_sets)
def test_undoing_all_change_sets_one_after_the_other_leads_back(sets: list[list[Change]]) -> None:
    with tempfile.TemporaryDirectory() as folder, DirectoryStore(Path(folder) / "d.db") as store:
        states = [Version(store.snapshot())]
        for i, changes in enumerate(sets):
            try:
                store.apply(changes, at=at(100 + i), **BY)
            except ChangeRefused:
                continue
            if store.version != len(states) - 1:
                states.append(Version(store.snapshot()))
        for version in range(len(states) - 1, 0, -1):
            store.apply(undo(store.snapshot(), version), at=at(200), **BY)
            for meter in METERS:
                now, before = Version(store.snapshot()), states[version - 1]
                assert (now.cells[meter], now.whys[meter]) == (before.cells[meter], before.whys[meter])
                assert now.numbers == before.numbers


def test_what_was_changed_again_is_not_undone(store: DirectoryStore) -> None:
    store.apply([Install("GEN:1", "UP1", Role.CONSUMER, at(0)), MoveIn("UP1", "a", at(0))], at=at(0), **BY)
    store.apply([MoveOut("UP1", at(4)), MoveIn("UP1", "b", at(4))], at=at(4), **BY)
    with pytest.raises(
        ChangeRefused,
        match="change set 2 of tester changed usage point UP1 again, from 2026-01-01 07:30 to now on IST",
    ):
        undo(store.snapshot(), 1)
    with pytest.raises(ChangeRefused, match="there is no change set 3; the last is 2"):
        undo(store.snapshot(), 3)
    assert undo(store.snapshot(), 2) == [CorrectHoldings("UP1", (HoldingSpan("a", at(0), None),))]


@pytest.mark.parametrize(
    ("given", "meant"),
    [("UP-0110", "UP-0101"), ("up 0101", "UP-0101"), ("UP-010", "UP-0101"), ("UP-01011", "UP-0101")],
)
def test_a_mistyped_name_is_found_among_as_many_as_a_city_has(given: str, meant: str) -> None:
    city = {f"UP-{n:06d}" for n in range(20_000)} | {meant}
    assert meant in nearest(given, city)
    assert nearest("nothing like it", city) == []


def test_a_postgresql_without_its_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pg8000", None)
    with pytest.raises(
        DirectoryFault, match=r"needs the package pg8000: install meter-gateway\[postgresql\]"
    ):
        DirectoryStore("postgresql://gateway@db.example/directory")


def test_two_stores_of_one_place_see_each_other(place: Place) -> None:
    with place() as where, DirectoryStore(where) as store, DirectoryStore(where) as other:
        store.apply([Name("a", NumberKind.LEGACY, "K1")], at=at(1), **BY)
        assert other.snapshot() == store.snapshot()
        other.apply([Name("b", NumberKind.LEGACY, "K2")], at=at(0), **BY)
        assert store.snapshot().version == 2
        assert store.snapshot().changes[1].at == at(1)  # knowledge has one order


def test_stock_meter_is_fitted_without_removal(store: DirectoryStore) -> None:
    store.apply([Install("GEN:1", "STORE", Role.STOCK, at(0))], at=at(0), **BY)
    store.apply([Install("GEN:1", "UP1", Role.CONSUMER, at(3))], at=at(3), **BY)
    assert store.snapshot().usage_point("GEN:1", at(2)) == "STORE"
    assert store.snapshot().usage_point("GEN:1", at(3)) == "UP1"
    assert store.snapshot().counts().meters == 1


def test_part_tells_an_edge_nothing_about_others(store: DirectoryStore) -> None:
    store.apply([Install("GEN:1", "UP1", Role.CONSUMER, at(0)), MoveIn("UP1", "a", at(0))], at=at(0), **BY)
    store.apply([Install("GEN:2", "UP2", Role.CONSUMER, at(0))], at=at(1), by="secret person", source="x.csv")
    text = store.snapshot().part({"GEN:1"}).to_json()
    assert "GEN:2" not in text
    assert "secret person" not in text
    assert DirectorySnapshot.from_json(text).version == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "[" * 100_000,
        '{"format":1}',
        '{"format":2}',
        b"\xff\xfe",
        '{"format":1,"changes":[[1]]}',
    ],
)
def test_hostile_snapshots_are_refused(text: str | bytes) -> None:
    with pytest.raises(DirectoryFault):
        DirectorySnapshot.from_json(text)


@pytest.fixture(scope="module")
def written() -> str:
    with in_a_file() as where, DirectoryStore(where) as made:
        made.apply(
            [Install("GEN:1", "UP1", Role.CONSUMER, at(0)), MoveIn("UP1", "a", at(0)), MoveOut("UP1", at(3))],
            at=at(0),
            **BY,
        )
        return made.snapshot().to_json()


@settings(max_examples=100)
@given(st.data())
def test_damaged_snapshots_are_refused_or_whole(written: str, data: st.DataObject) -> None:
    text = written
    where = data.draw(st.integers(0, len(text) - 1))
    damaged = (
        text[:where]
        + data.draw(st.sampled_from(['"', "0", "-", "9e9", "null", "{}", ""]))
        + text[where + 1 :]
    )
    try:
        DirectorySnapshot.from_json(damaged).attributions("GEN:1", at(1), at(2))
    except DirectoryFault:
        pass


def test_reading_does_not_wait_for_a_change_set(store: DirectoryStore) -> None:
    """Lookups go on while another thread applies a slow change set, and see it only when committed."""
    store.apply([Name("a", NumberKind.LEGACY, "K1")], at=at(0), **BY)
    assert store.snapshot().version == 1
    half, go_on = threading.Event(), threading.Event()

    def slow() -> Iterator[Name]:
        yield Name("b", NumberKind.LEGACY, "K2")
        half.set()
        assert go_on.wait(PATIENCE)

    writer = threading.Thread(target=lambda: store.apply(slow(), at=at(1), **BY))
    writer.start()
    assert half.wait(PATIENCE)
    assert store.snapshot().version == 1
    go_on.set()
    writer.join(20)
    assert store.snapshot().version == store.version == 2


@settings(max_examples=20)
@given(change_sets)
def test_the_database_answers_as_rows_in_memory_do(sets: list[list[Change]]) -> None:
    check_against_memory(in_a_file, sets)


@pytest.mark.postgres
@settings(max_examples=8)
@given(change_sets)
def test_a_postgresql_answers_as_rows_in_memory_do(in_a_database: Place, sets: list[list[Change]]) -> None:
    check_against_memory(in_a_database, sets)


def check_against_memory(place: Place, sets: list[list[Change]]) -> None:
    """Of any version, asked before the next or long after: the same keys, counts, owners and places."""
    with place() as where, DirectoryStore(where) as made:
        for i, changes in enumerate(sets):
            try:
                made.apply(changes, at=at(100 + i), **BY)
            except ChangeRefused:
                continue
            check_rows(made.snapshot())
        check_rows(made.snapshot())
        for version in range(made.version + 1):
            check_rows(DirectorySnapshot(made.snapshot().rows.rewound(version)))


def check_rows(snapshot: DirectorySnapshot) -> None:
    have, want = snapshot.rows, DirectorySnapshot.from_json(snapshot.to_json()).rows
    assert (have.version, tuple(have.changes)) == (want.version, tuple(want.changes))
    for name in ("meters", "usage_points", "accounts"):
        assert sorted(getattr(have, name)()) == sorted(getattr(want, name)())
    assert have.counts() == want.counts()
    for point in want.usage_points():
        assert set(have.meters_at(point)) == set(want.meters_at(point))
    for account in want.accounts():
        assert set(have.usage_points_of(account)) == set(want.usage_points_of(account))
    for kind in NumberKind:
        assert sorted(have.numbers(kind)) == sorted(want.numbers(kind))
        for number in (*want.numbers(kind), "unknown"):
            assert have.owner(kind, number) == want.owner(kind, number)
    for old in range(want.version + 1):
        assert have.touched(old, want.version) == want.touched(old, want.version)


def test_a_change_set_of_2099_does_not_date_all_that_follow(store: DirectoryStore) -> None:
    ahead = at(0) + timedelta(days=26_000)
    store.apply([Install("GEN:1", "up-1", Role.CONSUMER, at(0))], by="t", source="t", at=at(1))
    store.apply([MoveIn("up-1", "a", at(0))], by="t", source="wrong clock", at=ahead)
    later: list[Change] = [Name("a", NumberKind.ACCOUNT, "1000000017")]
    with pytest.raises(ChangeRefused, match="one of the two is wrong") as refused:
        store.apply(later, by="t", source="t", at=at(10))
    assert refused.value.code == "DATED_AHEAD"
    store.apply(later, by="t", source="t", at=at(10), sure=True)
    assert [change.at for change in store.snapshot().changes] == [at(1), ahead, at(10)]
    assert [store.snapshot().version_at(at(t)) for t in (1, 9, 10)] == [1, 1, 3]
    store.apply([Name("a", NumberKind.LEGACY, "KE1")], by="t", source="t", at=at(11))
    assert store.snapshot().version_at(at(11)) == 4
