"""A command whose texts and paths are taken without pydantic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer._coercion import RuntimeParam
from typer._param_types import coerce_cli_path
from typer.core import TyperArgument, TyperCommand, TyperOption


class PlainCommand(TyperCommand):
    """A typer command that imports pydantic only for numbers and choices.

    Typer has pydantic turn even a text into itself, and importing it costs more than all of `--help`.
    """

    def __init__(self, name: str | None, **settings: Any) -> None:
        super().__init__(name, **settings)
        for parameter in self.params:
            if not isinstance(parameter, TyperArgument | TyperOption):
                continue
            described = parameter.type_descriptor
            if described.annotation in (str, list[str], Path):
                plain = _Plain(described.parameter_info, described.annotation)
                parameter._runtime_param = plain  # noqa: SLF001 (typer has no door for it)


class _Plain(RuntimeParam):
    """A text, a list of texts, or a path with typer's own checks."""

    def _coerce_value(self, value: Any, param: Any, ctx: Any) -> Any:
        if self.annotation is Path:
            return coerce_cli_path(Path(value), self.parameter_info, path_type=Path, param=param, ctx=ctx)
        return list(value) if self.annotation == list[str] else str(value)
