"""One table of a declaration file: typed look-ups that name the place of what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeVar

from protocols.errors import MeterConfigError
from protocols.reading import Obis
from protocols.toml_lines import Path, TomlLines

T = TypeVar("T")
_KINDS: Mapping[type, str] = MappingProxyType(
    {str: "text", int: "a whole number", bool: "true or false", list: "a list", dict: "a table"}
)


class DeclarationTable:
    """A table and where it stands. Every look-up raises MeterConfigError with place, expected and got.

    `lines` finds the line of a key of the file, `path` is the way to this table in it. A key that nobody looked up
    is refused by `refuse_unknown_keys`: a misspelt key must not be silent.
    """

    def __init__(
        self, raw: Mapping[str, object], where: str, lines: TomlLines | None = None, path: Path = ()
    ) -> None:
        self._raw = raw
        self.place = where
        self._lines = lines
        self._path = path
        self._used: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._raw

    def names(self) -> tuple[str, ...]:
        """Names in this table, in the file's order."""
        return tuple(self._raw)

    def error(self, what: str, key: str | None = None, index: int | None = None) -> MeterConfigError:
        """Return an error that names this table, and the line of a key of it where the file's text is known."""
        line = self._line(key, index)
        return MeterConfigError(f"{self.place}{f', line {line}' if line else ''}: {what}")

    def at(self, key: str, index: int | None = None) -> str:
        """Say where a key stands: `acme.toml line 12`, or the table where the text is not known."""
        line = self._line(key, index)
        file = self.place.partition(" ")[0]
        return f"{file} line {line}" if line else self.place

    def _line(self, key: str | None, index: int | None) -> int | None:
        if self._lines is None:
            return None
        path = self._path if key is None else (*self._path, key)
        return self._lines.line(path if index is None else (*path, index))

    def _get(self, key: str, kind: type[T], default: T | None) -> T:
        self._used.add(key)
        if key not in self._raw:
            if default is None:
                raise self.error(f"{key} is missing")
            return default
        value = self._raw[key]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(f"{key} must be {_KINDS[kind]}, not {value!r}", key)
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
            raise self.error(f"{key} must be one of {', '.join(among)}, not {value!r}", key)
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
        return tuple(self._item(key, number, item, kind) for number, item in enumerate(items))

    def _item(self, key: str, number: int, item: object, kind: type[T]) -> T:
        if not isinstance(item, kind) or (kind is int and isinstance(item, bool)):
            raise self.error(f"each of {key} must be {_KINDS[kind]}, not {item!r}", key, number)
        return item

    def entries(self, key: str) -> tuple[object, ...]:
        """Return a list of anything; tables in it as tables."""
        items: list[object] = self._get(key, list, None)
        return tuple(
            self._row(key, number, item) if isinstance(item, dict) else item
            for number, item in enumerate(items)
        )

    def parse_entry(self, key: str, number: int, text: str, parse: Callable[[str], T]) -> T:
        """Return an entry of a list as `parse` reads it; its ValueError or KeyError is explained."""
        return self._parse(key, text, parse, number)

    def all_parsed(self, key: str, parse: Callable[[str], T], *, optional: bool = False) -> tuple[T, ...]:
        """Return a list of strings that `parse` reads."""
        texts = self.list_of(key, str, [] if optional else None)
        return tuple(self._parse(key, item, parse, number) for number, item in enumerate(texts))

    def key(self, key: str, parse: Callable[[str], T]) -> T:
        """Return a key of this table, as `parse` reads it."""
        return self._parse(key, key, parse)

    def _parse(self, key: str, text: str, parse: Callable[[str], T], number: int | None = None) -> T:
        try:
            return parse(text)
        except (ValueError, KeyError) as error:
            reason = f"unknown {text!r}" if isinstance(error, KeyError) else str(error)
            raise self.error(f"{key}: {reason}", key, number) from error

    def table(self, key: str, *, optional: bool = False) -> DeclarationTable:
        """Return a table inside this one."""
        raw: dict[str, object] = self._get(key, dict, {} if optional else None)
        return DeclarationTable(raw, f"{self.place} [{key}]", self._lines, (*self._path, key))

    def tables(self, key: str, *, optional: bool = False) -> tuple[DeclarationTable, ...]:
        """Return a list of tables."""
        rows = self.list_of(key, dict, [] if optional else None)
        return tuple(self._row(key, number, row) for number, row in enumerate(rows))

    def _row(self, key: str, number: int, row: dict[str, object]) -> DeclarationTable:
        place = f"{self.place} {key} {number + 1}"
        return DeclarationTable(row, place, self._lines, (*self._path, key, number))

    def each(self) -> Iterator[tuple[str, DeclarationTable]]:
        """Yield every table in this one by name."""
        for key in self._raw:
            yield key, self.table(key)

    def numbered(self) -> Mapping[int, str]:
        """Read this whole table as numbers with their names."""
        found: dict[int, str] = {}
        for key in self._raw:
            if not (key.isdecimal() and key.isascii()):
                raise self.error(f"{key!r} must be a number", key)
            found[int(key)] = self.text(key)
        return MappingProxyType(found)

    def numbers(self) -> Mapping[str, int]:
        """Read this whole table as names with their numbers."""
        return MappingProxyType({key: self.number(key) for key in self._raw})

    def refuse_unknown_keys(self) -> None:
        """Raise MeterConfigError for a key that nobody looked up."""
        if unknown := sorted(set(self._raw) - self._used):
            raise self.error(f"unknown key {', '.join(unknown)}", unknown[0])
