"""The list of captures of before version 2 of the contract: its hashes, so that a repeat is still a repeat."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Final

from gateway.contract.blocks import EncodedBlock, EncodedRow
from gateway.contract.messages.texts import quoted

OLD_HASH: Final = 16
"""Octets of a hash of values in version 1; those of version 2 are shorter."""


def hash_of_version_1(block: EncodedBlock, row: EncodedRow) -> bytes:
    """Return the hash that version 1 kept of a row's values."""
    columns = json.loads(block.template.layout.keyed.text)["columns"]
    values = json.loads(row.body)["values"]
    parts: list[str] = []
    for column, value in zip(columns, values, strict=True):
        head = f'{{"q":{quoted(column["q"])},"name":{quoted(column["name"])}'
        if isinstance(value, str):
            unit = f',"unit":{quoted(column["unit"])}' if "unit" in column else ""
            parts.append(f'{head}{unit},"value":"{value}"}}')
        else:
            [(name, text)] = value.items()
            parts.append(f'{head},"{name}":{quoted(text)}}}')
    return blake2b(f"[{','.join(parts)}]".encode(), digest_size=OLD_HASH).digest()
