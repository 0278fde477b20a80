"""Captures as line-protocol points: the one lossy exit (floats), nothing is billed from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gateway.edge.journal.entry import Entry, EntryKind
from mapping.instants import micros

UNASSIGNED = "unassigned"
INTERVAL = "interval_seconds"
"""Field of interval profiles: whose the point is depends on the whole interval, not on its end alone."""
UNTRUSTED = "untrusted"
"""Field of points that no directory will ever attribute (untrusted time, another meter)."""
LASTING = frozenset({"untrusted_time", "identity_mismatch"})


@dataclass(frozen=True, slots=True)
class PointLine:
    """One point ready to write: the seq of the entry that it came from, and its line of line protocol."""

    seq: int
    line: str


def nanoseconds(at: datetime) -> int:
    """Return exact nanoseconds since 1970, without a float on the way."""
    return micros(at) * 1_000


def account_tag(capture: dict[str, Any]) -> str:
    """Return the 10-digit account the point stands under, or `unassigned`.

    A hand-over snapshot goes to the account that opens; an interval that straddles one to nobody.
    """
    accounts = [a for a in capture["attributions"] if a["role"] in ("normal", "opening")]
    number = accounts[0]["account_number"] if len(accounts) == 1 else None
    return str(number) if number else UNASSIGNED


def point(entry: Entry, gateway: str) -> PointLine | None:
    """Render one capture; None when it has no numeric value (or is not a capture at all).

    Measurement = profile; tags meter, gateway, account; one float field a quantity; time = capture instant.
    Events of one second are told apart by adding their occurrence in nanoseconds.
    """
    if entry.kind is EntryKind.GAP:
        return None
    capture = json.loads(entry.body)
    fields = [
        f"{_tag(v['name'])}={float(v['value'])!r}" for v in capture["values"] if v.get("value") is not None
    ]
    if not fields:
        return None
    if capture["start"] is not None:
        length = datetime.fromisoformat(capture["at"]) - datetime.fromisoformat(capture["start"])
        fields.append(f"{INTERVAL}={float(length // timedelta(seconds=1))!r}")
    if capture["reason"] in LASTING:
        fields.append(f"{UNTRUSTED}=1.0")
    at = nanoseconds(datetime.fromisoformat(capture["at"]))
    if entry.kind is EntryKind.EVENT:
        at += int(capture["capture_id"].rpartition("/")[2]) % 1_000
    tags = f"account={account_tag(capture)},gateway={_tag(gateway)},meter={_tag(capture['meter'])}"
    return PointLine(entry.seq, f"{_tag(capture['profile'])},{tags} {','.join(fields)} {at}")


def line(measurement: str, tags: dict[str, str], fields: dict[str, float], at: int) -> str:
    """Render one point from its parts."""
    tag_text = "".join(f",{_tag(k)}={_tag(v)}" for k, v in sorted(tags.items()) if v)
    field_text = ",".join(f"{_tag(k)}={v!r}" for k, v in fields.items())
    return f"{_tag(measurement)}{tag_text} {field_text} {at}"


def _tag(text: str) -> str:
    for char in (",", "=", " "):
        if char in text:
            text = text.replace(char, "\\" + char)
    return text.replace("\n", " ")
