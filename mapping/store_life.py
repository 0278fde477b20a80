"""Whether a store's file was set back to an older state: what stands in it, and beside it.

A store ticks when it is opened and as it changes: a number and a random part, first in the store itself, then
durably in the file `{name}.life` beside it. A store that was restored from a copy shows another tick than the
file. It then begins a new generation, whose counter is one above the highest that the store, the file or any
peer shows. A copy of both files together cannot be told apart here: peers who saw more do that.

Everything is text, `3.9f2c01ab` for generations and ticks alike.
"""

from __future__ import annotations

import json
import os
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

SUFFIX = ".life"


@dataclass(frozen=True, slots=True)
class StoreLife:
    """Who a store is: its uuid for ever, its generation, its tick now and the one before."""

    uuid: str
    generation: str
    tick: str
    previous: str = ""

    @classmethod
    def born(cls) -> StoreLife:
        """Return the life of a new store."""
        return cls(str(uuid.uuid4()), following(), following())

    @classmethod
    def of(cls, held: Mapping[str, str]) -> StoreLife:
        """Return the life that names and values hold; KeyError where one is missing."""
        return cls(held["uuid"], held["generation"], held["tick"], held["previous"])

    def items(self) -> dict[str, str]:
        """Return names and values, to be kept."""
        return asdict(self)

    def ticked(self) -> StoreLife:
        """Return this life one tick later."""
        return replace(self, tick=following(self.tick), previous=self.tick)

    def set_back(self, beside: StoreLife | None) -> str | None:
        """Return why the store may be an older copy of itself, None when it is the one that ran last."""
        if beside is None:
            return f"there is no {SUFFIX} file beside it"
        if beside.uuid != self.uuid:
            return f"the {SUFFIX} file is that of store {beside.uuid}"
        if beside.generation == self.generation and beside.tick in (self.tick, self.previous):
            return None  # the previous one: a crash came between the two files
        return f"it shows {self.generation}/{self.tick}, the {SUFFIX} file {beside.generation}/{beside.tick}"

    def begun_anew(self, *shown: str) -> StoreLife:
        """Return the next generation of this store, one above its own and every generation `shown`."""
        return replace(self.ticked(), generation=following(self.generation, *shown))


def following(*shown: str) -> str:
    """Return a text one above the highest counter of `shown`, with a fresh random part; ValueError for no such text.

    >>> following("3.9f2c01ab", "7.00000000").startswith("8.")
    True
    """
    counter = max((int(text.partition(".")[0]) for text in shown), default=0) + 1
    return f"{counter}.{secrets.token_hex(4)}"


def read_beside(path: Path) -> StoreLife | None:
    """Return what stands beside the store at `path`; None when there is nothing, or nothing readable."""
    try:
        held = json.loads(_beside(path).read_bytes())
        return StoreLife.of({name: str(held[name]) for name in StoreLife.__dataclass_fields__})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return None


def write_beside(path: Path, life: StoreLife) -> None:
    """Replace the file beside the store durably; OSError when it cannot be written. One writer at a time."""
    target = _beside(path)
    fresh = target.with_name(f"{target.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(json.dumps(life.items()).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)
