"""A meter as a file: what `explore` found, in JSON that the simulator can serve again (docs/dlms.md has its form)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from protocols.dlms.data.cursor import MAX_OCTETS
from protocols.errors import MeterConfigError
from protocols.reading import Obis
from protocols.session import Auth

FORMAT = "meter-gateway/meter"
VERSION = 1
MAX_CHARACTERS = 64 << 20
"""Characters of a file that is read; a meter with all its history has a few million."""
MAX_OBJECTS = 4_000
"""Objects of one meter; real ones have some hundreds."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedAttribute:
    """One attribute. `value` is A-XDR, None when it was not read: `error` then says why, `code` the refusal.

    `access` is the mode of the object list, None when the list did not say. `first_entry` is the number of the
    first row in `value` when that is a part of a profile's buffer.
    """

    index: int
    access: int | None = None
    value: bytes | None = None
    error: str | None = None
    code: int | None = None
    first_entry: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedMethod:
    """One method and its access mode."""

    index: int
    access: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedObject:
    """One object of the meter."""

    class_id: int
    version: int
    obis: Obis
    attributes: tuple[SavedAttribute, ...]
    methods: tuple[SavedMethod, ...] = ()

    def attribute(self, index: int) -> SavedAttribute | None:
        """Find an attribute."""
        return next((a for a in self.attributes if a.index == index), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedMeter:
    """A meter as one association saw it. `object_list` is attribute 2 of that association, A-XDR."""

    manufacturer: str
    serial: str
    firmware: str = ""
    model: str = ""
    year: int | None = None
    system_title: bytes = b""
    client: int = 16
    server: int = 1
    auth: Auth = Auth.NONE
    ciphered: bool = False
    explored_at: datetime
    object_list: bytes
    objects: tuple[SavedObject, ...]


def to_text(saved: SavedMeter, name: Callable[[SavedObject], str] = lambda _: "") -> str:
    """Write the file; `name` gives objects a name for people, which nothing reads."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "explored_at": saved.explored_at.isoformat(),
        "meter": {
            "manufacturer": saved.manufacturer,
            "serial": saved.serial,
            "firmware": saved.firmware,
            "model": saved.model,
            "year": saved.year,
            "system_title": saved.system_title.hex(),
        },
        "association": {
            "client": saved.client,
            "server": saved.server,
            "auth": saved.auth.value,
            "ciphered": saved.ciphered,
        },
        "object_list": saved.object_list.hex(),
        "objects": [_object_document(one, name(one)) for one in saved.objects],
    }
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def _object_document(one: SavedObject, name: str) -> dict[str, Any]:
    return {
        "obis": str(one.obis),
        "class": one.class_id,
        "version": one.version,
        **({"name": name} if name else {}),
        "attributes": [_attribute_document(a) for a in one.attributes],
        "methods": [{"index": m.index, "access": m.access} for m in one.methods],
    }


def _attribute_document(one: SavedAttribute) -> dict[str, Any]:
    given = {
        "access": one.access,
        "value": None if one.value is None else one.value.hex(),
        "first_entry": one.first_entry,
        "error": one.error,
        "code": one.code,
    }
    return {"index": one.index, **{name: value for name, value in given.items() if value is not None}}


def from_text(text: str) -> SavedMeter:
    """Read the file; MeterConfigError names the part that is wrong."""
    if len(text) > MAX_CHARACTERS:
        raise MeterConfigError(f"a saved meter of {len(text)} characters; {MAX_CHARACTERS} are read")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MeterConfigError(f"the saved meter is not JSON: {error}") from error
    root = _JsonObject(document, "the saved meter")
    if root.get("format", str) != FORMAT or root.get("version", int) != VERSION:
        raise MeterConfigError(f"not a saved meter: `format` must be {FORMAT!r}, `version` {VERSION}")
    return _meter(root)


def _meter(root: _JsonObject) -> SavedMeter:
    meter, association = root.part("meter"), root.part("association")
    auth = association.get("auth", str)
    if auth not in list(Auth):
        raise MeterConfigError(f"association.auth: {auth!r} is not one of {', '.join(Auth)}")
    objects = root.parts("objects")
    if len(objects) > MAX_OBJECTS:
        raise MeterConfigError(f"{len(objects)} objects; {MAX_OBJECTS} are read")
    return SavedMeter(
        manufacturer=meter.get("manufacturer", str),
        serial=meter.get("serial", str),
        firmware=meter.get("firmware", str, ""),
        model=meter.get("model", str, ""),
        year=meter.optional("year", int),
        system_title=meter.octets("system_title") or b"",
        client=association.get("client", int),
        server=association.get("server", int, 1),
        auth=Auth(auth),
        ciphered=association.get("ciphered", bool, False),
        explored_at=_instant(root.get("explored_at", str)),
        object_list=root.octets("object_list") or b"",
        objects=tuple(map(_object, objects)),
    )


def _object(part: _JsonObject) -> SavedObject:
    try:
        obis = Obis.parse(part.get("obis", str))
    except ValueError as error:
        raise MeterConfigError(f"{part.where}: {error}") from error
    return SavedObject(
        class_id=part.get("class", int),
        version=part.get("version", int, 0),
        obis=obis,
        attributes=tuple(map(_attribute, part.parts("attributes"))),
        methods=tuple(
            SavedMethod(index=m.get("index", int), access=m.get("access", int)) for m in part.parts("methods")
        ),
    )


def _attribute(part: _JsonObject) -> SavedAttribute:
    return SavedAttribute(
        index=part.get("index", int),
        access=part.optional("access", int),
        value=part.octets("value"),
        error=part.optional("error", str),
        code=part.optional("code", int),
        first_entry=part.optional("first_entry", int),
    )


def _instant(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise MeterConfigError(f"explored_at: {text[:40]!r} is no time") from error
    if at.utcoffset() is None:
        raise MeterConfigError("explored_at needs an offset")
    return at


class _JsonObject:
    """One JSON object with the path that errors name."""

    def __init__(self, document: object, where: str) -> None:
        if not isinstance(document, Mapping):
            raise MeterConfigError(f"{where} is not a JSON object")
        self._document = document
        self.where = where

    def get(self, name: str, kind: type[_T], default: _T | None = None) -> _T:
        value = self._document.get(name, default)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise MeterConfigError(f"{self.where}.{name}: {kind.__name__} is expected")
        return value

    def optional(self, name: str, kind: type[_T]) -> _T | None:
        return None if self._document.get(name) is None else self.get(name, kind)

    def octets(self, name: str) -> bytes | None:
        text = self.optional(name, str)
        if text is None:
            return None
        try:
            octets = bytes.fromhex(text)
        except ValueError as error:
            raise MeterConfigError(f"{self.where}.{name}: hex digits are expected") from error
        if len(octets) > MAX_OCTETS:
            raise MeterConfigError(f"{self.where}.{name}: {len(octets)} octets; {MAX_OCTETS} are allowed")
        return octets

    def part(self, name: str) -> _JsonObject:
        return _JsonObject(self._document.get(name), name)

    def parts(self, name: str) -> Sequence[_JsonObject]:
        items = self._document.get(name, [])
        if not isinstance(items, list):
            raise MeterConfigError(f"{self.where}.{name}: a list is expected")
        return [_JsonObject(item, f"{name}[{number}]") for number, item in enumerate(items)]
