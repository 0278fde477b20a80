"""The layouts and holders that the blocks of a batch name by key: read once for many batches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Final, TypeVar

from msgspec import Raw
from pydantic import Field, TypeAdapter, ValidationError

from gateway.contract.blocks.canonical import canonical, key_of
from gateway.contract.blocks.wire import MAX_HOLDERS, BlockLayout, Holder
from gateway.errors import ContractError

T = TypeVar("T")
MAX_KEPT: Final = 4_096
"""Octets of an entry that is kept read for the next batch; a stranger's large ones must not fill the memory."""
_LAYOUT: Final = TypeAdapter(BlockLayout)
_HOLDERS: Final[TypeAdapter[tuple[Holder, ...]]] = TypeAdapter(
    Annotated[tuple[Holder, ...], Field(min_length=1, max_length=MAX_HOLDERS)]
)


@dataclass(frozen=True, slots=True)
class KeyedLayout:
    """A layout of the table: its canonical JSON, and what it says."""

    text: bytes
    layout: BlockLayout


@dataclass(frozen=True, slots=True)
class KeyedHolders:
    """A list of holders of the table: its canonical JSON, and what it says."""

    text: bytes
    holders: tuple[Holder, ...]


class Tables:
    """The layouts and holders of a batch by key; of those that are wrong, what is wrong."""

    def __init__(self, layouts: Mapping[str, Raw], holders: Mapping[str, Raw]) -> None:
        self.layouts: dict[str, KeyedLayout] = {}
        self.holders: dict[str, KeyedHolders] = {}
        self._wrong: dict[tuple[str, str], ContractError] = {}
        self._used: set[tuple[str, str]] = set()
        for key, raw in layouts.items():
            try:
                self.layouts[key] = layout_entry(key, bytes(raw))
            except ContractError as error:
                self._wrong["layouts", key] = error
        for key, raw in holders.items():
            try:
                self.holders[key] = holders_entry(key, bytes(raw))
            except ContractError as error:
                self._wrong["holders", key] = error

    def layout(self, key: str) -> BlockLayout:
        """Return a layout; ContractError where it is wrong or not there."""
        found = self.layouts.get(key)
        if found is None:
            raise self._missing("layouts", key)
        return found.layout

    def check_holders(self, key: str) -> None:
        """Raise ContractError where the holders are wrong or not there."""
        if key not in self.holders:
            raise self._missing("holders", key)

    def _missing(self, table: str, key: str) -> ContractError:
        self._used.add((table, key))
        return self._wrong.get((table, key)) or ContractError(f"{table}: {key[:40]!r} is not in the table")

    def refuse_unused(self) -> None:
        """Raise ContractError for a wrong entry that no block named: nothing else would tell of it."""
        for named, error in self._wrong.items():
            if named not in self._used:
                raise error


def layout_entry(key: str, raw: bytes) -> KeyedLayout:
    """Read a layout; ContractError where it is none, or not that of its key."""
    return (_kept_layout if len(raw) <= MAX_KEPT else _read_layout)(key, raw)


def holders_entry(key: str, raw: bytes) -> KeyedHolders:
    """Read a list of holders; ContractError where it is none, or not that of its key."""
    return (_kept_holders if len(raw) <= MAX_KEPT else _read_holders)(key, raw)


def _read_layout(key: str, raw: bytes) -> KeyedLayout:
    return KeyedLayout(*_entry("layouts", key, raw, _LAYOUT))


def _read_holders(key: str, raw: bytes) -> KeyedHolders:
    return KeyedHolders(*_entry("holders", key, raw, _HOLDERS))


_kept_layout = lru_cache(maxsize=1_024)(_read_layout)
_kept_holders = lru_cache(maxsize=16_384)(_read_holders)


def _entry(table: str, key: str, raw: bytes, model: TypeAdapter[T]) -> tuple[bytes, T]:
    """Return an entry of a table by its canonical JSON; ContractError where the key is not its."""
    path = f"$.data.{table}.{key[:40]}"
    try:
        text = canonical(json.loads(raw))
        if key_of(text) != key:
            raise ContractError(f"{path}: the key is not that of its canonical JSON")
        return text, model.validate_json(text)
    except ValidationError as error:
        raise ContractError(f"{path}: {error.errors(include_url=False)[0]['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise ContractError(f"{path}: {error}") from error
