"""What is remembered of one meter between visits: which values were believed, and when it proved who it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from protocols.reading import Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """A value that contradicts the believed one: read `reads` times, from `since` on, last at `at`."""

    value: Number
    since: datetime
    at: datetime
    reads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    """The last value of one quantity that was believed, at `at`; `reads` before it fitted one another.

    `rival` is what has been read instead since then.
    """

    value: Number
    at: datetime
    reads: int = 1
    rival: Rival | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterMemory:
    """One meter as it was known after the last visit; quantities by their text.

    `model` is the name of the model that it was read with: what was remembered by another one counts for nothing.
    `doubted` are the quantities that are not believed now, with the word that says why. It was asked who it is at
    `asked_at`, and proved it at `proved_at`: by its serial, else by `marks` that were as before (firmware, ratios, by
    name) and energies that go on. `shaken`: since it was asked it was silent or failed, so that another meter may
    stand in its place. `vouched_at` is when somebody had seen that it is the right one, where anybody has.
    What was read until `settled_at` has been settled, after another meter had answered.
    """

    model: str
    believed: Mapping[str, Believed] = field(default_factory=dict)
    doubted: Mapping[str, str] = field(default_factory=dict)
    asked_at: datetime | None = None
    proved_at: datetime | None = None
    marks: Mapping[str, str] = field(default_factory=dict)
    shaken: bool = False
    vouched_at: datetime | None = None
    settled_at: datetime | None = None
