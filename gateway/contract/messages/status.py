"""What a gateway tells of itself: a small retained summary, and what changed with its lines and meters."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from gateway.contract.messages.base import MAX_SEQ, Decimals, Identifier, Message, UtcTime, Version
from gateway.contract.messages.codes import ALARM_CODES, FromList
from gateway.contract.messages.generation import NO_GENERATION, GenerationText

MAX_STATUS: Final = 8 * 1024
"""Largest summary, in octets with its envelope, however many meters a gateway has."""
MAX_CHANGES: Final = 64 * 1024
"""Largest message of changes, in octets with its envelope."""

Run = Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
"""One run of a gateway's program: its changes are counted from 1."""
ChangeNumber = Annotated[int, Field(ge=0, le=MAX_SEQ)]
Counts = Annotated[dict[Identifier, Annotated[int, Field(ge=0, le=MAX_SEQ)]], Field(max_length=64)]
"""How many have each health."""


class LineStatus(Message):
    """One communication path as the edge sees it."""

    name: Identifier
    state: Literal["up", "down", "idle", "busy"]
    detail: str | None = None
    since: UtcTime | None = None


class MeterStatus(Message):
    """One meter's health: `new` before its first poll, `ok`, or the stable code of what is wrong (`meter_silent`).

    `since` and `last_reading_at` are those of the change.
    """

    meter: Identifier
    line: Identifier | None = None
    health: Identifier
    since: UtcTime | None = None
    last_reading_at: UtcTime | None = None
    detail: str | None = None


class ClockSource(Message):
    """What one source says of the edge's clock: it should show `offset` seconds more, give or take `error`."""

    source: Identifier
    offset: Decimals
    error: Decimals


class ClockStatus(Message):
    """Whether the edge trusts its own clock, and what speaks for it.

    `state` is trusted, declared (the configuration says so), unproven (nobody says anything), disputed or wrong.
    `boot` names the run of the edge's machine and `began` when that began in true time, by what most sources
    say: with it the steady clock's seconds in captures become instants.
    """

    disciplined: bool
    at: UtcTime
    detail: str | None = None
    state: Literal["trusted", "declared", "unproven", "disputed", "wrong"] | None = None
    sources: tuple[ClockSource, ...] = ()
    boot: Identifier | None = None
    began: UtcTime | None = None


class Alarm(Message):
    """Something a person should look at; `code` is stable, `count` how often since `since`."""

    code: Annotated[Identifier, FromList(ALARM_CODES)]
    text: str
    since: UtcTime | None = None
    count: int = Field(default=1, ge=0)


class FormerJournal(Message):
    """Where a run of the journal that was ended: `last_seq` is the last number it gave, as far as the edge knows.

    Under the same uuid it is the run before this one: whoever has more of it knows that the journal was set
    back. Under another uuid it is a journal that goes on as this one, with the same numbers up to its end.
    """

    journal: Identifier
    generation: GenerationText
    last_seq: Annotated[int, Field(ge=0, le=MAX_SEQ)]


class Status(Message):
    """A gateway's retained state; the broker publishes the last will (`online: false`) when it vanishes.

    `first_seq` is the oldest sequence the journal still holds: what is below can no longer be replayed.
    `generation` is the journal's in this run, `former` tells where runs and journals before it ended.
    `backlog` counts entries not yet taken by the broker, `unattributed` those under no account (absent where
    the edge does not count them). `meters` and `lines` are counts by health; which they are stands in the
    changes, of which `status_seq` is the last that was told in this `run`. `more_alarms` had no room. A
    `visit` is a field engineer's: nobody waits for it once it is over. `acknowledged` is
    central's last acknowledgement as it was signed (compact JWS): so central learns what its ledger once held.
    """

    gateway: Identifier
    role: Literal["edge", "visit"] = "edge"
    online: bool
    version: str
    journal: Identifier
    generation: GenerationText = NO_GENERATION
    former: tuple[FormerJournal, ...] = Field(default=(), max_length=8)
    first_seq: Annotated[int, Field(ge=0, le=MAX_SEQ)] = 0
    last_seq: Annotated[int, Field(ge=0, le=MAX_SEQ)] = 0
    backlog: int = Field(default=0, ge=0)
    unattributed: int | None = Field(default=None, ge=0)
    meters: Counts = Field(default_factory=dict)
    lines: Counts = Field(default_factory=dict)
    directory_version: Version = 0
    acknowledged: Annotated[str, Field(max_length=2_048)] | None = None
    clock: ClockStatus | None = None
    alarms: tuple[Alarm, ...] = Field(default=(), max_length=64)
    more_alarms: int = Field(default=0, ge=0)
    run: Run | None = None
    status_seq: ChangeNumber = 0
    at: UtcTime


class StatusChanges(Message):
    """The lines and meters that changed: every change from_seq..to_seq of one run, each with its state of now.

    `from_seq` 0 begins anew: such messages, `part` 1 to `parts` with one `to_seq`, list everything, and what they
    do not name is gone. Whoever finds `from_seq` beyond the next number missed something: it asks for the list.
    """

    gateway: Identifier
    run: Run
    from_seq: ChangeNumber
    to_seq: ChangeNumber
    part: int = Field(default=1, ge=1, le=100_000)
    parts: int = Field(default=1, ge=1, le=100_000)
    lines: tuple[LineStatus, ...] = ()
    meters: tuple[MeterStatus, ...] = ()
    at: UtcTime

    @property
    def is_listing(self) -> bool:
        """Whether it belongs to a list of everything."""
        return self.from_seq == 0


class StatusRequest(Message):
    """Central missed changes and wants a list of all lines and meters."""

    gateway: Identifier
    at: UtcTime


class StatusVersion1(Message):
    """The status of version 1, which carries every line and meter; read for one release."""

    gateway: Identifier
    online: bool
    version: str
    journal: Identifier
    first_seq: Annotated[int, Field(ge=0, le=MAX_SEQ)] = 0
    last_seq: Annotated[int, Field(ge=0, le=MAX_SEQ)] = 0
    lines: tuple[LineStatus, ...] = ()
    meters: tuple[MeterStatus, ...] = ()
    backlog: int = Field(default=0, ge=0)
    unattributed: int | None = Field(default=None, ge=0)
    directory_version: Version = 0
    clock: ClockStatus | None = None
    alarms: tuple[Alarm, ...] = ()
    at: UtcTime
