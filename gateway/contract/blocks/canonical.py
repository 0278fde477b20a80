"""Keys and checksums of the contract, version 2: one spelling of JSON, and blake2b of 8 octets over it.

Canonical JSON: UTF-8, members sorted by name, no white space, no escapes but those JSON demands. A layout and a
list of holders are named by the key of their canonical JSON. The checksum of a capture is the key of

    ["<layout>","<meter>","<received_at>",<interval>,<row>]

where `interval` is the block's seconds (`null` where it has none) and `row` is the capture as it stands in
the block, without `checksum` and `value_rev`. So it covers what was measured, when, and how it is laid out; not
its number, not its revision, not whose it is. In Python:

>>> row = {"at": "2026-11-23T18:30:00Z", "values": ["412", "231.4"]}
>>> key_of(canonical(["5f0c9e0a7a3c4d11", "GEN:1", "2026-11-23T18:30:42Z", 1800, row]))
'6f62a25e5be36699'
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any, Final

KEY_OCTETS: Final = 8


def canonical(value: Any) -> bytes:
    """Return the one spelling of a JSON value; ValueError where UTF-8 or JSON cannot hold it."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def key_of(octets: bytes) -> str:
    """Return 16 hex digits that name these octets."""
    return blake2b(octets, digest_size=KEY_OCTETS).hexdigest()


def block_prefix(layout: str, meter: str, received_at: str, interval: int | None) -> bytes:
    """Return the beginning of the checked array, which the captures of a block share."""
    return canonical([layout, meter, received_at, interval])[:-1] + b","


def row_checksum(prefix: bytes, row: dict[str, Any]) -> str:
    """Return the checksum of a decoded row; ValueError where it cannot be spelled."""
    covered = {name: value for name, value in row.items() if name not in {"checksum", "value_rev"}}
    return key_of(prefix + canonical(covered) + b"]")
