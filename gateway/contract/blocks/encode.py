"""The block of captures as the edge writes it: once, when it is stamped; its octets then travel as they are.

    in the journal   {"directory":"3.9f2c01ab/7", … ,"captures":[{"at":"…", … ,"checksum":"…"}, …]}
    in a message     {"seq":17,"directory":"3.9f2c01ab/7", … }

A block holds one meter's rows of one profile that share layout, holders (or the reason why there are none),
version of the directory, epoch of the allocation, time of receipt and interval: its template. The head is written
once for a template; a row is its time, its values as a list, and what is not usual about it. `value_rev` of a
revision is put at a row's end (`revised`), `seq` at the block's beginning: nothing is parsed.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b

import msgspec

from gateway.contract.blocks.canonical import KEY_OCTETS, canonical, key_of
from gateway.contract.blocks.hashes import value_hash
from gateway.contract.messages import rfc3339
from gateway.contract.messages.texts import MAX_TEXT, decimal_text, quoted
from mapping.directory import Attribution, Unattributed
from protocols.reading import (
    Bits,
    Instant,
    Missing,
    Number,
    Quality,
    Quantity,
    ReadingSet,
    Text,
    Value,
    name_of,
)

_LEAST_SCALER = -12
_TENS = [10**n for n in range(-_LEAST_SCALER + 1)]
MAX_LAYOUTS = 1_024
"""Layouts kept ready; a gateway sees some dozens."""
MAX_HEADS = 4_096
"""Heads of blocks kept ready: four profiles of a thousand meters."""
SEQ_ROOM = 32
"""Octets that `numbered` and the comma between two blocks add, at most."""


@dataclass(frozen=True, slots=True)
class Keyed:
    """Canonical JSON with its key: a layout, or a list of holders. `member`: both, as in the tables of a batch."""

    key: str
    text: bytes
    member: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "member", b'"%b":%b' % (self.key.encode(), self.text))

    @classmethod
    def of(cls, value: object) -> Keyed:
        """Spell a JSON value and name it."""
        text = canonical(value)
        return cls(key_of(text), text)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """What the values of a row are of, in the meter's order; one object for each, so `is` compares."""

    profile: str
    columns: tuple[tuple[Quantity, str], ...]
    keyed: Keyed
    quantities: list[Quantity] = field(init=False, repr=False)
    units: list[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "quantities", [quantity for quantity, _ in self.columns])
        object.__setattr__(self, "units", [unit for _, unit in self.columns])

    def fits(self, reading: ReadingSet) -> bool:
        """Say whether a row has just these quantities, in these units."""
        # Lists of the same objects are compared at once.
        return (
            reading.profile == self.profile
            and [quantity for quantity, _ in reading.values] == self.quantities
            and [v.unit if type(v) is Number else "" for _, v in reading.values] == self.units
        )


def layout_of(reading: ReadingSet) -> Layout:
    """Return the layout of a row by the row alone.

    A value that is no number has no unit, so a row whose voltage is missing has another layout than its
    neighbours: whoever reads it again, in whatever company, finds the same.
    """
    columns = tuple((q, v.unit if isinstance(v, Number) else "") for q, v in reading.values)
    return _layout(reading.profile.value, columns)


@lru_cache(maxsize=MAX_LAYOUTS)
def _layout(profile: str, columns: tuple[tuple[Quantity, str], ...]) -> Layout:
    named = [
        {"q": str(quantity), "name": name_of(quantity)} | ({"unit": unit} if unit else {})
        for quantity, unit in columns
    ]
    return Layout(profile, columns, Keyed.of({"profile": profile, "columns": named}))


@lru_cache(maxsize=MAX_LAYOUTS)
def holders_of(accounts: tuple[Attribution, ...]) -> Keyed | None:
    """Return the holders of a block by the answer of a lookup; None where there are none."""
    return Keyed.of([_holder(one) for one in accounts]) if accounts else None


