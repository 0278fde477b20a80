"""The keys of model files, from the classes that read them: for messages, and for the table in `docs/modbus.md`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic.fields import FieldInfo

from protocols.modbus.format.encoding import ModelTable
from protocols.modbus.format.model import MeterModel
from protocols.toml_lines import Path as Trail


def keys_at(trail: Trail) -> tuple[str, ...]:
    """Return the keys that the table at a place of a model file may have; none where no table of ours is."""
    table: type[ModelTable] | None = MeterModel
    for part in trail:
        if isinstance(part, str):
            if table is None or part not in table.model_fields:
                return ()
            table = table_in(table.model_fields[part])
    return () if table is None else tuple(table.model_fields)


def tables() -> Iterator[tuple[str, type[ModelTable], bool]]:
    """Yield every table of a model file by its name, with its class, and whether there may be many of it."""
    yield from _below("", MeterModel, many=False)


def _below(name: str, table: type[ModelTable], *, many: bool) -> Iterator[tuple[str, type[ModelTable], bool]]:
    yield name, table, many
    for key, field in table.model_fields.items():
        inner = table_in(field)
        if inner is not None:
            several = str(field.annotation).startswith("tuple")
            yield from _below(f"{name}.{key}".removeprefix("."), inner, many=several)


def table_in(field: FieldInfo) -> type[ModelTable] | None:
    """Return the table that a key holds, or holds many of; None when it holds a value."""
    return next(_tables(field.annotation), None)


def _tables(annotation: Any) -> Iterator[type[ModelTable]]:
    if isinstance(annotation, type) and issubclass(annotation, ModelTable):
        yield annotation
    for inner in get_args(annotation):
        yield from _tables(inner)
