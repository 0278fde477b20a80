"""A re-key plan as the terminal shows it, in one of two languages, or as one JSON document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.cli.office.rekey_reports import write_report
from gateway.cli.output import print_fields, print_json, print_line, print_table
from mapping.rekey_corrections import write_corrections
from mapping.rekey_plan import Cause, RekeyPlan
from mapping.rekey_rows import Row
from mapping.rekey_texts import COLUMN_WORDS, LANGUAGES, VERDICTS, Language, cause_text, row_text

MAX_JSON_ROWS = 10_000
"""Rows of a file above which JSON has the refused ones only."""


_WORDS = {
    "file": ("file", "फ़ाइल"),
    "fingerprint": ("fingerprint", "फ़िंगरप्रिंट"),
    "version": ("directory version", "निर्देशिका संस्करण"),
    "control": ("control", "मिलान"),
    "accounts": ("accounts with a number", "नंबर वाले खाते"),
    "not_looked": ("columns not looked at", "जो कॉलम नहीं देखे गए"),
    "refused": ("REFUSED AS A WHOLE", "पूरी फ़ाइल अस्वीकृत"),
    "approval": ("NEEDS APPROVAL", "मंज़ूरी चाहिए"),
    "not_applied": ("will not be applied", "लागू नहीं होगा"),
    "more": ("more (--rows-shown, --report FILE)", "और (--rows-shown, --report FILE)"),
    "next": ("to apply exactly this", "ठीक यही लागू करने के लिए"),
    "rows": ("rows", "पंक्तियाँ"),
}
_COLUMNS = {
    "line": ("line", "पंक्ति"),
    "verdict": ("verdict", "परिणाम"),
    "column": ("column", "कॉलम"),
    "seen": ("seen", "लिखा था"),
    "code": ("code", "कोड"),
    "what": ("what was found", "क्या मिला"),
    "to_do": ("what to do", "क्या करें"),
    "candidates": ("candidates", "सुझाव"),
}


def shown_plan(
    plan: RekeyPlan,
    language: Language,
    *,
    shown: int,
    as_json: bool,
    corrections: Path | None,
    reports: list[Path] | None,
) -> None:
    """Print what becomes of a file, at most `shown` refused rows of it, and write what was asked for."""
    written = [] if corrections is None else [(corrections, write_corrections(plan, corrections, language))]
    written += [(path, write_report(plan, path, language)) for path in reports or []]
    facts, counts = plan.facts, plan.counts
    if as_json:
        print_json(_document(plan, language))
        return
    word = {name: words[LANGUAGES.index(language)] for name, words in _WORDS.items()}
    print_fields(
        {
            word["file"]: f"{facts.name} ({facts.form})",
            word["fingerprint"]: plan.fingerprint,
            word["version"]: facts.version,
            word["control"]: facts.control or None,
            word["accounts"]: f"{facts.today} → {facts.after}",
            **{VERDICTS[verdict][LANGUAGES.index(language)]: count for verdict, count in counts.items()},
        },
        as_json=False,
    )
    if facts.ignored:
        print_line(f"{word['not_looked']}: {', '.join(facts.ignored)}")
    for cause in facts.causes:
        print_line(f"{word['refused']}: {cause_text(cause, language)}")
    refused = [_spoken(row, language) for row in _some(plan.iterate(refused=True), shown)]
    if refused:
        print_table(refused, as_json=False, title=word["not_applied"])
    left = counts["conflict"] + counts["rejected"] - len(refused)
    if left > 0 and refused:
        print_line(f"… {left} {word['more']}")
    for path, number in written:
        print_line(f"{path}: {number} {word['rows']}")
    if facts.causes:
        return
    command = f"meter-gateway directory rekey apply {plan.fingerprint}"
    if not facts.vouched:
        print_line(f"{word['approval']}: {cause_text(Cause('NO_CONTROL', {}), language)}")
        command += " --without-control --approver NAME"
    print_line(f"{word['next']}: {command}")


def _some(rows: Iterator[Row], count: int) -> Iterator[Row]:
    for _, row in zip(range(count), rows, strict=False):
        yield row


def _spoken(row: Row, language: Language) -> dict[str, Any]:
    pick = LANGUAGES.index(language)
    what, do = row_text(row, language)
    cells = {
        "line": row.line,
        "verdict": VERDICTS[row.verdict or "rejected"][pick],
        "column": COLUMN_WORDS[row.spot][pick],
        "seen": row.seen,
        "code": row.code,
        "what": what,
        "to_do": do,
        "candidates": row.candidates or None,
    }
    return {_COLUMNS[name][pick]: cell for name, cell in cells.items()}


def _document(plan: RekeyPlan, language: Language) -> dict[str, Any]:
    facts, counts = plan.facts, plan.counts
    total = sum(counts.values())
    return {
        "file": facts.name,
        "form": facts.form,
        "fingerprint": plan.fingerprint,
        "directory_version": facts.version,
        "vouched": facts.vouched,
        "control": facts.control,
        "accounts_with_a_number": {"today": facts.today, "after": facts.after},
        "effective": facts.effective,
        "ignored_columns": list(facts.ignored),
        "counts": counts,
        "causes": [
            {"code": c.code, "facts": dict(c.facts), **{one: cause_text(c, one) for one in LANGUAGES}}
            for c in facts.causes
        ],
        "rows": [
            {
                "line": row.line,
                "verdict": row.verdict,
                "code": row.code,
                "column": row.spot,
                "position": row.position,
                "seen": row.seen,
                "legacy_number": row.old,
                "account_number": row.new,
                "today": row.today,
                "candidates": row.candidates.split(" ") if row.candidates else [],
                "what": row_text(row, language)[0],
                "to_do": row_text(row, language)[1],
            }
            for row in plan.iterate(refused=total > MAX_JSON_ROWS)
        ],
    }
