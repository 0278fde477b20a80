"""users.md §6 rows 34 to 53: meters that are crossed, replaced, moved and damaged; whose their readings are then."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from gateway.contract.messages import CaptureValue
from mapping.changes import CorrectInstallations, Install, InstallationSpan, Remove
from mapping.directory import PaymentMode, Role
from mapping.errors import ChangeRefused
from mapping.store import DirectoryStore
from tests.support.central.samples import capture
from tests.support.rows import BORN, Office, half_hour, meter, old

FAR = datetime.fromisoformat(BORN)


def stay(point: int, first: int | None, last: int | None) -> InstallationSpan:
    """A meter's stay at a usage point between the ends of two half hours (None: from the beginning, until now)."""
    since = FAR if first is None else half_hour(first)
    return InstallationSpan(f"UP-{point}", Role.CONSUMER, since, None if last is None else half_hour(last))


def of_each(office: Office, consumers: int) -> dict[int, list[tuple[int, int]]]:
    """Give (half hour, consumer whose meter it is) of what stands under each account."""
    serials = {meter(i): i for i in range(1, 10)}
    return {
        one: [(slot, serials[of]) for slot, of, role in office.slots(old(one)) if role == "normal"]
        for one in range(1, consumers + 1)
    }


def total(office: Office, consumers: int) -> Decimal:
    """Sum the energy of the half hours of all accounts, in Wh."""
    return sum(
        (
            Decimal(value)
            for one in range(1, consumers + 1)
            for row in office.readings(old(one))
            if row["profile"] == "block_load"
            for value in row["values"].values()
        ),
        Decimal(0),
    )


def stored(office: Office, of: str) -> list[tuple[object, ...]]:
    """Give what the ledger holds of a meter, without whose it is."""
    with office.ledger() as ledger:
        return [(c.capture_id, c.value_rev, c.message.values) for c in ledger.captures.between(of)]


def test_row_34_crossed_meters_are_corrected_by_date_and_net_zero(office: Office) -> None:
    office.live(2)
    for one in (1, 2):
        office.half_hours(meter(one), 1, 6, wh=100 * one)
    readings, energy = [stored(office, meter(one)) for one in (1, 2)], total(office, 2)
    crossed = ("directory", "cross-meters", meter(1), meter(2), "--from", half_hour(3).isoformat())
    assert len(office.give(*crossed, "--dry-run")["changes"]) == 2
    assert office.version == 1
    office.give(*crossed)
    assert of_each(office, 2) == {
        1: [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)],
        2: [(1, 2), (2, 2), (3, 2), (4, 1), (5, 1), (6, 1)],
    }
    assert total(office, 2) == energy
    assert [stored(office, meter(one)) for one in (1, 2)] == readings
    with DirectoryStore(office.files.directory) as store:
        spans, names = store.differences(1, 2)
    # Each is told of in a message of its own, which names the old and the new account of one meter.
    assert [(s.meter, s.start, s.end) for s in spans] == [(meter(i), half_hour(3), None) for i in (1, 2)]
    assert names == []


def test_row_35_meters_that_were_crossed_for_a_while_have_three_stretches(office: Office) -> None:
    office.live(2)
    for one in (1, 2):
        office.half_hours(meter(one), 1, 6)
    while_crossed = ("--from", half_hour(2).isoformat(), "--until", half_hour(4).isoformat())
    office.give("directory", "cross-meters", meter(1), meter(2), *while_crossed)
    assert of_each(office, 2)[1] == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 1), (6, 1)]
    with DirectoryStore(office.files.directory) as store:
        spans, _ = store.differences(1, 2)
    assert {(s.start, s.end) for s in spans} == {(half_hour(2), half_hour(4))}


@pytest.mark.parametrize("length", [3, 5])
def test_row_36_a_rotation_is_corrected_as_a_whole_or_not_at_all(office: Office, length: int) -> None:
    office.live(length)
    for one in range(1, length + 1):
        office.half_hours(meter(one), 1, 4)
    rotation = [
        CorrectInstallations(meter(i), (stay(i, None, 2), stay(i % length + 1, 2, None)))
        for i in range(1, length + 1)
    ]
    with (
        DirectoryStore(office.files.directory) as store,
        pytest.raises(ChangeRefused),
    ):
        store.apply(rotation[:-1], by="desk", source="desk", at=half_hour(10))
    assert office.version == 1
    meters = [meter(i) for i in range(1, length + 1)]
    office.give("directory", "cross-meters", *meters, "--from", half_hour(2).isoformat())
    assert office.version == 2
    assert of_each(office, length) == {
        i: [(1, i), (2, i), (3, (i - 2) % length + 1), (4, (i - 2) % length + 1)]
        for i in range(1, length + 1)
    }
    office.give("directory", "undo", 2)
    assert of_each(office, length)[1] == [(slot, 1) for slot in (1, 2, 3, 4)]


