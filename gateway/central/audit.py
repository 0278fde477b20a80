"""An independent check of the ledger against the meters' own memories: lost, doubled, misattributed.

It reads the SQLite file and its packed rows by itself and shares no code with what wrote them.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import msgspec

from gateway.central.ledger.database import LedgerError
from mapping.snapshot import DirectorySnapshot

MAX_EXAMPLES = 10
"""Examples kept of each fault."""

Key = tuple[str, str, datetime]
Owners = Callable[[str, datetime | None, datetime], frozenset[str]]
"""(meter, start or None, at) -> the 10-digit numbers of the accounts that a capture belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One row of a meter's own memory: `values` by quantity (`1-0:1.8.0*255`), as exact text."""

    meter: str
    profile: str
    at: datetime
    values: Mapping[str, str]
    start: datetime | None = None


@dataclass(slots=True, kw_only=True)
class AuditResult:
    """Counts with examples. `altered`: there, but with another value. `invented`: no meter recorded it."""

    recorded: int = 0
    stored: int = 0
    lost: int = 0
    doubled: int = 0
    misattributed: int = 0
    altered: int = 0
    invented: int = 0
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def clean(self) -> bool:
        """Whether nothing at all is wrong."""
        return not (self.lost or self.doubled or self.misattributed or self.altered or self.invented)

    def __str__(self) -> str:
        text = (
            f"recorded {self.recorded}, stored {self.stored}: lost {self.lost}, doubled {self.doubled}, "
            f"misattributed {self.misattributed}, altered {self.altered}, invented {self.invented}"
        )
        return "\n".join(
            [text, *(f"  {kind}: {one}" for kind, some in self.examples.items() for one in some)]
        )