def _holder(one: Attribution) -> dict[str, str]:
    found = {"account_id": one.account_id, "usage_point": one.usage_point, "role": one.role.value}
    if one.account_number is not None:
        found["account_number"] = one.account_number
    if one.legacy_number is not None:
        found["legacy_number"] = one.legacy_number
    if one.since is not None and one.until is not None:
        found |= {"from": rfc3339(one.since), "to": rfc3339(one.until)}
    return found


class BlockTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """What the captures of a block share.

    `holders` and `reason`: one of them, or both where a holder is known who has no number yet. `directory` is
    `{generation}/{version}`, `epoch` that of the meter's allocation to the gateway (0: never allocated).
    `interval` is in seconds, of interval profiles; None where a row's is not whole (`interval_of`). `clock` is
    the JSON of what speaks of times that are not trusted ("": nothing); they are `provisional` while the
    gateway does not know the time itself.
    """

    meter: str
    layout: Layout
    received_at: datetime
    directory: str
    holders: Keyed | None = None
    reason: Unattributed | None = None
    interval: int | None = None
    epoch: int = 0
    clock: str = ""
    provisional: bool = False


def interval_of(reading: ReadingSet) -> int | None:
    """Return a row's interval in seconds; None for a snapshot, and where it is not whole seconds."""
    if reading.start is None:
        return None
    span = reading.at - reading.start
    return None if span.microseconds else span.days * 86_400 + span.seconds


class EncodedRow(msgspec.Struct, frozen=True, gc=False):
    """One capture of a block.

    `value_hash` tells a repeat from a revision: it covers quantities, values, and whether the time is settled.
    """

    capture_id: str
    at: datetime
    value_hash: bytes
    body: bytes


class EncodedBlock(msgspec.Struct, frozen=True):
    """A block that has no numbers yet; `body` gives its octets, of all rows or of those that are news."""

    template: BlockTemplate
    head: bytes
    rows: tuple[EncodedRow, ...]

    def body(self, rows: Sequence[bytes] | None = None) -> bytes:
        """Return the block's octets; `rows` are the bodies to take, in their order."""
        taken = [row.body for row in self.rows] if rows is None else rows
        return b"%b%b]}" % (self.head, b",".join(taken))


def revised(row: bytes, value_rev: int) -> bytes:
    """Return a row's octets as revision `value_rev` (above 1) of its capture."""
    return b'%b,"value_rev":%d}' % (row[:-1], value_rev)


def numbered(body: bytes, seq: int) -> bytes:
    """Return a block's octets with the number of its first capture."""
    return b'{"seq":%d,%b' % (seq, body[1:])


def encode_block(template: BlockTemplate, readings: Sequence[ReadingSet]) -> EncodedBlock:
    """Encode rows that share a template; each must have the template's layout, receipt and interval.

    Times of rows are taken as they are: whoever stamps has judged them (`stamp`).
    """
    head, prefix, seed = block_head(template)
    start_of_id = f"{template.meter}/{template.layout.profile}/"
    whole, provisional = template.interval is not None, template.provisional
    # A hash that has begun is copied faster than another one is made.
    begun = blake2b(prefix, digest_size=KEY_OCTETS)
    rows = []
    for reading in readings:
        at = rfc3339(reading.at)
        values = _values(reading.values)
        row = _row(reading, at, values, whole)
        checked = begun.copy()
        checked.update(f"{row}]".encode())
        rows.append(
            EncodedRow(
                f"{start_of_id}{at}/{reading.occurrence}",
                reading.at,
                value_hash(seed + values.encode(), provisional=provisional),
                f'{row[:-1]},"checksum":"{checked.hexdigest()}"}}'.encode(),
            )
        )
    return EncodedBlock(template, head, tuple(rows))


def block_head(template: BlockTemplate) -> tuple[bytes, bytes, bytes]:
    """Return the octets up to the first row, the beginning of what is checked, and what hashes of values begin with."""
    received_at = rfc3339(template.received_at).encode()
    holders = None if template.holders is None else template.holders.key
    shared, layout, prefix, end_of_prefix = _shared_head(
        template.meter,
        template.layout.keyed.key,
        template.directory,
        template.epoch,
        holders,
        template.reason,
        template.interval,
    )
    clock = b'"clock":%b,' % template.clock.encode() if template.clock else b""
    head = b'{%b%b"%b","captures":[' % (clock, shared, received_at)
    return head, b"%b%b%b" % (prefix, received_at, end_of_prefix), layout


