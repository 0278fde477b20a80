"""Batches of version 2, made by splicing what the journal holds: nothing is parsed, nothing is encoded again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from gateway.contract.blocks.encode import Keyed, numbered
from gateway.contract.blocks.types import GAPS_TYPE
from gateway.contract.messages.generation import Generation
from gateway.contract.messages.texts import envelope_parts, gateway_source, quoted, quoted_ascii


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Whose entries a batch carries: a journal in one of its lives, and its gateway."""

    journal: str
    generation: Generation
    gateway: str


class NumberedBlock(NamedTuple):
    """A block of a journal: captures first..last, its octets without number, and what they name."""

    first: int
    last: int
    body: bytes
    layout: Keyed
    holders: Keyed | None = None


def assemble_blocks(
    blocks: Sequence[NumberedBlock], sender: Sender, *, type: str, time: str, suffix: str = ""
) -> bytes:
    """Return a batch of readings or events, of blocks in rising seq; `time` is RFC 3339 text.

    The same blocks at the same time give the same octets. `suffix` ends the message's id.
    """
    holders = [block.holders for block in blocks if block.holders is not None]
    named = b'"holders":%b,' % _table(holders) if holders else b""
    members = b'"layouts":%b,%b"blocks":[%b]' % (
        _table([block.layout for block in blocks]),
        named,
        b",".join([numbered(block.body, block.first) for block in blocks]),
    )
    return _batch(members, (blocks[0].first, blocks[-1].last), sender, type, "batch", time, suffix)


def assemble_gaps(gaps: Sequence[tuple[int, bytes]], sender: Sender, *, time: str) -> bytes:
    """Return a batch of gaps, of `(seq, body)` in rising seq."""
    members = b'"gaps":[%b]' % b",".join([numbered(body, seq) for seq, body in gaps])
    return _batch(members, (gaps[0][0], gaps[-1][0]), sender, GAPS_TYPE, "gaps", time)


def _batch(
    members: bytes,
    span: tuple[int, int],
    sender: Sender,
    type: str,
    schema: str,
    time: str,
    suffix: str = "",
) -> bytes:
    before_numbers, before_time, to_numbers = _frame(sender, type, schema)
    return b'%b/%d-%d%b"%b%b%b"first_seq":%d,"last_seq":%d,%b}}' % (
        before_numbers,
        *span,
        quoted_ascii(suffix)[1:-1],
        before_time,
        time.encode(),
        to_numbers,
        *span,
        members,
    )


@lru_cache(maxsize=64)
def _frame(sender: Sender, type: str, schema: str) -> tuple[bytes, bytes, bytes]:
    """Return what all batches of a sender share: up to the numbers in the id, then to the time, then to the numbers."""
    begin, middle, end = envelope_parts(gateway_source(sender.gateway), type, f"v2/{schema}.json")
    data = b'{"journal":%b,"generation":"%b","gateway":%b,' % (
        quoted(sender.journal).encode(),
        str(sender.generation).encode(),
        quoted(sender.gateway).encode(),
    )
    return begin + quoted_ascii(sender.journal)[:-1], middle, end + data


def _table(named: Sequence[Keyed]) -> bytes:
    """Return a table by key, each once, in the order in which they are named first."""
    if len(named) == 1:
        return b"{%b}" % named[0].member
    return b"{%b}" % b",".join({one.key: one.member for one in named}.values())
