"""The operator's overview: all meters looked at, faults under their causes, and nothing old shown as the present."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.central.directory.places import follow_places
from gateway.central.ledger.meter_states import ANEW
from gateway.central.portal import fleet
from gateway.central.portal.overview import CENTRAL_ALIVE_FOR, ISSUES_ON_A_PAGE, METERS_ON_A_PAGE, ONLINE_FOR
from gateway.central.portal.view_models import CentralState, Issue, IssueKind, MeterChoice, Overview, Severity
from gateway.central.portal.views import Views
from gateway.contract.messages import Alarm, ClockStatus, Gap, LineStatus, MeterStatus, Status, StatusChanges
from mapping.changes import Install, MoveIn, Remove
from mapping.directory import Role
from mapping.snapshot import DirectorySnapshot
from tests.support.central.samples import tell_status
from tests.support.statements import statements_sent
from tests.support.web.seed import NOW, OLD_DAYS, Town, block, live, town

MINUTE = timedelta(minutes=1)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Town]:
    with town(tmp_path, seed=False) as built:
        built.ledger.alive.leave(NOW, connected=True, fault=None)
        yield built


def tell(
    built: Town,
    gateway: str = "edge-1",
    *,
    lines: tuple[LineStatus, ...] = (),
    meters: list[MeterStatus] | None = None,
    **more: object,
) -> None:
    told = {"gateway": gateway, "online": True, "version": "1", "journal": gateway, "at": built.clock.now()}
    tell_status(built.ledger, Status.model_validate(told | more), lines, meters or [])


def pass_time(built: Town, by: timedelta) -> None:
    """Let time pass in which central goes on hearing the broker."""
    built.clock.advance(by)
    built.ledger.alive.leave(built.clock.now(), connected=True, fault=None)


def kinds(seen: Overview) -> set[IssueKind]:
    return {issue.kind for issue in seen.issues} - {IssueKind.METERS_CLAIMED}


def only(seen: Overview, kind: IssueKind) -> Issue:
    (found,) = [issue for issue in seen.issues if issue.kind is kind]
    return found


def silent(meter: int, line: str = "bus") -> MeterStatus:
    return MeterStatus(meter=f"GEN:{meter:08}", line=line, health="meter_silent", detail="no answer")


# --- freshness --------------------------------------------------------------------------------------


def test_an_edge_whose_status_is_old_is_not_online(empty: Town) -> None:
    tell(empty)
    assert empty.views.overview().gateways[0].online is True
    pass_time(empty, ONLINE_FOR)
    assert empty.views.overview().gateways[0].online is True
    pass_time(empty, timedelta(seconds=1))
    seen = empty.views.overview()
    assert seen.gateways[0].online is False
    assert only(seen, IssueKind.EDGE_OFFLINE).since == NOW


def test_what_an_old_status_says_is_not_told_as_the_present(empty: Town) -> None:
    down = LineStatus(name="bus", state="down")
    alarm = Alarm(code="journal_full", text="full")
    other = MeterStatus(meter="GEN:00000002", line="bus", health="identity_mismatch", detail="GEN:3 answers")
    tell(empty, lines=(down,), meters=[silent(1), other], alarms=(alarm,), backlog=5_000)
    now = {IssueKind.LINE_DOWN, IssueKind.JOURNAL_ALARM, IssueKind.BACKLOG, IssueKind.IDENTITY_MISMATCH}
    assert now <= kinds(empty.views.overview())
    pass_time(empty, timedelta(minutes=10))
    seen = empty.views.overview()
    assert kinds(seen) == {IssueKind.EDGE_OFFLINE}
    assert [(line.up, line.state) for line in seen.lines] == [(None, "unknown")]
    assert (seen.gateways[0].meters, seen.gateways[0].clock_ok) == (None, None)
    counted = {"meters": {"ok": 3, "silent": 1}, "clock": ClockStatus(disciplined=True, at=NOW)}
    told = {"gateway": "edge-2", "online": True, "version": "1", "journal": "j2", "at": empty.clock.now()}
    tell_status(empty.ledger, Status.model_validate(told | counted))
    row = empty.views.overview().gateways[1]
    assert (row.meters, row.unwell, row.clock_ok) == (4, 1, True)
    pass_time(empty, timedelta(minutes=10))
    row = empty.views.overview().gateways[1]
    assert (row.meters, row.unwell, row.clock_ok) == (None, None, None)


def test_a_deaf_central_is_told_and_no_gateway_is_blamed(empty: Town) -> None:
    tell(empty)
    empty.clock.advance(10 * MINUTE)
    empty.ledger.alive.leave(empty.clock.now(), connected=False, fault="broker 10.0.0.1:8883: no route")
    seen = empty.views.overview()
    assert seen.central.state is CentralState.DEAF
    assert kinds(seen) == {IssueKind.CENTRAL_DEAF}
    deaf = only(seen, IssueKind.CENTRAL_DEAF)
    assert (deaf.severity, deaf.since, deaf.detail) == (
        Severity.CRITICAL,
        NOW,
        "broker 10.0.0.1:8883: no route",
    )
    assert seen.gateways[0].online is None


def test_a_central_without_a_sign_of_life_is_told_within_a_minute(empty: Town) -> None:
    assert CENTRAL_ALIVE_FOR < MINUTE
    empty.clock.advance(CENTRAL_ALIVE_FOR + timedelta(seconds=1))
    seen = empty.views.overview()
    assert seen.central.state is CentralState.SILENT
    assert only(seen, IssueKind.CENTRAL_SILENT).since == NOW


def test_a_field_visit_that_is_over_leaves_the_list(empty: Town) -> None:
    tell(empty, "edge-1-field", role="visit")
    assert [g.gateway for g in empty.views.overview().gateways] == ["edge-1-field"]
    tell(empty, "edge-1-field", role="visit", online=False)
    seen = empty.views.overview()
    assert (seen.gateways, kinds(seen)) == ((), set())


def test_a_field_visit_with_readings_that_wait_stays(empty: Town) -> None:
    tell(empty, "edge-1-field", role="visit", online=False, backlog=1)
    seen = empty.views.overview()
    assert kinds(seen) == {IssueKind.VISIT_WAITS}


def test_a_box_that_nobody_misses_leaves_the_list(empty: Town) -> None:
    tell(empty, "edge-old")
    pass_time(empty, timedelta(days=6))
    assert IssueKind.EDGE_OFFLINE in kinds(empty.views.overview())
    pass_time(empty, timedelta(days=2))
    assert empty.views.overview().gateways == ()


def test_a_replaced_meter_leaves_the_list(empty: Town) -> None:
    old, new = "GEN:00000001", "GEN:00000002"
    empty.directory.apply(
        [Install(old, "UP-1", Role.CONSUMER, OLD_DAYS), MoveIn("UP-1", "acc-1", OLD_DAYS)],
        by="test", source="t", at=OLD_DAYS,
    )  # fmt: skip
    empty.writer.write(live(old, NOW - timedelta(hours=30), 1), live(new, NOW, 1))
    assert only(empty.views.overview(), IssueKind.DEAD_METER).meters == (old,)
    changed = NOW - timedelta(hours=29)
    empty.directory.apply(
        [Remove(old, changed), Install(new, "UP-1", Role.CONSUMER, changed)], by="test", source="t", at=NOW
    )
    seen = empty.views.overview()
    assert [meter.meter for meter in seen.meters] == [new]
    assert IssueKind.DEAD_METER not in kinds(seen)
    assert (seen.heard, seen.expected) == (1, 1)


def test_a_removed_meter_that_is_still_asked_is_told_to_whoever_configures_it(empty: Town) -> None:
    old = silent(1)
    empty.directory.apply(
        [Install(old.meter, "UP-1", Role.CONSUMER, OLD_DAYS), Remove(old.meter, NOW - MINUTE)],
        by="test", source="t", at=OLD_DAYS,
    )  # fmt: skip
    tell(empty, meters=[old])
    issue = only(empty.views.overview(), IssueKind.METER_REMOVED)
    assert (issue.gateway, issue.meters, issue.severity) == ("edge-1", (old.meter,), Severity.NOTICE)


def test_old_values_show_their_age(empty: Town) -> None:
    meter, old = "GEN:00000001", NOW - timedelta(hours=26)
    empty.writer.write(live(meter, old, 5, "closed"), block(meter, NOW, 100))
    [row] = empty.views.overview().meters
    assert (row.relay, row.relay_at, row.last_at) == ("closed", old, NOW)


def test_a_reading_of_the_future_keeps_no_meter_heard(empty: Town) -> None:
    empty.writer.write(live("GEN:00000001", NOW + timedelta(days=20_000), 5))
    pass_time(empty, timedelta(hours=3))
    tell(empty)
    assert only(empty.views.overview(), IssueKind.DEAD_METER).meters == ("GEN:00000001",)


# --- causes -----------------------------------------------------------------------------------------


def test_a_gateway_that_is_away_explains_its_silent_meters(empty: Town) -> None:
    empty.writer.write(*(live(f"GEN:{n:08}", NOW, 1) for n in range(300)))
    tell(empty, meters=[MeterStatus(meter=f"GEN:{n:08}", line="bus", health="ok") for n in range(300)])
    pass_time(empty, timedelta(hours=3))
    seen = empty.views.overview()
    assert kinds(seen) == {IssueKind.EDGE_OFFLINE}
    assert only(seen, IssueKind.EDGE_OFFLINE).touched == 300


def test_a_line_that_is_down_explains_its_silent_meters(empty: Town) -> None:
    down = LineStatus(name="bus-b", state="down", detail="no answer from /dev/ttyUSB1")
    meters = [silent(n, "bus-a") for n in range(6)] + [silent(n, "bus-b") for n in range(10, 22)]
    empty.writer.write(*(live(meter.meter, NOW, 1) for meter in meters))
    tell(empty, lines=(LineStatus(name="bus-a", state="up"), down), meters=meters)
    seen = empty.views.overview()
    line = only(seen, IssueKind.LINE_DOWN)
    assert (line.where, line.touched) == ("edge-1 / bus-b", 12)
    dead = only(seen, IssueKind.DEAD_METER)
    assert (dead.where, dead.touched, len(dead.meters)) == ("edge-1 / bus-a", 6, 4)
    assert dead.named.endswith(" +2")
    order = [issue.kind for issue in seen.issues]
    assert order.index(IssueKind.LINE_DOWN) < order.index(IssueKind.DEAD_METER)


def test_meters_with_a_line_each_are_one_fault(empty: Town) -> None:
    tell(empty, meters=[silent(n, f"ip-{n}") for n in range(500)])
    never = only(empty.views.overview(), IssueKind.NEVER_READ)
    assert (never.where, never.touched, never.detail) == ("edge-1", 500, "meter_silent: no answer")


def test_many_lines_that_are_down_are_one_fault(empty: Town) -> None:
    tell(empty, lines=tuple(LineStatus(name=f"ip-{n:03}", state="down") for n in range(500)))
    down = only(empty.views.overview(), IssueKind.LINE_DOWN)
    assert (down.count, down.line) == (500, "ip-000, ip-001, ip-002, ip-003 +496")


def test_what_is_lost_and_what_is_missing_is_told(empty: Town) -> None:
    def gap(n: int) -> Gap:
        return Gap(
            gap_id=f"g{n}", meter="GEN:1", profile="daily", after=NOW - MINUTE, until=NOW, state="filled",
            reason="line_down", noticed_at=NOW,
        )  # fmt: skip

    empty.writer.write(gaps=(gap(1),))
    empty.writer.seq = 10
    empty.writer.write(gaps=(gap(2),))
    seen = empty.views.overview()
    assert only(seen, IssueKind.HOLES).gateway == "edge-1"
    empty.ledger.journals.declare_lost(empty.writer.journal, 2, 10, "the journal no longer holds them", NOW)
    seen = empty.views.overview()
    lost = only(seen, IssueKind.ENTRIES_LOST)
    assert (lost.gateway, lost.count, lost.severity) == ("edge-1", 9, Severity.CRITICAL)
    assert IssueKind.HOLES not in kinds(seen)
    assert empty.ledger.counts().lost == 9
    pass_time(empty, timedelta(days=31))
    assert IssueKind.ENTRIES_LOST not in kinds(empty.views.overview())


# --- many meters ------------------------------------------------------------------------------------


def test_the_last_of_ten_thousand_meters_is_looked_at(empty: Town) -> None:
    number = 10_000
    empty.writer.write(*(live(f"GEN:{n:08}", NOW, 1) for n in range(number - 1)))
    meters = [MeterStatus(meter=f"GEN:{n:08}", line="bus", health="ok") for n in range(number - 1)]
    tell(empty, meters=[*meters, silent(number - 1)])
    with statements_sent() as sent, statements_sent("directory") as asked:
        seen = empty.views.overview()
    assert only(seen, IssueKind.NEVER_READ).meters == (f"GEN:{number - 1:08}",)
    assert (seen.heard, seen.expected, seen.meters_total) == (number - 1, number, number)
    assert len(seen.meters) == METERS_ON_A_PAGE
    assert (len(sent) < 45, len(asked) < 10) == (True, True)
    unwell = empty.views.overview(MeterChoice(unwell=True))
    assert [row.meter for row in unwell.meters] == [f"GEN:{number - 1:08}"]
    last = empty.views.overview(MeterChoice(page=10**6))
    assert (last.choice.page, last.pages, last.meters[-1].meter) == (100, 100, f"GEN:{number - 1:08}")
    assert empty.views.overview(MeterChoice(find="gen:00000777")).found == 1


def test_every_fault_is_found_counted_by_kind_and_shown_in_pages(empty: Town) -> None:
    """No page bounds what is looked at: the last of many causes is on the last page, and all are in the document."""
    lines = ISSUES_ON_A_PAGE * 2 + 50
    empty.writer.write(*(live(f"GEN:{n:08}", NOW, 1) for n in range(2 * lines)))
    tell(empty, meters=[silent(n, f"bus-{n // 2:03}") for n in range(2 * lines)])
    pass_time(empty, MINUTE)
    tell(empty)
    seen = empty.views.overview(MeterChoice(issues=3))
    assert (seen.issue_pages, seen.issues_total, len(seen.issues)) == (3, lines + 1, 51)
    assert seen.issue_counts == {IssueKind.DEAD_METER: lines, IssueKind.METERS_CLAIMED: 1}
    named = [issue for issue in seen.issues if issue.kind is IssueKind.DEAD_METER][-1]
    assert (named.line, named.meters) == (
        f"bus-{lines - 1}",
        (f"GEN:{2 * lines - 2:08}", f"GEN:{2 * lines - 1:08}"),
    )
    assert named.detail == "meter_silent: no answer"
    assert empty.views.overview(MeterChoice(issues=99)).choice.issues == 3
    assert len(empty.views.overview(MeterChoice(issues=None)).issues) == lines + 1
    counted = empty.views.statistics()
    assert (counted.meters, counted.unwell, counted.issues, counted.critical) == (
        2 * lines,
        2 * lines,
        lines + 1,
        0,
    )


def test_of_a_fault_with_very_many_meters_one_is_named_and_all_are_counted(
    empty: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "LOOKED_AT", 5)
    tell(empty, meters=[silent(n) for n in range(10)])
    dead = only(empty.views.overview(), IssueKind.NEVER_READ)
    assert (dead.touched, dead.meters, dead.detail) == (10, ("GEN:00000000",), "meter_silent: no answer")


def test_the_end_of_an_installation_is_seen_when_it_comes(empty: Town) -> None:
    meter, end = "GEN:00000001", NOW + 5 * MINUTE
    empty.directory.apply(
        [Install(meter, "UP-1", Role.CONSUMER, OLD_DAYS), Remove(meter, end)], by="test", source="t", at=NOW
    )
    assert empty.views.overview().expected == 1
    pass_time(empty, 10 * MINUTE)
    assert empty.views.overview().meters_total == 0
    assert empty.ledger.meters.ended(empty.clock.now(), 10) == [], "noted once"


def test_a_meter_that_two_gateways_tell_of_stands_as_the_one_says_that_has_it(empty: Town) -> None:
    meter = silent(1)
    tell(empty, "edge-2", meters=[meter.model_copy(update={"health": "identity_mismatch"})])
    tell(empty, "edge-1", meters=[meter.model_copy(update={"health": "ok"})])
    empty.ledger.allocations.give([meter.meter], "edge-1", by="test", note="", since=NOW, at=NOW)
    assert IssueKind.IDENTITY_MISMATCH not in kinds(empty.views.overview())
    empty.ledger.allocations.give([meter.meter], "edge-2", by="test", note="", since=NOW, at=NOW)
    assert only(empty.views.overview(), IssueKind.IDENTITY_MISMATCH).gateway == "edge-2"
    listing = StatusChanges(gateway="edge-2", run="0123abcd", from_seq=0, to_seq=2, at=NOW)
    empty.ledger.statuses.take([(listing, NOW, False)])
    assert IssueKind.IDENTITY_MISMATCH not in kinds(empty.views.overview()), "edge-2 lists it no more"


def test_places_of_a_directory_that_was_set_back_are_noted_anew(empty: Town) -> None:
    empty.directory.apply(
        [Install("GEN:00000001", "UP-1", Role.CONSUMER, OLD_DAYS)], by="t", source="t", at=NOW
    )
    assert empty.views.overview().expected == 1
    nothing = DirectorySnapshot()
    empty.ledger.meters.set_places_version(ANEW)
    assert follow_places(empty.ledger, nothing, NOW) == 1
    assert Views(empty.ledger, lambda: nothing, empty.clock).overview().meters_total == 0


def test_the_overview_goes_through_no_captures(empty: Town) -> None:
    """What SQLite plans for each statement: searches by an index, and scans of small tables only."""
    empty.writer.write(live("GEN:00000001", NOW, 1))
    tell(empty, meters=[silent(1)])
    with statements_sent() as sent:
        empty.views.overview()
    large = ("captures", "superseded", "unattributed")
    with empty.ledger.database.reading("planning") as connection:
        for statement in sent:
            if not statement.startswith(("SELECT", "WITH")):
                continue
            plan = connection.exec_driver_sql(
                f"EXPLAIN QUERY PLAN {statement}", tuple([""] * statement.count("?"))
            ).all()
            scans = [row[3] for row in plan if row[3].startswith("SCAN")]
            assert not [scan for scan in scans if scan.split()[1] in large], (statement, scans)
