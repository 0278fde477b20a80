"""One row of a re-key file by itself: its numbers parsed and repaired, its other cells read, or refused with where."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from mapping.account import AccountNumber, LegacyNumber, NumberSource
from mapping.errors import NumberRefused
from mapping.files import DATE_LIKE, has_zone
from mapping.instants import AHEAD, FIRST_YEAR, IST, micros
from mapping.row_verdicts import Verdict
from mapping.senders import Sender
from mapping.sheets import SheetRow

RELATIONS = ("", "stays", "splits", "merges")
MAX_SEEN = 64
"""Characters of a cell that a verdict shows."""
_TEN = re.compile(r"[0-9]{10}")
_ISO_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ISO_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?")
_MONTH_DAY = re.compile(r"([0-9]{1,2})[- ]([A-Za-z]{3})[- ]([0-9]{4})")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_TWO_WAYS = re.compile(r"[0-9]{1,4}[/.-][0-9]{1,2}[/.-][0-9]{2,4}")
_MOBILE = re.compile(r"(?:\+?91|0)([6-9][0-9]{9})")
_PHONE_TITLE = re.compile(r"mobile|phone|contact|mob\b|मोबाइल|फोन|फ़ोन", re.IGNORECASE)


class Row(NamedTuple):
    """A row as it is kept in a plan: what it says, what became of it, what the directory and the control say.

    `old` and `new` are the parsed numbers, empty where they do not parse. `other` names what stands in the way (a
    line, a number); `candidates` are offered, never chosen. `today` is the number that the account has, `owner` the
    account that has the new number, `former` 1 where the account had the new number before, `fitted` the meters that
    the account has or had. Meter, name and place are as `plain` and `same_words` write them.
    """

    line: int
    cells: str
    old: str = ""
    new: str = ""
    meter: str = ""
    name: str = ""
    place: str = ""
    effective: int | None = None
    relation: str = ""
    repairs: str = ""
    verdict: str | None = None
    code: str = ""
    spot: str = ""
    position: int | None = None
    seen: str = ""
    other: str = ""
    candidates: str = ""
    account: str | None = None
    today: str | None = None
    owner: str | None = None
    former: int = 0
    fitted: str = ""


@dataclass(slots=True)
class RowReader:
    """Reads the rows of one file; `places` says where each column stands in it, `now` when it is looked at."""

    sender: Sender
    heading: tuple[str, ...]
    places: Mapping[str, int]
    now: datetime
    padded: bool
    """Rows of a workbook end at their last filled cell."""
    phones: tuple[int, ...] = field(init=False)
    _instants: dict[str, tuple[int | None, str]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.phones = tuple(
            i for i, t in enumerate(self.heading) if i not in self.places.values() and _PHONE_TITLE.search(t)
        )

    def read(self, row: SheetRow) -> Row:
        """Return what the row says; refused ones have their verdict already."""
        cells = row.cells
        if len(cells) < len(self.heading) and self.padded:
            cells = (*cells, *[""] * (len(self.heading) - len(cells)))
        kept = json.dumps(cells, ensure_ascii=False, separators=(",", ":"))
        if len(cells) != len(self.heading):
            return self._refused(Row(row.line, kept), "COLUMNS", "", other=str(len(cells)))
        old_cell, new_cell = self._cell(cells, "legacy_number"), self._cell(cells, "account_number")
        read = Row(
            row.line,
            kept,
            meter=plain(self._cell(cells, "meter")),
            name=same_words(self._cell(cells, "name")),
            place=same_words(self._cell(cells, "locality")),
            relation=self._cell(cells, "relation").strip().lower(),
        )
        try:
            old = LegacyNumber.parse(old_cell, source=NumberSource.FILE)
        except NumberRefused as error:
            return self._damaged(read, "legacy_number", old_cell, error, cells)
        if DATE_LIKE.fullmatch(old.number.text):
            return self._refused(read, "DATE_COERCED", "legacy_number", seen=old_cell)
        read = read._replace(old=old.number.text)
        try:
            new = AccountNumber.parse(new_cell, source=NumberSource.FILE, prefixes=self.sender.prefixes)
        except NumberRefused as error:
            return self._damaged(read, "account_number", new_cell, error, cells)
        repairs = " ".join(dict.fromkeys((*old.repairs, *new.repairs))) if old.repairs or new.repairs else ""
        read = read._replace(new=new.number.text, repairs=repairs)
        return self._placed(read, cells)

    def _placed(self, read: Row, cells: tuple[str, ...]) -> Row:
        """Judge what the cells beside the numbers say."""
        if any(_bare(cells[i]) == read.new for i in self.phones):
            return self._refused(read, "MOBILE", "account_number", seen=read.new)
        if read.new in read.meter:
            return self._refused(read, "METER_SERIAL", "account_number", seen=read.new)
        if read.relation not in RELATIONS:
            return self._refused(read, "RELATION", "relation", seen=read.relation)
        cell = self._cell(cells, "effective_from").strip()
        if not cell:
            return read
        if cell not in self._instants:
            self._instants[cell] = self._instant(cell)
        effective, code = self._instants[cell]
        if code:
            return self._refused(read, code, "effective_from", seen=cell)
        return read._replace(effective=effective)

    def _cell(self, cells: tuple[str, ...], column: str) -> str:
        index = self.places.get(column)
        return "" if index is None else cells[index]

    def _damaged(self, read: Row, spot: str, cell: str, error: NumberRefused, cells: tuple[str, ...]) -> Row:
        code, position = error.code, error.position
        if code.startswith("LENGTH_"):
            code = "LENGTH"
        stripped = cell.strip("\ufeff \t\r\n\u00a0")
        if not stripped:
            code, position = "EMPTY", None
        elif DATE_LIKE.fullmatch(stripped) or _ISO_DAY.fullmatch(stripped):
            code, position = "DATE_COERCED", None
        elif spot == "account_number" and _MOBILE.fullmatch(re.sub(r"[ -]", "", stripped)):
            code, position = "MOBILE", None
        elif spot == "account_number" and read.meter and plain(stripped) == read.meter:
            code, position = "METER_SERIAL", None
        elif stripped.startswith("=") and code in ("NOT_DIGITS", "LEGACY_FORMAT"):
            code, position = "FORMULA", None
        offered = [error.suggestion] if error.suggestion else []
        if spot == "account_number":
            offered += self._elsewhere(cells)
        other = str(len(stripped)) if code == "LENGTH" else ""
        refused = self._refused(read, code, spot, seen=cell, other=other)
        return refused._replace(position=position, candidates=" ".join(dict.fromkeys(offered)))

    def _elsewhere(self, cells: tuple[str, ...]) -> list[str]:
        """Return whole numbers in columns that are not ours: somebody may have kept the right one beside."""
        used = {*self.places.values(), *self.phones}
        return [c.strip() for i, c in enumerate(cells) if i not in used and _TEN.fullmatch(c.strip())][:3]

    def _refused(self, read: Row, code: str, spot: str, *, seen: str = "", other: str = "") -> Row:
        return read._replace(
            verdict=Verdict.REJECTED.value, code=code, spot=spot, seen=seen[:MAX_SEEN], other=other
        )

    def _instant(self, cell: str) -> tuple[int | None, str]:
        """Return when a row takes effect, or the code of what is wrong with the cell."""
        at = self.sender.date(cell) or _told(cell)
        if at is None:
            told = self.sender.dates is not None or _ISO_DAY.fullmatch(cell) is not None
            return None, "DATE_AMBIGUOUS" if not told and _TWO_WAYS.fullmatch(cell) else "DATE_UNREADABLE"
        if at.year < FIRST_YEAR or at - self.now > AHEAD:
            return None, "DATE_IMPOSSIBLE"
        return micros(at.astimezone(UTC)), ""


def _told(cell: str) -> datetime | None:
    """Return the instant of ISO 8601 or of a day with a named month; one without a zone is Indian time."""
    try:
        if _ISO_DAY.fullmatch(cell) or _ISO_TIME.fullmatch(cell):
            return datetime.fromisoformat(cell).replace(tzinfo=IST)
        if has_zone(cell):
            return datetime.fromisoformat(cell)
        if (match := _MONTH_DAY.fullmatch(cell)) and match[2].lower() in _MONTHS:
            return datetime(int(match[3]), _MONTHS.index(match[2].lower()) + 1, int(match[1]), tzinfo=IST)
    except (ValueError, OverflowError):
        return None
    return None


def plain(text: str) -> str:
    """Return a meter as it is compared: letters and digits in capitals."""
    return "".join(filter(str.isalnum, text)).upper()


def same_words(text: str) -> str:
    """Return a name or place as it is compared: without case, spaces, quotes and points."""
    folded = unicodedata.normalize("NFKC", text.removeprefix("'")).casefold()
    return "".join(c for c in folded if c.isalnum() or unicodedata.category(c)[0] == "M")


def _bare(cell: str) -> str:
    digits = re.sub(r"[ ()+-]", "", cell.strip())
    match = _MOBILE.fullmatch(digits)
    return match[1] if match else digits
