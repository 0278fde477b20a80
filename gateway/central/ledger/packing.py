"""A capture as its row holds it: values as whole mantissas, and what captures share named once; exactly, both ways.

A row's values are a MessagePack list: revision, directory version, microseconds from the capture's instant to its
receipt, then a value each. A decimal that has the digits that its `Form` says for its column is its mantissa, a whole
number; whatever else is the value as the contract writes it. What no form can say is kept as its JSON. Migrations read
and write this: it is not changed, a new way gets a form of its own.
"""

from __future__ import annotations

import json
import re
import zlib
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from gateway.central.ledger.rows import CaptureRow
from gateway.contract.blocks import canonical
from gateway.contract.messages import rfc3339
from gateway.errors import GatewayError
from mapping.instants import instant, micros

USUAL_QUALITY: Final = "1.0.0"
DIGITS: Final = 18
"""Digits of a mantissa that 64 bits hold whatever they are."""
MAX_SHAPES: Final = 32
"""Numbers of digits that a layout's columns are remembered with; beyond them the odd values are kept as text."""
MAX_LAYOUTS: Final = 10_000
"""Layouts that are remembered so; beyond them all are learnt anew."""
QUARTER: Final = 15 * 60 * 1_000_000
"""Clocks differ from UTC by whole quarters of an hour, in microseconds."""
_FURTHEST: Final = 24 * 3_600 * 1_000_000

_MEMBERS: Final = msgspec.json.Decoder(dict[str, Any])
_packed: Final = msgspec.msgpack.Encoder().encode
_unpacked: Final = msgspec.msgpack.Decoder(list[Any]).decode
_DECIMAL: Final = re.compile(r"-?[0-9]+(?:\.([0-9]+))?", re.ASCII)
_USUAL: Final = re.compile(
    r'\{"at":"[^"\\]+"(?:,"deviation":-?[0-9]+)?(?:,"status":[0-9]+)?'
    r',"values":\["[0-9.-]+"(?:,"[0-9.-]+")*\](?:,"wall":"[0-9T:.-]+")?\}',
    re.ASCII,
).fullmatch
"""Canonical bodies of nothing but decimals and the meter's own stamp: to read and write them loses nothing."""


class DamagedRow(GatewayError):
    """A row of the ledger says what no capture can: the operator of central must restore it from a copy."""

    exit_code = 5


class Place(NamedTuple):
    """Which capture a row is of its meter and profile: the instant stamped (microseconds) and its occurrence.

    An occurrence below zero stands for a capture_id that is written in another way; the row has it then.
    """

    at: int
    occurrence: int


class Form(NamedTuple):
    """What the rows of a profile share: layout, digits behind the point of each column, interval, and the rest.

    `digits` is None where the row's JSON is kept whole: of version 1 (no layout), and where nothing shorter is exact.
    `span` is the interval in microseconds. `stamp` is JSON of the meter's own stamp, its wall clock as microseconds
    ahead of UTC.
    """

    layout: str | None
    digits: str | None
    span: int | None
    quality: str
    stamp: str | None


class Stamp(NamedTuple):
    """Who delivered a capture, and whose it was then."""

    gateway: str
    journal: str
    epoch: int
    generation: str
    holders: str | None


def shared_key(one: str | Form | Stamp) -> str:
    """Return the key under which something that many captures share is stored."""
    if isinstance(one, str):
        return one
    return blake2b(canonical(list(one)), digest_size=16).hexdigest()


class PackedRow(NamedTuple):
    """A row before meter, profile, form and stamp have their numbers. `moved_to` is the instant that a verdict gave."""

    meter: str
    profile: str
    place: Place
    seq: int
    ingested_at: int
    moved_to: int | None
    form: Form
    stamp: Stamp
    packed: bytes
    checksum: bytes | None
    reason: str | None
    clock: str | None
    extra: bytes | None
    raw: bytes | None


@lru_cache(maxsize=4_096)
def instant_text(at: int) -> str:
    """Return microseconds since 1970 as the contract writes an instant."""
    return rfc3339(instant(at))


def place_of(meter: str, profile: str, at: int, capture_id: str) -> Place:
    """Return the place that a capture_id names; `at` is only taken where the id does not say the instant plainly."""
    if capture_id == f"{meter}/{profile}/{instant_text(at)}/0":
        return Place(at, 0)
    stamped = named_place(meter, profile, capture_id)
    return stamped or Place(at, odd_occurrence(capture_id))


