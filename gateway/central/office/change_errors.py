"""Why a change set was not applied: what each means to whoever asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.errors import GatewayError


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a change was refused: its place in the list from 0, None for the whole; a stable code; words."""

    place: int | None
    code: str
    message: str


class ChangesRefused(GatewayError):
    """The directory contradicts some of the changes; nothing was changed."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(fault.message for fault in faults))
        self.faults = tuple(faults)


class MovedOn(GatewayError):
    """The directory was changed since the change set was shown: it must be looked at again."""


class OtherChanges(GatewayError):
    """A fingerprint belongs to other changes than those that came with it."""


class NoSuchChangeSet(GatewayError):
    """There is no change set of that id that the asker may see."""


class AlreadyDecided(GatewayError):
    """A change set waits no more: it was applied or rejected."""
