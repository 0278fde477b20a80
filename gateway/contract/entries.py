"""Single entries of a batch as messages of their own, whatever batch they came in."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any, Final

LISTS: Final = ("captures", "gaps")
"""Members of a batch of version 1 that hold its entries; gaps stand alike in version 2."""
_TABLES: Final = (("layouts", "layout"), ("holders", "holders"))


def entries_alone(payload: bytes, seqs: Collection[int]) -> dict[int, bytes]:
    """Return the envelope of each of these entries alone, by seq; those that the batch does not hold are left out.

    Whatever batch it came in, the octets are the same: an entry that comes again is known again. ValueError,
    LookupError or TypeError where the payload is no batch.
    """
    wanted = set(seqs)
    envelope = json.loads(payload)
    found = {
        raw["seq"]: entry_alone(envelope, name, raw, raw["seq"])
        for name in LISTS
        for raw in envelope["data"].get(name) or []
        if raw.get("seq") in wanted
    }
    blocks = envelope["data"].get("blocks") or []
    return found | {seq: alone for block in blocks for seq, alone in _rows_alone(envelope, block, wanted)}


def entry_alone(envelope: dict[str, Any], name: str, raw: Any, seq: int) -> bytes:
    """Return the same envelope with one entry of the list `name`, so that it can be taken again later."""
    frame = {member: [] if member in LISTS else value for member, value in envelope["data"].items()}
    time = raw.get("received_at") or raw.get("noticed_at") or envelope.get("time")
    return _alone(envelope, {**frame, name: [raw]}, seq, time)


def _rows_alone(envelope: dict[str, Any], block: Any, wanted: set[int]) -> Iterator[tuple[int, bytes]]:
    """Yield those captures of a block that are wanted, each in a block of its own."""
    for seq, row in enumerate(block["captures"], start=block["seq"]):
        if seq not in wanted:
            continue
        data = {**envelope["data"], "blocks": [{**block, "seq": seq, "captures": [row]}]}
        for table, name in _TABLES:
            known = data.pop(table, None) or {}
            key = block.get(name)
            if key in known:
                data[table] = {key: known[key]}
        data.setdefault("layouts", {})
        yield seq, _alone(envelope, data, seq, block.get("received_at") or envelope.get("time"))


def _alone(envelope: dict[str, Any], data: dict[str, Any], seq: int, time: Any) -> bytes:
    numbered = {**data, "first_seq": seq, "last_seq": seq}
    alone = {"id": f"{data['journal']}/{seq}-{seq}", "time": time, "data": numbered}
    return json.dumps({**envelope, **alone}, sort_keys=True).encode()
