"""A contractor's file of replaced meters: each row judged, applied by its fingerprint, whole or not at all, undone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from mapping.changes import Change, Install, MoveIn
from mapping.conflicts import Conflicts
from mapping.directory import Role
from mapping.errors import ChangeRefused, FileRefused
from mapping.proposals import Proposals, asked_swap
from mapping.rekey_texts import LANGUAGES
from mapping.store import DirectoryStore
from mapping.swap_texts import TEXTS, swap_text
from mapping.swaps import Jobs, SwapPlan, plan_swap
from mapping.undo import undo

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
SINCE = NOW - timedelta(days=100)
BY: dict[str, Any] = {"by": "tester", "source": "test"}
HEAD = "old_meter,new_meter,at,final,no_final,opening,usage_point,multiplier,seals,photos\n"
GOOD = "GEN:1,SEC:1,2026-11-10 11:30,8412.5,,0.3,UP1,,S-1 S-2,a.jpg b.jpg\n"


@pytest.fixture
def town(store: DirectoryStore) -> DirectoryStore:
    changes: list[Change] = []
    for n in range(1, 8):
        changes += [
            Install(f"GEN:{n}", f"UP{n}", Role.CONSUMER, SINCE, Decimal(10 if n == 2 else 1)),
            MoveIn(f"UP{n}", f"acc{n}", SINCE),
        ]
    store.apply(changes, **BY, at=SINCE)
    return store


def planned(store: DirectoryStore, folder: Path, rows: str, **more: Any) -> SwapPlan:
    file = folder / "swaps.csv"
    file.write_text(HEAD + rows, encoding="utf-8")
    return plan_swap(store.snapshot(), file, at=NOW, used_seals=Jobs(store.database).used_seals, **more)


def kept(store: DirectoryStore, plan: SwapPlan) -> str:
    held = Proposals(store).keep(
        asked_swap(plan), by="meera", at=NOW, source=f"swap {plan.name}", version=plan.version, meters=2, accounts=1
    )  # fmt: skip
    return held.fingerprint


def applied(store: DirectoryStore, plan: SwapPlan) -> int:
    return Proposals(store).approve(kept(store, plan), by="meera", at=NOW, alone_up_to=100)


def codes(plan: SwapPlan) -> list[str]:
    return [row.code or row.verdict.value for row in plan.rows]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("GEN:1,SEC:1,2026-11-10 11:30,,,0,UP1,,,", "NO_READING"),
        ("GEN:1,SEC:1,2026-11-10 11:30,,no_display,0,UP1,,,", "applied"),
        ("GEN:1,SEC:1,2026-11-10 11:30,8412,,,UP1,,,", "NO_OPENING"),
        ("GEN:1,SEC:1,2026-11-10 11:30,-3,,0,UP1,,,", "READING"),
        ("GEN:1,SEC:1,2026-11-10 11:30,8.4E+3,,0,UP1,,,", "READING"),
        ("GEN:1,SEC:1,2026-11-10T11:30:00+05:30,८४१२,,0.3,UP1,,,", "applied"),
        ("gen:1,SEC-1,2026-11-10 11:30,1,,0,,,,", "METER_FORMAT"),
        ("gen: 1,SEC:1,2026-11-10 11:30,1,,0,,,,", "repaired"),
        ("GEN:1,GEN:1,2026-11-10 11:30,1,,0,,,,", "SAME_METER"),
        ("GEN:1,SEC:1,10/11/2026,1,,0,,,,", "TIME"),
        ("GEN:1,SEC:1,2026-11-10,1,,0,,,,", "TIME"),
        ("GEN:1,SEC:1,1980-01-01 00:00,1,,0,,,,", "DATE_IMPOSSIBLE"),
        ("GEN:1,SEC:1,2050-01-01 00:00,1,,0,,,,", "DATE_IMPOSSIBLE"),
        ("GEN:1,SEC:1,2026-11-10 11:30,1,,0,UP2,,,", "OTHER_USAGE_POINT"),
        ("GEN:9,SEC:1,2026-11-10 11:30,1,,0,,,,", "METER_NOT_FITTED"),
        ("GEN:1,GEN:3,2026-11-10 11:30,1,,0,,,,", "METER_IN_USE"),
        ("GEN:2,SEC:1,2026-11-10 11:30,1,,0,,10,,", "applied"),
        ("GEN:2,SEC:1,2026-11-10 11:30,1,,0,,1,,", "MULTIPLIER_DIFFERS"),
        ("GEN:1,SEC:1,2026-11-10 11:30,1,,0,,,S-1,../x.jpg", "NAMES"),
        ("GEN:1,SEC:1,2026-11-10 11:30,1,,0", "COLUMNS"),
    ],
)
def test_a_row_has_its_verdict_in_both_languages(
    town: DirectoryStore, tmp_path: Path, row: str, code: str
) -> None:
    plan = planned(town, tmp_path, f"{row}\n")
    assert codes(plan) == [code]
    if plan.left:
        for language in LANGUAGES:
            assert all(swap_text(plan.rows[0].code, plan.rows[0].other, language))
        hindi = swap_text(plan.rows[0].code, plan.rows[0].other, "hi")[0]
        assert not re.search(r"\b(is|the|then|at|remove|elsewhere|anywhere)\b", hindi), hindi


def test_rows_that_contradict_each_other_are_all_left(town: DirectoryStore, tmp_path: Path) -> None:
    rows = (
        "GEN:1,SEC:1,2026-11-10 11:30,1,,0,,,S-1,\nGEN:1,SEC:2,2026-11-10 11:40,1,,0,,,S-2,\n"
        "GEN:3,SEC:3,2026-11-10 11:30,1,,0,,,S-3,\nGEN:4,SEC:4,2026-11-10 11:30,1,,0,,,S-3,\n"
        "GEN:5,SEC:5,2026-11-10 11:30,1,,0,,,S-5,\nSEC:5,SEC:6,2026-11-10 13:30,1,,0,,,S-6,\n"
    )
    assert codes(planned(town, tmp_path, rows)) == [
        "METER_TWICE", "METER_TWICE", "SEAL_TWICE", "SEAL_TWICE", "applied", "applied"
    ]  # fmt: skip


def test_a_final_reading_below_what_the_meter_sent_is_a_conflict(
    town: DirectoryStore, tmp_path: Path
) -> None:
    plan = planned(town, tmp_path, GOOD, last_reading=lambda *_: Decimal("8500.1"))
    assert [(row.code, row.other) for row in plan.rows] == [("FINAL_BELOW", "8500.1")]


def test_what_was_judged_is_applied_kept_and_undone(town: DirectoryStore, tmp_path: Path) -> None:
    plan = planned(
        town, tmp_path, GOOD + "GEN:2,SEC:2,2026-11-10 10:00,,burnt,0,,,,\nGEN:3,SEC:3,,1,,0,,,,\n"
    )
    assert plan.counts == {"applied": 2, "unchanged": 0, "repaired": 0, "conflict": 0, "rejected": 1}
    assert applied(town, plan) == 2
    now = town.snapshot()
    when = datetime(2026, 11, 10, 6, tzinfo=UTC)
    assert [(r.usage_point, r.valid_from, int(r.multiplier)) for r in now.installations("SEC:2")] == [
        ("UP2", when - timedelta(minutes=90), 10)
    ]
    [job] = Jobs(town.database).of_meter("GEN:1")
    assert (job["final"], job["opening"], job["seals"], job["photos"], job["version"]) == (
        "8412.5", "0.3", "S-1 S-2", "a.jpg b.jpg", 2
    )  # fmt: skip
    [burnt] = Jobs(town.database).of_meter("SEC:2")
    assert (burnt["final"], burnt["no_final"]) == (None, "burnt")
    [left] = Conflicts(town.database).page(origin="swap")
    assert (left.line, left.code) == (4, "TIME")
    assert codes(planned(town, tmp_path, GOOD)) == ["unchanged"]
    again = planned(town, tmp_path, "GEN:4,SEC:4,2026-11-10 11:30,1,,0,,,S-1,\n")
    assert codes(again) == ["SEAL_TWICE"]
    town.apply(undo(town.snapshot(), 2), **BY, at=NOW)
    assert [r.valid_to for r in town.snapshot().installations("GEN:1")] == [None]
    assert codes(planned(town, tmp_path, GOOD)) == ["applied"]  # the same work: its seals are its own


def test_a_directory_that_moved_on_refuses_and_a_large_one_needs_another(
    town: DirectoryStore, tmp_path: Path
) -> None:
    mark = kept(town, planned(town, tmp_path, GOOD))
    with pytest.raises(ChangeRefused, match="somebody else must approve"):
        Proposals(town).approve(mark, by="meera", at=NOW, alone_up_to=1)
    town.apply([Install("GEN:99", "UP99", Role.CONSUMER, SINCE)], **BY, at=NOW)
    with pytest.raises(ChangeRefused, match="moved on"):
        Proposals(town).approve(mark, by="verma", at=NOW)
    assert Jobs(town.database).of_meter("GEN:1") == []


def test_a_workbook_and_hindi_headings_are_read(town: DirectoryStore, tmp_path: Path) -> None:
    book = Workbook()
    assert book.active is not None
    book.active.append(["पुराना मीटर", "नया मीटर", "समय", "आख़िरी रीडिंग", "पहली रीडिंग", "सील"])
    book.active.append(["GEN:1", "SEC:1", "2026-11-10 11:30", 8412, 0, "S-1"])
    book.save(tmp_path / "swaps.xlsx")
    plan = plan_swap(town.snapshot(), tmp_path / "swaps.xlsx", at=NOW)
    assert [(job.final, job.opening, job.seals) for job in plan.jobs] == [("8412", "0", ("S-1",))]


def test_a_file_without_its_columns_is_refused(town: DirectoryStore, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("old_meter,new_meter\nGEN:1,SEC:1\n")
    with pytest.raises(FileRefused, match="no column at"):
        plan_swap(town.snapshot(), tmp_path / "s.csv", at=NOW)


def test_every_text_is_in_both_languages() -> None:
    assert all(text.strip() for pair in TEXTS.values() for both in pair for text in both)
