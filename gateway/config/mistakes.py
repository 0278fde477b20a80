"""Mistakes of a configuration file, explained where they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.config.types import Section, section_in
from gateway.errors import ConfigError
from protocols.toml_lines import Path as Trail
from protocols.toml_mistakes import Mistake as Mistake
from protocols.toml_mistakes import TomlSource
from protocols.toml_mistakes import nearest_name as nearest_name


class ConfigMistakes(ConfigError):
    """A configuration file with mistakes; `mistakes` lists every one of them."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(str(m) for m in mistakes))
        self.mistakes = mistakes


class Source(TomlSource):
    """A configuration file's text, in which the line of a field is looked up."""

    def __init__(self, path: Path, text: str = "") -> None:
        super().__init__(str(path), text)

    def explain_in(self, error: Any, root: type[Section]) -> Mistake:
        """Return one of pydantic's errors about `root` in words, with the nearest name that is allowed."""
        return self.explain(error, lambda trail: _keys_at(root, trail))


def _keys_at(root: type[Section], trail: Trail) -> list[str]:
    """Return the keys of the table at `trail`."""
    section = root
    for part in trail:
        if isinstance(part, str):
            inner = section_in(section.model_fields[part])
            assert inner is not None
            section = inner
    return list(section.model_fields)
