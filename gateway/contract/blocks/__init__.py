"""The block of captures, version 2 of the contract: encoded by the edge, spliced into batches, read by everybody."""

from gateway.contract.blocks.canonical import block_prefix, canonical, key_of, row_checksum
from gateway.contract.blocks.encode import (
    SEQ_ROOM,
    BlockTemplate,
    EncodedBlock,
    EncodedRow,
    Keyed,
    Layout,
    encode_block,
    holders_of,
    interval_of,
    layout_of,
    numbered,
    revised,
)

__all__ = [
    "SEQ_ROOM",
    "BlockTemplate",
    "EncodedBlock",
    "EncodedRow",
    "Keyed",
    "Layout",
    "block_prefix",
    "canonical",
    "encode_block",
    "holders_of",
    "interval_of",
    "key_of",
    "layout_of",
    "numbered",
    "revised",
    "row_checksum",
]
