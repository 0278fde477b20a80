"""Reports and corrections of a re-key plan: all rows against today, formulas never run, sent in again as they are."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from openpyxl import load_workbook

from gateway.cli.office.rekey_reports import MAX_PAGE_ROWS, write_report
from gateway.cli.output import harmless
from gateway.errors import UsageError
from mapping.rekey import apply_rekey
from mapping.rekey_corrections import write_corrections
from mapping.rekey_plan import RekeyPlan
from mapping.rekey_texts import LANGUAGES, Language
from mapping.store import DirectoryStore
from tests.support.mapping.rekey_town import (
    CASES,
    NOW,
    RekeyFile,
    case_consumers,
    codes,
    filled_store,
    planned,
)

DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DirectoryStore]:
    with filled_store(tmp_path, case_consumers()) as made:
        yield made


@pytest.fixture
def plan(store: DirectoryStore, tmp_path: Path) -> RekeyPlan:
    rows = [[sign + "cmd|' /C calc'!A0", "<script>x</script>", "", "", "", ""] for sign in DANGEROUS[:4]]
    with (CASES / "base.csv").open(encoding="utf-8-sig") as file:
        rows += list(csv.reader(file))[1:]
    return planned(store, RekeyFile(rows).write(tmp_path / "rekey.csv"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_row_75_the_table_runs_no_formula_and_has_every_row(
    plan: RekeyPlan, tmp_path: Path, language: Language
) -> None:
    path = tmp_path / "report.csv"
    assert write_report(plan, path, language) == 306
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 307
    assert not [cell for row in rows for cell in row if cell.startswith(DANGEROUS)]
    assert rows[5][3:6] == ["KE3100721000000", "", "6294919105"]
    assert r"11562\u200b64420" in {row[8] for row in rows}


@pytest.mark.parametrize("language", LANGUAGES)
def test_row_75_the_workbook_holds_texts_only(plan: RekeyPlan, tmp_path: Path, language: Language) -> None:
    path = tmp_path / "report.xlsx"
    assert write_report(plan, path, language) == 306
    assert path.stat().st_mode & 0o777 == 0o600
    book = load_workbook(path)
    sheet = book["rows 1"]
    assert (sheet.max_row, book["summary"]["B1"].value) == (307, plan.fingerprint)
    kinds = {cell.data_type for row in sheet.iter_rows() for cell in row}
    assert kinds <= {"s", "inlineStr", "n"}
    assert not [c for row in sheet.iter_rows() for c in row if str(c.value or "").startswith(DANGEROUS)]
    assert {c.data_type for c in sheet["F"] if c.value} <= {"s", "inlineStr"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_escaped_and_in_the_language(plan: RekeyPlan, tmp_path: Path, language: Language) -> None:
    path = tmp_path / "report.html"
    assert write_report(plan, path, language) == 306 <= MAX_PAGE_ROWS
    page = path.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert f'lang="{language}"' in page
    assert ("अस्वीकृत" in page) == (language == "hi")
    with pytest.raises(UsageError, match="html"):
        write_report(plan, tmp_path / "report.pdf", language)


def test_the_corrections_come_in_again_as_they_are(store: DirectoryStore, tmp_path: Path) -> None:
    """What was left is judged as before; put right, it is applied; nothing else is asked for."""
    base = planned(store, CASES / "semicolon_utf16.csv")
    apply_rekey(store, base, by="clerk", approver="chief", at=NOW)
    path = tmp_path / "back.csv"
    assert write_corrections(base, path, "hi") == 28
    again = planned(store, path)
    assert again.facts.form == "csv utf-8 ;"
    before = {row.old or row.cells: row.code for row in base.iterate(refused=True)}
    assert {row.old or row.cells: row.code for row in again.rows} == before
    assert codes(again) == []
    # A clerk puts two right and sends the whole in again: these two are applied, and the others come back again.
    text = path.read_text(encoding="utf-8-sig")
    path.write_text(
        text.replace("875O134681", "8750134681").replace("785O366089", "7850366089"), encoding="utf-8-sig"
    )
    put_right = planned(store, path)
    assert (codes(put_right), put_right.counts["applied"]) == ([], 2)
    apply_rekey(store, put_right, by="clerk", approver="chief", at=NOW)
    assert store.snapshot().counts().account_numbers == 274
    assert write_corrections(put_right, path) == 26


def test_what_others_wrote_is_shown_and_not_obeyed() -> None:
    assert harmless("राम कुमार ²  é 漢") == "राम कुमार ²  é 漢"
    shown = harmless("\x1b[2J\u202e321\u200b\x9b\u2028\r")
    assert shown == r"\u001b[2J\u202e321\u200b\u009b\u2028\u000d"
    assert re.fullmatch(r"[ -~]+", shown)
