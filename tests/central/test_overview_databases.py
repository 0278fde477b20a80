"""The overview judges meters in the database: it says the same on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from gateway.central.directory.places import follow_places
from gateway.central.ledger.ledger import Ledger
from gateway.central.portal.view_models import Issue, IssueKind, MeterChoice, Overview
from gateway.central.portal.views import Views
from gateway.contract.messages import LineStatus, MeterStatus, Status
from mapping.changes import Install, Remove
from mapping.directory import Role
from mapping.store import DirectoryStore
from tests.support.central.samples import NOW, batch, capture, received, tell_status
from tests.support.fakes import HandClock

HOUR = timedelta(hours=1)


def tell(ledger: Ledger, gateway: str, meters: list[MeterStatus], **more: object) -> None:
    told = {"gateway": gateway, "online": True, "version": "1", "journal": gateway, "at": NOW}
    lines = (LineStatus(name="down", state="down", detail="no answer"), LineStatus(name="up", state="up"))
    tell_status(ledger, Status.model_validate(told | more), lines, meters)


def meter(number: int, line: str, health: str = "ok", **more: str) -> MeterStatus:
    return MeterStatus(meter=f"GEN:{number:02}", line=line, health=health, **more)


def of(seen: Overview, kind: IssueKind) -> list[Issue]:
    return [issue for issue in seen.issues if issue.kind is kind]


def test_faults_and_pages_are_the_same_in_either_database(ledger: Ledger, tmp_path: Path) -> None:
    heard = [
        capture(n, meter=f"GEN:{n:02}", at=NOW - (5 * HOUR if n in (1, 2, 8) else HOUR)) for n in range(1, 9)
    ]
    ledger.ingest([received(batch(heard), NOW)])
    tell(
        ledger,
        "edge-1",
        [
            meter(1, "up", "meter_silent", detail="no answer"),
            meter(2, "up", "meter_silent", detail="no answer"),
            meter(3, "up"),
            meter(4, "up", "meter_clock"),
            meter(8, "down", "meter_silent"),
            meter(9, "down", "line_timeout"),
            *(meter(n, f"ip-{n}", "meter_refuses_x", detail="why") for n in range(20, 26)),
        ],
    )
    tell(ledger, "edge-2", [meter(30, "bus"), meter(31, "bus")], online=False)
    ledger.alive.leave(NOW, connected=True, fault=None)
    with DirectoryStore(tmp_path / "directory.db") as directory:
        old = NOW - 999 * HOUR
        directory.apply(
            [
                Install("GEN:40", "UP-40", Role.STOCK, old),
                Install("GEN:41", "UP-41", Role.CONSUMER, old),
                Install("GEN:03", "UP-3", Role.CONSUMER, old),
                Remove("GEN:03", NOW - HOUR),
            ],
            by="test", source="t", at=NOW,
        )  # fmt: skip
        assert follow_places(ledger, directory.snapshot(), NOW) == 3
        views = Views(ledger, directory.snapshot, HandClock(NOW))
        seen = views.overview()
        (dead,) = of(seen, IssueKind.DEAD_METER)
        assert (dead.meters, dead.line, dead.detail) == (
            ("GEN:01", "GEN:02"),
            "up",
            "meter_silent: no answer",
        )
        (down,) = of(seen, IssueKind.LINE_DOWN)
        assert (down.touched, down.where) == (2, "edge-1 / down")
        (refuses,) = of(seen, IssueKind.METER_REFUSES)
        assert (refuses.touched, refuses.line, len(refuses.meters)) == (6, "", 4)
        (offline,) = of(seen, IssueKind.EDGE_OFFLINE)
        assert offline.touched == 2
        assert {issue.named for issue in of(seen, IssueKind.METER_REMOVED)} == {"GEN:03"}
        assert {issue.named for issue in of(seen, IssueKind.NEVER_READ)} == {"GEN:41"}
        assert (seen.meters_total, seen.expected, seen.heard) == (19, 17, 4)
        assert seen.meters_total == len(seen.meters)
        unwell = views.overview(MeterChoice(unwell=True))
        assert (unwell.found, len(unwell.meters)) == (seen.unwell, seen.unwell)
        assert views.overview(MeterChoice(find="gen:2", unwell=True)).found == 6
        assert views.overview(MeterChoice(find="100%")).found == 0
        assert views.statistics().issues == seen.issues_total == sum(seen.issue_counts.values())
        assert ledger.counts().meters == 8
