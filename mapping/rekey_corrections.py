"""The rows of a re-key file that were not applied, as a file that can be put right and sent in again as it is."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from mapping.files import escaped, written
from mapping.rekey_plan import RekeyPlan
from mapping.rekey_texts import Language, row_text

ADDED = ("in_line", "verdict", "code", "what", "to_do", "candidates")
"""Columns beside the sender's own; reading does not look at them."""


def write_corrections(plan: RekeyPlan, path: Path, language: Language = "en") -> int:
    """Write the refused rows under the sender's own headings as CSV (UTF-8, private), and return their number.

    It is written with the separator of the file, so that the sender's profile reads it, too; a cell that a spreadsheet
    would run has an apostrophe before it, which reading takes off. Raises FileRefused (`UNWRITABLE`).
    """
    heading, form = plan.facts.heading, plan.facts.form.split(" ")
    separator = "," if form[0] == "xlsx" else "\t" if form[-1] == "tab" else form[-1]
    count = 0
    with written(path) as file:
        file.write("\ufeff")
        writer = csv.writer(file, delimiter=separator, lineterminator="\n")
        kept = [at for at, title in enumerate(heading) if title not in ADDED]
        writer.writerow([*(escaped(heading[at]) for at in kept), *ADDED])
        for row in plan.iterate(refused=True):
            cells: list[str] = json.loads(row.cells)
            cells += [""] * (len(heading) - len(cells))
            what, do = row_text(row, language)
            told = (str(row.line), row.verdict or "", row.code, what, do, row.candidates)
            writer.writerow([escaped(_one_line(cell)) for cell in (*(cells[at] for at in kept), *told)])
            count += 1
    return count


def _one_line(cell: str) -> str:
    return cell.replace("\r", " ").replace("\n", " ")
