"""The block of captures, version 2 of the contract: encoded by the edge, spliced into batches, read by everybody."""

from gateway.contract.blocks.assemble import (
    NumberedBlock,
    Sender,
    assemble_blocks,
    assemble_gaps,
)
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
from gateway.contract.blocks.read import BlocksRead, ReadBlock, ReadRow, RefusedRow, read_blocks
from gateway.contract.blocks.tables import KeyedHolders, KeyedLayout
from gateway.contract.blocks.types import EVENTS_TYPE, GAPS_TYPE, READINGS_TYPE
from gateway.contract.blocks.version_1 import from_version_1
from gateway.contract.blocks.wire import BlockLayout, Holder

__all__ = [
    "EVENTS_TYPE",
    "GAPS_TYPE",
    "READINGS_TYPE",
    "SEQ_ROOM",
    "BlockLayout",
    "BlockTemplate",
    "BlocksRead",
    "EncodedBlock",
    "EncodedRow",
    "Holder",
    "Keyed",
    "KeyedHolders",
    "KeyedLayout",
    "Layout",
    "NumberedBlock",
    "ReadBlock",
    "ReadRow",
    "RefusedRow",
    "Sender",
    "assemble_blocks",
    "assemble_gaps",
    "block_prefix",
    "canonical",
    "encode_block",
    "from_version_1",
    "holders_of",
    "interval_of",
    "key_of",
    "layout_of",
    "numbered",
    "read_blocks",
    "revised",
    "row_checksum",
]
