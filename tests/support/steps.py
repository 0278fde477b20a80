"""What code costs, counted: the lines of Python that it runs and the calls that it makes, the same on any machine."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

Result = TypeVar("Result")


class Steps:
    """Counts steps while it is entered; `count` is the number so far.

    A step is a line of Python or a call, also one of a function in C. What one call in C does inside is one
    step: bounds on octets and objects are counted by what makes them, not here. Whatever traced before (a
    debugger, coverage) goes on afterwards.
    """

    def __init__(self) -> None:
        self.count = 0
        self._before: tuple[Any, Any] = (None, None)
        self._collects = False

    def __enter__(self) -> Steps:
        # What a collection finalizes is not the work's: it comes whenever other tests have left enough.
        self._collects = gc.isenabled()
        gc.disable()
        self._before = sys.gettrace(), sys.getprofile()
        sys.setprofile(self._call)
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        trace, profile = self._before
        sys.settrace(trace)
        sys.setprofile(profile)
        if self._collects:
            gc.enable()

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        return self._line

    def _line(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        if event == "line":
            self.count += 1
        return self._line

    def _call(self, frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_call"):
            self.count += 1


def steps_of(work: Callable[[], object]) -> int:
    """Return the steps of one run of `work`; an exception of it passes."""
    with Steps() as steps:
        work()
    return steps.count
