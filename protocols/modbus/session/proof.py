"""Writing once and proving it by what the meter shows afterwards, whatever became of the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import TypeVar

from protocols.errors import LineError, MeterError, MeterRefused, WriteNotKept, WriteUnproven

SETTLES = 10.0
"""Seconds that a meter may take to show what it took: as long as an answer may be late."""
LOOK_AGAIN = 1.0
"""Seconds between two looks."""
UNDONE = (1, 2, 3, 6)
"""Exceptions that say that nothing was done; 4 (failure) and 5 (acknowledge) may come in the middle of it."""

T = TypeVar("T")


class Shown(Enum):
    """What a meter shows after a write."""

    KEPT = auto()
    AS_BEFORE = auto()
    NEITHER = auto()


async def write_proved(
    write: Callable[[], Awaitable[None]],
    look: Callable[[], Awaitable[T]],
    judge: Callable[[T], Shown],
    *,
    what: str,
    settles: float = SETTLES,
) -> T:
    """Write once, look until it shows what was wanted, and return that; the write is never repeated.

    An answer that was lost, and a refusal that may have come in the middle, are judged by looking, too. Raises the
    meter's refusal when it did nothing, WriteNotKept when it took the write and stands as before, WriteUnproven when
    there was no sound answer and it is not proved, or the meter could not be looked at.
    """
    failed = await _written(write)
    loop = asyncio.get_running_loop()
    end = loop.time() + settles
    while True:
        stands, shown = "the meter cannot be read now", Shown.NEITHER
        try:
            found = await look()
        except (LineError, MeterError):  # perhaps it is busy with what was written
            pass
        else:
            stands, shown = f"it shows {found}", judge(found)
            if shown is Shown.KEPT:
                return found
        if isinstance(failed, MeterRefused) and failed.reason_code in UNDONE and shown is Shown.AS_BEFORE:
            raise failed
        if loop.time() >= end:
            break
        await asyncio.sleep(min(LOOK_AGAIN, max(end - loop.time(), 0.001)))
    if failed is None and shown is Shown.AS_BEFORE:
        now = stands.removeprefix("it shows ")
        raise WriteNotKept(what=what, answered=True, found=now, now=now, restored=True)
    told = "the meter took it" if failed is None else str(failed)
    as_before = ", as before" if shown is Shown.AS_BEFORE else ""
    raise WriteUnproven(
        f"{what} is not proved: {told}, and {settles:g} s later {stands}{as_before}. It was written once and is not"
        " repeated: look at the meter before you do it again"
    ) from failed


async def _written(write: Callable[[], Awaitable[None]]) -> MeterError | None:
    """Write; return what speaks against it, where something does."""
    try:
        await write()
    except (WriteUnproven, MeterRefused) as error:
        return error
    return None
