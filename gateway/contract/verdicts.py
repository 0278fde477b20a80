"""Central's verdicts on times, as a consumer keeps them: the last word on a capture whose time was not trusted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from gateway.contract.messages import Capture, TimeVerdict

UNTRUSTED_TIME: Final = "untrusted_time"
"""The reason of a stamp that a verdict may lift, and that an `untrusted` verdict gives."""


@dataclass(slots=True)
class VerdictBook:
    """Verdicts by meter and journal, in any order and any number of times."""

    _held: dict[tuple[str, str], dict[int, TimeVerdict]] = field(default_factory=dict)

    def add(self, verdict: TimeVerdict) -> None:
        """Take in a verdict. Two of one version are the same one."""
        self._held.setdefault((verdict.meter, verdict.journal), {})[verdict.version] = verdict

    def of(self, capture: Capture, numbers: Iterable[tuple[str, int]]) -> TimeVerdict | None:
        """Return what was said last of a capture; None where nothing was.

        `numbers` are all under which it came, (journal, seq): a verdict on any of them judges it.
        """
        said = [
            last_of(self._held.get((capture.meter, journal), {}).values(), seq, capture.profile)
            for journal, seq in numbers
        ]
        return max((one for one in said if one is not None), key=lambda v: v.version, default=None)


def last_of(verdicts: Iterable[TimeVerdict], seq: int, profile: str) -> TimeVerdict | None:
    """Return the verdict of the highest version that covers a number and a profile."""
    covering = (v for v in verdicts if v.first_seq <= seq <= v.last_seq and v.profile in (None, profile))
    return max(covering, key=lambda v: v.version, default=None)


def shifted(at: datetime, shift: str | None) -> datetime:
    """Return the instant that a verdict puts right: `shift` is in seconds, as exact text.

    What would leave the years 1 to 9999 stays: only nonsense is dated so.
    """
    if shift is None:
        return at
    try:
        return at + timedelta(microseconds=int(Decimal(shift) * 1_000_000))
    except OverflowError:
        return at


def settled(capture: Capture, verdict: TimeVerdict | None) -> Capture:
    """Return a capture as the last verdict dates it: put right and without doubt, or in doubt, or as it is.

    A `trusted` verdict touches only what was stamped as untrusted: its range may have others in between.
    """
    if verdict is None:
        return capture
    if verdict.trust != "trusted":
        return capture.model_copy(update={"reason": UNTRUSTED_TIME, "attributions": ()})
    if capture.reason != UNTRUSTED_TIME:
        return capture
    times = {
        "at": shifted(capture.at, verdict.shift),
        "start": None if capture.start is None else shifted(capture.start, verdict.shift),
        "reason": None,
    }
    return capture.model_copy(update=times)
