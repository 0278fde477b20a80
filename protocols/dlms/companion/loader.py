"""Read `is15959.toml` into frozen objects that the session, the simulator and the pages share."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from protocols.dlms.types import Tag
from protocols.dlms.units import UNIT_CODES
from protocols.reading import Obis, ProfileName, Quantity
from protocols.session import Auth


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationInfo:
    """One client of the standard: address, mechanism, association object, invocation counter object."""

    name: str
    client: int
    auth: Auth
    ciphered: bool
    association_object: Obis
    counter: Obis


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One captured column. `scaler` is None where the scaler profile has no entry for it."""

    class_id: int
    quantity: Quantity
    tag: Tag
    scaler: int | None = None
    unit: str = ""

    @property
    def unit_code(self) -> int:
        """COSEM code of the unit (255 = none)."""
        return UNIT_CODES[self.unit]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileInfo:
    """One profile generic: where it is and which columns to expect."""

    name: ProfileName
    obis: Obis
    scaler_profile: Obis | None
    capture_period: int
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLog:
    """One event log: profile, code object, sequence object, and its expected columns (clock, code, …)."""

    name: str
    index: int
    obis: Obis
    code: Obis
    sequence: Obis
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCode:
    """What an event code means; `kind` is occurrence, restoration or single."""

    code: int
    log: int
    name: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepaymentItem:
    """One prepayment object (class 1); `kind` is mode, amount (paise) or time."""

    obis: Obis
    older: Obis
    kind: str
    tag: Tag


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """The whole file."""

    associations: Mapping[int, AssociationInfo]
    profiles: Mapping[ProfileName, ProfileInfo]
    event_scaler_profile: Obis
    event_logs: tuple[EventLog, ...]
    event_codes: Mapping[int, EventCode]
    prepayment: tuple[PrepaymentItem, ...]
    prepayment_unit: str
    prepayment_scaler: int


@lru_cache(maxsize=1)
def companion() -> Companion:
    """Load the shipped file once; ValueError or KeyError when it is damaged."""
    return _parse(tomllib.loads(files(__package__).joinpath("is15959.toml").read_text("utf-8")))


def event_name(code: int) -> str:
    """Name an event code: `over voltage`, `over voltage (restored)`, or `event 999` when unknown."""
    known = companion().event_codes.get(code)
    if known is None:
        return f"event {code}"
    return f"{known.name} (restored)" if known.kind == "restoration" else known.name


def _parse(raw: Mapping[str, Any]) -> Companion:
    events, prepayment = raw["events"], raw["prepayment"]
    associations = [_association(name, row) for name, row in raw["associations"].items()]
    profiles = [_profile(ProfileName(name), row) for name, row in raw["profiles"].items()]
    details = tuple(_column(row) for row in events["detail_columns"])
    codes = {int(code): _code(int(code), row) for code, row in events["codes"].items()}
    return Companion(
        associations=MappingProxyType({a.client: a for a in associations}),
        profiles=MappingProxyType({p.name: p for p in profiles}),
        event_scaler_profile=Obis.parse(events["scaler_profile"]),
        event_logs=tuple(_log(i, row, details) for i, row in enumerate(events["logs"])),
        event_codes=MappingProxyType(codes),
        prepayment=tuple(_prepayment(row) for row in prepayment["items"]),
        prepayment_unit=prepayment["unit"],
        prepayment_scaler=prepayment["scaler"],
    )


def _association(name: str, row: Mapping[str, Any]) -> AssociationInfo:
    return AssociationInfo(
        name=name,
        client=row["client"],
        auth=Auth(row["auth"]),
        ciphered=row["ciphered"],
        association_object=Obis.parse(row["object"]),
        counter=Obis.parse(row["counter"]),
    )


def _column(row: Mapping[str, Any]) -> Column:
    return Column(
        class_id=row["class"],
        quantity=Quantity.of(row["quantity"]),
        tag=Tag[row["type"].upper()],
        scaler=row.get("scaler"),
        unit=row.get("unit", ""),
    )


def _profile(name: ProfileName, row: Mapping[str, Any]) -> ProfileInfo:
    scaler_profile = row.get("scaler_profile")
    return ProfileInfo(
        name=name,
        obis=Obis.parse(row["obis"]),
        scaler_profile=Obis.parse(scaler_profile) if scaler_profile else None,
        capture_period=row.get("capture_period", 0),
        columns=tuple(_column(c) for c in row["columns"]),
    )


def _log(index: int, row: Mapping[str, Any], details: tuple[Column, ...]) -> EventLog:
    clock = Column(class_id=8, quantity=Quantity.of("0-0:1.0.0*255"), tag=Tag.OCTET_STRING)
    code = Column(class_id=1, quantity=Quantity.of(row["code"]), tag=Tag.LONG_UNSIGNED)
    return EventLog(
        name=row["name"],
        index=index,
        obis=Obis.parse(row["obis"]),
        code=Obis.parse(row["code"]),
        sequence=Obis.parse(row["sequence"]),
        columns=(clock, code, *(details if row["details"] else ())),
    )


def _code(code: int, row: Mapping[str, Any]) -> EventCode:
    return EventCode(code=code, log=row["log"], name=row["name"], kind=row["kind"])


def _prepayment(row: Mapping[str, Any]) -> PrepaymentItem:
    return PrepaymentItem(
        obis=Obis.parse(row["obis"]),
        older=Obis.parse(row["older"]),
        kind=row["kind"],
        tag=Tag[row["type"].upper()],
    )
