"""Single entries of a batch as messages of their own, whatever batch they came in."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final

LISTS: Final = ("captures", "gaps")
"""Members of a batch that hold its entries."""


def entries_alone(payload: bytes, seqs: Collection[int]) -> dict[int, bytes]:
    """Return the envelope of each of these entries alone, by seq; those that the batch does not hold are left out.

    Whatever batch it came in, the octets are the same: an entry that comes again is known again. ValueError,
    LookupError or TypeError where the payload is no batch.
    """
    wanted = set(seqs)
    envelope = json.loads(payload)
    return {
        raw["seq"]: entry_alone(envelope, name, raw, raw["seq"])
        for name in LISTS
        for raw in envelope["data"].get(name) or []
        if raw.get("seq") in wanted
    }


def entry_alone(envelope: dict[str, Any], name: str, raw: Any, seq: int) -> bytes:
    """Return the same envelope with one entry of the list `name`, so that it can be taken again later."""
    data = {**envelope["data"], "captures": [], "gaps": [], name: [raw], "first_seq": seq, "last_seq": seq}
    time = raw.get("received_at") or raw.get("noticed_at") or envelope.get("time")
    alone = {"id": f"{data['journal']}/{seq}-{seq}", "time": time, "data": data}
    return json.dumps({**envelope, **alone}, sort_keys=True).encode()
