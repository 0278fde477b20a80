"""Captures as the ledger takes them: plain tuples, quick to make and to compare."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter

from gateway.contract.messages import CaptureValue, rfc3339
from gateway.contract.messages.generation import NO_GENERATION


class CaptureRow(NamedTuple):
    """All that is kept of a capture; instants are microseconds since 1970, `at` and `start` as verdicts settled them.

    The body of a capture of contract version 1 holds all that was sent. That of version 2 is its row in the block;
    `layout` and `holders` are keys of the tables of these names, `clock` is JSON.
    """

    capture_id: str
    value_rev: int
    meter: str
    profile: str
    at: int
    start: int | None
    received_at: int
    quality: str
    reason: str | None
    directory_version: int
    gateway: str
    journal: str
    seq: int
    ingested_at: int
    body: str
    raw: str | None = None
    epoch: int = 0
    directory_generation: str = str(NO_GENERATION)
    layout: str | None = None
    holders: str | None = None
    clock: str | None = None
    checksum: str | None = None

    @property
    def rank(self) -> tuple[int, int]:
        """Orders revisions of one capture: by the allocation of its meter, then by its gateway's own count."""
        return self.epoch, self.value_rev


Layouts = Callable[[str], str]
"""Key of a layout -> its canonical JSON."""
_VALUES: Final = TypeAdapter(tuple[CaptureValue, ...])


def same_values(one: CaptureRow, other: CaptureRow, layouts: Layouts) -> bool:
    """Tell a repeat from a revision: the same values, whatever was stamped beside them, in either version."""
    if one.layout == other.layout and one.body == other.body:
        return True
    return _values(one, layouts) == _values(other, layouts)


def _values(row: CaptureRow, layouts: Layouts) -> list[Any]:
    """Return quantity, unit and value of each, in the spelling of version 2.

    Not the text of the body: a first ledger wrote every member (`"instant":null`), and a newer edge may add some.
    Names are not compared: a newer edge may have better ones.
    """
    members = json.loads(row.body)
    if row.layout is None:
        return [[one.q, one.unit, _value(one)] for one in _VALUES.validate_python(members["values"])]
    columns = json.loads(layouts(row.layout))["columns"]
    return [[one["q"], one.get("unit"), value] for one, value in zip(columns, members["values"], strict=True)]


def _value(one: CaptureValue) -> str | dict[str, str] | None:
    if one.instant is not None:
        return {"instant": rfc3339(one.instant)}
    for name in ("text", "bits", "missing"):
        found = getattr(one, name)
        if found is not None and one.value is None:
            return {name: found}
    return one.value
