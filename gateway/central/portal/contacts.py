"""Registered mobiles of accounts: one SQLite file in central's folder, imported from the utility's CSV."""

from __future__ import annotations

import csv
import io
import re
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.contract.messages import rfc3339
from gateway.errors import ConfigError, UsageError

COLUMNS = ("legacy_number", "mobile", "verified_at")
MAX_ACCOUNTS_PER_MOBILE = 10
"""An agent or landlord may stand for several; more are reviewed by hand (users.md §6 row 71)."""
MAX_CSV_CHARACTERS = 256 * 1024 * 1024
"""Several times a city's file."""
_MOBILE = re.compile(r"(?:\+?91|0)?([6-9][0-9]{9})", re.ASCII)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS contacts(
  account_id TEXT PRIMARY KEY, mobile TEXT NOT NULL, verified_at TEXT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS contacts_by_mobile ON contacts(mobile);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """Where an account's messages go: ten digits, and when control of it was last proved (None: never)."""

    account_id: str
    mobile: str
    verified_at: datetime | None


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row of the CSV that was not applied: file line, stable code, what to do. Holds no mobile."""

    line: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ContactImport:
    """What an import did; `refused` rows are the only ones not stored."""

    applied: int
    refused: tuple[RefusedRow, ...]


class ContactStore:
    """The contacts. Calls are short and may come from any thread."""

    def __init__(self, path: Path) -> None:
        """Open or make the file (0600); ConfigError when that fails."""
        try:
            path.touch(mode=0o600, exist_ok=True)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"contacts {path}: {error}") from error
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def get(self, account_id: str) -> Contact | None:
        """Return the contact of an account; ConfigError when the file cannot be read."""
        found = self._rows("SELECT mobile, verified_at FROM contacts WHERE account_id = ?", account_id)
        if not found:
            return None
        row = found[0]
        verified = datetime.fromisoformat(row[1]) if row[1] else None
        return Contact(account_id=account_id, mobile=row[0], verified_at=verified)

    def put(self, contact: Contact) -> None:
        """Store one contact in place of the account's former one."""
        self._write([contact])

    def import_csv(
        self, text: str, account_of: Callable[[str], str | None], *, now: datetime | None = None
    ) -> ContactImport:
        """Store rows `legacy_number,mobile,verified_at` (RFC 3339 or empty) in one transaction.

        `account_of` finds the account id of a legacy number. A verification after `now` (None: of this machine's
        clock) is refused. UsageError when the header is another.
        """
        if len(text) > MAX_CSV_CHARACTERS:
            raise UsageError(f"the contacts file has more than {MAX_CSV_CHARACTERS} characters: split it")
        rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
        try:
            if tuple(rows.fieldnames or ()) != COLUMNS:
                raise UsageError(f"a contacts file begins with the line {','.join(COLUMNS)}")
            accepted, refused = self._sort_rows(rows, account_of, now or datetime.now(UTC))
        except csv.Error as error:
            raise UsageError(f"contacts file, line {rows.line_num}: {error}") from error
        self._write(list(accepted.values()))
        return ContactImport(len(accepted), tuple(refused))

    def _sort_rows(
        self, rows: csv.DictReader[str], account_of: Callable[[str], str | None], now: datetime
    ) -> tuple[dict[str, Contact], list[RefusedRow]]:
        accepted: dict[str, Contact] = {}
        refused: list[RefusedRow] = []
        holders: dict[str, set[str]] = {}
        for row in rows:
            contact = _contact(row, rows.line_num, account_of, now)
            if isinstance(contact, RefusedRow):
                refused.append(contact)
                continue
            held = self._rows("SELECT account_id FROM contacts WHERE mobile = ?", contact.mobile)
            shared = holders.setdefault(contact.mobile, {row[0] for row in held})
            if len(shared | {contact.account_id}) > MAX_ACCOUNTS_PER_MOBILE:
                text = f"this mobile stands for more than {MAX_ACCOUNTS_PER_MOBILE} accounts: review by hand"
                refused.append(RefusedRow(rows.line_num, "SHARED_MOBILE", text))
                continue
            shared.add(contact.account_id)
            accepted[contact.account_id] = contact
        return accepted, refused

    def _rows(self, query: str, key: str) -> list[tuple[str, str | None]]:
        with self._lock:
            try:
                return self._db.execute(query, (key,)).fetchall()
            except sqlite3.Error as error:
                raise ConfigError(f"contacts cannot be read: {error}") from error

    def _write(self, contacts: list[Contact]) -> None:
        rows = [(c.account_id, c.mobile, rfc3339(c.verified_at) if c.verified_at else None) for c in contacts]
        with self._lock:
            try:
                with self._db:
                    self._db.execute("BEGIN IMMEDIATE")
                    self._db.executemany(
                        "INSERT INTO contacts VALUES(?,?,?) ON CONFLICT(account_id) DO UPDATE"
                        " SET mobile=excluded.mobile, verified_at=excluded.verified_at",
                        rows,
                    )
            except sqlite3.Error as error:
                raise ConfigError(f"contacts cannot be stored: {error}") from error


def _contact(
    row: dict[str, str], line: int, account_of: Callable[[str], str | None], now: datetime
) -> Contact | RefusedRow:
    if None in row or any(row.get(column) is None for column in COLUMNS):
        return RefusedRow(line, "COLUMNS", "the row does not have three columns")
    mobile = _MOBILE.fullmatch(row["mobile"].strip().replace(" ", ""))
    if mobile is None:
        return RefusedRow(line, "MOBILE", "the mobile is not an Indian mobile number of ten digits")
    try:
        verified = _instant(row["verified_at"].strip())
    except ValueError:
        return RefusedRow(line, "VERIFIED_AT", "verified_at is RFC 3339 with a zone, or empty")
    if verified is not None and verified > now + timedelta(minutes=5):
        return RefusedRow(line, "VERIFIED_AT", "verified_at lies in the future: nobody has verified it yet")
    account_id = account_of(row["legacy_number"].strip())
    if account_id is None:
        return RefusedRow(line, "UNKNOWN", "the directory knows no account of this legacy number")
    return Contact(account_id=account_id, mobile=mobile[1], verified_at=verified)


def _instant(text: str) -> datetime | None:
    if not text:
        return None
    at = datetime.fromisoformat(text)
    if at.utcoffset() is None:
        raise ValueError("no zone")
    return at.astimezone(UTC)
