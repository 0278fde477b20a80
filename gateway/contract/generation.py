"""Which life of a store a word speaks of: a counter that only rises, and a random part that no copy shares."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from gateway.errors import ContractError

MAX_COUNTER = 2**53 - 1
_TEXT = re.compile(r"(0|[1-9][0-9]{0,15})\.([0-9a-f]{8})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Generation:
    """A store's life: it changes whenever the store may have been set back to an older state.

    Only the counter orders (`is_before`); one counter with two random parts means that a store lives twice.
    Written `3.9f2c01ab`. A sender of version 1 names none: `NO_GENERATION` stands for it, before all others.
    """

    counter: int
    random: str

    def __str__(self) -> str:
        return f"{self.counter}.{self.random}"

    def is_before(self, other: Generation) -> bool:
        """Return whether this is an older life than `other`."""
        return self.counter < other.counter

    def is_twin_of(self, other: Generation) -> bool:
        """Return whether both have one counter but another random part: two lives at once, an alarm."""
        return self.counter == other.counter and self.random != other.random

    @classmethod
    def parse(cls, text: str) -> Generation:
        """Read `3.9f2c01ab`; ContractError for anything else."""
        match = _TEXT.fullmatch(text)
        if match is None or int(match[1]) > MAX_COUNTER:
            raise ContractError(f"{text[:40]!r} is no generation: a counter, a point and 8 hex digits")
        return cls(int(match[1]), match[2])

    @classmethod
    def after(cls, *shown: Generation) -> Generation:
        """Begin a new life, one above the highest that the store or any peer shows."""
        return cls(max((one.counter for one in shown), default=0) + 1, secrets.token_hex(4))


NO_GENERATION = Generation(0, "00000000")


class _OnTheWire:
    """How pydantic reads and writes a generation: as its text."""

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: Any, _handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        def read(text: str) -> Generation:
            try:
                return Generation.parse(text)
            except ContractError as error:
                raise ValueError(str(error)) from error

        from_text = core_schema.no_info_after_validator_function(read, core_schema.str_schema())
        return core_schema.json_or_python_schema(
            json_schema=from_text,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(Generation), from_text]),
            serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="json"),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "pattern": f"^{_TEXT.pattern}$", "examples": ["3.9f2c01ab"]}


GenerationText = Annotated[Generation, _OnTheWire]
"""A member of a message that holds a generation."""