def test_row_37_the_use_of_two_meters_of_a_month_is_summed(office: Office) -> None:
    """The maximum demand and the fixed charge of two meters are billing's; it gets both stretches."""
    office.live(1)
    office.give("directory", "remove", meter(1), "--at", half_hour(3).isoformat())
    office.change(Install(meter(2), "UP-1", Role.CONSUMER, half_hour(3)))
    office.half_hours(meter(1), 1, 3, wh=100)
    office.half_hours(meter(2), 4, 6, wh=1000)
    assert office.slots(old(1)) == [(i, meter(1 if i < 4 else 2), "normal") for i in range(1, 7)]
    with office.views(half_hour(6)) as views:
        account = views.find_account(old(1))
        assert account is not None
        assert views.consumer(account).today.kwh == Decimal("3.3")


def test_row_38_a_missing_final_reading_is_missing_and_never_zero(office: Office) -> None:
    office.live(1)
    office.register(meter(1), 0, "8412000")
    office.register(meter(1), 20, None, missing="no_display")
    (row,) = (r for r in office.readings(old(1)) if datetime.fromisoformat(r["at"]) == half_hour(20))
    assert list(row["values"].values()) == ["missing: no_display"]
    with office.views(half_hour(20)) as views:
        account = views.find_account(old(1))
        assert account is not None
        today = views.consumer(account).today
    assert (today.kwh, today.complete) == (None, False)


def test_row_39_a_final_reading_below_the_last_stays_as_read_and_makes_no_negative_use(
    office: Office,
) -> None:
    office.live(1)
    office.register(meter(1), 0, "8412000")
    office.register(meter(1), 20, "8120000")
    values = [list(row["values"].values()) for row in office.readings(old(1))]
    assert values == [["8412000"], ["8120000"]]
    with office.views(half_hour(20)) as views:
        account = views.find_account(old(1))
        assert account is not None
        assert views.consumer(account).today.kwh is None


@pytest.mark.parametrize("opening", ["3200", "99998000"])
def test_row_40_use_of_a_new_meter_begins_at_its_opening_reading(office: Office, opening: str) -> None:
    office.live(1)
    office.give("directory", "remove", meter(1), "--at", half_hour(4).isoformat())
    office.change(Install(meter(2), "UP-1", Role.CONSUMER, half_hour(4)))
    office.register(meter(1), 0, "8412000")
    office.register(meter(1), 4, "8450000")
    office.register(meter(2), 4, opening)
    office.register(meter(2), 8, str(int(opening) + 61_000))
    roles = [(r["meter"], r["role"]) for r in office.readings(old(1))]
    assert roles == [(meter(1), "normal"), (meter(1), "final"), (meter(2), "opening"), (meter(2), "normal")]
    with office.views(half_hour(8)) as views:
        account = views.find_account(old(1))
        assert account is not None
        assert views.consumer(account).today.kwh == Decimal(38 + 61)


def test_row_41_a_register_that_began_again_makes_neither_negative_nor_invented_use(office: Office) -> None:
    """How many digits a register has is declared nowhere: the half hours tell the use across it."""
    office.live(1)
    office.register(meter(1), 0, "99999900")
    office.register(meter(1), 4, "300")
    with office.views(half_hour(4)) as views:
        account = views.find_account(old(1))
        assert account is not None
        assert views.consumer(account).today.kwh is None
    office.half_hours(meter(1), 1, 4)
    with office.views(half_hour(4)) as views:
        assert views.consumer(account).today.kwh == Decimal("0.4")


def test_row_42_what_a_meter_sends_after_it_was_replaced_is_kept_and_nobodys(office: Office) -> None:
    office.live(1)
    office.give("directory", "remove", meter(1), "--at", half_hour(2).isoformat())
    office.half_hours(meter(1), 1, 5)
    assert [slot for slot, _, _ in office.slots(old(1))] == [1, 2]
    assert len(stored(office, meter(1))) == 5
    found = office.give("explain", f"{meter(1)}/block_load/{half_hour(4):%Y-%m-%dT%H:%M:%SZ}/0")
    assert found["deliveries"][0]["accounts"] == []


