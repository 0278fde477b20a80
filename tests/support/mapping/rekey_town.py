"""A directory of invented consumers, and re-key files of them: whole, or damaged in one of the ways that happen."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

from openpyxl import Workbook

from mapping.imports import HEADER as IMPORT_HEADER
from mapping.imports import apply_import, plan_import
from mapping.rekey import plan_rekey
from mapping.rekey_control import NO_CONTROL, Control
from mapping.rekey_plan import RekeyPlan
from mapping.senders import ANYBODY, Sender
from mapping.store import DirectoryStore
from tests.support.paths import ROOT

CASES = ROOT / "tests" / "data" / "rekey"
NOW = datetime(2026, 6, 1, tzinfo=UTC)
FROM = "2020-01-01T00:00:00+05:30"
HEADING = ("old_no", "new_account_no", "meter_no", "consumer_name", "locality", "effective_from")
NAMES = (
    "राम कुमार",
    "GUPTA & SONS",
    "मोहम्मद आरिफ़",
    "Sita Devi",
    'श्री "बाबू" लाल',
    "O'Brien, A",
    '=HYPERLINK("x")',
)
PLACES = ("Kalyanpur", "Panki", "गोविंद नगर", "Jajmau", "Kidwai Nagar", "Barra", "Kakadeo")


@dataclass
class Consumer:
    """One consumer as the utility knows it, with the number that it shall get."""

    old: str
    meter: str
    name: str
    place: str
    new: str

    def cells(self, date: str = "2024-05-01") -> list[str]:
        """Give its row of a re-key file."""
        return [self.old, self.new, self.meter.replace(":", ""), self.name, self.place, date]


def consumers(count: int, seed: int) -> list[Consumer]:
    """Give invented consumers; each name and place stands for many, as in a city."""
    chance = random.Random(seed)
    numbers = chance.sample(range(10**9, 10**10), count)
    return [
        Consumer(
            f"KE{chance.randrange(10**6):06d}{i:06d}",
            f"GEN:{10_000_000 + i}",
            f"{chance.choice(NAMES)} {chance.randrange(40)}",
            chance.choice(PLACES),
            str(number),
        )
        for i, number in enumerate(numbers)
    ]


def filled_store(folder: Path, of: list[Consumer]) -> DirectoryStore:
    """Give a directory that knows the consumers by their old numbers and meters."""
    store = DirectoryStore(folder / "directory.db")
    path = folder / "import.csv"
    rows = (f"{one.meter},UP-{i},consumer,{one.old},,{FROM}" for i, one in enumerate(of))
    path.write_text(",".join(IMPORT_HEADER) + "\n" + "\n".join(rows) + "\n")
    apply_import(store, plan_import(store.snapshot(), path, at=NOW), by="clerk", at=NOW)
    return store


def case_consumers() -> list[Consumer]:
    """Give the consumers of `master.csv` of the cases."""
    with (CASES / "master.csv").open(encoding="utf-8") as file:
        return [
            Consumer(
                r["old_no"], f"{r['meter_no'][:3]}:{r['meter_no'][3:]}", r["consumer_name"], r["locality"], ""
            )
            for r in csv.DictReader(file)
        ]


@dataclass
class RekeyFile:
    """A file being made: rows of cells, and how they are written."""

    rows: list[list[str]]
    heading: list[str] = field(default_factory=lambda: list(HEADING))
    separator: str = ","
    encoding: str = "utf-8"
    end: str = "\n"
    cut: int = 0
    """Characters that are missing at the end."""

    workbook: bool = False
    """As an Excel workbook, whatever the name's ending: whole numbers as numbers, days as days."""

    def write(self, path: Path) -> Path:
        """Write it."""
        if self.workbook:
            return self._write_workbook(path)
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self.separator, lineterminator=self.end)
        writer.writerows([self.heading, *self.rows])
        whole = text.getvalue()
        path.write_bytes(whole[: len(whole) - self.cut].encode(self.encoding))
        return path

    def _write_workbook(self, path: Path) -> Path:
        book = Workbook()
        sheet = book.active
        book.create_sheet("empty")
        for row in [self.heading, *self.rows]:
            sheet.append([cell_of(text) for text in row])
        with path.open("wb") as file:
            book.save(file)
        return path


def cell_of(text: str) -> object:
    """Give a cell as Excel keeps it when somebody types the text into it."""
    if text.isascii() and text.isdigit() and not text.startswith("0"):
        return int(text)
    try:
        return date.fromisoformat(text)
    except ValueError:
        return text


def planned(
    store: DirectoryStore,
    path: Path,
    *,
    control: Control = NO_CONTROL,
    sender: Sender = ANYBODY,
    correct: bool = False,
    part: bool = False,
    folder: Path | None = None,
) -> RekeyPlan:
    """Plan a file on a directory as it stands."""
    return plan_rekey(
        store.snapshot(),
        path,
        at=NOW,
        control=control,
        sender=sender,
        correct=correct,
        part=part,
        folder=folder,
    )


def codes(plan: RekeyPlan) -> list[str]:
    """Give the causes of a plan by code."""
    return [cause.code for cause in plan.causes]


CellDamage = Callable[[random.Random, str], str]
DEVANAGARI = str.maketrans("0123456789", "०१२३४५६७८९")
WIDE = str.maketrans("0123456789", "０１２３４５６７８９")


def _inside(chance: random.Random, number: str, sign: str) -> str:
    at = chance.randrange(1, 9)
    return f"{number[:at]}{sign}{number[at:]}"


REPAIRED: dict[str, CellDamage] = {
    "devanagari": lambda _, n: n.translate(DEVANAGARI),
    "grouped": lambda c, n: c.choice((f"{n[:4]} {n[4:7]} {n[7:]}", f"{n[:4]}-{n[4:7]}-{n[7:]}")),
    "quoted": lambda c, n: c.choice((f'="{n}"', f'"{n}"', f"'{n}", f"“{n}”", f"₹{n}")),
    "blank": lambda c, n: c.choice(("\u00a0", " ", "\ufeff", "\t")) + n,
    "decimal_tail": lambda c, n: n + c.choice((".0", ".00")),
    "thousands": lambda _, n: f"{int(n):,}",
}
REJECTED: dict[str, CellDamage] = {
    "superscript": lambda c, n: n[:5] + c.choice("²³¹") + n[6:],
    "foreign_prefix": lambda c, n: c.choice(("MAVVNL", "DVVNLX", "PVVNLX")) + n,
    "full_width": lambda _, n: n.translate(WIDE),
    "mixed_script": lambda _, n: n[:5] + n[5:].translate(DEVANAGARI),
    "lost_zero": lambda _, n: n[1:],
    "eleven": lambda c, n: n + str(c.randrange(10)),
    "letter": lambda c, n: n[:3] + c.choice("OolIS") + n[4:],
    "scientific": lambda c, n: c.choice(
        (f"{n[0]}.{n[1:3]}E+09", f"{n[0]},{n[1:3]}E+9", f"{n[0]}.{n[1:]}E+09")
    ),
    "empty": lambda c, _: c.choice(("", " ", "\u00a0")),
    "zero_width": lambda c, n: _inside(c, n, c.choice("\u200b\u200d\u202e\u2060")),
    "words": lambda c, _: c.choice(("N/A", "#REF!", "नहीं", "-")),
    "formula": lambda _, n: f"=B2+{n}",
}
