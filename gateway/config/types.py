"""What every section of the configuration is made of: the base model and the types of names and ports."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
"""Names of gateways, lines, secrets and lots: also names of files."""
Name = Annotated[str, Field(pattern=NAME.pattern)]
MeterText = Annotated[str, Field(pattern=r"^[A-Z0-9]{3}:[A-Z0-9]{1,32}$")]
Port = Annotated[int, Field(ge=0, le=65535)]


class Section(BaseModel):
    """Base of all sections: unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class FromSection:
    """Metadata of a field's type: its value is made from a section by `convert`, whose ValueError is a mistake."""

    section: type[Section]
    convert: Callable[[Section], object]

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.convert, handler(self.section))


def section_in(field: FieldInfo) -> type[Section] | None:
    """Return the section that a field holds, holds many of, or is made from; None when it holds a value."""
    return next(_sections((field.annotation, *field.metadata)), None)


def _sections(annotations: Iterable[Any]) -> Iterator[type[Section]]:
    for annotation in annotations:
        if isinstance(annotation, FromSection):
            yield annotation.section
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield annotation
        yield from _sections(get_args(annotation))
