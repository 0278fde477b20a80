"""Read models over a real ledger and directory: own captures only, missing stays missing, exact sums."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.central.portal.overview import METERS_ON_A_PAGE
from gateway.central.portal.usage import (
    IntervalEnergy,
    RegisterReading,
    days_left,
    interval_use,
    register_use,
    spending,
)
from gateway.central.portal.view_models import BalanceSource, Freshness, IssueKind, MeterChoice, Supply
from gateway.contract.messages import Balance, Gap, MeterStatus, Status
from gateway.errors import UsageError
from mapping.changes import Install, MoveIn, Name, Remove
from mapping.directory import NumberKind, Role
from tests.support.central.samples import tell_status
from tests.support.statements import statements_sent
from tests.support.web.seed import (
    HALF,
    LEGACY,
    MOVE,
    NOW,
    NUMBERS,
    OLD_DAYS,
    Town,
    block,
    live,
    load_wh,
    move_in,
    wallet,
)

MIDNIGHT = datetime(2026, 11, 22, 18, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def kwh_of(start: datetime, end: datetime) -> Decimal:
    count = (end - start) // HALF
    return sum((Decimal(load_wh(start + HALF * (i + 1))) for i in range(count)), Decimal(0)) / 1000


def test_use_is_the_exact_sum_of_the_half_hours(seeded: Town) -> None:
    view = seeded.views.consumer("acc-birju")
    assert view.today.kwh == kwh_of(MIDNIGHT, NOW)
    assert [d.kwh for d in view.days] == [
        kwh_of(MIDNIGHT - DAY * n, MIDNIGHT - DAY * (n - 1)) for n in range(7, 0, -1)
    ]
    assert all(d.complete for d in view.days)
    assert len(view.today_slots) == 29
    assert view.today_slots[0].kwh == Decimal(load_wh(MIDNIGHT + HALF)) / 1000


def test_a_day_without_data_is_not_zero(seeded: Town) -> None:
    view = seeded.views.consumer("acc-asha")
    assert [d.kwh is None for d in view.days] == [False, False, False, True, False, False, False]
    assert view.days[3].missing == DAY
    assert view.today.missing == timedelta(hours=2)
    assert sum(1 for slot in view.today_slots if slot.kwh is None) == 4


def test_modbus_use_is_the_difference_of_registers(seeded: Town) -> None:
    view = seeded.views.consumer("acc-devi")
    assert view.balance is None
    assert view.supply is Supply.UNKNOWN
    assert view.supply_as_of is None
    quarters = [MIDNIGHT - DAY + timedelta(minutes=15) * (i + 1) for i in range(96)]
    assert view.days[-1].kwh == sum(Decimal(load_wh(at) // 2) for at in quarters) / 1000
    assert view.days[-1].complete


def test_new_tenant_sees_nothing_from_before_the_move(seeded: Town) -> None:
    move_in(seeded.directory)
    seeded.writer.write(
        block("GEN:10000002", MOVE + timedelta(minutes=10), 999).model_copy(
            update={"start": MOVE - timedelta(minutes=20)}
        )
    )
    new, old = seeded.views.consumer("acc-farha"), seeded.views.consumer("acc-birju")
    assert [d.kwh is None for d in new.days] == [True] * 5 + [False] * 2
    assert new.days[5].kwh == kwh_of(MOVE, MOVE + DAY)
    assert new.today.kwh == kwh_of(MIDNIGHT, NOW)
    assert new.balance is not None
    assert [d.kwh is None for d in old.days] == [False] * 5 + [True] * 2
    assert old.balance is None
    assert old.supply is Supply.UNKNOWN
    assert old.today.kwh is None
    assert old.last_reading is not None
    assert old.last_reading <= MOVE


def test_replaced_meter_gives_one_history(seeded: Town) -> None:
    at = MIDNIGHT - DAY / 2
    seeded.directory.apply(
        [Remove("GEN:10000002", at), Install("GEN:10000077", "UP-birju", Role.CONSUMER, at)],
        by="test", source="swap", at=NOW,
    )  # fmt: skip
    seeded.writer.write(*[block("GEN:10000077", at + HALF * (i + 1), 100) for i in range(24)])
    view = seeded.views.consumer("acc-birju")
    assert view.days[-1].kwh == kwh_of(MIDNIGHT - DAY, at) + Decimal("2.4")
    assert view.days[-1].complete
    assert view.meter_serial == "10000077"


def test_external_multiplier_counts(seeded: Town) -> None:
    seeded.directory.apply(
        [
            Install("GEN:10000055", "UP-mill", Role.CONSUMER, OLD_DAYS, Decimal(10)),
            MoveIn("UP-mill", "acc-mill", OLD_DAYS),
            Name("acc-mill", NumberKind.LEGACY, "KE77"),
        ],
        by="test", source="mill", at=NOW,
    )  # fmt: skip
    seeded.writer.write(block("GEN:10000055", NOW, 1500))
    assert seeded.views.consumer("acc-mill").today_slots[-1].kwh == Decimal(15)


def test_values_that_are_not_believed_are_shown_nowhere(seeded: Town) -> None:
    at = NOW - timedelta(minutes=1)
    before = seeded.views.consumer("acc-devi")
    balance = seeded.views.consumer("acc-asha").balance
    zero, lost = live("ELM:10000004", at, 0), wallet("GEN:10000001", at, "0.00")
    seeded.writer.write(*[one.model_copy(update={"quality": "2.5.258"}) for one in (zero, lost)])
    after = seeded.views.consumer("acc-devi")
    assert (after.days, after.today.kwh, after.today_slots) == (
        before.days,
        before.today.kwh,
        before.today_slots,
    )
    assert seeded.views.consumer("acc-asha").balance == balance
    shown = seeded.views.overview(MeterChoice(find="ELM:10000004"))
    assert shown.meters[0].energy_kwh is not None
    assert shown.meters[0].energy_kwh > 0


def test_untrusted_captures_are_nobodys(seeded: Town) -> None:
    at = NOW - timedelta(minutes=1)
    for reason in ("untrusted_time", "identity_mismatch"):
        bad = wallet("GEN:10000001", at, "99999.00").model_copy(update={"reason": reason})
        seeded.writer.write(bad.model_copy(update={"capture_id": reason}))
    balance = seeded.views.consumer("acc-asha").balance
    assert balance is not None
    assert balance.rupees == Decimal("186.00")


def test_billing_balance_governs_and_the_meters_copy_stands_beside(seeded: Town) -> None:
    told = Balance(account_id="acc-asha", amount="150.25", at=NOW - timedelta(minutes=2), source="billing")
    seeded.ledger.balances.put("acc-asha", told.at, told.model_dump_json(), NOW)
    view = seeded.views.consumer("acc-asha")
    assert view.balance is not None
    assert view.other_balance is not None
    assert (view.balance.rupees, view.balance.source) == (Decimal("150.25"), BalanceSource.BILLING)
    assert (view.other_balance.rupees, view.other_balance.source) == (Decimal("186.00"), BalanceSource.METER)


@pytest.mark.parametrize(
    ("hours", "freshness", "predicts"),
    [(0, Freshness.FRESH, True), (25, Freshness.OLD, None), (49, Freshness.STALE, False)],
)
def test_freshness(seeded: Town, hours: int, freshness: Freshness, predicts: bool | None) -> None:
    seeded.clock.advance(timedelta(hours=hours))
    view = seeded.views.consumer("acc-asha")
    assert view.freshness is freshness
    if predicts is not None:
        assert (view.days_left is not None) is predicts
    assert (view.supply is Supply.UNKNOWN) is (hours > 2)
    assert view.supply_seen is Supply.ON


def test_unknown_account_is_refused(seeded: Town) -> None:
    with pytest.raises(UsageError):
        seeded.views.consumer("acc-nobody")


def test_find_account_never_guesses(seeded: Town) -> None:
    find = seeded.views.find_account
    assert find(NUMBERS["asha"]) == find(LEGACY["asha"]) == find("ke0012345") == "acc-asha"
    assert find("acc-asha") is None
    assert find("0000000000") is None
    assert find("\u202e; DROP TABLE") is None
    seeded.directory.apply(
        [
            Install("GEN:10000056", "UP-gita", Role.CONSUMER, OLD_DAYS),
            MoveIn("UP-gita", "acc-gita", OLD_DAYS),
            Name("acc-gita", NumberKind.LEGACY, NUMBERS["asha"]),
        ],
        by="test", source="same digits", at=NOW,
    )  # fmt: skip
    assert find(NUMBERS["asha"]) is None
    assert find(NUMBERS["asha"], NumberKind.ACCOUNT) == "acc-asha"
    assert find(NUMBERS["asha"], NumberKind.LEGACY) == "acc-gita"


def test_overview_without_noise(seeded: Town) -> None:
    seen = seeded.views.overview()
    assert not [i for i in seen.issues if {"GEN:10000099", "FDR:90000001"} & {*i.meters}]
    assert [i.severity for i in seen.issues] == sorted(
        (i.severity for i in seen.issues), key=["critical", "warning", "notice"].index
    )
    lines = {(line.gateway, line.line): line.up for line in seen.lines}
    assert lines[("edge-1", "tcp-dlms")] is True
    assert lines[("edge-1", "rs485-b")] is False
    assert lines[("edge-2", "tcp-dlms")] is None


# --- pure rules -------------------------------------------------------------------------------------


def test_days_left_is_a_range() -> None:
    spent = [Decimal(s) for s in (50, 62, 74, 62, 62)]
    left = days_left(Decimal(186), spent)
    assert left is not None
    assert (left.low, left.about, left.high) == (2, 3, 4)
    assert days_left(Decimal(186), spent[:2]) is None
    assert days_left(Decimal(-5), spent) is None
    assert days_left(Decimal(5), [Decimal(0)] * 5) is None


def test_recharges_are_not_spending() -> None:
    midnights = [MIDNIGHT + DAY * i for i in range(3)]
    known = [
        (midnights[0], Decimal(100)),
        (midnights[0] + DAY / 2, Decimal(70)),
        (midnights[0] + DAY / 2 + HALF, Decimal(570)),
        (midnights[1], Decimal(540)),
    ]
    assert spending(known, midnights) == [Decimal(60)]


def test_register_that_fell_gives_nothing() -> None:
    rows = [
        RegisterReading(meter="A", at=MIDNIGHT + HALF * i, kwh=Decimal(k))
        for i, k in enumerate((99998, 99999, 1, 2))
    ]
    use = register_use(rows, MIDNIGHT, MIDNIGHT + HALF * 3)
    assert use.kwh is None
    assert use.missing == HALF * 3


def test_registers_read_a_little_after_the_boundary_serve() -> None:
    """A poller asks some seconds after the half-hour; what one slot takes the next does not take again."""
    late = timedelta(seconds=37)
    rows = [
        RegisterReading(meter="A", at=MIDNIGHT + HALF / 2 * i + late, kwh=Decimal(i) / 10)
        for i in range(-1, 9)
    ]
    slots = [
        register_use(rows, MIDNIGHT + HALF * i, MIDNIGHT + HALF * (i + 1), reach=timedelta(minutes=5))
        for i in range(4)
    ]
    assert [(slot.kwh, slot.missing) for slot in slots] == [(Decimal("0.2"), timedelta(0))] * 4
    assert register_use(rows, MIDNIGHT, MIDNIGHT + HALF * 4).kwh == Decimal("0.8")


def test_register_far_from_the_boundary_is_partial() -> None:
    rows = [RegisterReading(meter="A", at=MIDNIGHT + timedelta(hours=h), kwh=Decimal(h)) for h in (6, 12, 24)]
    use = register_use(rows, MIDNIGHT, MIDNIGHT + DAY)
    assert use.kwh == 18
    assert use.missing == timedelta(hours=6)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 47), st.integers(0, 5000)), max_size=60, unique_by=lambda x: x[0]))
def test_interval_use_against_the_plain_sum(rows: list[tuple[int, int]]) -> None:
    intervals = [
        IntervalEnergy(
            meter="A", start=MIDNIGHT + HALF * i, end=MIDNIGHT + HALF * (i + 1), kwh=Decimal(wh) / 1000
        )
        for i, wh in rows
    ]
    use = interval_use(intervals, MIDNIGHT, MIDNIGHT + DAY)
    assert use.kwh == (sum((Decimal(wh) for _, wh in rows), Decimal(0)) / 1000 if rows else None)
    assert use.missing == HALF * (48 - len(rows))
    halves = [interval_use(intervals, MIDNIGHT + DAY / 2 * i, MIDNIGHT + DAY / 2 * (i + 1)) for i in (0, 1)]
    assert sum((h.kwh or 0 for h in halves), Decimal(0)) == (use.kwh or 0)


def test_live_reading_right_after_midnight(seeded: Town) -> None:
    seeded.clock.advance(MIDNIGHT + DAY - NOW)
    view = seeded.views.consumer("acc-devi")
    assert view.today_slots == ()
    seeded.writer.write(live("ELM:10000004", MIDNIGHT + DAY, 5_000_000))
    assert seeded.views.consumer("acc-devi").freshness is Freshness.FRESH


def test_gaps_of_one_cause_are_one_line(seeded: Town) -> None:
    gaps = [
        Gap(
            gap_id=f"many-{i}", meter=f"GEN:3000000{i % 6}", profile="daily", after=NOW - DAY * i, until=NOW,
            state="open", reason="line_down", noticed_at=NOW,
        )
        for i in range(1, 13)
    ]  # fmt: skip
    seeded.writer.write(gaps=tuple(gaps))
    found = [i for i in seeded.views.overview().issues if i.kind is IssueKind.GAP_OPEN]
    (only,) = [i for i in found if i.detail == "daily: line_down"]
    assert (only.count, only.touched, only.since) == (12, 6, NOW - DAY * 12)
    assert only.where == "GEN:30000000, GEN:30000001, GEN:30000002, GEN:30000003 +2"


def test_what_the_edge_says_of_a_meter_counts_at_once(seeded: Town) -> None:
    told = {
        "GEN:10000001": ("meter_silent", "dead_meter", "warning"),
        "GEN:10000002": ("association_refused", "meter_refuses", "warning"),
        "GEN:10000003": ("meter_silent", "dead_meter", "critical"),
        "ELM:10000004": ("identity_mismatch", "identity_mismatch", "critical"),
        "GEN:10000005": ("readings_suspect", "readings_suspect", "warning"),
        "GEN:10000077": ("line_unavailable", "never_read", "warning"),
    }
    status = Status(
        gateway="edge-3",
        online=True,
        version="1",
        journal="j",
        at=NOW,
    )
    meters = [MeterStatus(meter=m, health=code, detail="why") for m, (code, _, _) in told.items()]
    tell_status(seeded.ledger, status, meters=meters)
    seen = {(meter, i.kind, i.severity) for i in seeded.views.overview().issues for meter in i.meters}
    for meter, (_, kind, severity) in told.items():
        assert (meter, kind, severity) in seen


def test_the_overview_asks_the_ledger_as_often_for_many_meters_as_for_few(seeded: Town) -> None:
    seeded.views.overview()  # central has noted the directory's places
    with statements_sent() as few:
        before = seeded.views.overview()
    seeded.writer.write(*(live(f"GEN:2{n:07}", NOW, 1000 + n) for n in range(200)))
    seeded.views.overview()  # the ledger's numbers of new meters are looked up once, and kept
    with statements_sent() as many:
        after = seeded.views.overview()
    assert after.meters_total == before.meters_total + 200
    assert len(after.meters) == METERS_ON_A_PAGE
    assert len(many) == len(few)
