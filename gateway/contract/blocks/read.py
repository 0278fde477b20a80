"""Batches of blocks read from whoever sent them: one pass, each capture checked by itself.

What the models in `wire` and the rules of the contract refuse is refused here, and nothing else (a test of random
messages compares the two). A capture that is refused is named by its number, and the others are read: see
`BlocksRead.refused`. Nothing but ContractError is raised, for any octets whatever.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from hashlib import blake2b
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from pydantic import TypeAdapter, ValidationError

from gateway.contract.blocks.canonical import KEY_OCTETS, block_prefix, canonical, key_of
from gateway.contract.blocks.tables import KeyedHolders, KeyedLayout, Tables
from gateway.contract.blocks.types import EVENTS_TYPE, READINGS_TYPE
from gateway.contract.blocks.wire import (
    CODE_PATTERN,
    DECIMAL_PATTERN,
    DIRECTORY_PATTERN,
    INSTANT_PATTERN,
    KEY_PATTERN,
    MAX_BLOCKS,
    MAX_CAPTURES,
    MAX_COLUMNS,
    MAX_INTERVAL,
    QUALITY_PATTERN,
    RAW_PATTERN,
    BlockClock,
    BlockValue,
)
from gateway.contract.messages import MAX_SEQ
from gateway.contract.messages.generation import Generation
from gateway.errors import ContractError

T = TypeVar("T")
BATCH_TYPES: Final = (READINGS_TYPE, EVENTS_TYPE)
USUAL_QUALITY: Final = "1.0.0"
_SHORT: Final = 150
"""Characters of meter and profile that leave room for instant and occurrence in a capture_id."""
MAX_REFUSED: Final = 500
"""Captures of one batch that are refused one by one; beyond, the whole batch is."""


class ReadRow(NamedTuple):
    """One capture; `body` is its canonical JSON without what stands beside (raw, checksum, value_rev).

    `named` says whether the row gives its capture_id itself.
    """

    seq: int
    capture_id: str
    at: datetime
    start: datetime | None
    value_rev: int
    quality: str
    raw: str | None
    checksum: str
    body: bytes
    named: bool


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """A block that was read: what its captures share, and those of them that are sound."""

    meter: str
    profile: str
    layout: str
    received_at: datetime
    generation: Generation
    directory_version: int
    interval: int | None
    holders: str | None
    reason: str | None
    epoch: int
    clock: str | None
    rows: tuple[ReadRow, ...]


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A capture or gap that was refused: its number, why (`malformed`, `checksum`), what is wrong, and its meter.

    `meter` is empty where the message does not say it.
    """

    seq: int
    reason: str
    detail: str
    meter: str = ""


@dataclass(frozen=True, slots=True)
class BlocksRead:
    """A batch of blocks. `refused` are the captures that were not taken, in rising seq."""

    id: str
    source: str
    type: str
    time: datetime
    journal: str
    generation: Generation
    gateway: str
    first_seq: int
    last_seq: int
    layouts: dict[str, KeyedLayout]
    holders: dict[str, KeyedHolders]
    blocks: tuple[ReadBlock, ...]
    refused: tuple[RefusedRow, ...]


def read_blocks(payload: bytes, *, limit: int) -> BlocksRead:
    """Read a batch of readings or events of at most `limit` octets.

    Raises ContractError, which names the JSON path, where the frame is wrong: envelope, journal, numbers.
    """
    if len(payload) > limit:
        raise ContractError(f"$: {len(payload)} octets, more than the {limit} that are accepted")
    envelope = _decode(_ENVELOPE, payload)
    data = envelope.data
    if envelope.type not in BATCH_TYPES:
        raise ContractError(f"$.type: {envelope.type!r} is no batch of readings or events of version 2")
    for path, text in (
        ("$.id", envelope.id),
        ("$.source", envelope.source),
        ("$.data.journal", data.journal),
        ("$.data.gateway", data.gateway),
    ):
        _matching(_IDENTIFIER, path, text)
    tables = Tables(data.layouts, data.holders)
    refused: list[RefusedRow] = []
    blocks = tuple(_blocks(data, tables, refused))
    tables.refuse_unused()
    return BlocksRead(
        id=envelope.id,
        source=envelope.source,
        type=envelope.type,
        time=_instant("$.time", envelope.time),
        journal=data.journal,
        generation=Generation.parse(data.generation),
        gateway=data.gateway,
        first_seq=data.first_seq,
        last_seq=data.last_seq,
        layouts=tables.layouts,
        holders=tables.holders,
        blocks=blocks,
        refused=tuple(refused),
    )


_Place = Annotated[int, Meta(ge=0, lt=MAX_COLUMNS)]


