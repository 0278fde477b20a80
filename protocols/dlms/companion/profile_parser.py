"""Makes categories of meters of the declarations of profiles, columns and event logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from protocols.dlms.companion.declaration import DeclarationTable
from protocols.dlms.companion.model import Category, ColumnInfo, EventLog, ProfileInfo
from protocols.dlms.data.types import Tag
from protocols.dlms.data.units import UNIT_CODES
from protocols.reading import Obis, ProfileName, Quantity

VALUE, CAPTURE_TIME = 2, 5
_CLOCK = ColumnInfo(class_id=8, quantity=Quantity.of("0-0:1.0.0*255"), tag=Tag.OCTET_STRING)


def tag_of(text: str) -> Tag:
    """Find a COSEM type by its name in lower case; KeyError when there is none."""
    return Tag[text.upper()]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTables:
    """Event logs before their columns are known: those depend on the number of phases."""

    scaler_profile: Obis | None
    logs: tuple[EventLog, ...]
    detailed: frozenset[int]
    details: Mapping[int, tuple[ColumnInfo, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the logs, by index."""
        return tuple(log.name for log in self.logs)

    @classmethod
    def parse(cls, table: DeclarationTable) -> LogTables:
        """Read the logs; MeterConfigError when two have one OBIS."""
        logs, detailed, seen = [], set(), set()
        for index, row in enumerate(table.tables("logs", optional=True)):
            code = row.obis("code")
            column = ColumnInfo(class_id=1, quantity=Quantity(code), tag=Tag.LONG_UNSIGNED)
            log = EventLog(
                name=row.text("name"),
                index=index,
                obis=row.obis("obis"),
                code=code,
                sequence=row.obis("sequence") if "sequence" in row else _sequence(row.obis("obis")),
                columns=(_CLOCK, column),
            )
            for obis in (log.obis, log.code, log.sequence):
                if obis in seen:
                    raise row.error(f"{obis} is declared twice")
                seen.add(obis)
            if row.flag("details", default=False):
                detailed.add(index)
            logs.append(log)
            row.refuse_unknown_keys()
        details = table.table("details", optional=True)
        found = cls(
            scaler_profile=table.obis("scaler_profile") if "scaler_profile" in table else None,
            logs=tuple(logs),
            detailed=frozenset(detailed),
            details=MappingProxyType({int(key): _columns(details, key) for key in details.names()}),
        )
        table.refuse_unknown_keys()
        return found

    def of(self, phases: int) -> tuple[EventLog, ...]:
        """Return the logs of a meter with some number of phases."""
        more = self.details.get(phases, ())
        return tuple(
            replace(log, columns=log.columns + more) if log.index in self.detailed else log
            for log in self.logs
        )


def _sequence(log: Obis) -> Obis:
    """Return the object with the number of a log's last event: 0.0.96.15.e for 0.0.99.98.e."""
    return Obis(0, log.b, 96, 15, log.e)


def categories(tables: Sequence[DeclarationTable], logs: LogTables) -> Mapping[str, Category]:
    """Read the categories; one with a base has the base's profiles but for those that it declares."""
    found: dict[str, Category] = {}
    for name, row in (pair for table in tables for pair in table.each()):
        if name in found:
            raise row.error("is another file's too")
        phases = row.number("phases")
        if phases not in (1, 3):
            raise row.error(f"phases must be 1 or 3, not {phases}")
        profiles: dict[ProfileName, ProfileInfo] = {}
        if "base" in row:
            base = row.text("base")
            if base not in found:
                raise row.error(f"base {base!r} is no category declared before")
            profiles.update(found[base].profiles)
        for profile, inner in row.table("profiles", optional=True).each():
            if profile not in tuple(ProfileName):
                raise inner.error("no such profile")
            profiles[ProfileName(profile)] = _profile(ProfileName(profile), inner)
        _distinct(row, profiles)
        found[name] = Category(
            name=name,
            title=row.text("title"),
            phases=phases,
            relay=row.flag("relay"),
            block_periods=row.list_of("block_periods", int),
            profiles=MappingProxyType(profiles),
            event_logs=logs.of(phases),
        )
        row.refuse_unknown_keys()
    return MappingProxyType({name: found[name] for name in sorted(found)})


def _distinct(row: DeclarationTable, profiles: Mapping[ProfileName, ProfileInfo]) -> None:
    seen: set[Obis] = set()
    for info in profiles.values():
        for obis in filter(None, (info.obis, info.scaler_profile, *info.also)):
            if obis in seen:
                raise row.error(f"{obis} is declared twice")
            seen.add(obis)


def _profile(name: ProfileName, row: DeclarationTable) -> ProfileInfo:
    info = ProfileInfo(
        name=name,
        obis=row.obis("obis"),
        scaler_profile=row.obis("scaler_profile") if "scaler_profile" in row else None,
        capture_period=row.number("capture_period", 0),
        columns=_columns(row, "columns"),
        more=_columns(row, "more") if "more" in row else (),
        also=row.all_parsed("also", Obis.parse, optional=True),
    )
    seen: set[Quantity] = set()
    for column in (*info.columns, *info.more):
        if column.quantity in seen:
            raise row.error(f"{column.quantity} is captured twice")
        seen.add(column.quantity)
    row.refuse_unknown_keys()
    return info


def _columns(table: DeclarationTable, key: str) -> tuple[ColumnInfo, ...]:
    return tuple(column for row in table.tables(key) for column in _expanded(row))


def _expanded(row: DeclarationTable) -> list[ColumnInfo]:
    """Read one column, or those of its tariff zones, each with its time where that is asked for."""
    first = ColumnInfo(
        class_id=row.number("class"),
        quantity=row.parsed("quantity", Quantity.of),
        tag=row.parsed("type", tag_of),
        scaler=row.number("scaler") if "scaler" in row else None,
        unit=row.parsed("unit", unit_of) if "scaler" in row else "",
    )
    times = row.flag("times", default=False)
    columns = []
    for zone in row.parsed("zones", _zones) if "zones" in row else (first.quantity.obis.e,):
        obis = replace(first.quantity.obis, e=zone)
        columns.append(replace(first, quantity=replace(first.quantity, obis=obis)))
        if times:
            time = Quantity(obis, CAPTURE_TIME)
            columns.append(ColumnInfo(class_id=first.class_id, quantity=time, tag=Tag.OCTET_STRING))
    row.refuse_unknown_keys()
    return columns


def unit_of(text: str) -> str:
    """Return the name of a unit; KeyError when there is none."""
    UNIT_CODES[text]  # KeyError for a unit that COSEM does not have
    return text


def _zones(text: str) -> range:
    low, _, high = text.partition("-")
    if not (low.isdecimal() and high.isdecimal() and int(low) <= int(high) <= 63):
        raise ValueError(f"zones are LOW-HIGH, at most 63, not {text!r}")
    return range(int(low), int(high) + 1)
