"""What every section of the configuration is made of: the base model and the types of names and ports."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
MeterText = Annotated[str, Field(pattern=r"^[A-Z0-9]{3}:[A-Z0-9]{1,32}$")]
Port = Annotated[int, Field(ge=0, le=65535)]


class Section(BaseModel):
    """Base of all sections: unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def section_in(field: FieldInfo) -> type[Section] | None:
    """Return the section that a field holds, or holds many of; None when it holds a value."""
    candidates: tuple[Any, ...] = (field.annotation, *getattr(field.annotation, "__args__", ()))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, Section)), None)