def test_row_43_a_refurbished_meter_shows_its_second_owner_nothing_of_the_first(office: Office) -> None:
    office.live(2)
    office.give("directory", "remove", meter(2), "--at", half_hour(1).isoformat())
    office.change(
        Remove(meter(1), half_hour(2)),
        Install(meter(1), "STORE", Role.STOCK, half_hour(2)),
        Install(meter(1), "UP-2", Role.CONSUMER, half_hour(5)),
    )
    office.half_hours(meter(1), 1, 8)
    for slot, wh in ((0, "1000"), (2, "1200"), (5, "1200"), (8, "1500")):
        office.register(meter(1), slot, wh)
    assert office.slots(old(1)) == [(1, meter(1), "normal"), (2, meter(1), "normal")]
    assert office.slots(old(2)) == [(slot, meter(1), "normal") for slot in (6, 7, 8)]
    registers = [
        (row["role"], next(iter(row["values"].values())))
        for row in office.readings(old(2))
        if row["profile"] == "instantaneous"
    ]
    assert registers == [("opening", "1200"), ("normal", "1500")]


def test_row_44_a_serial_that_two_devices_have_is_believed_from_one_and_kept_apart_from_the_other(
    office: Office,
) -> None:
    office.live(1)
    office.half_hours(meter(1), 1, 3, wh=100, gateway="edge-1")
    office.half_hours(meter(1), 1, 3, wh=999, gateway="edge-2")
    assert [r["values"] for r in office.readings(old(1))] == [{"interval_energy_import": "100"}] * 3
    (group,) = office.give("quarantine", "show")
    assert (group["gateway"], group["meter"], group["reason"]) == ("edge-2", meter(1), "not_allocated")


