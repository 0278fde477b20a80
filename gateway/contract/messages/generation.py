"""Which life of a store a word speaks of: a counter that only rises, and a random part that no copy shares."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from functools import total_ordering
from typing import Annotated, Any, Generic, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from gateway.errors import ContractError

MAX_COUNTER = 2**53 - 1
MAX_VERSION = 2**63 - 1
_TEXT = re.compile(r"(0|[1-9][0-9]{0,15})\.([0-9a-f]{8})", re.ASCII)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


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


@total_ordering
@dataclass(frozen=True, slots=True)
class DirectoryVersion:
    """A state of the directory: a version in one of its lives, written `3.9f2c01ab/7`.

    The later life is the higher, whatever its version; then the version decides. The random part orders only
    what should not be: two lives of one counter.
    """

    generation: Generation
    version: int

    def __str__(self) -> str:
        return f"{self.generation}/{self.version}"

    def __lt__(self, other: DirectoryVersion) -> bool:
        return self._rank < other._rank

    @property
    def _rank(self) -> tuple[int, int, str]:
        return self.generation.counter, self.version, self.generation.random

    @classmethod
    def parse(cls, text: str) -> DirectoryVersion:
        """Read `3.9f2c01ab/7`; ContractError for anything else."""
        life, mark, version = text.partition("/")
        if not mark or _NUMBER.fullmatch(version) is None or int(version) > MAX_VERSION:
            raise ContractError(
                f"{text[:60]!r} is no state of a directory: a generation, a slash and a version"
            )
        return cls(Generation.parse(life), int(version))


_T = TypeVar("_T", Generation, DirectoryVersion)


@dataclass(frozen=True, slots=True)
class _OnTheWire(Generic[_T]):
    """How pydantic reads and writes such a thing: as its text."""

    kind: type[_T]
    pattern: str
    example: str

    def __get_pydantic_core_schema__(
        self, _source: Any, _handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        def read(text: str) -> _T:
            try:
                return self.kind.parse(text)
            except ContractError as error:
                raise ValueError(str(error)) from error

        from_text = core_schema.no_info_after_validator_function(read, core_schema.str_schema())
        return core_schema.json_or_python_schema(
            json_schema=from_text,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(self.kind), from_text]),
            serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="json"),
        )

    def __get_pydantic_json_schema__(
        self, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "pattern": f"^{self.pattern}$", "examples": [self.example]}


GenerationText = Annotated[Generation, _OnTheWire(Generation, _TEXT.pattern, "3.9f2c01ab")]
"""A member of a message that holds a generation."""
DirectoryVersionText = Annotated[
    DirectoryVersion,
    _OnTheWire(DirectoryVersion, f"({_TEXT.pattern})/({_NUMBER.pattern})", "3.9f2c01ab/7"),
]
"""A member of a message that holds a state of the directory."""
