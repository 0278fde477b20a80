"""What became of each row of a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from mapping.files import write_table


class Verdict(StrEnum):
    """What happens (dry run) or happened to a row."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    REPAIRED = "repaired"
    CONFLICT = "conflict"
    REJECTED = "rejected"


class RowVerdict(NamedTuple):
    """One row: its line and cells, the verdict and, unless plainly applied, code, reason and suggestion.

    `repaired` rows are applied; the code lists the repairs.
    """

    line: int
    cells: tuple[str, ...]
    verdict: Verdict
    code: str = ""
    reason: str = ""
    suggestion: str = ""


def count(rows: Iterable[RowVerdict]) -> dict[str, int]:
    """Count rows by verdict; every verdict is listed."""
    found = Counter(row.verdict for row in rows)
    return {verdict.value: found[verdict] for verdict in Verdict}


def write_verdicts(path: Path | str, header: tuple[str, ...], rows: Iterable[RowVerdict]) -> int:
    """Write the rows that were not applied with code, reason and suggestion; return their number."""
    refused = [r for r in rows if r.verdict in (Verdict.CONFLICT, Verdict.REJECTED)]
    width = len(header)
    write_table(
        path,
        (*header, "line", "verdict", "code", "reason", "suggestion"),
        (
            (
                *(*r.cells, *([""] * width))[:width],
                str(r.line),
                r.verdict.value,
                r.code,
                r.reason,
                r.suggestion,
            )
            for r in refused
        ),
    )
    return len(refused)
