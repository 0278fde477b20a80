"""A block cut into smaller ones: the octets of its captures stay, its head is said again."""

from __future__ import annotations

import json

from gateway.edge.journal.entry import Entry

_CAPTURES = b'"captures":['
_DECODER = json.JSONDecoder()


def captures_of(body: bytes) -> tuple[bytes, list[bytes]]:
    """Return a block's octets up to its first capture, and those of each capture; ValueError where it is none."""
    begin = body.index(_CAPTURES) + len(_CAPTURES)
    text, at = body[begin:].decode(), 0
    found: list[bytes] = []
    while text[at : at + 1] not in ("]", ""):
        _, end = _DECODER.raw_decode(text, at)
        found.append(text[at:end].encode())
        at = end + 1 if text[end : end + 1] == "," else end
    return body[:begin], found


def halves_of(entry: Entry) -> tuple[Entry, Entry]:
    """Return a block of more than one capture as two blocks."""
    one, *others = _cut(entry, (entry.count + 1) // 2)
    return one, others[0]


def singles_of(entry: Entry) -> list[Entry]:
    """Return a block as blocks of one capture each."""
    return _cut(entry, 1) if entry.count > 1 else [entry]


def _cut(entry: Entry, size: int) -> list[Entry]:
    head, captures = captures_of(entry.body)
    parts: list[Entry] = []
    for start in range(0, len(captures), size):
        rows = captures[start : start + size]
        seq = entry.seq + start
        parts.append(
            Entry(
                seq,
                seq + len(rows) - 1,
                entry.kind,
                entry.profile,
                b"%b%b]}" % (head, b",".join(rows)),
                entry.layout,
                entry.holders,
            )
        )
    return parts
