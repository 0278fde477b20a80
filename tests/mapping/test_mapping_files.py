"""Hostile files: refused as a whole with a code and a line, or read; never a surprise."""

from __future__ import annotations

import io
import random
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from mapping import sheets
from mapping.errors import FileRefused
from mapping.files import (
    CsvTable,
    escaped,
    parse_table,
    parse_times,
    read_table,
    refuse_coerced_numbers,
    write_table,
)
from mapping.imports import HEADER as IMPORT_HEADER
from mapping.imports import plan_import
from mapping.rekey import HEADER, plan_rekey
from mapping.snapshot import DirectorySnapshot


def refused(octets: bytes) -> tuple[str, str]:
    with pytest.raises(FileRefused) as caught:
        parse_table(octets, "f.csv", HEADER, ("sequence",))
    return caught.value.code, str(caught.value)


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (b"", "EMPTY"),
        (b"\xef\xbb\xbf\r\n", "EMPTY"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "OLD_EXCEL"),
        (b"PK\x03\x04legacy_number", "MALFORMED"),
        (b"legacy_number,account_number\nK\xe91,1\n", "ENCODING"),
        (b"legacy_number,account_number,surprise\n", "HEADER"),
        (b"legacy_number,legacy_number,account_number\n", "HEADER"),
        (b"legacy_number\n", "HEADER"),
        (b"K1,1234567890\n", "HEADER"),
        (b"legacy_number,account_number\nK1,\0\n", "NUL"),
        (b"legacy_number,account_number\nK1," + b"9" * 5000, "LINE_TOO_LONG"),
        (b'legacy_number,account_number\n"K1"x,1\n', "MALFORMED"),
        (b'legacy_number,account_number\nK1,"1\nK2,2\n', "CUT_OFF"),
        (b'legacy_number,account_number\nK1,"1\nK2",2\n', "MALFORMED"),
    ],
)
def test_row_15_whole_files_are_refused(octets: bytes, code: str) -> None:
    assert refused(octets)[0] == code


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_file_that_ends_inside_a_character_was_cut_off(encoding: str) -> None:
    whole = "legacy_number,account_number\nK1,क".encode(encoding)
    assert refused(whole[:-1])[0] == "CUT_OFF"


def test_the_line_is_told() -> None:
    assert "line 3" in refused(b"legacy_number,account_number\nK1,1\nK\xe92,1\n")[1]


def test_a_good_file_with_mark_and_dos_lines(tmp_path: Path) -> None:
    path = tmp_path / "good.csv"
    path.write_bytes("\ufeffaccount_number,legacy_number\r\n1,K1\r\n\r\n2,K2\r\n3\r\n".encode())
    table = read_table(path, HEADER)
    assert [(r.line, r.cells) for r in table.rows] == [(2, ("K1", "1")), (4, ("K2", "2"))]
    assert [r.line for r in table.ragged] == [5]
    with pytest.raises(FileRefused):
        read_table(tmp_path / "absent.csv", HEADER)


def test_bounds_are_enforced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "MAX_ROWS", 1)
    assert refused(b"legacy_number,account_number\nK1,1\nK2,2\n")[0] == "TOO_MANY_ROWS"
    monkeypatch.setattr(sheets, "MAX_FILE", 8)
    assert refused(b"legacy_number,account_number\n")[0] == "TOO_LARGE"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_row_15_encoding_separator_and_line_ends_are_found_out(
    encoding: str, separator: str, end: str
) -> None:
    text = end.join(("legacy_number,account_number", 'K1,"श्री, क"', "K2,2", ""))
    if separator != ",":
        text = text.replace('"श्री, क"', "श्री").replace(",", separator)
    table = parse_table(text.encode(encoding), "f.csv", HEADER)
    assert [r.cells for r in table.rows] == [("K1", "श्री, क" if separator == "," else "श्री"), ("K2", "2")]


def test_a_separator_that_the_file_names_is_taken() -> None:
    table = parse_table(b"sep=;\nlegacy_number;account_number\nK1;1\n", "f.csv", HEADER)
    assert table.rows == [(3, ("K1", "1"))]


def table_of(*cells: str) -> CsvTable:
    return parse_table(("x\n" + "".join(f"{c}\n" for c in cells)).encode(), "f.csv", ("x",))


def test_row_9_rounded_numbers_refuse_the_file() -> None:
    with pytest.raises(FileRefused) as caught:
        refuse_coerced_numbers(table_of("1234567890123450", "1234567890123460", "1234567890123470"), 0, "x")
    assert caught.value.code == "EXCEL_15_DIGITS"
    natural = [f"12345678901234{i:02d}" for i in range(40)]
    refuse_coerced_numbers(table_of(*natural), 0, "x")


