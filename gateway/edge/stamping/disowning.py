"""Taking captures back from the accounts that they stand under: another meter may have given them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from gateway.contract.blocks import BlockTemplate, EncodedBlock, EncodedRow, Layout, canonical, row_checksum
from gateway.contract.blocks.encode import block_head
from gateway.contract.blocks.hashes import value_hash
from gateway.edge.journal.entry import Entry
from mapping.directory import Unattributed
from protocols.reading import Number, Quantity, RemarkWord

_SEED = Unattributed.IDENTITY_MISMATCH.encode()
ENERGIES = frozenset({"Wh", "varh", "VAh"})
_BESIDE = ("checksum", "value_rev")
_CHANGED = {"text": RemarkWord.METER_CHANGED.value}


def disowned(entries: Iterable[Entry], since: datetime) -> tuple[EncodedBlock, ...]:
    """Return revisions of the captures later than `since` that stand under no account, since another meter answered.

    `entries` are blocks of one meter in rising seq. The values stay as they were read; only the newest revision of a
    capture counts, and one that is nobody's for this reason already is left alone; so is the event that tells of it.
    """
    newest: dict[str, tuple[Entry, dict[str, Any], dict[str, Any]]] = {}
    for entry in entries:
        block = json.loads(entry.body)
        for row in block.pop("captures"):
            if _CHANGED in row["values"]:
                continue
            capture_id = f"{block['meter']}/{entry.profile}/{row['at']}/{row.get('occurrence', 0)}"
            newest[capture_id] = entry, block, row
    found: dict[int, tuple[BlockTemplate, list[EncodedRow]]] = {}
    for capture_id, (entry, block, row) in newest.items():
        at = datetime.fromisoformat(row["at"])
        if at <= since or block.get("reason") == Unattributed.IDENTITY_MISMATCH or entry.layout is None:
            continue
        if entry.seq not in found:
            found[entry.seq] = _template(entry, block), []
        template, rows = found[entry.seq]
        rows.append(_revision(template, capture_id, at, row))
    return tuple(EncodedBlock(one, block_head(one)[0], tuple(rows)) for one, rows in found.values())


def last_before(
    entries: Iterable[Entry], cannot_be: Callable[[Quantity, Number, datetime], bool]
) -> datetime | None:
    """Return the instant of the last capture that the meter that answers now cannot have given; None where any may be.

    `cannot_be` says it of one value of then. Values that are suspect say nothing.
    """
    last: datetime | None = None
    for entry in entries:
        if entry.layout is None:
            continue
        columns = json.loads(entry.layout.text)["columns"]
        places = [
            (place, Quantity.of(c["q"]), c["unit"])
            for place, c in enumerate(columns)
            if c.get("unit") in ENERGIES
        ]
        for row in json.loads(entry.body)["captures"] if places else ():
            at, doubted = datetime.fromisoformat(row["at"]), row.get("suspect", ())
            told = [
                (q, Number.from_text(row["values"][place], unit))
                for place, q, unit in places
                if place not in doubted and isinstance(row["values"][place], str)
            ]
            if (last is None or at > last) and any(cannot_be(q, number, at) for q, number in told):
                last = at
    return last


def _template(entry: Entry, block: dict[str, Any]) -> BlockTemplate:
    assert entry.layout is not None
    return BlockTemplate(
        meter=block["meter"],
        layout=Layout(entry.profile, (), entry.layout),
        received_at=datetime.fromisoformat(block["received_at"]),
        directory=block["directory"],
        reason=Unattributed.IDENTITY_MISMATCH,
        interval=block.get("interval"),
        epoch=block.get("epoch", 0),
    )


def _revision(template: BlockTemplate, capture_id: str, at: datetime, row: dict[str, Any]) -> EncodedRow:
    """Return a row again: what it says is the same, but its hash is another, so that it is a revision."""
    _, prefix, seed = block_head(template)
    members = {name: value for name, value in row.items() if name not in _BESIDE}
    body = canonical(members)
    checksum = row_checksum(prefix, members)
    hashed = value_hash(_SEED + seed + canonical(row["values"]), provisional=False)
    return EncodedRow(capture_id, at, hashed, b'%b,"checksum":"%b"}' % (body[:-1], checksum.encode()))
