"""The journal's housekeeping at a quick pace, and how often it has looked: what it leaves alone shows only then."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.edge.journal import housekeeping, writer
from tests.support.waiting import until


def quick_housekeeping(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let it look all the time; return what tells how many looks are over."""
    monkeypatch.setattr(writer, "KEEP_HOUSE_EVERY", 0.01)
    monkeypatch.setattr(writer, "IDLE_HOUSE_EVERY", 0.01)
    looks = 0
    tick = housekeeping.Housekeeping.tick

    def counted(self: housekeeping.Housekeeping) -> bool:
        nonlocal looks
        more = tick(self)
        looks += 1
        return more

    monkeypatch.setattr(housekeeping.Housekeeping, "tick", counted)
    return lambda: looks


async def looked_after(looks: Callable[[], int]) -> None:
    """Wait until all that was so before this call was looked at."""
    seen = looks()
    await until(lambda: looks() > seen + 2)
