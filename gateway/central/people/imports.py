"""`contacts import`: mobiles from a file of CSV or a workbook, each row with a verdict in English and Hindi."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from gateway.central.people.contacts import Adding, Contact, ContactRefused, Language, parse_mobile
from gateway.central.people.database import PeopleStore
from mapping.account import AccountNumber, LegacyNumber, NumberSource
from mapping.directory import NumberKind
from mapping.errors import FileRefused, NumberRefused
from mapping.files import has_zone
from mapping.rekey_texts import Text
from mapping.row_verdicts import Verdict
from mapping.rows import in_batches
from mapping.sheets import DETECTED, Dress, Sheet, SheetRow, open_sheet

COLUMNS: Final = ("legacy_number", "account_number", "mobile", "verified_at", "language")
"""`mobile` and one of the two numbers must be there; the others may be empty or absent."""
AT_ONCE: Final = 500
"""Rows of one transaction: codes that are asked for meanwhile do not wait long."""
Find = Callable[[NumberKind, str], str | None]
"""Finds the account id of a number of a kind."""
_CELL = re.compile(r"[0-9.]+E\+?[0-9]+", re.IGNORECASE | re.ASCII)
_PAPER: Final = ("Look at the paper and write it anew.", "काग़ज़ देखकर दोबारा लिखें।")
TEXTS: Final[Mapping[str, Text]] = {
    "COLUMNS": Text(
        "The row has another number of cells than the heading.", "Put the row right.",
        "पंक्ति में शीर्षक जितने ख़ाने नहीं हैं।", "पंक्ति ठीक करें।",
    ),
    "MOBILE": Text(
        "This is no Indian mobile number: ten digits that begin with 6 to 9.", _PAPER[0],
        "यह भारतीय मोबाइल नंबर नहीं है: दस अंक, पहला 6 से 9।", _PAPER[1],
    ),
    "EXCEL_SCIENTIFIC": Text(
        "Excel wrote the mobile with an exponent and lost digits.",
        "Export the column as text and send the file again.",
        "Excel ने मोबाइल को घातांक (E+) में लिखा और अंक खो गए।", "कॉलम को टेक्स्ट (Text) बनाकर फ़ाइल दोबारा भेजें।",
    ),
    "VERIFIED_AT": Text(
        "The time of the verification is not clear.", "Write 2026-04-01T00:00:00+05:30, or leave it empty.",
        "सत्यापन का समय स्पष्ट नहीं है।", "2026-04-01T00:00:00+05:30 जैसा लिखें, या ख़ाली छोड़ें।",
    ),
    "FUTURE": Text(
        "The verification lies in the future: nobody has verified it yet.", _PAPER[0],
        "सत्यापन का समय भविष्य का है: अभी किसी ने सत्यापित नहीं किया।", _PAPER[1],
    ),
    "LANGUAGE": Text(
        "The language is neither en nor hi.", "Write en, hi, or nothing.",
        "भाषा en या hi नहीं है।", "en, hi या ख़ाली लिखें।",
    ),
    "NUMBER": Text(
        "The account's number cannot be read.", _PAPER[0], "खाते का नंबर पढ़ा नहीं जा सकता।", _PAPER[1],
    ),
    "NO_NUMBER": Text(
        "Neither the old nor the new number is there.", "Write one of them.",
        "न पुराना नंबर है न नया।", "दोनों में से एक लिखें।",
    ),
    "TWO_ACCOUNTS": Text(
        "The old and the new number belong to two accounts.", _PAPER[0],
        "पुराना और नया नंबर दो अलग खातों के हैं।", _PAPER[1],
    ),
    "UNKNOWN": Text(
        "We have no account of this number.", "Look whether the number is ours; else ask the sender.",
        "इस नंबर का कोई खाता हमारे पास नहीं है।", "देखें कि नंबर हमारा है या नहीं; नहीं तो भेजने वाले से पूछें।",
    ),
    "SHARED_MOBILE": Text(
        "This mobile stands for ten accounts already: an agent's or landlord's?", "Have somebody review it by hand.",
        "यह मोबाइल पहले से दस खातों में है: एजेंट या मकान-मालिक का?", "किसी से जाँच करवाएँ।",
    ),
    "TOO_MANY": Text(
        "The account has five mobiles already.", "Remove one first: contacts remove.",
        "खाते में पहले से पाँच मोबाइल हैं।", "पहले एक हटाएँ: contacts remove",
    ),
}  # fmt: skip
"""What a clerk reads of each code; complete, and tested to be. It never repeats the mobile."""


class ContactVerdict(NamedTuple):
    """What became of one row: file line, verdict, code and column where something is wrong or was repaired."""

    line: int
    verdict: Verdict
    code: str = ""
    column: str = ""
    position: int | None = None

    def what(self, language: Language) -> str:
        """Return what was found, empty where nothing was."""
        return TEXTS[self.code].what(language) if self.code in TEXTS else ""

    def advice(self, language: Language) -> str:
        """Return what to do."""
        return TEXTS[self.code].advice(language) if self.code in TEXTS else ""


@dataclass(frozen=True, slots=True)
class ContactImport:
    """What an import did: rows by verdict, and those that were not applied."""

    counts: Mapping[Verdict, int]
    not_applied: tuple[ContactVerdict, ...]


class _Row(NamedTuple):
    line: int
    contact: Contact
    repairs: str


class _NotApplied(Exception):
    def __init__(self, code: str, column: str, position: int | None = None) -> None:
        super().__init__(code)
        self.code, self.column, self.position = code, column, position


def import_contacts(
    store: PeopleStore, path: Path, find: Find, *, by: str, now: datetime, dress: Dress = DETECTED
) -> ContactImport:
    """Add the mobiles of a file, or bring those that are there up to date; the same file again changes nothing.

    The whole file is read before its first row is applied. Raises FileRefused with a code (those of `open_sheet`,
    HEADER) where it cannot be trusted: then nothing of it was applied.
    """
    with open_sheet(path, dress) as sheet:
        order = _order(sheet)
        for _ in sheet.rows:
            pass
    counts: Counter[Verdict] = Counter()
    left: list[ContactVerdict] = []
    with open_sheet(path, dress) as sheet:
        for some in in_batches((row for row in sheet.rows if any(row.cells)), AT_ONCE):
            for verdict in _apply(
                store, [_judged(row, sheet, order, find) for row in some], sheet.name, by, now
            ):
                counts[verdict.verdict] += 1
                if verdict.verdict in (Verdict.REJECTED, Verdict.CONFLICT):
                    left.append(verdict)
    return ContactImport({verdict: counts[verdict] for verdict in Verdict}, tuple(left))


def _order(sheet: Sheet) -> dict[str, int]:
    want = ", ".join(COLUMNS)
    for name in sheet.heading:
        if name not in COLUMNS:
            raise FileRefused(
                "HEADER", f"{sheet.name}, line 1: unknown column {name[:40]!r}; there are {want}"
            )
        if sheet.heading.count(name) > 1:
            raise FileRefused("HEADER", f"{sheet.name}, line 1: column {name} stands twice")
    order = {name: i for i, name in enumerate(sheet.heading)}
    if "mobile" not in order or not {"legacy_number", "account_number"} & order.keys():
        raise FileRefused(
            "HEADER", f"{sheet.name}, line 1: `mobile` and one of legacy_number, account_number are needed"
        )
    return order


def _judged(row: SheetRow, sheet: Sheet, order: Mapping[str, int], find: Find) -> _Row | ContactVerdict:
    try:
        cells = row.cells
        if sheet.form == "xlsx":
            cells = (*cells, *[""] * (len(order) - len(cells)))
        if len(cells) != len(order):
            raise _NotApplied("COLUMNS", "")
        return _parsed(row.line, {name: cells[i].strip() for name, i in order.items()}, find)
    except _NotApplied as error:
        return ContactVerdict(row.line, Verdict.REJECTED, error.code, error.column, error.position)


def _parsed(line: int, cells: Mapping[str, str], find: Find) -> _Row:
    if _CELL.fullmatch(cells["mobile"]):
        raise _NotApplied("EXCEL_SCIENTIFIC", "mobile")
    try:
        mobile = parse_mobile(cells["mobile"].removeprefix("'"))
    except ContactRefused as error:
        raise _NotApplied(error.code, "mobile") from error
    language = cells.get("language", "").lower()
    if language not in ("", "en", "hi"):
        raise _NotApplied("LANGUAGE", "language")
    account_id, repairs = _account(cells, find)
    contact = Contact(
        account_id=account_id,
        mobile=mobile,
        verified_at=_instant(cells.get("verified_at", "")),
        language="en" if language == "en" else "hi" if language == "hi" else None,
    )
    return _Row(line, contact, repairs)


def _instant(cell: str) -> datetime | None:
    try:
        if cell and not has_zone(cell):
            raise ValueError(cell)
        return datetime.fromisoformat(cell) if cell else None
    except ValueError as error:
        raise _NotApplied("VERIFIED_AT", "verified_at") from error


def _account(cells: Mapping[str, str], find: Find) -> tuple[str, str]:
    found: dict[str, str | None] = {}
    repairs: list[str] = []
    for column, kind in (("legacy_number", NumberKind.LEGACY), ("account_number", NumberKind.ACCOUNT)):
        if not cells.get(column):
            continue
        try:
            number = LegacyNumber if kind is NumberKind.LEGACY else AccountNumber
            parsed = number.parse(cells[column], source=NumberSource.FILE)
        except NumberRefused as error:
            raise _NotApplied("NUMBER", column, error.position) from error
        repairs += parsed.repairs
        found[column] = find(kind, str(parsed.number))
    if not found:
        raise _NotApplied("NO_NUMBER", "legacy_number")
    for column, account in found.items():
        if account is None:
            raise _NotApplied("UNKNOWN", column)
    accounts = [account for account in found.values() if account is not None]
    if len(set(accounts)) > 1:
        raise _NotApplied("TWO_ACCOUNTS", "account_number")
    return accounts[0], " ".join(dict.fromkeys(repairs))


def _apply(
    store: PeopleStore, some: Sequence[_Row | ContactVerdict], source: str, by: str, now: datetime
) -> Iterator[ContactVerdict]:
    done: list[ContactVerdict] = []
    news = [row.contact for row in some if isinstance(row, _Row)]
    with store.db.writing("importing contacts") as db:
        adding = Adding(db, news, by=by, source=source, at=now)
        for row in some:
            if isinstance(row, ContactVerdict):
                done.append(row)
                continue
            try:
                _, changed = adding.add(row.contact)
            except ContactRefused as error:
                verdict = Verdict.REJECTED if error.code == "FUTURE" else Verdict.CONFLICT
                column = "verified_at" if error.code == "FUTURE" else "mobile"
                done.append(ContactVerdict(row.line, verdict, error.code, column))
                continue
            verdict = Verdict.REPAIRED if row.repairs else Verdict.APPLIED
            done.append(ContactVerdict(row.line, verdict if changed else Verdict.UNCHANGED, row.repairs))
        adding.finish()
    return iter(done)
