"""Bare SQLite doing what bench/directory.py asks of ours: the same rows, found and written without anything else."""

from __future__ import annotations

import csv
import sqlite3
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

TABLES = """
pragma journal_mode = wal;
pragma synchronous = full;
create table installation (meter text, point text, since integer, until integer, change integer);
create table holding (point text, account text, since integer, until integer, change integer);
create table naming (account text, kind integer, number text, since integer, change integer);
create index installation_meter on installation (meter);
create index installation_point on installation (point);
create index holding_point on holding (point);
create index holding_account on holding (account);
create index naming_account on naming (account);
create index naming_number on naming (kind, number);
"""
NEVER = 2**62
OLD, NEW = 0, 1


class Bare:
    """A file with the three relations as any program would keep them, on indexes for the same questions."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(TABLES)

    def fill(self, rows: Path) -> float:
        """Take an import file; return the seconds."""
        begun = time.perf_counter()
        self._db.execute("begin immediate")
        with rows.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            next(reader)
            for number, (meter, point, _, old, _, _) in enumerate(reader):
                account = f"acc-{number:016x}"
                self._db.execute(
                    "insert into installation (meter, point, since, until, change) values (?, ?, 0, ?, 1)",
                    (meter, point, NEVER),
                )
                self._db.execute(
                    "insert into holding (point, account, since, until, change) values (?, ?, 0, ?, 1)",
                    (point, account, NEVER),
                )
                self._db.execute(
                    "insert into naming (account, kind, number, since, change) values (?, ?, ?, 0, 1)",
                    (account, OLD, old),
                )
        self._db.execute("commit")
        return time.perf_counter() - begun

    def re_key(self, rows: Path) -> float:
        """Give every old number of a file its new one, if nobody has that; return the seconds."""
        begun = time.perf_counter()
        self._db.execute("begin immediate")
        with rows.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            next(reader)
            for old, new in reader:
                ((account,),) = self._all("select account from naming where kind = 0 and number = ?", old)
                if self._all("select account from naming where kind = 1 and number = ?", new):
                    raise SystemExit(f"{new} is taken")
                self._db.execute(
                    "insert into naming (account, kind, number, since, change) values (?, ?, ?, 1, 2)",
                    (account, NEW, new),
                )
        self._db.execute("commit")
        return time.perf_counter() - begun

    def attribute(self, captures: Iterable[Sequence[Any]]) -> float:
        """Find the account number of (meter, start, end), sorted, by one join; return captures a second."""
        self._db.execute("create temp table capture (meter text, start integer, until integer)")
        self._db.executemany("insert into capture values (?, ?, ?)", captures)
        begun = time.perf_counter()
        found = self._db.execute(
            "select n.number from capture c"
            " join installation i on i.meter = c.meter and i.since <= c.start and c.until <= i.until"
            " join holding h on h.point = i.point and h.since <= c.start and c.until <= h.until"
            " join naming n on n.account = h.account and n.kind = 1"
        )
        count = sum(1 for _ in found)
        return count / (time.perf_counter() - begun)

    def _all(self, question: str, *values: object) -> list[Any]:
        return self._db.execute(question, values).fetchall()