def named_place(meter: str, profile: str, capture_id: str) -> Place | None:
    """Return the place that a capture_id names in the contract's spelling, None for any other."""
    prefix = f"{meter}/{profile}/"
    said, _, number = capture_id.removeprefix(prefix).partition("/")
    try:
        place = Place(micros(_moment(said)), int(number))
    except (ValueError, OverflowError):
        return None
    if place.occurrence >= 1 << 63 or capture_id != f"{prefix}{instant_text(place.at)}/{place.occurrence}":
        return None
    return place


def _moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.utcoffset() is None:
        raise ValueError(f"{text} has no zone")
    return at


def odd_occurrence(capture_id: str) -> int:
    """Return what stands for a capture_id of another spelling: below zero, of 63 bits of its hash."""
    digest = blake2b(capture_id.encode(), digest_size=8).digest()
    return -1 - (int.from_bytes(digest, "big") >> 1)


class Packer:
    """Packs rows. It remembers the digits of each layout's columns, which values without digits do not show."""

    def __init__(self) -> None:
        self._shapes: dict[str, list[tuple[int, ...]]] = {}

    def pack(self, row: CaptureRow, stamped: int | None = None) -> PackedRow:
        """Return a row in its typed form; ValueError for one whose odd capture_id nobody could find again.

        `stamped` is the instant as it was stamped, of a row that was moved and whose capture_id does not say it.
        """
        place = place_of(row.meter, row.profile, row.at if stamped is None else stamped, row.capture_id)
        if place.occurrence < 0 and json.loads(row.body).get("capture_id") != row.capture_id:
            raise ValueError(f"the body of {row.capture_id!r} has another capture_id")
        layout, span = row.layout, None if row.start is None else row.at - row.start
        digits: str | None = None
        stamp: str | None = None
        extra: bytes | None = None
        head = [row.value_rev, row.directory_version, row.received_at - place.at]
        members = None if layout is None else self._members(row, place)
        if layout is None or members is None:
            packed, extra = _packed(head), _kept(row.body)
        else:
            shape, items = self._items(layout, members.pop("values"))
            digits, packed = ",".join(map(str, shape)), _packed(head + items)
            del members["at"]
            if members:
                stamp = _stamp(members, place.at)
                if stamp is None:
                    extra = _kept(canonical(members).decode())
        return PackedRow(
            row.meter,
            row.profile,
            place,
            row.seq,
            row.ingested_at,
            None if row.at == place.at else row.at,
            Form(layout, digits, span, row.quality, stamp),
            Stamp(row.gateway, row.journal, row.epoch, row.directory_generation, row.holders),
            packed,
            None if row.checksum is None else bytes.fromhex(row.checksum),
            row.reason,
            row.clock,
            extra,
            None if row.raw is None else zlib.compress(row.raw.encode(), 9),
        )

    def _members(self, row: CaptureRow, place: Place) -> dict[str, Any] | None:
        """Return the members of a body that can be written again exactly as it is, None for any other."""
        if _USUAL(row.body):
            members = _MEMBERS.decode(row.body)
        else:
            try:
                members = json.loads(row.body)
                if canonical(members).decode() != row.body or not isinstance(members.get("values"), list):
                    return None
            except (ValueError, RecursionError):
                return None
        return members if members.get("at") == instant_text(place.at) else None

    def _items(self, layout: str, values: list[Any]) -> tuple[tuple[int, ...], list[Any]]:
        """Return the digits of each column, and each value as it is packed."""
        known = self._shapes.get(layout)
        try:
            text = ",".join(values)
        except TypeError:  # one is an object
            text = ""
        if text and known:
            for shape in known:
                if len(shape) == len(values) and _pattern(shape)(text):
                    return shape, list(map(int, text.replace(".", "").split(",")))
        if known is None:
            if len(self._shapes) >= MAX_LAYOUTS:
                self._shapes.clear()
            known = self._shapes.setdefault(layout, [])
        usual = known[0] if known and len(known[0]) == len(values) else (0,) * len(values)
        shape = tuple(_digits(one, held) for one, held in zip(values, usual, strict=True))
        if shape not in known:
            if len(known) < MAX_SHAPES:
                known.append(shape)
            elif len(known[0]) == len(values):
                shape = known[0]
        return shape, [_item(one, digits) for one, digits in zip(values, shape, strict=True)]


def _digits(value: Any, usual: int) -> int:
    """Return the digits behind the point of a value that is a usual decimal, `usual` of any other."""
    found = _DECIMAL.fullmatch(value) if type(value) is str else None
    if found is None:
        return usual
    digits = len(found.group(1) or "")
    return digits if _pattern((digits,))(value) else usual


def _item(value: Any, digits: int) -> Any:
    if type(value) is str and _pattern((digits,))(value):
        return int(value.replace(".", ""))
    return value


