"""An edge's part of the directory, and its request for it."""

from __future__ import annotations

from typing import Literal

from gateway.contract.messages.base import Identifier, Message, UtcTime, Version


class DirectoryPart(Message):
    """One gateway's part of the directory: a snapshot, or the change that follows `previous`.

    It travels signed (see `Signed`); `rows` is the mapping snapshot or change as JSON text.
    """

    gateway: Identifier
    version: Version
    kind: Literal["snapshot", "change"]
    previous: Version | None = None
    rows: str
    issued_at: UtcTime


class DirectoryRequest(Message):
    """An edge asks for its part of the directory for the meters that it polls."""

    gateway: Identifier
    have_version: Version
    meters: tuple[Identifier, ...]