@lru_cache(maxsize=MAX_HEADS)
def _shared_head(
    meter: str,
    layout: str,
    directory: str,
    epoch: int,
    holders: str | None,
    reason: Unattributed | None,
    interval: int | None,
) -> tuple[bytes, bytes, bytes, bytes]:
    """Return what heads of one meter share: members before `received_at`, layout, what is checked around it."""
    members = [f'"directory":{quoted(directory)}']
    if epoch:
        members.append(f'"epoch":{epoch}')
    if holders is not None:
        members.append(f'"holders":"{holders}"')
    if interval is not None:
        members.append(f'"interval":{interval}')
    name = quoted(meter)
    members += [f'"layout":"{layout}"', f'"meter":{name}']
    if reason is not None:
        members.append(f'"reason":"{reason.value}"')
    members.append('"received_at":')
    spell = "null" if interval is None else str(interval)
    return (
        ",".join(members).encode(),
        layout.encode(),
        f'["{layout}",{name},"'.encode(),
        f'",{spell},'.encode(),
    )


def _row(reading: ReadingSet, at: str, values: str, whole: bool) -> str:
    """Return a row's canonical JSON: members by name, the usual ones left out."""
    own, start = reading.meter_time, reading.start
    plain = reading.occurrence == 0 and reading.raw is None and reading.quality is Quality.VALID
    if plain and own is None and (start is None or whole):
        return f'{{"at":"{at}","values":[{values}]}}'
    members = [f'"at":"{at}"']
    if own is not None and own.deviation is not None:
        members.append(f'"deviation":{own.deviation}')
    if reading.occurrence:
        members.append(f'"occurrence":{reading.occurrence}')
    if reading.quality is not Quality.VALID:
        members.append(f'"quality":"{reading.quality.value}"')
    if reading.raw is not None:
        members.append(f'"raw":"{b64encode(reading.raw).decode()}"')
    if start is not None and not whole:
        members.append(f'"start":"{rfc3339(start)}"')
    if own is not None and own.status is not None:
        members.append(f'"status":{own.status}')
    if reading.suspect:
        places = [n for n, (quantity, _) in enumerate(reading.values) if quantity in reading.suspect]
        members.append(f'"suspect":[{",".join(map(str, places))}]')
    if own is not None and not own.trusted:
        members.append('"trusted":false')
    members.append(f'"values":[{values}]')
    if own is not None:
        members.append(f'"wall":{quoted(own.wall)}')
    return f"{{{','.join(members)}}}"


def _values(values: Sequence[tuple[Quantity, Value]]) -> str:
    """Return the members of a row's list of values; rows of nothing but usual decimals at once."""
    texts: list[str] = []
    for _, value in values:
        if type(value) is not Number:
            return ",".join([_value(one) for _, one in values])
        mantissa, scaler = value.mantissa, value.scaler
        if not scaler:
            texts.append(f"{mantissa}")
        elif _LEAST_SCALER <= scaler < 0 and _TENS[-scaler] <= mantissa:
            # The meter's own digits with the point put in: there are enough of them.
            text = f"{mantissa}"
            texts.append(f"{text[:scaler]}.{text[scaler:]}")
        else:
            texts.append(decimal_text(value))
    joined = '","'.join(texts)
    return f'"{joined}"' if texts else ""


def _value(value: Value) -> str:
    match value:
        case Number():
            return f'"{decimal_text(value)}"'
        case Missing(reason):
            return f'{{"missing":"{reason.value}"}}'
        case Instant(at):
            return f'{{"instant":"{rfc3339(at)}"}}'
        case Text(text):
            return f'{{"text":{quoted(text[:MAX_TEXT])}}}'
        case Bits(bits):
            return f'{{"bits":{quoted(bits[:MAX_TEXT])}}}'
