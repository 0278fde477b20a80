"""Numbers of what many captures share (meters, profiles, forms, stamps): each is stored once, and kept at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection, Table, select

from gateway.central.ledger.bulk import write
from gateway.central.ledger.database import in_chunks
from gateway.central.ledger.packing import Form, Stamp, shared_key
from gateway.central.ledger.schema import forms, meters, profiles, stamps

T = TypeVar("T", str, Form, Stamp)
AT_HAND: Final = 50_000
"""Of each kind so many are kept at hand for a connection."""
NUMBERS: Final = "numbers"
"""Under this name a connection has those that it saw; `Database` forgets them where a transaction is undone."""


@dataclass(frozen=True)  # generic, which slots do not go with
class Numbered(Generic[T]):
    """One kind of thing that has numbers: its table, and how it is made of a row without number and key."""

    table: Table
    made: Callable[[Sequence[Any]], T]
    names: tuple[str, ...] = ()

    def numbers(self, connection: Connection, wanted: Iterable[T]) -> dict[T, int]:
        """Return the number of each, new ones where there were none."""
        return self._numbers(connection, wanted, anew=True)

    def known(self, connection: Connection, wanted: Iterable[T]) -> dict[T, int]:
        """Return the numbers of those that have one."""
        return self._numbers(connection, wanted, anew=False)

    def things(self, connection: Connection, numbers: Iterable[int]) -> dict[int, T]:
        """Return what the numbers stand for."""
        _, held = self._at_hand(connection)
        missing = {number for number in numbers if number not in held}
        if missing:
            columns = (self.table.c.number, self.table.c.key, *(self.table.c[name] for name in self.names))
            for some in in_chunks(sorted(missing)):
                rows = connection.execute(select(*columns).where(self.table.c.number.in_(some)))
                for number, key, *values in rows:
                    self._keep(connection, number, self.made(values or key))
        return held

    def _numbers(self, connection: Connection, wanted: Iterable[T], *, anew: bool) -> dict[T, int]:
        held, _ = self._at_hand(connection)
        missing: dict[str, T] = {shared_key(one): one for one in wanted if one not in held}
        if not missing:
            return held
        self._find(connection, missing)
        if anew and missing:
            rows: list[tuple[Any, ...]] = []
            for key in sorted(missing):
                one: Any = missing[key]
                rows.append((key, *one) if self.names else (key,))
            write(connection, self.table, ("key", *self.names), rows, unless="key")
            self._find(connection, missing)
        return held

    def _find(self, connection: Connection, missing: dict[str, T]) -> None:
        """Keep at hand those that are stored, and take them from `missing`."""
        c = self.table.c
        for some in in_chunks(list(missing)):
            for number, key in connection.execute(select(c.number, c.key).where(c.key.in_(some))):
                self._keep(connection, number, missing.pop(key))

    def _at_hand(self, connection: Connection) -> tuple[dict[T, int], dict[int, T]]:
        kinds: dict[str, Any] = connection.info.setdefault(NUMBERS, {})
        found: tuple[dict[T, int], dict[int, T]] = kinds.setdefault(self.table.name, ({}, {}))
        if len(found[1]) > AT_HAND:
            found = kinds[self.table.name] = ({}, {})
        return found

    def _keep(self, connection: Connection, number: int, one: T) -> None:
        numbers, things = connection.info[NUMBERS][self.table.name]
        numbers[one] = number
        things[number] = one


METERS: Final = Numbered[str](meters, str)
PROFILES: Final = Numbered[str](profiles, str)
FORMS: Final = Numbered[Form](forms, Form._make, Form._fields)
STAMPS: Final = Numbered[Stamp](stamps, Stamp._make, Stamp._fields)
