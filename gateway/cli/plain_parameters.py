"""Parameters of commands without pydantic, which typer would import even to turn a text into itself.

That import costs more than all the rest of `--help`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from typer._coercion import RuntimeParam, build_runtime_param
from typer._param_types import coerce_cli_path
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption


class PlainCommand(TyperCommand):
    """A command whose texts, paths and flags are read without pydantic; its numbers are read by typer."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, --help among them."""
        return _plain(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """A group whose own options are read without pydantic."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, --help among them."""
        return _plain(super().get_params(ctx))


def _plain(parameters: Iterable[Any]) -> list[Any]:
    made = list(parameters)
    for parameter in made:
        if isinstance(parameter, TyperArgument | TyperOption):
            described = parameter.type_descriptor
            plain = _Plain(described.parameter_info, described.annotation)
            parameter._runtime_param = plain  # noqa: SLF001 (typer has no door for it)
    return made


class _Plain(RuntimeParam):
    """Reads one parameter; None, which most options are, never comes here."""

    def _coerce_value(self, value: Any, param: Any, ctx: Any) -> Any:
        if self.annotation is str:
            return str(value)
        if self.annotation == list[str]:
            return list(value)
        if self.annotation is Path:
            return coerce_cli_path(Path(value), self.parameter_info, path_type=Path, param=param, ctx=ctx)
        return build_runtime_param(param.type_descriptor).coerce(value, param, ctx)