@pytest.mark.parametrize("cell", ["12-Mar", "3-DEC-2024", "Mar-24", "3/12/2024"])
def test_row_16_dates_made_from_numbers_refuse_the_file(cell: str) -> None:
    with pytest.raises(FileRefused) as caught:
        refuse_coerced_numbers(table_of("1", cell), 0, "x")
    assert caught.value.code == "DATE_COERCED"
    assert "line 3" in str(caught.value)


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("12/03/2026", "DATE_AMBIGUOUS"),
        ("2026-03-12", "DATE_AMBIGUOUS"),
        ("2026-03-12T00:00:00", "DATE_AMBIGUOUS"),
        ("2026-13-12T00:00:00Z", "DATE_INVALID"),
        ("0001-01-01T00:00:00+05:30", "DATE_INVALID"),
    ],
)
def test_row_15_ambiguous_dates_refuse_the_file(cell: str, code: str) -> None:
    with pytest.raises(FileRefused) as caught:
        parse_times(table_of("2026-03-12T00:00:00Z", cell), 0, "x")
    assert (caught.value.code, "line 3" in str(caught.value)) == (code, True)


def test_times_with_offset_are_read() -> None:
    times = parse_times(table_of("2026-04-01T00:00:00+05:30", "2026-04-01 00:00Z"), 0, "x")
    assert times == [datetime(2026, 3, 31, 18, 30, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)]


def test_row_75_written_cells_are_no_formulas(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write_table(path, ("x",), [("=HYPERLINK(1)",), ("+1",), ("-1",), ("@a",), ("plain",)])
    assert path.read_text() == "x\n'=HYPERLINK(1)\n'+1\n'-1\n'@a\nplain\n"
    assert path.stat().st_mode & 0o077 == 0
    assert escaped("K1") == "K1"
    with pytest.raises(FileRefused):
        write_table(tmp_path / "no" / "out.csv", ("x",), [])


TEXTS = st.lists(
    st.sampled_from(
        [
            "legacy_number,account_number",
            *IMPORT_HEADER,
            ",",
            "\n",
            '"',
            "\r",
            "K1",
            "1234567890",
            "GEN:1",
            "consumer",
            "2026-01-01T00:00:00Z",
            "=1",
            "\ufeff",
            "\u200b",
            "१२",
            "1E9",
            "\x0b",
            "\u2028",
            ";",
        ]
    ),
    max_size=40,
).map("".join)


@settings(max_examples=100)
@given(st.binary(max_size=200) | TEXTS.map(str.encode), st.sampled_from([0, 1, 2]))
def test_any_file_is_planned_or_refused(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, head: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    start = (b"", ",".join(HEADER).encode() + b"\n", ",".join(IMPORT_HEADER).encode() + b"\n")[head]
    path.write_bytes(start + body)
    empty = DirectorySnapshot()
    for plan in (
        lambda: plan_rekey(empty, path, at=datetime.now(UTC)),
        lambda: plan_import(empty, path, at=datetime.now(UTC)),
    ):
        try:
            rows = plan().rows
        except FileRefused:
            continue
        assert len({r.line for r in rows}) == len(rows)


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_workbook_is_read_or_refused(tmp_path: Path, seed: int) -> None:
    """Octets changed anywhere in it, and letters changed inside one of its parts."""
    chance = random.Random(seed)
    path = tmp_path / "whole.xlsx"
    book = Workbook()
    for row in (HEADER, *(("K1", 1234567890 + i) for i in range(9))):
        book.active.append(row)
    book.save(path)
    octets = bytearray(path.read_bytes())
    if seed % 2:
        for _ in range(chance.choice((1, 3, 30))):
            octets[chance.randrange(len(octets))] = chance.randrange(256)
    else:
        made = io.BytesIO()
        with zipfile.ZipFile(path) as packed, zipfile.ZipFile(made, "w") as other:
            victim = chance.choice(packed.namelist())
            for name in packed.namelist():
                part = bytearray(packed.read(name))
                for _ in range(chance.choice((1, 5, 50)) if name == victim else 0):
                    part[chance.randrange(len(part))] = chance.randrange(32, 127)
                other.writestr(name, bytes(part))
        octets = bytearray(made.getvalue())
    path.write_bytes(octets)
    try:
        table = read_table(path, HEADER)
    except FileRefused:
        return
    assert table.header == HEADER


def test_a_workbook_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.xlsx"
    book = Workbook()
    book.active.append(HEADER)
    book.save(path)
    assert read_table(path, HEADER).rows == []
    monkeypatch.setattr("mapping.workbooks.MAX_UNPACKED", 1_000)
    with pytest.raises(FileRefused) as caught:
        read_table(path, HEADER)
    assert caught.value.code == "TOO_LARGE"


def test_a_workbook_with_several_sheets_must_be_told_which(tmp_path: Path) -> None:
    path = tmp_path / "two.xlsx"
    book = Workbook()
    for sheet in (book.active, book.create_sheet("second")):
        sheet.append(HEADER)
        sheet.append(("K1", datetime(2026, 1, 2)))
    book.save(path)
    with pytest.raises(FileRefused) as caught:
        read_table(path, HEADER)
    assert caught.value.code == "SHEETS"
    with sheets.open_sheet(path, sheets.Dress(sheet="second")) as sheet:
        assert [row.cells for row in sheet.rows] == [("K1", "2026-01-02")]
