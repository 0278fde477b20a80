"""Who sends re-key files, and in which form: headings, dress, dates, prefixes and limits, kept in one JSON file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path

from mapping.errors import FileRefused
from mapping.files import write_whole
from mapping.instants import IST
from mapping.sheets import ENCODINGS, SEPARATORS, Dress

COLUMNS = (
    "legacy_number",
    "account_number",
    "meter",
    "name",
    "locality",
    "effective_from",
    "relation",
    "sequence",
)
"""What a column of a re-key file or control file may say; only the first is always needed."""
HEADINGS: Mapping[str, tuple[str, ...]] = {
    "legacy_number": (
        "old_no",
        "old_number",
        "old_account_no",
        "old_connection_no",
        "पुराना_नंबर",
        "पुराना_खाता",
    ),
    "account_number": ("new_no", "new_number", "new_account_no", "नया_नंबर", "नया_खाता"),
    "meter": ("meter_no", "meter_number", "meter_serial", "meter_serial_no", "मीटर", "मीटर_नंबर"),
    "name": ("consumer_name", "customer_name", "नाम", "उपभोक्ता_का_नाम"),
    "locality": ("place", "area", "mohalla", "मोहल्ला", "इलाका"),
    "effective_from": ("effective_date", "effective", "लागू_तिथि"),
    "relation": (),
    "sequence": ("file_no",),
}
"""Headings that are understood without a profile, beside the columns' own names; a closed list, never guessed from."""
DATES = {
    "YYYY-MM-DD": "%Y-%m-%d",
    "DD/MM/YYYY": "%d/%m/%Y",
    "MM/DD/YYYY": "%m/%d/%Y",
    "DD-MM-YYYY": "%d-%m-%Y",
    "MM-DD-YYYY": "%m-%d-%Y",
    "DD.MM.YYYY": "%d.%m.%Y",
    "DD/MM/YY": "%d/%m/%y",
    "DD-Mon-YYYY": "%d-%b-%Y",
}
"""How a sender may be declared to write dates; without that only ISO 8601 and 05-Apr-2026 are read."""
MAX_SENDERS = 1_000
"""Profiles in the file."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_PREFIX = re.compile(r"[A-Z]{2,8}")
_BETWEEN = re.compile(r"[\s._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Percent of a file's rows above which the whole file is refused; rates are judged from 20 rows on.

    `refused`: rejected and in conflict; `changed`: would get another number than they have; `disagreeing`: meter,
    name or locality of another consumer; `missing`: consumers without a number that the file leaves out.
    """

    refused: int = 20
    changed: int = 5
    disagreeing: int = 2
    missing: int = 2

    @classmethod
    def of(cls, given: Mapping[str, int], base: Limits | None = None) -> Limits:
        """Return limits with some of them changed; FileRefused (`SENDER`) for unknown names and no percent."""
        for name, percent in given.items():
            if name not in {f.name for f in fields(cls)} or not 0 <= percent <= 100:
                raise FileRefused(
                    "SENDER", f"limit {name}={percent}: write one of {_names(cls)} as 0 to 100 percent"
                )
        return replace(base or cls(), **given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """How one sender writes its files. FileRefused (`SENDER`) says what of it cannot be."""

    name: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Its heading of each column that is not called as we call it."""
    encoding: str | None = None
    separator: str | None = None
    sheet: str | None = None
    dates: str | None = None
    prefixes: frozenset[str] = frozenset()
    """Company codes that may stand before the 10 digits."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for allowed, given in (
            (ENCODINGS, self.encoding),
            (SEPARATORS, self.separator),
            (tuple(DATES), self.dates),
        ):
            if given is not None and given not in allowed:
                raise FileRefused("SENDER", f"{given!r} is none of {', '.join(map(repr, allowed))}")
        for column in self.columns:
            if column not in COLUMNS:
                raise FileRefused(
                    "SENDER", f"there is no column {column[:40]!r}; there are {', '.join(COLUMNS)}"
                )
        for prefix in self.prefixes:
            if not _PREFIX.fullmatch(prefix):
                raise FileRefused(
                    "SENDER", f"prefix {prefix[:40]!r}: a company code has 2 to 8 letters, like MAVVNL"
                )

    @property
    def dress(self) -> Dress:
        """Return what is declared of the form of its files."""
        return Dress(self.encoding, self.separator, self.sheet)

    def find(self, heading: Iterable[str], name: str, needed: Iterable[str]) -> dict[str, int]:
        """Return where each column stands in a file with this heading; columns that are not ours are left out.

        Raises FileRefused (`HEADER`) when a needed column is missing or one stands twice.
        """
        places: dict[str, int] = {}
        known = {_plain(title): column for column, titles in HEADINGS.items() for title in (column, *titles)}
        for column, title in self.columns.items():
            known = {t: c for t, c in known.items() if c != column}
            known[_plain(title)] = column
        titles = tuple(heading)
        for index, title in enumerate(titles):
            found = known.get(_plain(title))
            if found is None:
                continue
            if found in places:
                raise FileRefused("HEADER", f"{name}, line 1: column {found} stands twice ({title[:40]!r})")
            places[found] = index
        for column in needed:
            if column not in places:
                seen = ", ".join(repr(t[:40]) for t in titles[:12])
                raise FileRefused(
                    "HEADER",
                    f"{name}, line 1: no column {column} among {seen}: say what the sender calls it, "
                    f"`meter-gateway directory senders save NAME --column {column}=HEADING`",
                )
        return places

    def date(self, cell: str) -> datetime | None:
        """Return the Indian day that a cell names under the declared form, None when it names none."""
        if self.dates is None:
            return None
        try:
            return datetime.strptime(cell, DATES[self.dates]).replace(tzinfo=IST)
        except ValueError:
            return None


