"""Makes a `Companion` of its declaration files; every mistake is named with file, table, expected and got."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from protocols.dlms.companion.declaration import DeclarationTable
from protocols.dlms.companion.event_parser import event_codes
from protocols.dlms.companion.model import (
    AssociationInfo,
    ClockRules,
    Companion,
    ControlObject,
    PrepaymentItem,
    StatusWord,
)
from protocols.dlms.companion.profile_parser import LogTables, categories, tag_of
from protocols.dlms.companion.push_parser import push_grammar
from protocols.dlms.companion.sources import ObjectPattern, Pattern, Rule
from protocols.errors import MeterConfigError
from protocols.reading import Obis, ProfileName
from protocols.session import Auth
from protocols.toml_lines import TomlLines

RIGHTS = ("get", "set", "action", "selective_access", "block_transfer", "push")
MAX_ESW_BITS = 128
MAX_STATUS_BITS = 32
NOTHING: Mapping[str, object] = MappingProxyType({})
NO_TEXTS: Mapping[str, str] = MappingProxyType({})
Declared = Mapping[str, Mapping[str, object]]
"""The top-level tables of files, by the file's name."""
ABOUT = "companion"
"""The table that names the base: it is read by whoever loads the files."""


def parse(
    name: str,
    declared: Declared,
    bases: Sequence[tuple[str, Declared]] = (),
    texts: Mapping[str, str] = NO_TEXTS,
) -> Companion:
    """Return the companion of these files (file name: TOML); MeterConfigError when something is wrong.

    `bases` are the companions, with their names, that have what these files do not declare, the nearest first.
    Mistakes are named with their line in files whose text is given.
    """
    top = _Files(name, declared, bases, texts)
    prepayment = top.section("prepayment")
    logs = LogTables.parse(top.section("events"))
    known = Companion(
        name=name,
        associations=_associations(top.section("associations")),
        identity=_identity(top.section("identity")),
        categories=categories(top.sections("categories"), logs),
        event_scalers=logs.scaler_profile,
        logs=logs.logs,
        event_codes=event_codes(
            top.section("codes"), top.section("disputed"), top.section("vendor"), logs.names
        ),
        esw=_esw(top.section("esw")),
        push=push_grammar(name, top.section("push"), len(logs.names)),
        control=_control(top.section("control")),
        schedules=_schedules(top.section("schedules")),
        clock=_clock(top.section("clock")),
        prepayment=_prepayment(prepayment),
        prepayment_unit=prepayment.text("unit", ""),
        prepayment_scaler=prepayment.number("scaler", 0),
        rules=_rules(top.section("rules")),
        status=_status(top.section("status")),
    )
    top.refuse_unknown_keys()
    return known


class _Files:
    """The top-level tables of all files; each stands in one file only, but for the categories."""

    def __init__(
        self,
        name: str,
        declared: Declared,
        bases: Sequence[tuple[str, Declared]],
        texts: Mapping[str, str],
    ) -> None:
        self._name = name
        self._sections: dict[str, list[DeclarationTable]] = {}
        self._used = {ABOUT}
        self._add(name, declared, texts)
        for base in bases:
            self._add(*base, NO_TEXTS, but=frozenset(self._sections))

    def _add(
        self, name: str, declared: Declared, texts: Mapping[str, str], but: frozenset[str] = frozenset()
    ) -> None:
        for file, raw in declared.items():
            where = file if file in texts else f"{name}/{file}"  # a user's file is no part of a folder
            lines = TomlLines(texts[file]) if file in texts else None
            for section, value in raw.items():
                if section in but:
                    continue
                place = f"{where} [{section}]"
                if not isinstance(value, Mapping):
                    raise MeterConfigError(f"{place}: must be a table, not {value!r}")
                table = DeclarationTable(value, place, lines, (section,))
                self._sections.setdefault(section, []).append(table)

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
            security_setup=row.obis("security_setup") if "security_setup" in row else None,
            rights=rights,
            pre_established=row.flag("pre_established", default=False),
            changes_keys=row.flag("changes_keys", default=False),
        )
        if info.changes_keys and (other := next((o for o in found.values() if o.changes_keys), None)):
            raise row.error(f"{other.name} is the association that changes keys already")
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


def _status(table: DeclarationTable) -> Mapping[Obis, Mapping[int, str]]:
    if not table.names():
        return MappingProxyType({})
    bits = table.table("bits").numbered()
    if far := [bit for bit in bits if bit >= MAX_STATUS_BITS]:
        raise table.error(f"bit {far[0]} is outside 0..{MAX_STATUS_BITS - 1}")
    found = dict.fromkeys(table.all_parsed("objects", Obis.parse), bits)
    table.refuse_unknown_keys()
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
        local=table.list_of("local_deviations", int, []),
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
            scalers=row.obis("scalers") if "scalers" in row else None,
            most=row.number("most", 100),
        )
        if bool(rule.logs) == bool(rule.buffer or rule.objects):
            raise row.error("one of buffer, logs, objects must be given")
        if rule.scalers and not rule.buffer:
            raise row.error("scalers are those of a buffer", "scalers")
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