class _Row(Struct):
    at: str
    values: list[str | dict[str, str]]
    checksum: str
    occurrence: Annotated[int, Meta(ge=0, le=MAX_SEQ)] = 0
    value_rev: Annotated[int, Meta(ge=1, le=MAX_SEQ)] = 1
    quality: str = USUAL_QUALITY
    start: str | UnsetType = UNSET
    wall: Annotated[str, Meta(max_length=4_096)] | UnsetType = UNSET
    deviation: Annotated[int, Meta(ge=-32_768, le=32_767)] | UnsetType = UNSET
    status: Annotated[int, Meta(ge=0, le=255)] | UnsetType = UNSET
    suspect: Annotated[list[_Place], Meta(max_length=MAX_COLUMNS)] = []
    trusted: bool = True
    raw: str | UnsetType = UNSET
    capture_id: str | UnsetType = UNSET


_Number = Annotated[int, Meta(ge=1, le=MAX_SEQ)]


class _Numbered(Struct):
    """What must be known of a block so that its captures can be refused by their numbers."""

    seq: _Number
    captures: Annotated[list[Raw], Meta(min_length=1, max_length=MAX_CAPTURES)]


class _Block(Struct, kw_only=True):
    captures: Raw
    meter: str
    layout: str
    received_at: str
    directory: str
    interval: Annotated[int, Meta(ge=1, le=MAX_INTERVAL)] | UnsetType = UNSET
    holders: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    epoch: Annotated[int, Meta(ge=0, le=MAX_SEQ)] = 0
    clock: Raw | UnsetType = UNSET


class _Data(Struct):
    journal: str
    generation: str
    gateway: str
    first_seq: _Number
    last_seq: _Number
    layouts: dict[str, Raw]
    blocks: Annotated[list[Raw], Meta(min_length=1, max_length=MAX_BLOCKS)]
    holders: dict[str, Raw] = {}


class _Envelope(Struct):
    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    time: str
    data: _Data


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_NUMBERED: Final = msgspec.json.Decoder(_Numbered)
_BLOCK: Final = msgspec.json.Decoder(_Block)
_ROW: Final = msgspec.json.Decoder(_Row)
_MEMBERS: Final = msgspec.json.Decoder(dict[str, Any])
_CANONICAL: Final = msgspec.json.Encoder(order="sorted")
_VALUE: Final = TypeAdapter(BlockValue)

_IDENTIFIER: Final = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_KEY, _CODE, _QUALITY, _INSTANT, _RAW, _DIRECTORY = (
    re.compile(pattern.removeprefix("^").removesuffix("$"), re.ASCII)
    for pattern in (
        KEY_PATTERN,
        CODE_PATTERN,
        QUALITY_PATTERN,
        INSTANT_PATTERN,
        RAW_PATTERN,
        DIRECTORY_PATTERN,
    )
)
_DECIMAL: Final = rb'"-?[0-9]{1,100}+(?:\.[0-9]{1,100}+)?"'
_USUAL_ROWS: Final[Callable[[bytes], list[tuple[bytes, ...]]]] = re.compile(
    rb'((\{"at":"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)"'
    rb'(?:,"deviation":(?:0|-?[1-9][0-9]{0,3}))?(?:,"status":(?:[1-9]?[0-9]|1[0-9]{2}))?'
    rb',"values":\[(%b(?:,%b)*+)\](?:,"wall":"[ !#-\[\]-~]{0,64}+")?)'
    rb',"checksum":"([0-9a-f]{16})"(?:,"value_rev":([1-9][0-9]{0,17}))?\})' % (_DECIMAL, _DECIMAL)
).findall
"""Rows of decimals alone, in canonical JSON, with the meter's own stamp or without one: each whole, up to its
checksum, its instant, values, checksum and revision. No string can hold one: a quote in a string is escaped."""
_DECIMALS: Final = re.compile(f"(?:{DECIMAL_PATTERN.strip('^$')},)*", re.ASCII)


def _blocks(data: _Data, tables: Tables, refused: list[RefusedRow]) -> Iterator[ReadBlock]:
    """Yield the blocks that were read; the captures of one that cannot be are refused by their numbers."""
    next_seq = data.first_seq
    for number, raw in enumerate(data.blocks):
        path = f"$.data.blocks[{number}]"
        numbered = _decode(_NUMBERED, raw, path)
        last = numbered.seq + len(numbered.captures) - 1
        if numbered.seq < next_seq or last > data.last_seq:
            raise ContractError(
                f"{path}.seq: {numbered.seq}..{last} does not rise within {data.first_seq}..{data.last_seq}"
            )
        next_seq = last + 1
        try:
            yield _block(raw, numbered, path, tables, refused)
        except ContractError as error:
            refused += [RefusedRow(seq, "malformed", str(error)) for seq in range(numbered.seq, last + 1)]
        if len(refused) > MAX_REFUSED:
            raise ContractError(f"{refused[0].detail} (and more than {MAX_REFUSED} captures like it)")


