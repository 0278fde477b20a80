"""Each kind of change does what the painted model says, on both databases; nothing that was declared is lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings

from mapping.change_sets import changes_of, read_forms, written
from mapping.changes import (
    Change,
    CorrectHoldings,
    CorrectInstallations,
    CrossMeters,
    HoldingSpan,
    Install,
    InstallationSpan,
    MoveIn,
    MoveOut,
    Name,
    Remove,
    Replace,
    SetAttributes,
    SetMultiplier,
    SetPaymentMode,
)
from mapping.directory import AttributeKind, NumberKind, PaymentMode, Role
from mapping.errors import ChangeRefused
from mapping.kinds import KINDS
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore
from tests.support.mapping.painted import Painted
from tests.support.mapping.places import Place, in_a_file
from tests.support.mapping.strategies import at, change_sets

BY: dict[str, Any] = {"by": "tester", "source": "test"}


@settings(max_examples=60)
@given(change_sets)
def test_every_kind_paints_as_the_model_does(sets: list[list[Change]]) -> None:
    check_painting(in_a_file, sets)


@pytest.mark.postgres
@settings(max_examples=15)
@given(change_sets)
def test_every_kind_paints_so_in_a_postgresql(in_a_database: Place, sets: list[list[Change]]) -> None:
    check_painting(in_a_database, sets)


def check_painting(place: Place, sets: list[list[Change]]) -> None:
    with place() as where, DirectoryStore(where) as store:
        for i, changes in enumerate(sets):
            model = Painted(store.snapshot())
            seen: DirectorySnapshot | None = None
            try:
                seen = store.preview(changes, at=at(100 + i), **BY)
                store.apply(changes, at=at(100 + i), **BY)
            except ChangeRefused:
                assert seen is None
            else:
                for change in changes:
                    model.apply(change)
                assert seen is not None
                assert Painted(seen).values() == model.values()
            assert Painted(store.snapshot()).values() == model.values()


@settings(max_examples=60)
@given(change_sets)
def test_changes_survive_being_written_as_json(sets: list[list[Change]]) -> None:
    with in_a_file() as where, DirectoryStore(where) as store:
        names: list[Change] = [Name(one, NumberKind.LEGACY, f"K{one.upper()}") for one in ("a", "b", "c")]
        store.apply(names, at=at(0), **BY)
        for changes in sets:
            forms = written(changes)
            assert changes_of(read_forms(forms), store.snapshot()) == changes
            assert written(changes_of(read_forms(forms), store.snapshot())) == forms


def test_every_kind_says_what_it_does() -> None:
    assert all(form.__doc__ for form in KINDS.values())
    assert {"install", "replace", "move_in", "name", "multiplier", "payment_mode", "attributes"} <= set(KINDS)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('[{"kind":"remove","meter":"GEN:1","at":"2026-01-01T00:00:00"}]', "change 1: at: .*timezone"),
        ('[{"kind":"multiplier","meter":"GEN:1","multiplier":10,"valid_from":"2026-01-01T00:00:00Z"}]', "as a string"),
        ('[{"kind":"steal"}]', "change 1: .*install"),
        ('[{"kind":"move_out","usage_point":"UP1","at":"2026-01-01T00:00:00Z","why":"x"}]', "why: Extra"),
        ('{"kind":"remove"}', "list"),
        ("[", "JSON"),
    ],
)  # fmt: skip
def test_a_form_that_is_not_understood_is_refused_with_its_place(given: str, said: str) -> None:
    with pytest.raises(ChangeRefused, match=said) as refused:
        read_forms(given)
    assert refused.value.code == "FORM"


def test_forms_name_accounts_by_their_numbers(store: DirectoryStore) -> None:
    store.apply([Name("a", NumberKind.LEGACY, "K1")], at=at(0), **BY)

    def changes(text: str) -> list[Change]:
        return changes_of(read_forms(text), store.snapshot(), lambda: "new")

    day = '"valid_from":"2026-01-01T00:00:00+00:00"'
    [held] = changes(f'[{{"kind":"move_in","usage_point":"UP1",{day},"legacy_number":" k1"}}]')
    assert held == MoveIn("UP1", "a", at(0))
    made = changes(
        f'[{{"kind":"move_in","usage_point":"UP1",{day},"account_number":"0012 345 678","new":true}}]'
    )
    assert made == [MoveIn("UP1", "new", at(0)), Name("new", NumberKind.ACCOUNT, "0012345678")]
    for wrong, said in (
        ('"legacy_number":"K2"', "change 1: no account has the legacy number K2"),
        ('"account_id":"z"', "no account has the id 'z'"),
        ('"row":1', "name the account"),
        ('"account_number":"123"', "has 10 digits"),
    ):
        with pytest.raises(ChangeRefused, match=said):
            changes(f'[{{"kind":"move_in","usage_point":"UP1",{day},{wrong}}}]')


@pytest.fixture
def street(store: DirectoryStore) -> DirectoryStore:
    """A street where the mill's meter has current transformers, and pays in advance."""
    changes: list[Change] = [
        Install("GEN:1", "MILL", Role.CONSUMER, at(0), Decimal(10)),
        MoveIn("MILL", "a", at(0), PaymentMode.PREPAID),
        Install("GEN:2", "UP2", Role.CONSUMER, at(0)),
        MoveIn("UP2", "b", at(0)),
    ]
    store.apply(changes, at=at(1), **BY)
    return store


