"""The report of a re-key plan as a page, a workbook or a table: every row against today, formulas never run."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gateway.cli.output import harmless
from gateway.errors import UsageError
from mapping.files import escaped, written
from mapping.rekey_plan import RekeyPlan
from mapping.rekey_rows import Row
from mapping.rekey_texts import COLUMN_WORDS, LANGUAGES, VERDICTS, Language, cause_text, row_text
from mapping.row_verdicts import Verdict

MAX_PAGE_ROWS = 2_000
"""Rows of one verdict on a page; a workbook and a table have them all."""
MAX_SHEET_ROWS = 1_048_000
"""Rows of one sheet of a workbook: what the format carries, less a heading."""
_HEADINGS = {
    "line": ("line", "पंक्ति"),
    "verdict": ("verdict", "परिणाम"),
    "code": ("code", "कोड"),
    "legacy_number": ("old number", "पुराना नंबर"),
    "today": ("number today", "आज का नंबर"),
    "then": ("number then", "नया नंबर"),
    "column": ("column", "कॉलम"),
    "position": ("position", "स्थान"),
    "seen": ("what was seen", "क्या लिखा था"),
    "what": ("what was found", "क्या मिला"),
    "to_do": ("what to do", "क्या करें"),
    "candidates": ("candidates, none is chosen", "सुझाव, कोई चुना नहीं गया"),
    "cells": ("the row", "पूरी पंक्ति"),
}
_WORDS = {
    "title": ("Re-key file", "नंबर बदलने की फ़ाइल"),
    "today": ("accounts with a number today", "आज नंबर वाले खाते"),
    "after": ("accounts with a number then", "लागू होने पर नंबर वाले खाते"),
    "fingerprint": ("fingerprint", "फ़िंगरप्रिंट"),
    "version": ("planned on directory version", "निर्देशिका संस्करण"),
    "control": ("control", "मिलान"),
    "vouched": ("a second source has the new numbers", "दूसरे स्रोत में नए नंबर हैं"),
    "yes": ("yes", "हाँ"),
    "no": ("no: somebody else must approve", "नहीं: किसी दूसरे अधिकारी की मंज़ूरी चाहिए"),
    "refused": ("Refused as a whole", "पूरी फ़ाइल अस्वीकृत"),
    "more": ("more rows are in the workbook or table", "बाकी पंक्तियाँ Excel या CSV रिपोर्ट में हैं"),
}
_PAGE = """<!doctype html>
<html lang="{{ language }}"><head><meta charset="utf-8"><title>{{ word.title }} {{ facts.name }}</title><style>
body { font: 16px/1.5 sans-serif; margin: 1.5rem; max-width: 90rem } table { border-collapse: collapse; width: 100% }
th, td { border: 1px solid #999; padding: .25rem .5rem; text-align: left; vertical-align: top }
th { background: #eee } .stop { border-left: .5rem solid #a00; padding: .5rem 1rem; background: #fdd }
</style></head><body><h1>{{ word.title }}: {{ facts.name }}</h1>
{% for cause in causes %}<p class="stop"><strong>{{ word.refused }}.</strong> {{ cause }}</p>{% endfor %}
<table>{% for name, value in summary %}<tr><th>{{ name }}</th><td>{{ value }}</td></tr>{% endfor %}</table>
{% for title, count, rows in groups %}{% if count %}<h2>{{ title }}: {{ count }}</h2>
<table><tr>{% for name in headings %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>{% if count > most %}<p>… {{ count - most }} {{ word.more }}.</p>{% endif %}{% endif %}{% endfor %}
</body></html>
"""


def write_report(plan: RekeyPlan, path: Path, language: Language) -> int:
    """Write the report in the form that the name's ending says, private; return how many rows are in it.

    Raises UsageError for another ending, FileRefused (`UNWRITABLE`).
    """
    match path.suffix.lower():
        case ".html":
            return _write_page(plan, path, language)
        case ".csv":
            return _write_table(plan, path, language)
        case ".xlsx":
            return _write_workbook(plan, path, language)
    raise UsageError(f"--report {path.name}: the name ends in .html, .xlsx or .csv")


def _spoken(row: Row, language: Language) -> list[str]:
    pick = LANGUAGES.index(language)
    what, do = row_text(row, language)
    then = row.new if row.verdict in (Verdict.APPLIED, Verdict.REPAIRED, Verdict.UNCHANGED) else row.today
    return [
        str(row.line),
        VERDICTS[row.verdict or ""][pick],
        row.code,
        row.old,
        row.today or "",
        then or "",
        COLUMN_WORDS[row.spot][pick],
        "" if row.position is None else str(row.position),
        harmless(row.seen),  # a sign that nobody sees is what this row is about
        what,
        do,
        row.candidates,
        " | ".join(json.loads(row.cells)),
    ]


def _headings(language: Language) -> list[str]:
    return [words[LANGUAGES.index(language)] for words in _HEADINGS.values()]


def _summary(plan: RekeyPlan, language: Language) -> list[tuple[str, str]]:
    facts = plan.facts
    word = {name: words[LANGUAGES.index(language)] for name, words in _WORDS.items()}
    return [
        (word["fingerprint"], plan.fingerprint),
        (word["version"], str(facts.version)),
        (word["today"], str(facts.today)),
        (word["after"], str(facts.after)),
        (word["control"], facts.control or "-"),
        (word["vouched"], word["yes"] if facts.vouched else word["no"]),
        *(
            (VERDICTS[verdict][LANGUAGES.index(language)], str(count))
            for verdict, count in plan.counts.items()
        ),
    ]


def _write_page(plan: RekeyPlan, path: Path, language: Language) -> int:
    from jinja2 import Environment

    told = 0

    def rows(verdict: Verdict) -> Iterator[list[str]]:
        nonlocal told
        for row in plan.iterate_verdict(verdict, MAX_PAGE_ROWS):
            told += 1
            yield _spoken(row, language)

    pick, counts = LANGUAGES.index(language), plan.counts
    order = (Verdict.REJECTED, Verdict.CONFLICT, Verdict.REPAIRED, Verdict.APPLIED, Verdict.UNCHANGED)
    page = Environment(autoescape=True).from_string(_PAGE)
    stream = page.stream(
        language=language,
        facts=plan.facts,
        word={name: words[pick] for name, words in _WORDS.items()},
        causes=[cause_text(cause, language) for cause in plan.causes],
        summary=_summary(plan, language),
        headings=_headings(language),
        groups=[(VERDICTS[v][pick], counts[v], rows(v)) for v in order],
        most=MAX_PAGE_ROWS,
    )
    with written(path) as file:
        file.writelines(stream)
    return told


def _write_table(plan: RekeyPlan, path: Path, language: Language) -> int:
    count = 0
    with written(path) as file:
        file.write("\ufeff")  # without it Excel takes Hindi for Windows-1252
        # All in quotes: where Excel separates by semicolons, a comma file's cells must not begin anew at one.
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerow(_headings(language))
        for row in plan.iterate():
            writer.writerow(escaped(cell) for cell in _spoken(row, language))
            count += 1
    return count


def _write_workbook(plan: RekeyPlan, path: Path, language: Language) -> int:
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    book: Any = Workbook(write_only=True)

    def put(sheet: Any, cells: Iterable[str]) -> None:
        made = []
        for text in cells:
            cell = WriteOnlyCell(sheet, ILLEGAL_CHARACTERS_RE.sub("\ufffd", escaped(text)))
            cell.data_type = "s"  # text, whatever it looks like
            made.append(cell)
        sheet.append(made)

    first = book.create_sheet("summary")
    for name, value in _summary(plan, language):
        put(first, (name, value))
    for cause in plan.causes:
        put(first, (cause.code, cause_text(cause, language)))
    count, sheet = 0, None
    for row in plan.iterate():
        if count % MAX_SHEET_ROWS == 0:
            sheet = book.create_sheet(f"rows {count // MAX_SHEET_ROWS + 1}")
            put(sheet, _headings(language))
        put(sheet, _spoken(row, language))
        count += 1
    with written(path) as file:
        book.save(file.buffer)
    return count