def _block(raw: Raw, numbered: _Numbered, path: str, tables: Tables, refused: list[RefusedRow]) -> ReadBlock:
    block = _decode(_BLOCK, raw, path)
    _matching(_IDENTIFIER, f"{path}.meter", block.meter)
    _matching(_KEY, f"{path}.layout", block.layout)
    _matching(_DIRECTORY, f"{path}.directory", block.directory)
    if block.reason is not UNSET:
        _matching(_CODE, f"{path}.reason", block.reason)
    if block.holders is not UNSET:
        _matching(_KEY, f"{path}.holders", block.holders)
        tables.check_holders(block.holders)
    elif block.reason is UNSET:
        raise ContractError(f"{path}: neither holders nor a reason why there are none")
    received_at = _instant(f"{path}.received_at", block.received_at)
    clock = None if block.clock is UNSET else _clock(block.clock, f"{path}.clock")
    generation, version = block.directory.split("/")
    if int(version) > MAX_SEQ:
        raise ContractError(f"{path}.directory: a version of more than {MAX_SEQ}")
    layout = tables.layout(block.layout)
    interval = None if block.interval is UNSET else block.interval
    prefix = block_prefix(block.layout, block.meter, block.received_at, interval)
    shared = _Shared(
        prefix=prefix,
        begun=blake2b(prefix, digest_size=KEY_OCTETS),
        capture_id=f"{block.meter}/{layout.profile}/",
        interval=None if interval is None else timedelta(seconds=interval),
        columns=len(layout.columns),
    )
    short = len(block.meter) + len(layout.profile) <= _SHORT
    rows = []
    for number, usual in enumerate(_usual_rows(bytes(block.captures), numbered.captures)):
        seq = numbered.seq + number
        row = _usual_row(usual, seq, shared) if usual and short else None
        if row is not None:
            rows.append(row)
            continue
        try:
            rows.append(_row(numbered.captures[number], f"{path}.captures[{number}]", seq, shared))
        except _WrongChecksum as error:
            refused.append(RefusedRow(seq, "checksum", str(error), block.meter))
        except ContractError as error:
            refused.append(RefusedRow(seq, "malformed", str(error), block.meter))
    return ReadBlock(
        meter=block.meter,
        profile=layout.profile,
        layout=block.layout,
        received_at=received_at,
        generation=Generation.parse(generation),
        directory_version=int(version),
        interval=interval,
        holders=None if block.holders is UNSET else block.holders,
        reason=None if block.reason is UNSET else block.reason,
        epoch=block.epoch,
        clock=clock,
        rows=tuple(rows),
    )


def _clock(raw: Raw, path: str) -> str:
    """Return what speaks of the times of a block, as JSON of what this version knows of it."""
    try:
        return BlockClock.model_validate_json(bytes(raw)).model_dump_json(exclude_none=True)
    except ValidationError as error:
        raise ContractError(f"{path}: {error.errors(include_url=False)[0]['msg']}") from error


class _WrongChecksum(ContractError):
    pass


class _Shared(NamedTuple):
    """What the captures of a block need of it; `begun` is the hash of `prefix`, which is copied faster than made."""

    prefix: bytes
    begun: blake2b
    capture_id: str
    interval: timedelta | None
    columns: int


_made: Callable[[tuple[Any, ...]], ReadRow] = partial(tuple.__new__, ReadRow)
"""Makes a row past its constructor, which takes longer than its hash."""
_UNUSUAL: Final = ()


def _usual_rows(captures: bytes, each: Sequence[Raw]) -> Sequence[tuple[bytes, ...]]:
    """Return what `_USUAL_ROWS` finds of each row, _UNUSUAL for one that is written otherwise.

    `captures` is the list of `each`, as it came. Where rows of the pattern, commas and brackets are as long as all
    of it, there is nothing else in it.
    """
    found = _USUAL_ROWS(captures)
    if len(found) == len(each) and sum([len(one[0]) for one in found]) + len(each) + 1 == len(captures):
        return found
    return [_alone(bytes(raw)) for raw in each]


def _alone(row: bytes) -> tuple[bytes, ...]:
    found = _USUAL_ROWS(row)
    return found[0] if found and found[0][0] == row else _UNUSUAL


