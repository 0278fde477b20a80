"""One table of a declaration file: typed look-ups that name the place of what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeVar

from protocols.errors import MeterConfigError
from protocols.reading import Obis

T = TypeVar("T")
_KINDS: Mapping[type, str] = MappingProxyType(
    {str: "text", int: "a whole number", bool: "true or false", list: "a list", dict: "a table"}
)


class DeclarationTable:
    """A table and where it stands. Every look-up raises MeterConfigError with place, expected and got.

    A key that nobody looked up is refused by `refuse_unknown_keys`: a misspelt key must not be silent.
    """

    def __init__(self, raw: Mapping[str, object], where: str) -> None:
        self._raw = raw
        self.place = where
        self._used: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._raw

    def names(self) -> tuple[str, ...]:
        """Names in this table, in the file's order."""
        return tuple(self._raw)

    def error(self, what: str) -> MeterConfigError:
        """Return an error that names this table."""
        return MeterConfigError(f"{self.place}: {what}")

    def _get(self, key: str, kind: type[T], default: T | None) -> T:
        self._used.add(key)
        if key not in self._raw:
            if default is None:
                raise self.error(f"{key} is missing")
            return default
        value = self._raw[key]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(f"{key} must be {_KINDS[kind]}, not {value!r}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """Return a string."""
        return self._get(key, str, default)

    def number(self, key: str, default: int | None = None) -> int:
        """Return an integer."""
        return self._get(key, int, default)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """Return a boolean."""
        return self._get(key, bool, default)

    def choice(self, key: str, among: tuple[str, ...], default: str | None = None) -> str:
        """Return a string that is one of some."""
        value = self.text(key, default)
        if value not in among:
            raise self.error(f"{key} must be one of {', '.join(among)}, not {value!r}")
        return value

    def parsed(self, key: str, parse: Callable[[str], T]) -> T:
        """Return a string that `parse` reads; its ValueError or KeyError is explained."""
        return self._parse(key, self.text(key), parse)

    def obis(self, key: str) -> Obis:
        """Return an OBIS code."""
        return self.parsed(key, Obis.parse)

    def list_of(self, key: str, kind: type[T], default: list[T] | None = None) -> tuple[T, ...]:
        """Return a list whose items are of one type."""
        if default is not None and key not in self._raw:
            return tuple(default)
        items: list[object] = self._get(key, list, None)
        return tuple(self._item(key, item, kind) for item in items)

    def _item(self, key: str, item: object, kind: type[T]) -> T:
        if not isinstance(item, kind) or (kind is int and isinstance(item, bool)):
            raise self.error(f"each of {key} must be {_KINDS[kind]}, not {item!r}")
        return item

    def all_parsed(self, key: str, parse: Callable[[str], T], *, optional: bool = False) -> tuple[T, ...]:
        """Return a list of strings that `parse` reads."""
        texts = self.list_of(key, str, [] if optional else None)
        return tuple(self._parse(key, item, parse) for item in texts)

    def key(self, key: str, parse: Callable[[str], T]) -> T:
        """Return a key of this table, as `parse` reads it."""
        return self._parse(key, key, parse)

    def _parse(self, key: str, text: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(text)
        except (ValueError, KeyError) as error:
            reason = f"unknown {text!r}" if isinstance(error, KeyError) else str(error)
            raise self.error(f"{key}: {reason}") from error

    def table(self, key: str, *, optional: bool = False) -> DeclarationTable:
        """Return a table inside this one."""
        raw: dict[str, object] = self._get(key, dict, {} if optional else None)
        return DeclarationTable(raw, f"{self.place} [{key}]")

    def tables(self, key: str, *, optional: bool = False) -> tuple[DeclarationTable, ...]:
        """Return a list of tables."""
        rows = self.list_of(key, dict, [] if optional else None)
        return tuple(DeclarationTable(row, f"{self.place} {key} {n + 1}") for n, row in enumerate(rows))

    def each(self) -> Iterator[tuple[str, DeclarationTable]]:
        """Yield every table in this one by name."""
        for key in self._raw:
            yield key, self.table(key)

    def numbered(self) -> Mapping[int, str]:
        """Read this whole table as numbers with their names."""
        found: dict[int, str] = {}
        for key in self._raw:
            if not (key.isdecimal() and key.isascii()):
                raise self.error(f"{key!r} must be a number")
            found[int(key)] = self.text(key)
        return MappingProxyType(found)

    def numbers(self) -> Mapping[str, int]:
        """Read this whole table as names with their numbers."""
        return MappingProxyType({key: self.number(key) for key in self._raw})

    def refuse_unknown_keys(self) -> None:
        """Raise MeterConfigError for a key that nobody looked up."""
        if unknown := sorted(set(self._raw) - self._used):
            raise self.error(f"unknown key {', '.join(unknown)}")