ANYBODY = Sender()
"""A sender of whom nothing is kept."""


def load_senders(path: Path) -> dict[str, Sender]:
    """Return the senders kept in a file, by name; none when there is no file. FileRefused when it is damaged."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return {name: _loaded(name, one) for name, one in kept.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise FileRefused("SENDER", f"{path.name} cannot be read as senders' profiles: {error}") from error


def save_sender(path: Path, sender: Sender) -> None:
    """Keep a sender's profile, in place of one of the same name."""
    if not _NAME.fullmatch(sender.name):
        raise FileRefused("SENDER", f"{sender.name[:40]!r}: a sender's name has letters, digits, _ and -")
    senders = load_senders(path)
    if sender.name not in senders and len(senders) >= MAX_SENDERS:
        raise FileRefused("SENDER", f"{len(senders)} senders are kept already: remove one")
    _write(path, {**senders, sender.name: sender})


def remove_sender(path: Path, name: str) -> None:
    """Forget a sender; FileRefused when there is none of that name."""
    senders = load_senders(path)
    if name not in senders:
        raise FileRefused(
            "SENDER", f"no sender is called {name[:40]!r}; there are {', '.join(senders) or 'none'}"
        )
    del senders[name]
    _write(path, senders)


def _loaded(name: str, kept: Mapping[str, object]) -> Sender:
    given = dict(kept)
    limits = given.pop("limits", {})
    prefixes = given.pop("prefixes", ())
    if not isinstance(limits, dict) or not isinstance(prefixes, list):
        raise TypeError(f"{name}: limits is a table, prefixes a list")
    return Sender(name=name, limits=Limits.of(limits), prefixes=frozenset(prefixes), **given)  # type: ignore[arg-type]


def _write(path: Path, senders: Mapping[str, Sender]) -> None:
    kept = {}
    for name, sender in sorted(senders.items()):
        one = asdict(sender)
        del one["name"]
        kept[name] = {**one, "prefixes": sorted(sender.prefixes)}
    write_whole(path, json.dumps(kept, ensure_ascii=False, indent=2) + "\n")


def _plain(title: str) -> str:
    return _BETWEEN.sub("_", title.casefold()).strip("_")


def _names(limits: type[Limits]) -> str:
    return ", ".join(f.name for f in fields(limits))
