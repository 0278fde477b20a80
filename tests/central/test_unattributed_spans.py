"""Spans of captures under no account against the naive list: every capture in force asked of the directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from gateway.central.directory.judging import to_judge_again
from gateway.central.directory.service import follow, sweep
from gateway.central.ledger import unattributed
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import LASTING_REASONS, StoredCapture
from gateway.central.ledger.state_tables import unattributed as table
from gateway.contract.messages import TimeVerdict
from mapping.changes import Change, Install, MoveIn, MoveOut, Name, Remove
from mapping.directory import NumberKind, Role
from mapping.errors import ChangeRefused
from mapping.snapshot import DirectorySnapshot
from mapping.store import DirectoryStore
from tests.support.central.ledgers import FreshLedger
from tests.support.central.samples import HALF_HOUR, NOW, T0, batch, capture, received, snapshot
from tests.support.statements import statements_sent

METER = "GEN:1"
SECOND = timedelta(seconds=1)


class Office:
    """A ledger and a directory that change as in the program, without a broker."""

    def __init__(self, where: Path | str, directory: DirectoryStore) -> None:
        self.ledger = Ledger(where)
        self.directory = directory
        self.published = 0
        self.seq = 0
        self.known = [directory.snapshot()]

    def deliver(
        self,
        number: int,
        *,
        reason: str | None,
        version: int,
        rev: int = 1,
        daily: bool = False,
    ) -> None:
        """Deliver a capture as an edge stamps it that knows this version; `reason` is one of its own."""
        self.seq += 1
        if reason is None:
            asked = (None if daily else at(number - 1), at(number))
            stamp = self.known[version].attributions(METER, *asked).reason
            reason = None if stamp is None else stamp.value
        stamped = {
            "reason": reason,
            "directory_version": version,
            "value_rev": rev,
            "value": f"{number}.{rev}",
        }
        one = (
            snapshot(self.seq, at=at(number), **stamped)  # type: ignore[arg-type]  # fields of a capture
            if daily
            else capture(self.seq, number=number, **stamped)  # type: ignore[arg-type]  # fields of a capture
        )
        self.ledger.ingest([received(batch([one]))])

    def change(self, *changes: Change) -> None:
        try:
            self.directory.apply(list(changes), by="test", source="t", at=NOW)
        except ChangeRefused:
            return
        self.known.append(self.directory.snapshot())

    def say(self, seq: int, shift: int | None) -> None:
        """Say of one entry that its time is trusted, `shift` half-hours off; or that it is not (None)."""
        said = TimeVerdict(
            verdict_id="time/1/m", meter=METER, journal="journal-1", first_seq=seq, last_seq=seq, profile=None,
            trust="untrusted" if shift is None else "trusted",
            shift=None if shift is None else str(shift * 1800), evidence="test", version=1, at=NOW,
        )  # fmt: skip
        self.ledger.times.give([said])

    def settle(self) -> None:
        """What the directory service does in one round."""
        now = self.directory.snapshot()
        follow(self.ledger, now)
        for version in range(self.published + 1, now.version + 1):
            spans, names = self.directory.differences(version - 1, version)
            self.ledger.unattributed.recheck(to_judge_again(now, spans, names))
            self.published = version
        sweep(self.ledger, now)


def naive(
    captures: list[StoredCapture], now: DirectorySnapshot
) -> dict[tuple[str, str, str], tuple[object, ...]]:
    """The list as it was before there were spans: each capture by itself."""
    found: dict[tuple[str, str, str], list[StoredCapture]] = {}
    for one in captures:
        reason: str | None = one.reason
        if reason not in LASTING_REASONS:
            decided = now.attributions(one.meter, one.start, one.at).reason
            reason = None if decided is None else decided.value
        if reason is not None:
            found.setdefault((one.meter, one.profile, reason), []).append(one)
    return {key: (len(some), min(o.at for o in some), max(o.at for o in some)) for key, some in found.items()}


def check(office: Office) -> None:
    office.settle()
    ours = {
        (g.meter, g.profile, g.reason): (g.count, g.first_at, g.last_at)
        for g in office.ledger.unattributed.groups()
    }
    assert ours == naive(office.ledger.captures.between(), office.directory.snapshot())
    counted = sum(count for count, _, _ in ours.values())
    assert office.ledger.counts().unattributed == counted


@cache
def fresh() -> bytes:
    """A ledger without anything in it, made once."""
    with TemporaryDirectory() as folder:
        Ledger(Path(folder) / "ledger.db").close()
        return (Path(folder) / "ledger.db").read_bytes()


@contextmanager
def opened(where: Path | str) -> Iterator[Office]:
    if isinstance(where, Path):
        where.write_bytes(fresh())
    with TemporaryDirectory() as folder, DirectoryStore(Path(folder) / "directory.db") as directory:
        office = Office(where, directory)
        yield office
        office.ledger.close()


@pytest.fixture
def office(fresh_ledger: FreshLedger) -> Iterator[Office]:
    with opened(fresh_ledger()) as made:
        yield made


def at(number: int, aside: bool = False) -> datetime:
    """The end of a half-hour, or an instant within one."""
    return T0 + HALF_HOUR * number + (SECOND if aside else timedelta(0))


def test_a_back_dated_change_splits_a_span_and_a_learned_number_ends_it(office: Office) -> None:
    for number in range(1, 13):
        office.deliver(number, reason=None, version=0)
    office.settle()
    assert stored_spans(office) == [("no_account", 12)]
    office.change(
        Install(METER, "UP-1", Role.CONSUMER, at(3, aside=True)), MoveIn("UP-1", "a", at(3, aside=True))
    )
    office.change(Remove(METER, at(8, aside=True)), Install(METER, "F-1", Role.FEEDER, at(8, aside=True)))
    check(office)
    office.change(Name("a", NumberKind.ACCOUNT, "1234567890"))
    check(office)
    assert stored_spans(office) == [("no_account", 3), ("not_a_consumer", 3)]
    office.change(Name("a", NumberKind.ACCOUNT, None))
    check(office)
    # Two intervals straddle a hand-over: they are both accounts', in parts, and one of these has no number.
    assert office.ledger.counts().unattributed == 12


def test_a_meter_that_is_mapped_leaves_the_list_without_a_look_at_its_captures(office: Office) -> None:
    for number in range(1, 60):
        office.deliver(number, reason=None, version=0)
    office.change(
        Install(METER, "UP-1", Role.CONSUMER, T0 - HALF_HOUR),
        MoveIn("UP-1", "a", T0 - HALF_HOUR),
        Name("a", NumberKind.ACCOUNT, "1234567890"),
    )
    follow(office.ledger, office.directory.snapshot())
    with statements_sent() as sent:
        assert sweep(office.ledger, office.directory.snapshot()) == 1
    assert not [one for one in sent if "FROM captures" in one]
    assert stored_spans(office) == []


def test_more_than_one_transaction_judges_is_judged_in_several(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unattributed, "SWEEP", 3)
    for number in range(1, 13):
        office.deliver(number, reason=None, version=0)
    for number in (4, 8):
        office.change(*hand_over(f"n-{number}", at(number, aside=True)))
        check(office)


def hand_over(account: str, when: datetime) -> list[Change]:
    """A first holder, or the next one; none of them has a number, so all waits."""
    if account == "n-4":
        return [Install(METER, "UP-1", Role.CONSUMER, when), MoveIn("UP-1", account, when)]
    return [
        MoveOut("UP-1", when),
        Name(account, NumberKind.ACCOUNT, "1234567890"),
        MoveIn("UP-1", account, when),
    ]


def stored_spans(office: Office) -> list[tuple[str, int]]:
    """Every span that is kept, whatever its reason."""
    with office.ledger.database.reading("looking") as connection:
        rows = connection.execute(select(table.c.reason, table.c.captures).order_by(table.c.first))
        return [(row.reason, row.captures) for row in rows]


NUMBERS = st.integers(1, 12)
DELIVERY = st.tuples(
    st.just("deliver"),
    NUMBERS,
    st.sampled_from([None, None, None, "untrusted_time", "identity_mismatch"]),
    st.integers(0, 3),
    st.integers(1, 3),
    st.booleans(),
)
CHANGE = st.tuples(
    st.just("change"),
    st.sampled_from(["install", "remove", "in", "out", "name", "unname", "feeder"]),
    NUMBERS,
    st.booleans(),
    st.sampled_from(["a", "b"]),
)
VERDICT = st.tuples(st.just("say"), st.integers(1, 12), st.none() | st.integers(-4, 4))
SETTLE = st.tuples(st.just("settle"))


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.one_of(DELIVERY, DELIVERY, CHANGE, CHANGE, VERDICT, SETTLE), max_size=25))
def test_whatever_happens_in_whatever_order_the_spans_say_what_the_naive_list_says(
    fresh_ledger: FreshLedger,
    steps: list[tuple[object, ...]],
) -> None:
    with opened(fresh_ledger()) as office:
        for step in steps:
            match step:
                case ("deliver", int(number), reason, int(back), int(rev), bool(daily)):
                    version = max(0, office.directory.version - back)
                    assert reason is None or isinstance(reason, str)
                    office.deliver(number, reason=reason, version=version, rev=rev, daily=daily)
                case ("change", str(kind), int(number), bool(aside), str(account)):
                    when = at(number, aside)
                    changes: dict[str, Change] = {
                        "install": Install(METER, "UP-1", Role.CONSUMER, when),
                        "feeder": Install(METER, "UP-9", Role.FEEDER, when),
                        "remove": Remove(METER, when),
                        "in": MoveIn("UP-1", account, when),
                        "out": MoveOut("UP-1", when),
                        "name": Name(account, NumberKind.ACCOUNT, f"{ord(account):010}"),
                        "unname": Name(account, NumberKind.ACCOUNT, None),
                    }
                    office.change(changes[kind])
                case ("say", int(seq), shift):
                    assert shift is None or isinstance(shift, int)
                    office.say(seq, shift)
                case _:
                    office.settle()
        check(office)


def test_what_an_older_directory_says_lifts_no_mark_of_a_newer_one(office: Office) -> None:
    """Two centrals on one ledger: one has read the directory just before it changed, the other just after."""
    for number in range(1, 6):
        office.deliver(number, reason=None, version=0)
    behind = office.directory.snapshot()
    office.change(
        Install(METER, "UP-1", Role.CONSUMER, T0 - HALF_HOUR),
        MoveIn("UP-1", "a", T0 - HALF_HOUR),
        Name("a", NumberKind.ACCOUNT, "1234567890"),
    )
    now = office.directory.snapshot()
    follow(office.ledger, now)
    spans, names = office.directory.differences(0, now.version)
    office.ledger.unattributed.recheck(to_judge_again(now, spans, names))
    office.published = now.version
    assert sweep(office.ledger, behind) == 0
    check(office)
