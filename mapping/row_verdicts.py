"""What becomes of each row of a file, and the file of what must be put right."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
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


LEFT = frozenset({Verdict.CONFLICT, Verdict.REJECTED})
"""The verdicts of rows that are not applied."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePlan:
    """A dry run of a file: a verdict for every row; nothing was changed.

    `digest` is the SHA-256 of the file, `version` the directory version that it was planned on.
    """

    name: str
    digest: str
    version: int
    header: tuple[str, ...]
    rows: tuple[RowVerdict, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Rows by verdict; every verdict is listed."""
        found = Counter(row.verdict for row in self.rows)
        return {verdict.value: found[verdict] for verdict in Verdict}

    def write_corrections(self, path: Path | str) -> int:
        """Write the rows that were not applied as CSV, to be put right, and return their number.

        Each has its line, verdict, code, reason and suggestion beside its cells. Raises FileRefused
        (`UNWRITABLE`) when the file cannot be written.
        """
        refused = [r for r in self.rows if r.verdict in LEFT]
        width = len(self.header)
        write_table(
            path,
            (*self.header, "line", "verdict", "code", "reason", "suggestion"),
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
