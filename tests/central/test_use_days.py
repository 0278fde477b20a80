"""Use by account and day, kept as captures and directory change, against a simple sum over the captures in force."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import LASTING_REASONS
from gateway.central.portal import reckoning, values
from gateway.central.portal.account_captures import AccountCaptures
from gateway.central.portal.reckoning import Days, account_days, follow_use, reckon_due
from gateway.central.portal.usage import Use
from gateway.contract.messages import CaptureValue, TimeVerdict
from mapping.changes import Change, Install, MoveIn, MoveOut, Remove, SetMultiplier
from mapping.directory import AttributionRole, Role
from mapping.errors import ChangeRefused
from mapping.store import DirectoryStore
from tests.support.central.ledgers import FreshLedger
from tests.support.central.samples import batch, capture, received, snapshot

HOUR = timedelta(hours=1)
BERLIN = "Europe/Berlin"
BEGIN = datetime(2026, 10, 24, 22, tzinfo=UTC)
"""Midnight in Berlin; the 25th of October has 25 hours there, the 26th 24."""
FIRST = date(2026, 10, 25)
NOW = BEGIN + timedelta(days=40)
METERS = ("GEN:1", "GEN:2")


class Office:
    """A ledger and a directory that change as in the program, without a broker."""

    def __init__(self, where: Path | str, directory: DirectoryStore) -> None:
        self.ledger = Ledger(where)
        self.directory = directory
        self.seq = 0

    def deliver(self, meter: str, hour: int, value: int, *, rev: int = 1, reason: str | None = None) -> None:
        """The energy of an hour, in Wh."""
        self.seq += 1
        at = BEGIN + HOUR * hour
        one = capture(
            self.seq, meter=meter, at=at, start=at - HOUR, value=str(value), value_rev=rev, reason=reason
        )
        self.ledger.ingest([received(batch([one]), NOW)])

    def deliver_register(self, meter: str, hour: int, kwh: int) -> None:
        """What the meter's register shows at an hour."""
        self.seq += 1
        at = BEGIN + HOUR * hour
        one = snapshot(
            self.seq,
            meter=meter,
            at=at,
            profile="instantaneous",
            capture_id=f"{meter}/instantaneous/{at:%Y-%m-%dT%H:%M:%SZ}/0",
            values=(CaptureValue(q="1-0:1.8.0*255", name="energy_import", unit="kWh", value=str(kwh)),),
        )
        self.ledger.ingest([received(batch([one]), NOW)])

    def change(self, *changes: Change) -> None:
        try:
            self.directory.apply(list(changes), by="test", source="t", at=NOW)
        except ChangeRefused:
            return

    def settle(self, zone: str = BERLIN) -> None:
        """What central does until nothing is left to do."""
        snapshot = self.directory.snapshot()
        follow_use(self.ledger, snapshot, zone)
        while reckon_due(self.ledger, snapshot, NOW, zone):
            pass

    def days(self, account: str, number: int = 4, zone: str = BERLIN) -> list[Use]:
        """What the portal shows."""
        days = Days(ZoneInfo(zone))
        wanted = days.between(FIRST, FIRST + timedelta(days=number - 1))
        return account_days(self.ledger, self.directory.snapshot(), days, account, wanted)


def simple(office: Office, account: str, number: int = 4) -> list[tuple[Decimal | None, timedelta]]:
    """Sum of the intervals that lie in a day and are wholly the account's; what hour none covers is missing."""
    found = []
    snapshot = office.directory.snapshot()
    midnights = [
        datetime.combine(FIRST + timedelta(days=n), datetime.min.time(), ZoneInfo(BERLIN)).astimezone(UTC)
        for n in range(number + 1)
    ]
    held = office.ledger.captures.between()
    for start, end in pairwise(midnights):
        total, minutes = None, set[datetime]()
        for one in held:
            if one.start is None or one.start < start or one.at > end or one.reason in LASTING_REASONS:
                continue
            whole = [
                who.account_id
                for who in snapshot.attributions(one.meter, one.start, one.at).accounts
                if who.role is not AttributionRole.PARTIAL
            ]
            if account in whole:
                total = (total or Decimal(0)) + (values.interval_energy(one.message) or 0)
                length = (one.at - one.start) // timedelta(minutes=1)
                minutes |= {one.start + timedelta(minutes=n) for n in range(length)}
        found.append((total, end - start - len(minutes) * timedelta(minutes=1)))
    return found


@contextmanager
def opened(where: Path | str) -> Iterator[Office]:
    with TemporaryDirectory() as folder, DirectoryStore(Path(folder) / "directory.db") as directory:
        office = Office(where, directory)
        yield office
        office.ledger.close()


@pytest.fixture
def office(fresh_ledger: FreshLedger) -> Iterator[Office]:
    with opened(fresh_ledger()) as made:
        yield made


def check(office: Office) -> None:
    for account in ("a", "b"):
        shown = [(one.kwh, one.missing) for one in office.days(account)]
        assert shown == simple(office, account), account


