"""The change between two snapshots as JSON text, and rows with a change applied; pure.

A change names whole rows: those that went and those that came. It carries what a snapshot carries and no more, so that
`SnapshotRows.read(old).after(difference(old, new))` says what `new` says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mapping import snapshot_json
from mapping.errors import DirectoryFault

RELATIONS: Final = ("changes", "installations", "holdings", "namings")
"""The lists of a snapshot: its change sets, and the rows of each relation."""


@dataclass(frozen=True, slots=True)
class SnapshotRows:
    """The rows of a snapshot as they stand in its text, by their members; not checked further until it is loaded."""

    rows: Mapping[str, Mapping[tuple[Any, ...], Any]]

    @classmethod
    def read(cls, text: str) -> SnapshotRows:
        """Take a snapshot's text apart; DirectoryFault when it is none."""
        data = _document(text)
        try:
            return cls({name: {_key(row): row for row in data[name]} for name in RELATIONS})
        except (KeyError, TypeError) as error:
            raise DirectoryFault(f"the snapshot is malformed: {error!r}"[:300]) from error

    def text(self) -> str:
        """Write the snapshot: `DirectorySnapshot.from_json` reads it."""
        found = {name: list(rows.values()) for name, rows in self.rows.items()}
        try:
            found["changes"].sort(key=lambda row: int(row[0]))
        except (TypeError, ValueError, LookupError) as error:
            raise DirectoryFault(f"the snapshot's change sets are malformed: {error!r}"[:300]) from error
        return json.dumps(
            {"format": snapshot_json.FORMAT, **found}, separators=(",", ":"), ensure_ascii=False
        )

    def after(self, change: str) -> SnapshotRows:
        """Return the rows after a change; DirectoryFault where it is none, or is of other rows than these."""
        data = _document(change)
        after: dict[str, Mapping[tuple[Any, ...], Any]] = {}
        try:
            for name in RELATIONS:
                rows = dict(self.rows[name])
                for row in data["removed"][name]:
                    if rows.pop(_key(row), None) is None:
                        raise DirectoryFault(
                            f"the change takes away {name} that are not there: it is of other rows"
                        )
                rows |= {_key(row): row for row in data["added"][name]}
                after[name] = rows
        except (KeyError, TypeError) as error:
            raise DirectoryFault(f"the change is malformed: {error!r}"[:300]) from error
        return SnapshotRows(after)


def difference(old: str, new: str) -> str:
    """Return the change that leads from one snapshot's text to another's; DirectoryFault where one is none."""
    before, after = SnapshotRows.read(old).rows, SnapshotRows.read(new).rows
    return json.dumps(
        {
            "format": snapshot_json.FORMAT,
            "removed": {name: _without(before[name], after[name]) for name in RELATIONS},
            "added": {name: _without(after[name], before[name]) for name in RELATIONS},
        },
        separators=(",", ":"),
        ensure_ascii=False,
    )


def is_empty(change: str) -> bool:
    """Return whether a change of `difference` says nothing of who holds what: its versions alone do not count."""
    data = json.loads(change)
    relations = [name for name in RELATIONS if name != "changes"]
    return not any(data[part][name] for part in ("removed", "added") for name in relations)


def _without(rows: Mapping[tuple[Any, ...], Any], others: Mapping[tuple[Any, ...], Any]) -> list[Any]:
    return [row for key, row in rows.items() if key not in others]


def _key(row: Any) -> tuple[Any, ...]:
    """Return what tells a row from others: its members, which are plain values (TypeError for anything else)."""
    key = tuple(row)
    hash(key)
    return key


def _document(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DirectoryFault(f"the text is not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("format") != snapshot_json.FORMAT:
        raise DirectoryFault(f"the text is not of format {snapshot_json.FORMAT}")
    return data
