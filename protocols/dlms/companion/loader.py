"""Companions from their declaration files: the shipped ones, read once, and a user's own in one file."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from protocols.dlms.companion.model import Companion
from protocols.dlms.companion.parser import ABOUT, Declared, parse
from protocols.errors import MeterConfigError
from protocols.session import COMPANIONS

DEFAULT = "is15959"
MAX_FILE = 1 << 20
"""Octets of a user's file."""


@lru_cache(maxsize=len(COMPANIONS))
def companion(name: str = DEFAULT) -> Companion:
    """Return a shipped companion; MeterConfigError for any other name or when its files are damaged. Cached."""
    declared = _shipped(name)
    return parse(name, declared, _bases(declared, {name}))


def companion_file(path: Path) -> Companion:
    """Return the companion of a user's file: one TOML file that declares what its base does not.

    The base is named by `[companion] base`, `generic` where nothing is said. MeterConfigError names what is wrong
    with file, line and field; an OSError of the file is one, too.
    """
    try:
        if path.stat().st_size > MAX_FILE:
            raise MeterConfigError(f"{path}: a companion has at most {MAX_FILE} octets")
        text = path.read_text("utf-8")
        declared = {path.name: tomllib.loads(text)}
    except (OSError, UnicodeDecodeError) as error:
        raise MeterConfigError(f"the companion {path} cannot be read: {error}") from error
    except RecursionError as error:
        raise MeterConfigError(f"{path.name}: lists in lists without end") from error
    except tomllib.TOMLDecodeError as error:
        raise MeterConfigError(f"{path.name}: {error}") from error
    return parse(path.stem, declared, _bases(declared, set(), default="generic"), {path.name: text})


def event_name(code: int) -> str:
    """Name an IS 15959 event code: `over voltage (restored)`, or `event 999` when unknown."""
    return companion().event_name(code)


def _shipped(name: str) -> Declared:
    if name not in COMPANIONS:
        raise MeterConfigError(f"unknown companion {name!r}: there are {', '.join(COMPANIONS)}")
    folder = files(__package__).joinpath(name)
    return {
        file.name: tomllib.loads(file.read_text("utf-8"))
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".toml")
    }


def _bases(declared: Declared, seen: set[str], default: str | None = None) -> list[tuple[str, Declared]]:
    """Return the companions that have what `declared` does not, the nearest first."""
    found = []
    while (base := _base(declared, default)) is not None:
        if base in seen:
            raise MeterConfigError(f"[{ABOUT}] base {base!r} is based on itself")
        seen.add(base)
        declared, default = _shipped(base), None
        found.append((base, declared))
    return found


def _base(declared: Declared, default: str | None) -> str | None:
    for file, raw in declared.items():
        about = raw.get(ABOUT, {})
        if not isinstance(about, dict) or not set(about) <= {"base"}:
            raise MeterConfigError(f"{file} [{ABOUT}]: only `base` can stand there, not {about!r}")
        base = about.get("base", default)
        if base is None:
            continue
        if not isinstance(base, str):
            raise MeterConfigError(f"{file} [{ABOUT}]: base must be text, not {base!r}")
        return base
    return default
