"""Mistakes of a TOML file, explained where they stand: the configuration's and those of models."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from protocols.toml_lines import Path as Trail
from protocols.toml_lines import TomlLines


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


class TomlSource:
    """A TOML file's text, in which the line of a field is looked up."""

    def __init__(self, file: str, text: str = "") -> None:
        self.file = file
        self._text = text
        self._lines: TomlLines | None = None

    @property
    def text(self) -> str:
        """What stands in the file."""
        return self._text

    @text.setter
    def text(self, text: str) -> None:
        self._text, self._lines = text, None

    def mistake(self, trail: Trail, problem: str, nearest: str | None = None) -> Mistake:
        """Return the mistake of the field at `trail`; an empty trail means the whole file."""
        if self._lines is None:
            self._lines = TomlLines(self._text)
        return Mistake(
            file=self.file,
            line=self._lines.line(trail),
            field=dotted(trail),
            problem=problem,
            nearest=nearest,
        )

    def explain(
        self,
        error: Mapping[str, Any],
        keys_at: Callable[[Trail], Collection[str]],
        trail: Trail | None = None,
    ) -> Mistake:
        """Return one of pydantic's errors in words, with the nearest name that is allowed.

        `keys_at` gives the keys that the table at a place may have; `trail` is where the mistake stands in the file,
        where that differs from the error's own `loc`.
        """
        at: Trail = tuple(error["loc"])
        where = at if trail is None else trail
        match error["type"]:
            case "extra_forbidden":
                allowed = keys_at(at[:-1])
                problem = "unknown key; allowed here: " + ", ".join(sorted(allowed))
                return self.mistake(where, problem, nearest_name(str(at[-1]), allowed))
            case "literal_error" | "enum" if isinstance(error.get("input"), str):
                expected = str(error.get("ctx", {}).get("expected", "")).replace(" or ", ",")
                choices = [choice.strip(" '") for choice in expected.split(",")]
                problem = f"`{error['input']}` is not allowed; allowed: {', '.join(choices)}"
                return self.mistake(where, problem, nearest_name(error["input"], choices))
            case "missing":
                return self.mistake(where, "required and not there")
            case "tuple_type":
                return self.mistake(where, "must be a list, in [ ]")
            case "too_short":
                return self.mistake(where, f"must name at least {error['ctx']['min_length']}")
            case "too_long":
                return self.mistake(where, f"may name at most {error['ctx']['max_length']}")
        return self.mistake(where, str(error["msg"]).removeprefix("Value error, "))


def nearest_name(given: str, allowed: Collection[str]) -> str | None:
    """Return the allowed name that is most like the one given, None when none is."""
    close = difflib.get_close_matches(given[:200], allowed, n=1)
    return close[0] if close else None


def dotted(trail: Trail) -> str:
    """Return the way to a field as people read it: `registers[3].unit`."""
    text = ""
    for part in trail:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "(file)"
