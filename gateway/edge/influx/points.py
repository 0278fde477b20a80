"""Captures as line-protocol points: the one lossy exit (floats), nothing is billed from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
SUSPECT = "_suspect"
"""Ends the field of a value that is not believed: it is no part of the quantity's own series."""
LASTING = frozenset({"untrusted_time", "identity_mismatch"})


@dataclass(frozen=True, slots=True)
class PointLine:
    """One point ready to write: the seq of the capture that it came from, and its line of line protocol."""

    seq: int
    line: str


def nanoseconds(at: datetime) -> int:
    """Return exact nanoseconds since 1970, without a float on the way."""
    return micros(at) * 1_000


def account_tag(holders: Sequence[Mapping[str, str]]) -> str:
    """Return the 10-digit account the point stands under, or `unassigned`.

    A hand-over snapshot goes to the account that opens; an interval that straddles one to nobody.
    """
    accounts = [one for one in holders if one["role"] in ("normal", "opening")]
    number = accounts[0].get("account_number") if len(accounts) == 1 else None
    return number or UNASSIGNED


def points(entry: Entry, gateway: str, *, account: bool = True) -> list[PointLine]:
    """Render a block's captures; none for those that have no numeric value, and for what is no block.

    Measurement = profile; tags meter, gateway, and `account` where it is wanted; one float field a quantity;
    time = capture instant. Events of one second are told apart by adding their occurrence in nanoseconds.
    """
    if entry.kind is EntryKind.GAP or entry.layout is None:
        return []
    block = json.loads(entry.body)
    names = [tag_text(column["name"]) for column in json.loads(entry.layout.text)["columns"]]
    tags = f"gateway={tag_text(gateway)},meter={tag_text(block['meter'])}"
    if account:
        holders = [] if entry.holders is None else json.loads(entry.holders.text)
        tags = f"account={account_tag(holders)},{tags}"
    head = f"{tag_text(entry.profile)},{tags}"
    found: list[PointLine] = []
    for seq, capture in enumerate(block["captures"], entry.seq):
        fields = _fields(block, capture, names)
        if fields:
            found.append(PointLine(seq, f"{head} {','.join(fields)} {_time(entry, capture)}"))
    return found


def _fields(block: Mapping[str, Any], capture: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    doubted = capture.get("suspect", ())
    values = enumerate(zip(names, capture["values"], strict=True))
    fields = [
        f"{name}{SUSPECT if n in doubted else ''}={float(value)!r}"
        for n, (name, value) in values
        if isinstance(value, str)
    ]
    if not fields:
        return []
    length = _length(block, capture)
    if length is not None:
        fields.append(f"{INTERVAL}={length!r}")
    if block.get("reason") in LASTING:
        fields.append(f"{UNTRUSTED}=1.0")
    return fields


def _length(block: Mapping[str, Any], capture: Mapping[str, Any]) -> float | None:
    """Return the seconds of a capture's interval; None for a snapshot."""
    if "start" in capture:
        span = datetime.fromisoformat(capture["at"]) - datetime.fromisoformat(capture["start"])
        return float(span // timedelta(seconds=1))
    interval = block.get("interval")
    return None if interval is None else float(interval)


def _time(entry: Entry, capture: Mapping[str, Any]) -> int:
    at = nanoseconds(datetime.fromisoformat(capture["at"]))
    return at + int(capture.get("occurrence", 0)) % 1_000 if entry.kind is EntryKind.EVENT else at


def line(measurement: str, tags: dict[str, str], fields: dict[str, float], at: int) -> str:
    """Render one point from its parts."""
    named = "".join(f",{tag_text(k)}={tag_text(v)}" for k, v in sorted(tags.items()) if v)
    valued = ",".join(f"{tag_text(k)}={v!r}" for k, v in fields.items())
    return f"{tag_text(measurement)}{named} {valued} {at}"


def tag_text(text: str) -> str:
    """Write a measurement, a tag or the name of a field as line protocol spells it."""
    for char in (",", "=", " "):
        if char in text:
            text = text.replace(char, "\\" + char)
    return text.replace("\n", " ")