def multipliers(store: DirectoryStore, meter: str) -> list[tuple[str, int]]:
    return [(row.usage_point, int(row.multiplier)) for row in store.snapshot().installations(meter)]


FITTED_BY_CORRECTION: list[Change] = [
    CorrectInstallations("SEC:1", (InstallationSpan("MILL", Role.CONSUMER, at(4), None),)),
    Remove("GEN:1", at(4)),
]


@pytest.mark.parametrize(
    "sets",
    [
        [[Replace("GEN:1", "SEC:1", at(4))]],
        [[Remove("GEN:1", at(4)), Install("SEC:1", "MILL", Role.CONSUMER, at(4))]],
        [[Remove("GEN:1", at(4))], [Install("SEC:1", "MILL", Role.CONSUMER, at(5))]],
        [[Install("SEC:1", "STORE", Role.STOCK, at(0))], [Replace("GEN:1", "SEC:1", at(4))]],
        [FITTED_BY_CORRECTION],
    ],
)  # fmt: skip
def test_a_declared_multiplier_is_never_lost(street: DirectoryStore, sets: list[list[Change]]) -> None:
    """Today `replace` turns 10 into 1: of every way to put another meter there, none does (row 49)."""
    for changes in sets:
        street.apply(changes, at=at(10), **BY)
    assert multipliers(street, "SEC:1")[-1] == ("MILL", 10)


def test_a_correction_of_dates_keeps_multiplier_and_payment(street: DirectoryStore) -> None:
    dates: list[Change] = [
        CorrectInstallations("GEN:1", (InstallationSpan("MILL", Role.CONSUMER, at(2), None),)),
        *changes_of(
            read_forms(
                [
                    {
                        "kind": "correct_holdings",
                        "usage_point": "MILL",
                        "spans": [{"account_id": "a", "valid_from": at(2)}],
                    }
                ]
            ),
            street.snapshot(),
        ),
    ]
    street.apply(dates, at=at(10), **BY)
    assert multipliers(street, "GEN:1") == [("MILL", 10)]
    assert [r.payment_mode for r in street.snapshot().holdings("MILL")] == [PaymentMode.PREPAID]


def test_a_crossed_pair_changes_places_with_what_belongs_to_the_place(street: DirectoryStore) -> None:
    """Eleven days crossed, then mended: two dates, three stretches each (rows 34 and 35)."""
    street.apply([CrossMeters(("GEN:1", "GEN:2"), at(2), at(5))], at=at(10), **BY)
    assert multipliers(street, "GEN:1") == [("MILL", 10), ("UP2", 1), ("MILL", 10)]
    assert multipliers(street, "GEN:2") == [("UP2", 1), ("MILL", 10), ("UP2", 1)]
    spans, _ = street.differences(1, 2)
    assert [(s.meter, s.start, s.end, s.old, s.new) for s in spans] == [
        ("GEN:1", at(2), at(5), ("a", "MILL"), ("b", "UP2")),
        ("GEN:2", at(2), at(5), ("b", "UP2"), ("a", "MILL")),
    ]


def test_a_rotation_of_many_is_one_change(store: DirectoryStore) -> None:
    """Row 36: cycles of any length, whole or not at all."""
    count = 40
    meters = [f"GEN:{n}" for n in range(count)]
    fitted: list[Change] = [
        Install(meter, f"UP{n}", Role.CONSUMER, at(0), Decimal(n + 1)) for n, meter in enumerate(meters)
    ]
    store.apply(fitted, at=at(1), **BY)
    store.apply([CrossMeters(tuple(meters), at(0))], at=at(2), **BY)
    for n, meter in enumerate(meters):
        following = (n + 1) % count
        assert multipliers(store, meter) == [(f"UP{following}", following + 1)]
    with pytest.raises(ChangeRefused, match="GEN:99 is recorded nowhere in that time, and never was"):
        store.apply([CrossMeters((*meters, "GEN:99"), at(0))], at=at(3), **BY)