@lru_cache(maxsize=4_096)
def _pattern(shape: tuple[int, ...]) -> Any:
    """Return what matches decimals of these digits, each of which its mantissa says wholly: no 007, no -0.00."""
    return re.compile(",".join(map(_plain, shape)), re.ASCII).fullmatch


def _plain(digits: int) -> str:
    if digits >= DIGITS:
        return r"(?!)"
    whole = rf"(?:0|[1-9][0-9]{{0,{DIGITS - 1 - digits}}})"
    if not digits:
        return rf"(?!-0)-?{whole}"
    return rf"(?!-0\.0+(?:,|$))-?{whole}\.[0-9]{{{digits}}}"


def _text(item: Any, digits: int) -> Any:
    if type(item) is not int:
        return item
    if not digits:
        return str(item)
    sign, number = ("-", -item) if item < 0 else ("", item)
    text = str(number).rjust(digits + 1, "0")
    return f"{sign}{text[:-digits]}.{text[-digits:]}"


def _stamp(members: dict[str, Any], at: int) -> str | None:
    """Return the meter's own stamp as many captures share it, None where there is more, or it is this one's own."""
    said = dict(members)
    wall = said.pop("wall", None)
    if said.keys() - {"deviation", "status", "trusted", "quality"}:
        return None
    if (deviation := said.get("deviation")) is not None and deviation % 15:
        return None
    if wall is not None:
        ahead = _ahead(wall, at)
        if ahead is None:
            return None
        said["wall"] = ahead
    return canonical(said).decode()


@lru_cache(maxsize=4_096)
def _ahead(wall: str, at: int) -> int | None:
    try:
        ahead = micros(_moment(f"{wall}+00:00")) - at
    except (ValueError, OverflowError):
        return None
    if ahead % QUARTER or abs(ahead) > _FURTHEST or _wall(at, ahead) != wall:
        return None
    return ahead


@lru_cache(maxsize=4_096)
def _wall(at: int, ahead: int) -> str:
    return (instant(at) + timedelta(microseconds=ahead)).replace(tzinfo=None).isoformat()


def _kept(text: str) -> bytes:
    """Return JSON as it is kept: compressed where that is shorter."""
    plain = text.encode()
    short = zlib.compress(plain, 6)
    return plain if plain[:1] == b"{" and len(plain) <= len(short) else short


def kept_text(octets: bytes) -> str:
    """Return JSON that was kept; an object begins with a brace, what is compressed never does."""
    return (octets if octets[:1] == b"{" else zlib.decompress(octets)).decode()


def unpack(row: PackedRow) -> CaptureRow:
    """Return a row as it was before it was packed; DamagedRow where it cannot be one."""
    try:
        return _unpack(row)
    except (ValueError, LookupError, TypeError, OverflowError, zlib.error, msgspec.MsgspecError) as error:
        at = instant_text(row.place.at)
        raise DamagedRow(f"the capture of {row.meter}, {row.profile}, {at} is damaged: {error}") from error


def _unpack(row: PackedRow) -> CaptureRow:
    form, place = row.form, row.place
    value_rev, version, delay, *items = _unpacked(row.packed)
    extra = None if row.extra is None else kept_text(row.extra)
    if form.digits is None:
        body = "" if extra is None else extra
    else:
        members = {} if form.stamp is None else json.loads(form.stamp)
        if "wall" in members:
            members["wall"] = _wall(place.at, members["wall"])
        if extra is not None:
            members.update(json.loads(extra))
        members["at"] = instant_text(place.at)
        members["values"] = _texts(items, form.digits)
        body = canonical(members).decode()
    if place.occurrence >= 0:
        capture_id = f"{row.meter}/{row.profile}/{instant_text(place.at)}/{place.occurrence}"
    else:
        capture_id = json.loads(body)["capture_id"]
    at = place.at if row.moved_to is None else row.moved_to
    return CaptureRow(
        capture_id,
        value_rev,
        row.meter,
        row.profile,
        at,
        None if form.span is None else at - form.span,
        place.at + delay,
        form.quality,
        row.reason,
        version,
        row.stamp.gateway,
        row.stamp.journal,
        row.seq,
        row.ingested_at,
        body,
        None if row.raw is None else zlib.decompress(row.raw).decode(),
        row.stamp.epoch,
        row.stamp.generation,
        form.layout,
        row.stamp.holders,
        row.clock,
        None if row.checksum is None else row.checksum.hex(),
    )


def _texts(items: list[Any], digits: str) -> list[Any]:
    return [_text(item, count) for item, count in zip(items, _shape(digits), strict=True)]


@lru_cache(maxsize=4_096)
def _shape(digits: str) -> tuple[int, ...]:
    return tuple(map(int, digits.split(","))) if digits else ()