def _usual_row(found: tuple[bytes, ...], seq: int, shared: _Shared) -> ReadRow | None:
    """Return a row that is written as the edges write nearly all of theirs, quickly.

    It is canonical as it stands, so its octets are hashed as they came. None says that a row must be looked at with
    care (`_row`), not that anything is wrong with it.
    """
    _, members, instant, values, checksum, revision = found
    _, begun, named, interval, columns = shared
    if values.count(b",") + 1 != columns:
        return None
    checked = begun.copy()
    checked.update(members + b"}]")
    if checked.hexdigest() != (own := checksum.decode()):
        return None
    text = instant.decode()
    try:
        at = datetime.fromisoformat(text)
        start = None if interval is None else at - interval
    except (ValueError, OverflowError):
        return None
    value_rev = int(revision) if revision else 1
    body = members + b"}"
    return _made((seq, f"{named}{text}/0", at, start, value_rev, USUAL_QUALITY, None, own, body, False))


def _row(raw: Raw, path: str, seq: int, shared: _Shared) -> ReadRow:
    row = _decode(_ROW, raw, path)
    members = _decode(_MEMBERS, raw, path)
    _matching(_KEY, f"{path}.checksum", row.checksum)
    _matching(_QUALITY, f"{path}.quality", row.quality)
    _check_values(row.values, shared.columns, path)
    at = _instant(f"{path}.at", row.at)
    start = _start(row, at, shared, path)
    evidence = None if row.raw is UNSET else _matching(_RAW, f"{path}.raw", row.raw)
    if row.capture_id is UNSET:
        capture_id = f"{shared.capture_id}{row.at}/{row.occurrence}"
    else:
        capture_id = row.capture_id
    _matching(_IDENTIFIER, f"{path}.capture_id", capture_id)
    members.pop("value_rev", None)
    del members["checksum"]
    body = _checked(members, row.checksum, shared.prefix, path)
    if evidence is not None:
        del members["raw"]
        body = canonical(members)
    named = row.capture_id is not UNSET
    return ReadRow(
        seq, capture_id, at, start, row.value_rev, row.quality, evidence, row.checksum, body, named
    )


def _start(row: _Row, at: datetime, shared: _Shared, path: str) -> datetime | None:
    if row.start is not UNSET:
        start = _instant(f"{path}.start", row.start)
        if start >= at:
            raise ContractError(f"{path}.start: the capture ends before it starts")
        return start
    if shared.interval is None:
        return None
    try:
        return at - shared.interval
    except OverflowError:
        raise ContractError(f"{path}.at: the interval begins before the year 1") from None


def _check_values(values: list[str | dict[str, str]], columns: int, path: str) -> None:
    if len(values) != columns:
        raise ContractError(f"{path}.values: {len(values)} values for {columns} columns")
    try:
        text = ",".join(values)  # type: ignore[arg-type]  # TypeError where one is an object
        if _DECIMALS.fullmatch(f"{text},") and text.count(",") == columns - 1:
            return
    except TypeError:
        pass
    for number, value in enumerate(values):
        try:
            _VALUE.validate_python(value)
        except ValidationError as error:
            raise ContractError(
                f"{path}.values[{number}]: {error.errors(include_url=False)[0]['msg']}"
            ) from error


def _checked(members: dict[str, Any], checksum: str, prefix: bytes, path: str) -> bytes:
    """Return the canonical JSON of a row that has this checksum; _WrongChecksum where it has not."""
    try:
        text = _CANONICAL.encode(members)
        if key_of(b"%b%b]" % (prefix, text)) == checksum:
            return text
        # The fast encoder may write a number with a fraction, in a member that we do not know, in another way.
        text = canonical(members)
    except (ValueError, TypeError, RecursionError) as error:
        raise ContractError(f"{path}: {error}") from error
    if key_of(b"%b%b]" % (prefix, text)) != checksum:
        raise _WrongChecksum(f"{path}.checksum: {checksum} is not that of what came")
    return text


def _decode(decoder: msgspec.json.Decoder[T], octets: bytes | Raw, path: str = "$") -> T:
    try:
        return decoder.decode(octets)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        raise ContractError(f"{path}{where.removesuffix('`')}: {what}") from error
    except (ValueError, RecursionError) as error:
        raise ContractError(f"{path}: {error}") from error


def _matching(pattern: re.Pattern[str], path: str, text: str) -> str:
    if pattern.fullmatch(text) is None:
        raise ContractError(f"{path}: {text[:60]!r} is not as the contract wants it")
    return text


def _instant(path: str, text: str) -> datetime:
    """Return the instant that an RFC 3339 text in UTC says."""
    try:
        if _INSTANT.fullmatch(text) is not None and not text.endswith(".000000Z"):
            return datetime.fromisoformat(text)
    except ValueError:
        pass
    raise ContractError(f"{path}: {text[:60]!r} is no instant in UTC as the contract spells it")
