"""The shipped companions, read once from their declaration files."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from importlib.resources import files

from protocols.dlms.companion.model import Companion
from protocols.dlms.companion.parser import parse
from protocols.errors import MeterConfigError
from protocols.session import COMPANIONS

DEFAULT = "is15959"


@lru_cache(maxsize=len(COMPANIONS))
def companion(name: str = DEFAULT) -> Companion:
    """Return a shipped companion; MeterConfigError for any other name or when its files are damaged. Cached."""
    if name not in COMPANIONS:
        raise MeterConfigError(f"unknown companion {name!r}: there are {', '.join(COMPANIONS)}")
    folder = files(__package__).joinpath(name)
    declared = {
        file.name: tomllib.loads(file.read_text("utf-8"))
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".toml")
    }
    return parse(name, declared)


def event_name(code: int) -> str:
    """Name an IS 15959 event code: `over voltage (restored)`, or `event 999` when unknown."""
    return companion().event_name(code)
