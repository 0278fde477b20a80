"""Makes a push grammar of the tables [push]; every mistake is named with file, line, table, expected and got."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from protocols.dlms.companion.declaration import DeclarationTable
from protocols.dlms.companion.profile_parser import tag_of, unit_of
from protocols.dlms.companion.push_grammar import (
    CLOCK,
    SERIAL,
    AlarmWord,
    FormField,
    Part,
    PushForm,
    PushGrammar,
    PushSetupInfo,
    ScaleRule,
)
from protocols.dlms.companion.sources import Pattern
from protocols.reading import Obis, ProfileName, Quantity

PAYLOADS = ("bits", "rows", "columns", "any", "text")
MAX_WORD_BITS = 128
MAX_FORMS = 64
MAX_FIELDS = 256
MAX_SCALER = 100
"""A scaler is one signed octet; more than this is a slip of the pen."""


def push_grammar(name: str, table: DeclarationTable, logs: int) -> PushGrammar:
    """Read [push] of a companion that has so many event logs; MeterConfigError when something is wrong."""
    known = PushGrammar(
        name=name,
        source=table.text("source", ""),
        makers=frozenset(table.all_parsed("makers", _maker, optional=True)),
        forms=_forms(table),
        device=table.all_parsed("device", Obis.parse, optional=True) or (SERIAL,),
        clock=table.all_parsed("clock", Obis.parse, optional=True) or (CLOCK,),
        confirm=table.choice("confirm", ("asked", "never"), "asked"),
        scales=tuple(_scale_rule(row) for row in table.tables("scales", optional=True)),
        words=_words(table),
        setups=_setups(table.table("setups", optional=True), logs),
    )
    table.refuse_unknown_keys()
    return known


def _maker(text: str) -> str:
    if len(text) != 3 or not (text.isascii() and text.isalpha() and text.isupper()):
        raise ValueError(f"a maker is three capital letters (FLAG), not {text!r}")
    return text


def _forms(table: DeclarationTable) -> tuple[PushForm, ...]:
    rows = table.tables("forms", optional=True)
    if len(rows) > MAX_FORMS:
        raise table.error(f"{len(rows)} forms; {MAX_FORMS} are read", "forms")
    forms = tuple(replace(_form(row), number=number) for number, row in enumerate(rows))
    seen: set[str] = set()
    for form, row in zip(forms, rows, strict=True):
        if form.name in seen:
            raise row.error(f"a form {form.name!r} is declared already", "name")
        seen.add(form.name)
    return forms


def _form(row: DeclarationTable) -> PushForm:
    form = PushForm(
        name=row.text("name"),
        fields=tuple(_fields(row)),
        setups=frozenset(row.all_parsed("setups", Obis.parse, optional=True)),
        profile=row.parsed("profile", ProfileName) if "profile" in row else ProfileName.INSTANTANEOUS,
        period=row.number("period", 0),
        place=row.at("name"),
    )
    if (form.profile is ProfileName.BLOCK_LOAD) != (form.period > 0):
        raise row.error("a block_load has a period in seconds, and no other profile has", "period")
    if form.setups and not any(field.part in (Part.SETUP, Part.OBJECTS) for field in form.fields):
        raise row.error("setups are given, but no field is the setup's name", "setups")
    row.refuse_unknown_keys()
    return form


def _fields(row: DeclarationTable) -> Iterator[FormField]:
    entries = row.entries("fields")
    if not 0 < len(entries) <= MAX_FIELDS:
        raise row.error(f"fields must have 1 to {MAX_FIELDS} entries", "fields")
    for number, entry in enumerate(entries):
        place = row.at("fields", number)
        if isinstance(entry, DeclarationTable):
            field = _table_field(entry)
        elif isinstance(entry, str):
            field = row.parse_entry("fields", number, entry, _text_field)
        else:
            raise row.error(
                f"each of fields is a name, a quantity or a table, not {entry!r}", "fields", number
            )
        if field.part.takes_the_rest and (field.optional or number != len(entries) - 1):
            raise row.error(
                f"{field.part} takes all that is left: it must be the last field", "fields", number
            )
        yield replace(field, place=place)


def _text_field(text: str) -> FormField:
    name, optional = text.removesuffix("?"), text.endswith("?")
    if name in tuple(Part) and name != Part.VALUE:
        return FormField(part=Part(name), optional=optional)
    if any(sign in name for sign in ":."):
        return FormField(part=Part.VALUE, quantity=Quantity.of(name), optional=optional)
    known = ", ".join(part for part in Part if part is not Part.VALUE)
    raise ValueError(f"{text!r} is neither a quantity nor one of {known}")


def _table_field(row: DeclarationTable) -> FormField:
    if "text" in row:
        field = FormField(
            part=Part.TEXT, begins=row.text("text"), optional=row.flag("optional", default=False)
        )
    else:
        field = FormField(
            part=Part.VALUE,
            quantity=row.parsed("quantity", Quantity.of),
            scale=_scale(row) if "scaler" in row or "unit" in row else None,
            tag=row.parsed("type", tag_of) if "type" in row else None,
            optional=row.flag("optional", default=False),
        )
    row.refuse_unknown_keys()
    return field


def _scale(row: DeclarationTable) -> tuple[int, str]:
    scaler = row.number("scaler", 0)
    if abs(scaler) > MAX_SCALER:
        raise row.error(f"scaler must be -{MAX_SCALER} to {MAX_SCALER}, not {scaler}", "scaler")
    return scaler, row.parsed("unit", unit_of) if "unit" in row else ""


def _scale_rule(row: DeclarationTable) -> ScaleRule:
    rule = ScaleRule(pattern=row.parsed("obis", Pattern.parse), scale=_scale(row))
    row.refuse_unknown_keys()
    return rule


def _words(table: DeclarationTable) -> Mapping[Quantity, AlarmWord]:
    found: dict[Quantity, AlarmWord] = {}
    for row in table.tables("words", optional=True):
        quantity = row.parsed("quantity", Quantity.of)
        bits = row.table("bits", optional=True)
        word = AlarmWord(quantity=quantity, bits=bits.numbered())
        for bit in word.bits:
            if bit >= MAX_WORD_BITS:
                raise bits.error(f"bit {bit} is outside 0..{MAX_WORD_BITS - 1}")
        if quantity in found:
            raise row.error(f"{quantity} is declared twice", "quantity")
        found[quantity] = word
        row.refuse_unknown_keys()
    return MappingProxyType(found)


def _setups(table: DeclarationTable, logs: int) -> Mapping[Obis, PushSetupInfo]:
    found: dict[Obis, PushSetupInfo] = {}
    for key, row in table.each():
        obis = table.key(key, Obis.parse)
        if obis in found:
            raise table.error(f"{obis} is declared twice", key)
        log = row.number("log") if "log" in row else None
        if log is not None and not 0 <= log < logs:
            raise row.error(f"log must be 0 to {logs - 1}, not {log}", "log")
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
