"""Random profile layouts and rows that fit them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import NULL, Data, Tag, octets, structure
from protocols.dlms.profile.layouts import CapturedColumn, Layout
from protocols.dlms.profile.runs import FIRST_GLANCE
from protocols.reading import Obis, ProfileName, Quantity

START = datetime(2026, 3, 27, 20, 30, tzinfo=UTC)

CAPTURED = [
    (8, "0-0:1.0.0*255", 2, None),
    (3, "0-0:0.1.2*255", 2, None),
    (3, "1-0:1.29.0*255", 2, (0, "Wh")),
    (3, "1-0:12.27.0*255", 2, (-2, "V")),
    (3, "1-0:13.27.0*255", 2, None),
    (4, "1-0:1.6.0*255", 5, None),
    (1, "0-0:96.11.3*255", 2, None),
    (1, "0-0:96.15.3*255", 2, None),
    (1, "0-0:94.91.0*255", 0, None),
]

DEVIATIONS = [330, 330, 330, -330, -0x8000, 60, 0, -210]


def layout_of(rng: Random) -> Layout:
    chosen = [c for c in CAPTURED if rng.random() < 0.5] or [CAPTURED[2]]
    rng.shuffle(chosen)
    profile = rng.choice([ProfileName.BLOCK_LOAD, ProfileName.DAILY, ProfileName.BILLING, ProfileName.EVENTS])
    columns = [
        CapturedColumn(class_id=c, quantity=Quantity(Obis.parse(o), a), scale=s) for c, o, a, s in chosen
    ]
    if rng.random() < 0.9:
        columns.insert(
            rng.randrange(len(columns) + 1), CapturedColumn(class_id=8, quantity=Quantity.of(CAPTURED[0][1]))
        )
    period = rng.choice([900, 1800, 86_400])
    return Layout(
        profile=profile,
        obis=Obis(1, 0, 99, 1, 0),
        columns=tuple(columns),
        period=period,
        newest_first=rng.random() < 0.4,
    )


def stamp_octets(rng: Random, row: int) -> bytes:
    draw = rng.random()
    if draw < 0.02:
        return rng.randbytes(12)
    deviation = rng.choice(DEVIATIONS) if draw < 0.3 else 330
    at = START + timedelta(minutes=30 * (row if draw > 0.05 else rng.randrange(4)))
    whole = bytearray(cosem_time.encode(at, deviation=deviation, status=rng.choice([0, 0, 0, 1, 0x80, 0xFF])))
    if rng.random() < 0.03:
        whole[rng.randrange(12)] = rng.choice([0xFF, 0xFE, 0, 24, 60])
    return bytes(whole)


def parted_stamp(rng: Random, row: int) -> Data:
    """A date and a time of their own types in a structure, as some meters stamp."""
    whole = stamp_octets(rng, row)
    return structure(Data(Tag.DATE, whole[:5]), Data(Tag.TIME, whole[5:9]))


Maker = Callable[[Random, int], Data]


def maker_of(rng: Random, is_time: bool) -> Maker:
    """Give what makes the cells of one column in one run: one type, one length."""
    length = rng.choice([0, 1, 5, 12, 40])
    makers: list[Maker] = [
        lambda r, _: Data(Tag.DOUBLE_LONG_UNSIGNED, r.getrandbits(32)),
        lambda r, _: Data(Tag.LONG, r.randrange(-0x8000, 0x8000)),
        lambda r, _: Data(Tag.UNSIGNED, r.randrange(3)),
        lambda r, _: Data(Tag.LONG64, r.randrange(-(1 << 63), 1 << 63)),
        lambda r, _: Data(Tag.ENUM, r.randrange(256)),
        lambda r, _: Data(Tag.BCD, r.randrange(-128, 128)),
        lambda r, _: Data(Tag.BOOLEAN, r.random() < 0.5),
        lambda r, _: Data(Tag.OCTET_STRING, r.randbytes(length)),
        lambda r, _: Data(Tag.VISIBLE_STRING, r.randbytes(length).decode("latin-1")),
        lambda r, _: Data(Tag.UTF8_STRING, "é" * length),
        lambda r, _: Data(Tag.BIT_STRING, "".join(r.choice("01") for _ in range(length))),
        lambda r, _: Data(Tag.FLOAT32, r.randbytes(4)),
        lambda r, _: Data(Tag.DATE_TIME, stamp_octets(r, 3)),
        lambda *_: NULL,
        lambda *_: Data(Tag.DONT_CARE, None),
        lambda r, _: structure(Data(Tag.UNSIGNED, r.randrange(256))),
        lambda r, _: octets(r.randbytes(r.choice([3, 130]))),
    ]
    if is_time and rng.random() < 0.9:
        return rng.choice(
            [lambda r, row: octets(stamp_octets(r, row))] * 6 + [lambda *_: NULL] * 2 + [parted_stamp]
        )
    return rng.choice(makers[:3] if rng.random() < 0.6 else makers)


def rows_for(rng: Random, layout: Layout) -> list[Data]:
    rows: list[Data] = []
    for _ in range(rng.choice([0, 1, 1, 2, 4])):
        makers = [maker_of(rng, c.is_stamp) for c in layout.columns]
        count = rng.choice([1, 2, 7, 30, 5 * FIRST_GLANCE + 3])
        kind = rng.choice([Tag.STRUCTURE] * 5 + [Tag.ARRAY])
        for _ in range(count):
            rows.append(Data(kind, tuple(make(rng, len(rows)) for make in makers)))
            if rng.random() < 0.03:
                rows.append(rows[-1])
            if rng.random() < 0.02:
                at = rng.randrange(len(layout.columns))
                cells = list(rows[-1].items)
                cells[at] = maker_of(rng, False)(rng, 0)
                rows.append(structure(*cells))
    if layout.newest_first:
        rows.reverse()
    return rows


def compact_rows_for(rng: Random, layout: Layout) -> Data:
    makers = [maker_of(rng, c.is_stamp) for c in layout.columns]
    rows = [structure(*(make(rng, row) for make in makers)) for row in range(rng.choice([0, 1, 9, 40]))]
    return Data(Tag.COMPACT_ARRAY, tuple(rows))