def audit(
    ledger: Path,
    recorded: Iterable[Recorded],
    truth: Owners,
    resolved: Owners,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> AuditResult:
    """Compare the ledger file with the meters' memories.

    `truth` says whose a row really is (the test's own knowledge); `resolved` whose it is by the directory
    (`by_directory`). Only profiles that some meter recorded are looked at, so live reads do not count as
    invented; only rows with since < at <= until are looked at, on both sides. LedgerError when the file cannot be read.
    """
    result = AuditResult()
    real: dict[Key, list[Recorded]] = defaultdict(list)
    for row in recorded:
        if _within(row.at, since, until):
            real[row.meter, row.profile, row.at].append(row)
            result.recorded += 1
    profiles = {profile for _, profile, _ in real}
    held: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    for body in _bodies(ledger):
        at = body["at"]
        if body["profile"] in profiles and _within(at, since, until):
            held[body["meter"], body["profile"], at].append(body)
            result.stored += 1
    for key in sorted(real.keys() | held.keys()):
        _compare(result, key, real.get(key, []), held.get(key, []))
        for body in held.get(key, []):
            _check_owner(result, key, body, truth, resolved)
    return result


def _within(at: datetime, since: datetime | None, until: datetime | None) -> bool:
    return (since is None or at > since) and (until is None or at <= until)


def by_directory(snapshot: DirectorySnapshot) -> Owners:
    """Return `resolved` as a state of the directory decides."""

    def owners(meter: str, start: datetime | None, at: datetime) -> frozenset[str]:
        accounts = snapshot.attributions(meter, start, at).accounts
        return frozenset(a.account_number or a.account_id for a in accounts)

    return owners


_CAPTURES = """SELECT m.key, p.key, c.at, c.occurrence, c.moved_to, c.reason, c.packed, c.extra,
  f.digits, f.span, l.text
FROM captures c JOIN meters m ON m.number = c.meter JOIN profiles p ON p.number = c.profile
JOIN forms f ON f.number = c.form LEFT JOIN layouts l ON l.key = f.layout"""


def _capture(
    meter: str,
    profile: str,
    at: int,
    occurrence: int,
    moved_to: int | None,
    reason: str | None,
    packed: bytes,
    extra: bytes | None,
    digits: str | None,
    span: int | None,
    layout: str | None,
) -> dict[str, Any]:
    """Return a capture with its values by quantity, of either version; its times are those that were settled."""
    if digits is None:
        kept = extra or b""
        values = json.loads(kept if kept.startswith(b"{") else zlib.decompress(kept))["values"]
    else:
        items = msgspec.msgpack.decode(packed)[3:]
        values = [
            _value(item, int(places))
            for item, places in zip(items, filter(None, digits.split(",")), strict=True)
        ]
    if layout is not None:
        columns = json.loads(layout)["columns"]
        values = [
            {"q": column["q"], **(value if isinstance(value, dict) else {"value": value})}
            for column, value in zip(columns, values, strict=True)
        ]
    stands = at if moved_to is None else moved_to
    return {
        "capture_id": f"{meter}/{profile}/{_instant(at):%Y-%m-%dT%H:%M:%SZ}/{occurrence}",
        "meter": meter,
        "profile": profile,
        "at": _instant(stands),
        "start": None if span is None else _instant(stands - span),
        "reason": reason,
        "values": values,
    }


def _value(item: Any, places: int) -> Any:
    """Return a packed value: a whole number is a decimal's mantissa."""
    return f"{Decimal(item).scaleb(-places):f}" if isinstance(item, int) else item


def _instant(micros: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


def _bodies(path: Path) -> Iterable[dict[str, Any]]:
    if not path.is_file():
        raise LedgerError(f"there is no ledger at {path}")
    try:
        connection = sqlite3.connect(path)
        try:
            connection.execute("PRAGMA query_only=ON")
            for row in connection.execute(_CAPTURES):
                yield _capture(*row)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise LedgerError(f"{path} cannot be read: {error}") from error


def _compare(result: AuditResult, key: Key, real: list[Recorded], held: list[dict[str, Any]]) -> None:
    if not real:
        result.invented += len(held)
        _example(result, "invented", key, held[0]["capture_id"])
        return
    left = list(held)
    missing = []
    for row in real:
        match = next((body for body in left if _same(row, body)), None)
        if match is None:
            missing.append(row)
        else:
            left.remove(match)
    for row in missing:
        if left:
            body = left.pop()
            result.altered += 1
            _example(result, "altered", key, f"recorded {dict(row.values)}, stored {_texts(body)}")
        else:
            result.lost += 1
            _example(result, "lost", key, "")
    if left:
        result.doubled += len(left)
        _example(result, "doubled", key, ", ".join(body["capture_id"] for body in held))


def _check_owner(
    result: AuditResult, key: Key, body: dict[str, Any], truth: Owners, resolved: Owners
) -> None:
    start = body["start"]
    real = truth(body["meter"], start, key[2])
    held: frozenset[str] = frozenset()
    if body["reason"] not in ("untrusted_time", "identity_mismatch"):
        held = resolved(body["meter"], start, key[2])
    if real != held:
        result.misattributed += 1
        _example(result, "misattributed", key, f"belongs to {sorted(real)}, stands under {sorted(held)}")


def _same(row: Recorded, body: dict[str, Any]) -> bool:
    stored = _texts(body)
    return all(q in stored and _equal(text, stored[q]) for q, text in row.values.items())


def _texts(body: dict[str, Any]) -> dict[str, str | None]:
    return {
        value["q"]: next(
            (value[kind] for kind in ("value", "instant", "text", "bits") if value.get(kind) is not None),
            None,
        )
        for value in body["values"]
    }


def _equal(recorded: str, stored: str | None) -> bool:
    """Compare exactly; 1.50 and 1.5 are one number."""
    if stored is None or recorded == stored:
        return recorded == stored
    try:
        return Decimal(recorded) == Decimal(stored)
    except InvalidOperation:
        return False


def _example(result: AuditResult, fault: str, key: Key, detail: str) -> None:
    if len(result.examples[fault]) < MAX_EXAMPLES:
        meter, profile, at = key
        result.examples[fault].append(f"{meter} {profile} {at:%Y-%m-%dT%H:%M:%SZ} {detail}".rstrip())