def test_row_46_a_meter_that_is_replaced_twice_in_a_day_has_three_links_in_the_order_of_events(
    office: Office,
) -> None:
    office.live(1)
    office.change(
        Remove(meter(1), half_hour(2)),
        Install(meter(2), "UP-1", Role.CONSUMER, half_hour(2)),
        Remove(meter(2), half_hour(4)),
        Install(meter(3), "UP-1", Role.CONSUMER, half_hour(4)),
        at=half_hour(10),
    )
    for one in (1, 2, 3):
        office.half_hours(meter(one), 1, 6)
    assert office.slots(old(1)) == [(i, meter((i + 1) // 2), "normal") for i in range(1, 7)]


def test_row_46_a_meter_that_was_fitted_and_removed_at_one_instant_stays_recorded(office: Office) -> None:
    office.live(1)
    at = half_hour(2)
    for old_meter, new_meter in ((1, 2), (2, 3)):
        office.give("directory", "replace", meter(old_meter), meter(new_meter), "--at", at.isoformat())
    (row,) = office.give("directory", "show", meter(2))
    assert row["usage_point"] == "UP-1"
    for one in (1, 2, 3):
        office.half_hours(meter(one), 1, 4)
    assert office.slots(old(1)) == [(i, meter(1 if i < 3 else 3), "normal") for i in (1, 2, 3, 4)]


def test_row_48_a_meter_that_nobody_registered_is_kept_listed_and_gets_its_account_later(
    office: Office,
) -> None:
    office.live(1)
    office.half_hours(meter(2), 1, 3)
    assert office.reasons() == {meter(2): "no_account"}
    office.bring(f"{meter(2)},UP-2,consumer,{old(2)},,2025-01-01T00:00:00+05:30")
    assert office.slots(old(2)) == [(i, meter(2), "normal") for i in (1, 2, 3)]


def test_row_49_a_declared_multiplier_is_kept_by_whatever_meter_stands_there(office: Office) -> None:
    office.live(1)
    office.give("directory", "multiplier", meter(1), "10", "--at", BORN)
    office.give("directory", "replace", meter(1), meter(2), "--at", half_hour(2).isoformat())
    office.half_hours(meter(1), 1, 2, wh=100)
    office.half_hours(meter(2), 3, 4, wh=200)
    with office.views(half_hour(4)) as views:
        account = views.find_account(old(1))
        assert account is not None
        assert views.consumer(account).today.kwh == Decimal(6)
    assert "0" in office.refused("directory", "multiplier", meter(2), "0", "--at", BORN)


def test_row_50_a_check_meter_beside_the_consumer_s_counts_for_nobody(office: Office) -> None:
    office.live(1)
    office.bring(f"{meter(2)},UP-1,check,,,2025-01-01T00:00:00+05:30")
    for one in (1, 2):
        office.half_hours(meter(one), 1, 3, wh=100 * one)
    assert {of for _, of, _ in office.slots(old(1))} == {meter(1)}
    assert office.reasons("--all")[meter(2)] == "not_a_consumer"


def test_row_51_every_meter_has_a_role_and_a_transformer_s_counts_for_nobody(office: Office) -> None:
    office.live(1)
    seen = office.bring(f"{meter(2)},UP-7,,,,2025-01-01T00:00:00+05:30", code=1)
    assert [(row["verdict"], row["code"]) for row in seen["rows"]] == [("rejected", "ROLE")]
    office.bring(f"{meter(2)},DT-7,transformer,,,2025-01-01T00:00:00+05:30")
    office.half_hours(meter(2), 1, 2, wh=10_000)
    assert office.reasons("--all") == {meter(2): "not_a_consumer"}
    # Uploaded as a consumer's at a usage point that has one, it is refused.
    seen = office.bring(f"{meter(3)},UP-1,consumer,{old(3)},,2025-01-01T00:00:00+05:30", code=1)
    assert seen["rows"][0]["verdict"] in ("conflict", "rejected")


def test_row_52_exported_energy_is_a_quantity_of_its_own_and_never_subtracted(office: Office) -> None:
    office.live(1)
    exported = CaptureValue(q="1-0:2.29.0*255", name="interval_energy_export", unit="Wh", value="700")
    one = capture(1, meter=meter(1), at=half_hour(1), value="100")
    office.deliver([one.model_copy(update={"values": (*one.values, exported)})])
    (row,) = office.readings(old(1))
    assert row["values"] == {"interval_energy_import": "100", "interval_energy_export": "700"}
    with office.views(half_hour(1)) as views:
        account = views.find_account(old(1))
        assert account is not None
        assert views.consumer(account).today.kwh == Decimal("0.1")


def test_row_53_a_payment_mode_that_changes_is_dated_and_cuts_no_reading(office: Office) -> None:
    office.live(1)
    office.half_hours(meter(1), 1, 6)
    at = (half_hour(3) + timedelta(minutes=10)).isoformat()
    words = ("--legacy-number", old(1), "--at", at, "--payment")
    office.give("directory", "move-in", "UP-1", *words, "prepaid")
    assert office.slots(old(1)) == [(i, meter(1), "normal") for i in range(1, 7)]
    holdings = [
        r
        for r in office.give("explain", meter(1))["relations"]
        if r["relation"] == "holding" and not r["known_to"]
    ]
    assert [r["detail"] for r in holdings] == ["", "prepaid"]
    ends = [(r["valid_from"], r["valid_to"]) for r in holdings]
    assert all(before[1] == after[0] for before, after in pairwise(ends))
    with DirectoryStore(office.files.directory) as store:
        assert store.snapshot().holdings("UP-1")[-1].payment_mode is PaymentMode.PREPAID


def test_row_47_what_was_bound_and_never_fitted_is_shown_with_its_age_and_undone(office: Office) -> None:
    office.live(1)
    office.half_hours(meter(1), 1, 2)
    office.give("directory", "install", meter(3), "UP-3", "--at", half_hour(1).isoformat(), "--by", "ravi")
    (bound,) = office.give("directory", "list", "--without", "proof")
    assert (bound["state"], bound["meter"], bound["by"]) == ("INSTALLED_NOT_PROVEN", meter(3), "ravi")
    assert bound["overdue"]
    office.give(*bound["undo"].split())
    assert office.give("directory", "list", "--without", "proof") == []


def test_row_49_a_declared_multiplier_stays_with_its_place_and_another_is_refused(office: Office) -> None:
    office.live(1)
    office.give("directory", "multiplier", meter(1), "10", "--at", half_hour(1).isoformat())
    head = "old_meter,new_meter,at,final,opening,multiplier"
    words = (meter(1), meter(9), half_hour(4).isoformat(), "12", "0")
    file = office.put("swaps.csv", ",".join((*words, "1")), head=head)
    refused = office.give("directory", "swap", "plan", file, code=1)
    assert [row["code"] for row in refused["rows"]] == ["MULTIPLIER_DIFFERS"]
    office.give("directory", "replace", meter(1), meter(9), "--at", half_hour(4).isoformat())
    with DirectoryStore(office.files.directory) as store:
        assert [row.multiplier for row in store.snapshot().installations(meter(9))] == [Decimal(10)]
