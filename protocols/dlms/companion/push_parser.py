"""Makes a push grammar of the tables [push]; every mistake is named with file, line, table, expected and got."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from protocols.dlms.companion.declaration import DeclarationTable
from protocols.dlms.companion.profile_parser import tag_of, unit_of
from protocols.dlms.companion.push_cover import all_fields, covers
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
    needs_scale,
)
from protocols.dlms.companion.sources import Pattern
from protocols.dlms.data.types import Tag
from protocols.reading import Obis, ProfileName, Quantity

PAYLOADS = ("bits", "rows", "columns", "any", "text")
MAX_WORD_BITS = 128
WORDS = tuple(part.value for part in Part if part not in (Part.VALUE, Part.STRUCTURE))
"""Parts that are written as a word."""
MAX_FORMS = 64
MAX_FIELDS = 256
MAX_DEPTH = 4
MAX_SCALER = 30
"""More than this is a slip of the pen."""
STRUCTURE = Part.STRUCTURE.value
_NO_NUMBERS = (
    Tag.BOOLEAN,
    Tag.OCTET_STRING,
    Tag.VISIBLE_STRING,
    Tag.UTF8_STRING,
    Tag.BIT_STRING,
    Tag.DATE_TIME,
)
"""Types of values that are never scaled."""


def push_grammar(name: str, table: DeclarationTable, logs: int) -> PushGrammar:
    """Read [push] of a companion that has so many event logs; MeterConfigError when something is wrong."""
    scales = tuple(_scale_rule(row) for row in table.tables("scales", optional=True))
    known = PushGrammar(
        name=name,
        source=table.text("source", ""),
        makers=frozenset(table.all_parsed("makers", _maker, optional=True)),
        forms=_forms(table, scales),
        device=table.all_parsed("device", Obis.parse, optional=True) or (SERIAL,),
        clock=table.all_parsed("clock", Obis.parse, optional=True) or (CLOCK,),
        confirm=table.choice("confirm", ("asked", "never"), "asked"),
        scales=scales,
        words=_words(table),
        setups=_setups(table.table("setups", optional=True), logs),
    )
    table.refuse_unknown_keys()
    return known


def _maker(text: str) -> str:
    if len(text) != 3 or not (text.isascii() and text.isalpha() and text.isupper()):
        raise ValueError(f"a maker is three capital letters (FLAG), not {text!r}")
    return text


def _forms(table: DeclarationTable, scales: Sequence[ScaleRule]) -> tuple[PushForm, ...]:
    rows = table.tables("forms", optional=True)
    if len(rows) > MAX_FORMS:
        raise table.error(f"{len(rows)} forms; {MAX_FORMS} are read", "forms")
    forms = tuple(replace(_form(row), number=number) for number, row in enumerate(rows))
    seen: set[str] = set()
    for form, row in zip(forms, rows, strict=True):
        if form.name in seen:
            raise row.error(f"a form {form.name!r} is declared already", "name")
        seen.add(form.name)
        _check_values(row, form, scales)
        if before := next((one for one in forms[: form.number] if covers(one, form)), None):
            raise row.error(
                f"form {form.name!r} is never used: {before.name!r} stands before it and takes all that fits it;"
                " tell them apart by the type of a value, or put the narrower one first",
                "fields",
            )
    return forms


def _check_values(row: DeclarationTable, form: PushForm, scales: Sequence[ScaleRule]) -> None:
    """Refuse a quantity that is declared twice, and a register whose scale nothing tells."""
    seen: set[Quantity] = set()
    for field in all_fields(form.fields):
        quantity = field.quantity
        if quantity is None:
            continue
        if quantity in seen:
            raise row.error(f"{quantity} ({field.place}) is declared twice", "fields")
        seen.add(quantity)
        if not _has_scale(field, quantity, scales):
            raise row.error(
                f"{quantity} ({field.place}) is a register: without scaler and unit its number says nothing."
                " Write them (scaler = 0 where it is so), or a rule in [[push.scales]]",
                "fields",
            )


def _has_scale(field: FormField, quantity: Quantity, scales: Sequence[ScaleRule]) -> bool:
    known = field.scale is not None or any(rule.pattern.matches(quantity.obis) for rule in scales)
    register = needs_scale(quantity.obis) and quantity.attribute == 2 and field.tag not in _NO_NUMBERS
    return known or not register


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


def _fields(row: DeclarationTable, key: str = "fields", depth: int = 0) -> Iterator[FormField]:
    entries = row.entries(key)
    if not 0 < len(entries) <= MAX_FIELDS:
        raise row.error(f"{key} must have 1 to {MAX_FIELDS} entries", key)
    for number, entry in enumerate(entries):
        place = row.at(key, number)
        if isinstance(entry, DeclarationTable):
            field = _structure_field(entry, depth) if STRUCTURE in entry else _table_field(entry)
        elif isinstance(entry, str):
            field = row.parse_entry(key, number, entry, _text_field)
        else:
            raise row.error(f"each of {key} is a name, a quantity or a table, not {entry!r}", key, number)
        if field.part.takes_the_rest and (field.optional or number != len(entries) - 1):
            raise row.error(f"{field.part} takes all that is left: it must be the last field", key, number)
        if field.part is Part.PAYLOAD and depth:
            raise row.error(
                "payload is what is left of the push itself, not of a structure in it", key, number
            )
        yield replace(field, place=place)


def _structure_field(row: DeclarationTable, depth: int) -> FormField:
    if depth >= MAX_DEPTH:
        raise row.error(f"structures in structures are read {MAX_DEPTH} deep", STRUCTURE)
    field = FormField(
        part=Part.STRUCTURE,
        inner=tuple(_fields(row, STRUCTURE, depth + 1)),
        optional=row.flag("optional", default=False),
    )
    row.refuse_unknown_keys()
    return field


def _text_field(text: str) -> FormField:
    name, optional = text.removesuffix("?"), text.endswith("?")
    if name in WORDS:
        return FormField(part=Part(name), optional=optional)
    if any(sign in name for sign in ":."):
        return FormField(part=Part.VALUE, quantity=Quantity.of(name), optional=optional)
    known = ", ".join(WORDS)
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