HOURS = st.integers(1, 75)
DELIVERY = st.tuples(
    st.just("deliver"),
    st.sampled_from(METERS),
    HOURS,
    st.integers(0, 999),
    st.integers(1, 2),
    st.sampled_from([None, None, "untrusted_time"]),
)
CHANGE = st.tuples(
    st.just("change"),
    st.sampled_from(["install", "remove", "in", "out"]),
    st.sampled_from(METERS),
    HOURS,
    st.sampled_from(["a", "b"]),
)
VERDICT = st.tuples(
    st.just("say"), st.integers(1, 12), st.sampled_from(METERS), st.none() | st.integers(-30, 30)
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.one_of(DELIVERY, DELIVERY, CHANGE, VERDICT, st.just(("settle",))), max_size=25))
def test_whatever_changes_the_days_are_those_of_a_fresh_sum(
    fresh_ledger: FreshLedger, steps: list[tuple[object, ...]]
) -> None:
    with opened(fresh_ledger()) as office:
        for number, meter in enumerate(METERS):
            office.change(
                Install(meter, f"UP-{number}", Role.CONSUMER, BEGIN), MoveIn(f"UP-{number}", "a", BEGIN)
            )
        for step in steps:
            match step:
                case ("deliver", str(meter), int(hour), int(value), int(rev), reason):
                    assert reason is None or isinstance(reason, str)
                    office.deliver(meter, hour, value, rev=rev, reason=reason)
                case ("change", str(kind), str(meter), int(hour), str(account)):
                    when, point = BEGIN + HOUR * hour + timedelta(minutes=30), f"UP-{METERS.index(meter)}"
                    changes: dict[str, Change] = {
                        "install": Install(meter, point, Role.CONSUMER, when),
                        "remove": Remove(meter, when),
                        "in": MoveIn(point, account, when),
                        "out": MoveOut(point, when),
                    }
                    office.change(changes[kind])
                case ("say", int(seq), str(meter), shift):
                    assert shift is None or isinstance(shift, int)
                    said = TimeVerdict(
                        verdict_id="time/1/m", meter=meter, journal="journal-1", first_seq=seq, last_seq=seq,
                        profile=None, trust="untrusted" if shift is None else "trusted",
                        shift=None if shift is None else str(shift * 3600), evidence="test", version=1, at=NOW,
                    )  # fmt: skip
                    office.ledger.times.give([said])
                case _:
                    office.settle()
                    check(office)
        check(office)
        office.settle()
        check(office)
        assert office.ledger.use.stale(METERS) == {}


def fill(office: Office, hours: int = 60) -> None:
    office.change(Install("GEN:1", "UP-1", Role.CONSUMER, BEGIN), MoveIn("UP-1", "a", BEGIN))
    for hour in range(1, hours + 1):
        office.deliver("GEN:1", hour, 1000 + hour)
    office.settle()


def test_a_day_on_which_clocks_are_set_back_has_25_hours(office: Office) -> None:
    fill(office)
    first, second, third, _ = office.days("a")
    assert (first.kwh, first.missing) == (Decimal(25 * 1000 + sum(range(1, 26))) / 1000, timedelta(0))
    assert first.end - first.start == 25 * HOUR
    assert (second.kwh, second.complete) == (Decimal(24 * 1000 + sum(range(26, 50))) / 1000, True)
    assert (third.kwh, third.missing) == (Decimal(11 * 1000 + sum(range(50, 61))) / 1000, 13 * HOUR)


