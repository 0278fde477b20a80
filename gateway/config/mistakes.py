"""Mistakes of a configuration file, explained where they stand."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.config.locate import Trail, locate
from gateway.config.types import Section, section_in
from gateway.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One mistake: where it stands, what is wrong, what is allowed, the nearest valid name."""

    file: str
    line: int | None
    field: str
    problem: str
    nearest: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        hint = f" Did you mean `{self.nearest}`?" if self.nearest else ""
        return f"{place}: {self.field}: {self.problem}{hint}"


class ConfigMistakes(ConfigError):
    """A configuration file with mistakes; `mistakes` lists every one of them."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(str(m) for m in mistakes))
        self.mistakes = mistakes


@dataclass(slots=True)
class Source:
    """A configuration file's text, in which the line of a field is looked up."""

    path: Path
    text: str = ""

    def mistake(self, trail: Trail, problem: str, nearest: str | None = None) -> Mistake:
        """Return the mistake of the field at `trail`; an empty trail means the whole file."""
        return Mistake(
            file=str(self.path),
            line=locate(self.text, trail),
            field=_dotted(trail),
            problem=problem,
            nearest=nearest,
        )

    def explain(self, error: Any, root: type[Section]) -> Mistake:
        """Return one of pydantic's errors about `root` in words, with the nearest name that is allowed."""
        trail: Trail = tuple(error["loc"])
        match error["type"]:
            case "extra_forbidden":
                allowed = _keys_at(root, trail[:-1])
                problem = "unknown key; allowed here: " + ", ".join(sorted(allowed))
                return self.mistake(trail, problem, nearest_name(str(trail[-1]), allowed))
            case "literal_error" | "enum" if isinstance(error.get("input"), str):
                expected = str(error.get("ctx", {}).get("expected", "")).replace(" or ", ",")
                choices = [choice.strip(" '") for choice in expected.split(",")]
                problem = f"`{error['input']}` is not allowed; allowed: {', '.join(choices)}"
                return self.mistake(trail, problem, nearest_name(error["input"], choices))
            case "missing":
                return self.mistake(trail, "required and not there")
            case "tuple_type":
                return self.mistake(trail, "must be a list, in [ ]")
            case "too_short":
                return self.mistake(trail, f"must name at least {error['ctx']['min_length']}")
            case "too_long":
                return self.mistake(trail, f"may name at most {error['ctx']['max_length']}")
        return self.mistake(trail, str(error["msg"]).removeprefix("Value error, "))


def nearest_name(given: str, allowed: Collection[str]) -> str | None:
    """Return the allowed name that is most like the one given, None when none is."""
    close = difflib.get_close_matches(given, allowed, n=1)
    return close[0] if close else None


def _dotted(trail: Trail) -> str:
    text = ""
    for part in trail:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "(file)"


def _keys_at(root: type[Section], trail: Trail) -> list[str]:
    """Return the keys of the table at `trail`."""
    section = root
    for part in trail:
        if isinstance(part, str):
            inner = section_in(section.model_fields[part])
            assert inner is not None
            section = inner
    return list(section.model_fields)
