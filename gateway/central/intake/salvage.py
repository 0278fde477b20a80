"""What can be kept of a spoilt batch of version 1: its good entries, and each bad one by itself; sans-IO."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from gateway.central.ledger.bodies import written_from
from gateway.contract.entries import entry_alone
from gateway.contract.messages import Batch, Capture, Gap, Message

MAX_ENTRIES: Final = 5_000
"""Entries of one batch that are looked at one by one; an honest batch has some hundreds."""
MAX_NAME: Final = 200
"""Characters of the name of a meter, as the contract has it."""
_LISTS: Final[tuple[tuple[str, type[Message]], ...]] = (("captures", Capture), ("gaps", Gap))


@dataclass(frozen=True, slots=True)
class SpoiledEntry:
    """One entry that cannot be taken: its number and meter, an envelope with it alone, and what is wrong.

    `reason` is `checksum` where the entry is readable, but not what its edge stamped; else `malformed`.
    """

    seq: int
    meter: str
    payload: bytes
    detail: str
    reason: str = "malformed"


@dataclass(frozen=True, slots=True)
class SalvagedBatch:
    """What can be stored of a batch (perhaps nothing) with the body of each capture, and what cannot."""

    batch: Batch
    bodies: tuple[str, ...]
    spoiled: tuple[SpoiledEntry, ...] = ()


def salvage(payload: bytes) -> SalvagedBatch | None:
    """Take a batch apart; None when not even its frame and the numbers of its entries can be read."""
    try:
        envelope = json.loads(payload)
        data = envelope["data"]
        frame = {name: data[name] for name in ("journal", "gateway", "first_seq", "last_seq")}
        entries = [(name, model, raw) for name, model in _LISTS for raw in data.get(name) or []]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    # Without its number an entry cannot be given up later, and its journal would wait for it for ever.
    if not isinstance(data, dict) or len(entries) > MAX_ENTRIES:
        return None
    good: dict[str, list[Message]] = {"captures": [], "gaps": []}
    bodies: list[str] = []
    spoiled: list[SpoiledEntry] = []
    for name, model, raw in entries:
        seq = raw.get("seq") if isinstance(raw, dict) else None
        if type(seq) is not int:
            return None
        try:
            entry = model.model_validate_json(json.dumps(raw))
        except (ValidationError, ValueError, RecursionError) as error:
            spoiled.append(_spoiled(envelope, name, raw, _what_is_wrong(error)))
            continue
        good[name].append(entry)
        if isinstance(entry, Capture):
            bodies.append(written_from(raw, entry))
    try:
        batch = Batch.model_validate({**frame, **good})
    except ValidationError:
        return None
    return SalvagedBatch(batch, tuple(bodies), tuple(spoiled))


def _spoiled(envelope: dict[str, Any], name: str, raw: dict[str, Any], detail: str) -> SpoiledEntry:
    meter, seq = raw.get("meter"), raw["seq"]
    named = meter if isinstance(meter, str) and len(meter) <= MAX_NAME else ""
    return SpoiledEntry(seq, named, entry_alone(envelope, name, raw, seq), detail)


def _what_is_wrong(error: Exception) -> str:
    if isinstance(error, ValidationError):
        one = error.errors(include_url=False, include_input=False)[0]
        return f"$.{'.'.join(str(part) for part in one['loc'])}: {one['msg']}"
    return str(error)[:200]
