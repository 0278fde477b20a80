"""Stored captures as the blocks that their edges sent, stamped with whose they are now; in batches. Pure."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from gateway.central.ledger.records import LASTING_REASONS, StoredCapture
from gateway.contract.blocks import (
    EVENTS_TYPE,
    READINGS_TYPE,
    Keyed,
    NumberedBlock,
    Sender,
    assemble_blocks,
    canonical,
    from_version_1,
    holders_of,
)
from gateway.contract.messages import rfc3339
from gateway.contract.messages.generation import NO_GENERATION, DirectoryVersion
from mapping.snapshot import DirectorySnapshot
from mapping.timeline import MeterTimeline
from protocols.reading import ProfileName

MAX_COUNT: Final = 200
"""Captures of one message."""
MAX_OCTETS: Final = 200_000
"""Octets of one message's blocks, about."""


class HistoryBatch(NamedTuple):
    """A message of captures: whose journal it is of, of which profile, its id, and its octets."""

    gateway: str
    profile: str
    id: str
    payload: bytes


def batches(
    captures: Iterable[StoredCapture],
    snapshot: DirectorySnapshot,
    state: DirectoryVersion,
    *,
    request: str,
    at: datetime,
) -> Iterator[HistoryBatch]:
    """Yield captures as batches of their journals; ids end with the name of the request.

    An id of the edge's own would say that this is its message once more: it is not, the captures are others.
    """
    streams: dict[tuple[str, str, str], list[NumberedBlock]] = defaultdict(list)
    timelines: dict[str, MeterTimeline] = {}
    for one in captures:
        whose = timelines.get(one.meter) or timelines.setdefault(
            one.meter, MeterTimeline(snapshot, one.meter)
        )
        streams[one.gateway, one.journal, one.profile].append(_block(one, whose, state))
    for (gateway, journal, profile), blocks in sorted(streams.items()):
        blocks.sort(key=lambda block: block.first)
        # Which life of the journal they came in is not kept: they are numbered alike in all of them.
        sender = Sender(journal=journal, generation=NO_GENERATION, gateway=gateway)
        kind = EVENTS_TYPE if profile == ProfileName.EVENTS else READINGS_TYPE
        for some in _in_messages(blocks):
            payload = assemble_blocks(some, sender, type=kind, time=rfc3339(at), suffix=f"@{request}")
            name = f"{journal}/{some[0].first}-{some[-1].last}@{request}"
            yield HistoryBatch(gateway, profile, name, payload)


def _in_messages(blocks: Iterable[NumberedBlock]) -> Iterator[list[NumberedBlock]]:
    some: list[NumberedBlock] = []
    size = 0
    for block in blocks:
        octets = len(block.body)
        if some and (len(some) >= MAX_COUNT or size + octets > MAX_OCTETS):
            yield some
            some, size = [], 0
        some.append(block)
        size += octets
    if some:
        yield some


def _block(one: StoredCapture, whose: MeterTimeline, state: DirectoryVersion) -> NumberedBlock:
    """Return a capture alone in its block: measured, numbered and checked as it came, stamped as known now."""
    members, layout = _of_version_1(one) if one.layout_text is None else _as_it_came(one)
    [row] = members["captures"]
    lasting = _lasting_reason(one)
    holders: Keyed | None = None
    reason: str | None = lasting
    if lasting is not None:
        directory = f"{one.directory_generation}/{one.directory_version}"
    else:
        at = datetime.fromisoformat(row["at"])
        start = _start(members.get("interval"), row.get("start"), at)
        found = whose.attributions(start, at)
        holders, reason = holders_of(found.accounts), found.reason
        directory = str(state)
        members.pop("clock", None)
    members |= {"directory": directory}
    members |= {} if holders is None else {"holders": holders.key}
    members |= {} if reason is None else {"reason": str(reason)}
    return NumberedBlock(one.seq, one.seq, canonical(members), layout, holders)


def _as_it_came(one: StoredCapture) -> tuple[dict[str, Any], Keyed]:
    layout = Keyed(one.layout or "", (one.layout_text or "").encode())
    row = json.loads(one.body) | {"checksum": one.checksum}
    row |= {} if one.raw is None else {"raw": one.raw}
    row |= {"value_rev": one.value_rev} if one.value_rev > 1 else {}
    members: dict[str, Any] = {
        "meter": one.meter,
        "layout": layout.key,
        "received_at": rfc3339(one.received_at),
        "captures": [row],
    }
    members |= {"epoch": one.epoch} if one.epoch else {}
    members |= {"clock": json.loads(one.clock)} if one.clock else {}
    if one.start is not None and "start" not in row:
        members["interval"] = (one.at - one.start) // timedelta(seconds=1)
    return members, layout


def _of_version_1(one: StoredCapture) -> tuple[dict[str, Any], Keyed]:
    beside = {} if one.raw is None else {"raw": one.raw}
    block = from_version_1(json.dumps(json.loads(one.body) | beside).encode())
    members = json.loads(block.body())
    for name in ("holders", "reason", "directory"):
        members.pop(name, None)
    members |= {"epoch": one.epoch} if one.epoch else {}
    return members, block.template.layout.keyed


def _lasting_reason(one: StoredCapture) -> str | None:
    """Return why a capture came without saying whose it is; None where it said so, or that nobody has it yet.

    A verdict changes what the ledger has as its reason, and is sent, too: here stands what the edge said.
    """
    if one.layout_text is None:
        said = json.loads(one.body).get("reason")
        return said if said in LASTING_REASONS else None
    if one.holders_text is not None:
        return None
    return one.reason if one.reason in LASTING_REASONS else None if one.reason else "untrusted_time"


def _start(interval: int | None, start: str | None, at: datetime) -> datetime | None:
    if start is not None:
        return datetime.fromisoformat(start)
    return None if interval is None else at - timedelta(seconds=interval)
