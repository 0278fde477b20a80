"""Makes a `Companion` of its declaration files; every mistake is named with file, table, expected and got."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from protocols.dlms.companion.declaration import DeclarationTable
from protocols.dlms.companion.event_parser import event_codes
from protocols.dlms.companion.model import (
    AssociationInfo,
    ClockRules,
    Companion,
    ControlObject,
    PrepaymentItem,
    PushSetupInfo,
    StatusWord,
)
from protocols.dlms.companion.profile_parser import LogTables, categories, tag_of
from protocols.dlms.companion.sources import ObjectPattern, Pattern, Rule
from protocols.errors import MeterConfigError
from protocols.reading import Obis, ProfileName
from protocols.session import Auth

RIGHTS = ("get", "set", "action", "selective_access", "block_transfer", "push")
PAYLOADS = ("bits", "rows", "columns", "any", "text")
MAX_ESW_BITS = 128
NOTHING: Mapping[str, object] = MappingProxyType({})


def parse(name: str, declared: Mapping[str, Mapping[str, object]]) -> Companion:
    """Return the companion of these files (file name: TOML); MeterConfigError when something is wrong."""
    top = _Files(name, declared)
    prepayment = top.section("prepayment")
    logs = LogTables.parse(top.section("events"))
    known = Companion(
        name=name,
        associations=_associations(top.section("associations")),
        identity=_identity(top.section("identity")),
        categories=categories(top.sections("categories"), logs),
        event_scalers=logs.scaler_profile,
        event_codes=event_codes(
            top.section("codes"), top.section("disputed"), top.section("vendor"), logs.names
        ),
        esw=_esw(top.section("esw")),
        push_header=top.section("push").list_of("header", str, []),
        push_setups=_push(top.section("push").table("setups", optional=True), len(logs.names)),
        control=_control(top.section("control")),
        schedules=_schedules(top.section("schedules")),
        clock=_clock(top.section("clock")),
        prepayment=_prepayment(prepayment),
        prepayment_unit=prepayment.text("unit", ""),
        prepayment_scaler=prepayment.number("scaler", 0),
        rules=_rules(top.section("rules")),
    )
    top.refuse_unknown_keys()
    return known


class _Files:
    """The top-level tables of all files; each stands in one file only, but for the categories."""

    def __init__(self, name: str, declared: Mapping[str, Mapping[str, object]]) -> None:
        self._name = name
        self._sections: dict[str, list[DeclarationTable]] = {}
        self._used: set[str] = set()
        for file, raw in declared.items():
            for section, value in raw.items():
                place = f"{name}/{file} [{section}]"
                if not isinstance(value, Mapping):
                    raise MeterConfigError(f"{place}: must be a table, not {value!r}")
                self._sections.setdefault(section, []).append(DeclarationTable(value, place))

    def sections(self, section: str) -> tuple[DeclarationTable, ...]:
        """Return a top-level table of all files."""
        self._used.add(section)
        return tuple(self._sections.get(section, ()))

    def section(self, section: str) -> DeclarationTable:
        """Return a top-level table of one file, empty when no file has it."""
        first, *more = self.sections(section) or (DeclarationTable(NOTHING, f"{self._name} [{section}]"),)
        if more:
            raise more[0].error(f"is another file's too ({first.place})")
        return first

    def refuse_unknown_keys(self) -> None:
        """Raise MeterConfigError for a top-level table that nobody looked up."""
        for section in sorted(set(self._sections) - self._used):
            raise self._sections[section][0].error("no such table")


def _associations(table: DeclarationTable) -> Mapping[int, AssociationInfo]:
    found: dict[int, AssociationInfo] = {}
    for name, row in table.each():
        rights = row.list_of("rights", str)
        if unknown := sorted(set(rights) - set(RIGHTS)):
            raise row.error(f"rights must be of {', '.join(RIGHTS)}, not {unknown[0]!r}")
        info = AssociationInfo(
            name=name,
            client=row.number("client"),
            auth=row.parsed("auth", Auth),
            ciphered=row.flag("ciphered"),
            association_object=row.obis("object"),
            counter=row.obis("counter"),
            rights=rights,
            pre_established=row.flag("pre_established", default=False),
        )
        if info.client in found:
            raise row.error(f"client {info.client} is that of {found[info.client].name} already")
        found[info.client] = info
        row.refuse_unknown_keys()
    return MappingProxyType(found)


def _identity(table: DeclarationTable) -> Mapping[str, tuple[Obis, ...]]:
    return MappingProxyType({key: table.all_parsed(key, Obis.parse) for key in table.names()})


def _esw(table: DeclarationTable) -> StatusWord | None:
    if not table.names():
        return None
    length = table.number("length")
    if not 0 < length <= MAX_ESW_BITS:
        raise table.error(f"length must be 1 to {MAX_ESW_BITS}, not {length}")
    bits = table.table("bits")
    named = bits.numbered()
    for bit in named:
        if bit >= length:
            raise bits.error(f"bit {bit} is outside 0..{length - 1}")
    word = StatusWord(word=table.obis("word"), filter=table.obis("filter"), length=length, bits=named)
    table.refuse_unknown_keys()
    return word


def _push(table: DeclarationTable, logs: int) -> Mapping[Obis, PushSetupInfo]:
    found: dict[Obis, PushSetupInfo] = {}
    for key, row in table.each():
        obis = table.key(key, Obis.parse)
        if obis in found:
            raise table.error(f"{obis} is declared twice")
        log = row.number("log") if "log" in row else None
        if log is not None and not 0 <= log < logs:
            raise row.error(f"log must be 0 to {logs - 1}, not {log}")
        found[obis] = PushSetupInfo(
            obis=obis,
            name=row.text("name"),
            payload=row.choice("payload", PAYLOADS),
            to=row.choice("to", ("head_end", "display")),
            profile=row.parsed("profile", ProfileName) if "profile" in row else None,
            log=log,
        )
        row.refuse_unknown_keys()
    return MappingProxyType(found)


def _control(table: DeclarationTable) -> Mapping[str, ControlObject]:
    found: dict[str, ControlObject] = {}
    for name, row in table.each():
        values = row.table("values", optional=True)
        found[name] = ControlObject(
            name=name,
            class_id=row.number("class"),
            obis=row.obis("obis"),
            attributes=row.table("attributes", optional=True).numbers(),
            methods=row.table("methods", optional=True).numbers(),
            values=MappingProxyType({key: inner.numbered() for key, inner in values.each()}),
        )
        for attribute in found[name].values:
            if attribute not in found[name].attributes:
                raise row.error(f"values of {attribute}, which is no attribute")
        row.refuse_unknown_keys()
    return MappingProxyType(found)


def _schedules(table: DeclarationTable) -> Mapping[str, Obis]:
    found = {}
    for name, row in table.each():
        found[name] = row.obis("obis")
        row.refuse_unknown_keys()
    return MappingProxyType(found)


def _clock(table: DeclarationTable) -> ClockRules:
    rules = ClockRules(
        block_stamp=table.choice("block_stamp", ("interval_end",)),
        daily_stamp=table.choice("daily_stamp", ("closes_the_day_before",)),
        deviations=table.list_of("deviations", int),
        unspecified_deviation=table.flag("unspecified_deviation"),
        east=table.choice("range_deviation", ("east", "west")) == "east",
        deviation_on_set=table.choice("deviation_on_set", ("as_read",)),
    )
    table.refuse_unknown_keys()
    return rules


def _prepayment(table: DeclarationTable) -> tuple[PrepaymentItem, ...]:
    modes = dict(table.table("modes", optional=True).each())
    items = []
    seen: set[Obis] = set()
    for row in table.tables("items", optional=True):
        name = row.text("name")
        item = PrepaymentItem(
            name=name,
            obis=row.obis("obis"),
            older=row.obis("older"),
            kind=row.choice("kind", ("mode", "amount", "time")),
            tag=row.parsed("type", tag_of),
            modes=modes.pop(name).numbered() if name in modes else MappingProxyType({}),
        )
        if twice := seen & {item.obis, item.older}:
            raise row.error(f"{twice.pop()} is declared twice")
        seen |= {item.obis, item.older}
        items.append(item)
        row.refuse_unknown_keys()
    if modes:
        raise table.error(f"modes of {sorted(modes)[0]}, which is no item")
    return tuple(items)


def _rules(table: DeclarationTable) -> Mapping[str, Rule]:
    found: dict[str, Rule] = {}
    for name, row in table.each():
        if name not in (*ProfileName, "load_switch"):
            raise row.error("no such profile")
        rule = Rule(
            buffer=row.all_parsed("buffer", Pattern.parse, optional=True),
            logs=row.all_parsed("logs", Pattern.parse, optional=True),
            objects=tuple(_object_pattern(item) for item in row.tables("objects", optional=True)),
            most=row.number("most", 100),
        )
        if sum(map(bool, (rule.buffer, rule.logs, rule.objects))) != 1:
            raise row.error("one of buffer, logs, objects must be given")
        found[name] = rule
        row.refuse_unknown_keys()
    return MappingProxyType(found)


def _object_pattern(row: DeclarationTable) -> ObjectPattern:
    wanted = ObjectPattern(
        classes=row.list_of("class", int),
        pattern=row.parsed("obis", Pattern.parse),
        attributes=row.list_of("attributes", int, [2]),
    )
    row.refuse_unknown_keys()
    return wanted
