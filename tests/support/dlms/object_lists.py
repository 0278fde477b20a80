"""Two meters as public object lists of IDIS and SPODES describe them: served by us or by a peer, from one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import Data, Tag, octets, scaler_unit, structure
from protocols.dlms.objects.object_list import READ_ONLY, ObjectEntry, build_object_list
from protocols.dlms.server.model import AssociationPolicy
from protocols.reading import Obis
from tests.support.dlms.bench import CapturedObject, SmallMeter

ZONE = ZoneInfo("Asia/Kolkata")
MIDNIGHT = datetime(2026, 6, 1, tzinfo=ZONE)
NOW = MIDNIGHT + timedelta(hours=12, minutes=7)
CLOCK: CapturedObject = (8, Obis(0, 0, 1, 0, 0), 2, None)
WH, VARH, V, A = 30, 32, 35, 33


@dataclass(frozen=True, kw_only=True)
class ListedProfile:
    """One profile generic: columns, rows (the first cell being a time), and where its scales are."""

    obis: str
    columns: Sequence[CapturedObject]
    rows: Sequence[Sequence[datetime | Data]]
    period: int = 0
    scalers: str | None = None


@dataclass(frozen=True, kw_only=True)
class ListedMeter:
    """What a meter of an object list has: profiles, registers with their scale, and texts."""

    companion: str
    client: int
    counter: str
    profiles: Sequence[ListedProfile]
    registers: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)


def column(class_id: int, obis: str, *scale: int, attribute: int = 2) -> CapturedObject:
    return class_id, Obis.parse(obis), attribute, (scale[0], scale[1]) if scale else None


def number(value: int, tag: Tag = Tag.DOUBLE_LONG_UNSIGNED) -> Data:
    return Data(tag, value)


def _log(e: int, *codes: int, of: str | None = None) -> ListedProfile:
    event = column(1, of or f"0-0:96.11.{e}*255")
    rows = [(MIDNIGHT + timedelta(hours=1 + n), number(code, Tag.UNSIGNED)) for n, code in enumerate(codes)]
    return ListedProfile(obis=f"0-0:99.98.{e}*255", columns=[CLOCK, event], rows=rows)


def _quarters(*values: Data) -> list[tuple[datetime | Data, ...]]:
    return [(MIDNIGHT + timedelta(minutes=15 * n), *values[:-1], number(1000 + n)) for n in range(1, 49)]


_DAYS = [MIDNIGHT - timedelta(days=2 - n) for n in range(3)]
IDIS = ListedMeter(
    companion="idis",
    client=1,
    counter="0-0:43.1.0*255",
    texts={
        "0-0:96.1.0*255": b"00000007",
        "0-0:42.0.0*255": b"ABC1234500000007",
        "1-0:0.2.0*255": b"I2.0",
    },
    registers={
        "1-0:1.8.0*255": (123_456, 0, WH),
        "1-0:2.8.0*255": (7, 0, WH),
        "1-0:32.7.0*255": (2301, -1, V),
    },
    profiles=[
        ListedProfile(
            obis="1-0:99.1.0*255",
            columns=[CLOCK, column(1, "0-0:96.10.1*255"), column(3, "1-0:1.8.0*255", 0, WH)],
            rows=_quarters(number(0x82, Tag.UNSIGNED), number(0)),
            period=900,
        ),
        ListedProfile(
            obis="1-0:99.2.0*255",
            columns=[CLOCK, column(1, "0-0:96.10.2*255"), column(3, "1-0:1.8.0*255", 0, WH)],
            rows=[(at, number(0, Tag.UNSIGNED), number(500 + n)) for n, at in enumerate(_DAYS)],
            period=86400,
        ),
        ListedProfile(
            obis="0-0:98.1.0*255",
            columns=[CLOCK, column(3, "1-0:1.8.0*255", 0, WH)],
            rows=[(MIDNIGHT, number(502))],
        ),
        _log(0, 2, 4, 5),
        _log(1, 40),
        _log(2, 62, 63),
        _log(4, 76),
        _log(5, 156),
        ListedProfile(
            obis="1-0:99.97.0*255",
            columns=[CLOCK, column(1, "0-0:96.7.19*255")],
            rows=[(MIDNIGHT + timedelta(hours=9), number(640))],
        ),
    ],
)
SPODES = ListedMeter(
    companion="spodes",
    client=32,
    counter="0-0:43.1.2*255",
    texts={"0-0:96.1.0*255": b"00000007", "0-0:96.1.1*255": b"TYPE 1", "0-0:96.1.2*255": b"S1.0"},
    # scales that the scaler profiles give; the registers of a SPODES meter say the same
    registers={
        "1-0:1.8.0*255": (123_456, 0, WH),
        "1-0:3.8.0*255": (9, 0, VARH),
        "1-0:12.7.0*255": (23010, -2, V),
        "1-0:11.7.0*255": (512, -2, A),
    },
    profiles=[
        ListedProfile(
            obis="1-0:94.7.0*255",
            columns=[
                CLOCK,
                column(3, "1-0:12.7.0*255", -2, V),
                column(3, "1-0:11.7.0*255", -2, A),
                column(3, "1-0:1.8.0*255", 0, WH),
            ],
            rows=[(NOW, number(23010), number(512), number(123_456))],
            scalers="1-0:94.7.3*255",
        ),
        ListedProfile(
            obis="1-0:99.1.0*255",
            columns=[CLOCK, column(3, "1-0:3.8.0*255", 0, VARH), column(3, "1-0:1.8.0*255", 0, WH)],
            rows=_quarters(number(9), number(0)),
            period=900,
            scalers="1-0:94.7.4*255",
        ),
        ListedProfile(
            obis="1-0:98.2.0*255",
            columns=[CLOCK, column(3, "1-0:1.8.0*255", 0, WH)],
            rows=[(at, number(500 + n)) for n, at in enumerate(_DAYS)],
            period=86400,
            scalers="1-0:94.7.2*255",
        ),
        ListedProfile(
            obis="1-0:98.1.0*255",
            columns=[CLOCK, column(3, "1-0:1.8.0*255", 0, WH)],
            rows=[(MIDNIGHT, number(502))],
            scalers="1-0:94.7.1*255",
        ),
        _log(0, 1, 2),
        _log(2, 3),
        _log(9, 5, of="0-0:96.5.1*255"),
        _log(10, 1, of="0-0:96.3.0*255"),
    ],
)
LISTED = {one.companion: one for one in (IDIS, SPODES)}


def _stamp(at: datetime) -> Data:
    return octets(cosem_time.encode(at, ZONE, deviation=-330))


def served_as(listed: ListedMeter, policy: AssociationPolicy) -> SmallMeter:
    """Serve a listed meter to its client."""
    meter = SmallMeter({listed.client: policy})
    found = {("0-0:1.0.0*255", 2): _stamp(NOW)}
    classes = {"0-0:1.0.0*255": 8, "0-0:96.3.10*255": 70}
    for name, text in listed.texts.items():
        found[name, 2], classes[name] = octets(text), 1
    for name, (value, *scale) in listed.registers.items():
        found[name, 2], found[name, 3], classes[name] = number(value), scaler_unit(*scale), 3
    for one in listed.profiles:
        rows = [structure(*(_stamp(c) if isinstance(c, datetime) else c for c in row)) for row in one.rows]
        meter._profile(found, one.obis, one.scalers, list(one.columns), rows, one.period)
        classes |= {name: 7 for name in (one.obis, one.scalers) if name}
    entries = [
        ObjectEntry(
            class_id=class_id,
            version=1,
            obis=Obis.parse(name),
            attributes=dict.fromkeys(range(1, 9), READ_ONLY),
        )
        for name, class_id in classes.items()
    ]
    found["0-0:40.0.0*255", 2] = build_object_list(entries)
    meter.attributes = found
    return meter


def _dotted(obis: Obis | str) -> str:
    return str(obis).replace("-", ".").replace(":", ".").replace("*", ".")


def for_peer(listed: ListedMeter) -> list[dict[str, Any]]:
    """Describe a listed meter's objects to `gurux_server.py`."""
    found: list[dict[str, Any]] = [
        {"class": 1, "obis": _dotted(name), "value": list(text), "type": int(Tag.OCTET_STRING)}
        for name, text in listed.texts.items()
    ]
    for name, (value, scaler, unit) in listed.registers.items():
        found.append(
            {
                "class": 3,
                "obis": _dotted(name),
                "value": value,
                "type": int(Tag.DOUBLE_LONG_UNSIGNED),
                "scaler": scaler,
                "unit": unit,
            }
        )
    captured = {obis for one in listed.profiles for class_id, obis, _, _ in one.columns if class_id == 1}
    found += [{"class": 1, "obis": _dotted(obis), "value": 0, "type": int(Tag.UNSIGNED)} for obis in captured]
    for one in listed.profiles:
        found.append(_profile(one.obis, one.columns, one.rows, one.period))
        if one.scalers:
            scaled = [(c, obis, 3, pair) for c, obis, _, pair in one.columns if pair]
            found.append(_profile(one.scalers, scaled, [[pair for *_, pair in scaled]], 0))
    return found


def _profile(
    obis: str, columns: Sequence[CapturedObject], rows: Sequence[Sequence[Any]], period: int
) -> dict[str, Any]:
    def cell(value: Any) -> Any:
        if isinstance(value, datetime):
            return value.astimezone(ZONE).replace(tzinfo=None).isoformat()
        return value.value if isinstance(value, Data) else list(value)

    def tag(value: Any) -> int:
        if isinstance(value, datetime):
            return int(Tag.OCTET_STRING)
        return int(value.tag if isinstance(value, Data) else Tag.STRUCTURE)

    return {
        "class": 7,
        "obis": _dotted(obis),
        "columns": [[class_id, _dotted(name), attribute] for class_id, name, attribute, _ in columns],
        "rows": [[cell(value) for value in row] for row in rows],
        "types": [tag(value) for value in rows[0]],
        "period": period,
        "stamped": isinstance(rows[0][0], datetime),
    }


def utc(at: datetime) -> datetime:
    return at.astimezone(UTC)