def test_a_meter_replaced_twice_at_one_instant_leaves_every_row(street: DirectoryStore) -> None:
    """Row 46: three links, one of no length; nothing is lost, and no reading stands under it."""
    twice: list[Change] = [
        Replace("GEN:1", "SEC:1", at(4)),
        Replace("SEC:1", "SEC:2", at(4)),
        Install("SEC:1", "STORE", Role.STOCK, at(4)),
    ]
    street.apply(twice, at=at(10), **BY)
    rows = [(r.usage_point, r.valid_from, r.valid_to) for r in street.snapshot().installations("SEC:1")]
    assert rows == [("MILL", at(4), at(4)), ("STORE", at(4), None)]
    assert street.snapshot().attributions("SEC:1", None, at(4)).accounts == ()
    assert [m for m, _ in street.snapshot().meters_of_account("a")] == ["GEN:1", "SEC:2"]
    part = street.snapshot().part({"SEC:1"})
    assert [r.usage_point for r in part.installations("SEC:1")] == ["STORE"]
    assert DirectorySnapshot.from_json(street.snapshot().to_json()) == street.snapshot()
    street.apply([Remove("SEC:1", at(5))], at=at(11), **BY)
    rows = [(r.usage_point, r.valid_from, r.valid_to) for r in street.snapshot().installations("SEC:1")]
    assert rows == [("MILL", at(4), at(4)), ("STORE", at(4), at(5))]


NOW = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.mark.parametrize("day", ["1980-01-01", "1999-12-31", "2050-01-01", "2027-12-02"])
def test_dates_that_cannot_be_are_refused_by_name(street: DirectoryStore, day: str) -> None:
    when = datetime.fromisoformat(f"{day}T12:00:00+00:00")
    changes: list[tuple[Change, str]] = [
        (Install("GEN:9", "UP9", Role.CONSUMER, when), "meter GEN:9"),
        (Remove("GEN:1", when), "meter GEN:1"),
        (Replace("GEN:1", "GEN:9", when), "meter GEN:1"),
        (MoveIn("UP9", "a", when), "usage point UP9"),
        (MoveOut("MILL", when), "usage point MILL"),
        (SetMultiplier("GEN:1", Decimal(2), when), "meter GEN:1"),
        (SetPaymentMode("MILL", None, when), "usage point MILL"),
        (CorrectInstallations("GEN:1", (InstallationSpan("MILL", Role.CONSUMER, at(0), when),)), "meter GEN:1"),
        (CorrectHoldings("MILL", (HoldingSpan("a", when, None),)), "usage point MILL"),
        (CrossMeters(("GEN:1", "GEN:2"), when), "crossed meters GEN:1, GEN:2"),
        (SetAttributes("MILL", {AttributeKind.FEEDER: "F7"}, when), "usage point MILL"),
    ]  # fmt: skip
    for change, who in changes:
        with pytest.raises(ChangeRefused, match=f"{who}: {day} 17:30 IST cannot be") as refused:
            street.preview([change], at=NOW, **BY)
        assert refused.value.code == "DATE_IMPOSSIBLE"
    street.preview([Remove("GEN:1", NOW + timedelta(days=366))], at=NOW, **BY)


def test_attributes_are_dated_and_known_as_the_rest(store: DirectoryStore) -> None:
    feeder, load = AttributeKind.FEEDER, AttributeKind.SANCTIONED_LOAD
    store.apply([SetAttributes("UP1", {feeder: "F7", load: "2.50"}, at(0))], at=at(1), **BY)
    store.apply([SetAttributes("UP1", {feeder: "F8"}, at(4))], at=at(5), **BY)
    now = store.snapshot()
    assert [now.attribute("UP1", feeder, at(n)) for n in (0, 3, 4)] == ["F7", "F7", "F8"]
    assert now.attribute("UP1", load, at(9)) == "2.5"
    assert now.has_usage_point("UP1")
    before = store.snapshot(known_at=at(4))
    assert before.attribute("UP1", feeder, at(6)) == "F7"
    assert store.differences(1, 2) == ([], [])
    for kind, value in (
        (load, "-1"),
        (load, "two"),
        (AttributeKind.PHASE, "X"),
        (feeder, ""),
        (feeder, "F\n7"),
    ):
        with pytest.raises(ChangeRefused) as refused:
            store.apply([SetAttributes("UP1", {kind: value}, at(6))], at=at(7), **BY)
        assert refused.value.code == "ATTRIBUTE"


def test_an_account_holds_several_usage_points_or_none(store: DirectoryStore) -> None:
    changes: list[Change] = [
        Name("none", NumberKind.LEGACY, "K9"),
        *(Install(f"GEN:{n}", f"UP{n}", Role.CONSUMER, at(0)) for n in range(3)),
        *(MoveIn(f"UP{n}", "many", at(0)) for n in range(3)),
    ]
    store.apply(changes, at=at(1), **BY)
    now = store.snapshot()
    assert [m for m, _ in now.meters_of_account("many")] == ["GEN:0", "GEN:1", "GEN:2"]
    assert now.meters_of_account("none") == ()
    assert now.account_by_number(NumberKind.LEGACY, "K9") == "none"