def test_what_is_kept_is_not_asked_of_the_captures(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(office)
    before = office.days("a")
    asked: list[list[date]] = []
    real = reckoning.reckon

    def counted(*arguments: object) -> object:
        asked.append(list(arguments[-1]))  # type: ignore[call-overload]  # the wanted days
        return real(*arguments)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(reckoning, "reckon", counted)
    assert office.days("a") == before
    assert asked == []
    office.deliver("GEN:1", 30, 7, rev=2)
    assert office.days("a")[1].kwh == (before[1].kwh or 0) - Decimal("1.023")
    assert asked == [[FIRST + timedelta(days=1)]], "the day that was revised alone"


def test_a_back_dated_hand_over_moves_days_from_one_account_to_the_other(office: Office) -> None:
    fill(office)
    moved = BEGIN + 25 * HOUR
    office.change(MoveOut("UP-1", moved), MoveIn("UP-1", "b", moved))
    check(office)
    office.settle()
    check(office)
    assert [one.kwh is None for one in office.days("a")] == [False, True, True, True]
    assert [one.kwh is None for one in office.days("b")] == [True, False, False, True]


def test_a_ledger_of_before_and_another_zone_are_reckoned_anew(office: Office) -> None:
    fill(office)
    before = office.days("a")
    office.settle("Asia/Kolkata")
    assert office.days("a") == before, "asked of the captures, as other days are kept"
    assert office.days("a", zone="Asia/Kolkata")[0].kwh != before[0].kwh
    office.settle()
    assert office.days("a") == before


def test_one_round_reckons_no_more_days_than_it_may(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """What edges are told waits for a round: a long past is gone through in many."""
    monkeypatch.setattr(reckoning, "DAYS_AT_ONCE", 2)
    office.change(Install("GEN:1", "UP-1", Role.CONSUMER, BEGIN), MoveIn("UP-1", "a", BEGIN))
    for hour in (10, 100, 200):
        office.deliver("GEN:1", hour, 1000)
    snapshot = office.directory.snapshot()
    follow_use(office.ledger, snapshot, BERLIN)
    rounds = 0
    while reckon_due(office.ledger, snapshot, NOW, BERLIN):
        rounds += 1
        check(office)
    assert rounds == 5, "nine days"


def test_a_day_is_kept_once_it_is_over(office: Office) -> None:
    office.change(Install("GEN:1", "UP-1", Role.CONSUMER, BEGIN), MoveIn("UP-1", "a", BEGIN))
    for hour in range(1, 30):
        office.deliver("GEN:1", hour, 1000)
    snapshot = office.directory.snapshot()
    follow_use(office.ledger, snapshot, BERLIN)
    during = BEGIN + 30 * HOUR
    while reckon_due(office.ledger, snapshot, during, BERLIN):
        pass
    kept = office.ledger.use.of_account("a", FIRST, FIRST + timedelta(days=9))
    assert [one.day for one in kept] == [FIRST]
    assert office.ledger.use.stale(["GEN:1"])["GEN:1"].since == BEGIN + 25 * HOUR
    check(office)


def test_a_register_of_which_the_multiplier_changes_counts_by_each_what_rose_under_it(office: Office) -> None:
    office.change(
        Install("GEN:1", "UP-1", Role.CONSUMER, BEGIN, multiplier=Decimal(1)), MoveIn("UP-1", "a", BEGIN)
    )
    for hour, kwh in ((0, 100), (6, 103), (12, 105), (18, 106), (25, 109)):
        office.deliver_register("GEN:1", hour, kwh)
    office.change(SetMultiplier("GEN:1", Decimal(10), BEGIN + 12 * HOUR))
    for _ in range(2):
        [day] = office.days("a", 1)
        assert (day.kwh, day.missing) == (Decimal(5 + 40), timedelta(0))
        office.settle()
    during = BEGIN + 25 * HOUR
    today = AccountCaptures(office.ledger, office.directory.snapshot(), "a", BEGIN, BEGIN, during)
    assert today.today(BEGIN, during).kwh == Decimal(5 + 40)
    office.change(SetMultiplier("GEN:1", Decimal(1), BEGIN + 10 * HOUR, BEGIN + 13 * HOUR))
    office.settle()
    [day] = office.days("a", 1)
    assert (day.kwh, day.missing) == (Decimal(3 + 2 + 30), 6 * HOUR), "nobody knows the register at 13:00"


def test_what_another_used_between_two_readings_of_an_account_is_not_its_own(office: Office) -> None:
    office.change(Install("GEN:1", "UP-1", Role.CONSUMER, BEGIN), MoveIn("UP-1", "a", BEGIN))
    for hour, account in ((7, "b"), (11, "a")):
        when = BEGIN + hour * HOUR
        office.change(MoveOut("UP-1", when), MoveIn("UP-1", account, when))
    for hour, kwh in ((0, 100), (6, 103), (12, 203), (25, 209)):
        office.deliver_register("GEN:1", hour, kwh)
    for _ in range(2):
        [day] = office.days("a", 1)
        assert (day.kwh, day.missing) == (Decimal(3 + 6), 6 * HOUR)
        [day] = office.days("b", 1)
        assert day.kwh is None
        office.settle()


def test_a_process_behind_with_the_directory_lifts_no_mark_of_one_ahead(office: Office) -> None:
    """Two centrals on one ledger: one has read the directory just before it changed, the other just after."""
    fill(office)
    behind = office.directory.snapshot()
    moved = BEGIN + 25 * HOUR
    office.change(MoveOut("UP-1", moved), MoveIn("UP-1", "b", moved))
    follow_use(office.ledger, office.directory.snapshot(), BERLIN)
    reckon_due(office.ledger, behind, NOW, BERLIN)
    check(office)
    office.settle()
    check(office)


def test_a_day_that_all_captures_have_left_is_empty_though_the_directory_changed_too(office: Office) -> None:
    office.change(Install("GEN:1", "UP-1", Role.CONSUMER, BEGIN), MoveIn("UP-1", "a", BEGIN))
    office.deliver("GEN:1", 10, 500, reason="untrusted_time")
    for shift in (0, 30):
        said = TimeVerdict(
            verdict_id="time/1/m", meter="GEN:1", journal="journal-1", first_seq=1, last_seq=1, profile=None,
            trust="trusted", shift=str(shift * 3600), evidence="test", version=1, at=NOW,
        )  # fmt: skip
        office.ledger.times.give([said])
        office.change(SetMultiplier("GEN:1", Decimal(2 + shift), BEGIN))
        office.settle()
    assert [one.kwh for one in office.days("a", 2)] == [None, 32 * Decimal("0.5")]
