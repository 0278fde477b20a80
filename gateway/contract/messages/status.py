"""What a gateway tells of itself: its journal, lines, meters, clock and alarms."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.contract.messages.base import MAX_SEQ, Identifier, Message, UtcTime, Version


class LineStatus(Message):
    """One communication path as the edge sees it."""

    name: Identifier
    state: Literal["up", "down", "idle", "busy"]
    detail: str | None = None
    since: UtcTime | None = None


class MeterStatus(Message):
    """One meter's health; `health` is `ok` or the stable code of what is wrong (`meter_silent`)."""

    meter: Identifier
    health: Identifier
    last_reading_at: UtcTime | None = None
    detail: str | None = None


class ClockStatus(Message):
    """Whether the edge trusts its own clock."""

    disciplined: bool
    at: UtcTime
    detail: str | None = None


class Alarm(Message):
    """Something a person should look at; `code` is stable, `count` how often since `since`."""

    code: Identifier
    text: str
    since: UtcTime | None = None
    count: int = Field(default=1, ge=0)


class Status(Message):
    """A gateway's retained state; the broker publishes the last will (`online: false`) when it vanishes.

    `first_seq` is the oldest sequence the journal still holds: what is below can no longer be replayed.
    `backlog` counts entries not yet taken by the broker, `unattributed` those under no account
    (null where the edge does not count them).
    """

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
