"""What a change of the directory does to energy, by the ledger's captures: every kind, and 0.000 in all."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.central.ledger.ledger import Ledger
from gateway.central.moved_energy import Balance, TouchedSpan, touched_spans
from gateway.contract.messages import CaptureValue
from mapping.changes import (
    Change,
    CrossMeters,
    HoldingSpan,
    Install,
    MoveIn,
    MoveOut,
    Name,
    Replace,
    SetAttributes,
    SetMultiplier,
    SetPaymentMode,
)
from mapping.corrections import chosen_holdings, moved_date
from mapping.directory import AttributeKind, NumberKind, PaymentMode, Role
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore
from tests.support.central.samples import HALF_HOUR, T0, batch, capture, received, snapshot

DAY = timedelta(days=1)
SLOTS = 48
NOW = T0 + DAY
BY: dict[str, Any] = {"by": "clerk", "source": "test"}


def at(slot: int) -> datetime:
    return T0 + slot * HALF_HOUR


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A day of half hours: GEN:1 counts 100 Wh in each, GEN:2 a kilowatt hour; GEN:3 has a register only."""
    made = Ledger(tmp_path / "ledger.db")
    captures = [
        capture(2 * n + which, meter=meter, number=n, value=value)
        for n in range(1, SLOTS + 1)
        for which, (meter, value) in enumerate((("GEN:1", "100"), ("GEN:2", "1000")))
    ]
    register = [
        CaptureValue(q="1-0:1.8.0*255", name="energy_import", unit="kWh", value=value)
        for value in ("10.5", "18.0")
    ]
    captures += [
        snapshot(200 + n, meter="GEN:3", at=T0 + n * DAY, values=(value,)) for n, value in enumerate(register)
    ]
    made.ingest([received(batch(captures))])
    yield made
    made.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DirectoryStore]:
    with DirectoryStore(tmp_path / "directory.db") as made:
        changes: list[Change] = [
            *(Install(f"GEN:{n}", f"UP{n}", Role.CONSUMER, T0 - DAY) for n in (1, 2, 3)),
            *(MoveIn(f"UP{n}", f"acc-{n}", T0 - DAY) for n in (1, 2, 3)),
            SetMultiplier("GEN:2", Decimal(10), T0 - DAY),
        ]
        made.apply(changes, **BY, at=T0 - DAY)
        yield made


def seen(
    store: DirectoryStore, ledger: Ledger | None, *changes: Change, energy_of: int = 10
) -> tuple[list[TouchedSpan], Balance]:
    after: DirectorySnapshot = store.preview(changes, **BY, at=NOW)
    spans = list(touched_spans(after, 1, after.version, ledger, now=NOW, energy_of=energy_of))
    balance = Balance({})
    for span in spans:
        balance.add(span)
    return spans, balance


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        ([MoveOut("UP1", at(24)), MoveIn("UP1", "acc-9", at(24))], {"acc-1": "-2.4", "acc-9": "2.4"}),
        ([MoveOut("UP1", at(40))], {"acc-1": "-0.8", "not_a_consumer": "0.8"}),
        ([Replace("GEN:1", "GEN:9", at(24))], {"acc-1": "-2.4", "no_account": "2.4"}),
        ([CrossMeters(("GEN:1", "GEN:2"), at(10), at(20))], None),
        ([MoveOut("UP3", T0), MoveIn("UP3", "acc-9", T0)], {"acc-3": "-7.5", "acc-9": "7.5"}),
        ([SetPaymentMode("UP1", PaymentMode.PREPAID, at(24))], {"acc-1": "0.0"}),
        ([Name("acc-1", NumberKind.ACCOUNT, "0000000001")], {}),
        ([SetAttributes("UP1", {AttributeKind.FEEDER: "F7"}, T0)], {}),
    ],
)  # fmt: skip
def test_moves_are_net_zero(
    store: DirectoryStore, ledger: Ledger, changes: list[Change], moved: dict[str, str] | None
) -> None:
    _, balance = seen(store, ledger, *changes)
    assert balance.net == 0
    if moved is not None:
        assert balance.by_account == {who: Decimal(kwh) for who, kwh in moved.items()}
        assert balance.by_multiplier == 0


def test_crossed_meters_count_by_the_multiplier_of_the_place(store: DirectoryStore, ledger: Ledger) -> None:
    """Ten half hours: what GEN:1 counted is ten times as much at UP2, what GEN:2 counted a tenth at UP1."""
    spans, balance = seen(store, ledger, CrossMeters(("GEN:1", "GEN:2"), at(10), at(20)))
    assert [(s.meter, s.start, s.end, s.lost, s.gained) for s in spans] == [
        ("GEN:1", at(10), at(20), Decimal(1), Decimal(10)),
        ("GEN:2", at(10), at(20), Decimal(100), Decimal(10)),
    ]
    assert (balance.net, balance.by_multiplier) == (Decimal(0), Decimal(-81))


def test_a_multiplier_makes_more_of_the_same_energy(store: DirectoryStore, ledger: Ledger) -> None:
    [span], balance = seen(store, ledger, SetMultiplier("GEN:1", Decimal(10), at(0)))
    assert (span.metered, span.lost, span.gained) == (Decimal("4.8"), Decimal("4.8"), Decimal(48))
    assert (balance.net, balance.by_multiplier) == (Decimal(0), Decimal("43.2"))


def test_a_half_hour_that_straddles_is_in_neither_sum(store: DirectoryStore, ledger: Ledger) -> None:
    between = at(24) + HALF_HOUR / 2
    [span], _ = seen(store, ledger, MoveOut("UP1", between))
    assert (span.metered, span.missing) == (Decimal("2.3"), HALF_HOUR / 2)


def test_corrections_by_dates_and_periods(store: DirectoryStore, ledger: Ledger) -> None:
    now = store.snapshot()
    periods = chosen_holdings(now, "UP1", [HoldingSpan("acc-2", at(4), at(8))])
    _, balance = seen(store, ledger, *periods)
    assert balance.by_account == {"acc-1": Decimal("-0.4"), "acc-2": Decimal("0.4")}
    dates = moved_date(now, "UP1", was=T0 - DAY, now=at(10))
    _, balance = seen(store, ledger, *dates)
    assert balance.by_account == {"acc-1": Decimal(-1), "no_account": Decimal(1)}


def test_what_is_not_summed_is_counted(store: DirectoryStore, ledger: Ledger) -> None:
    changes = [MoveOut(f"UP{n}", at(24)) for n in (1, 2)]
    for of, beside in ((1, ledger), (0, ledger), (9, None)):
        _, balance = seen(store, beside, *changes, energy_of=of)
        assert balance.unknown == (1 if of == 1 else 2)
