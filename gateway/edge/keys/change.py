"""The steps of one change of keys, as a state machine without I/O.

The order is what keeps every key known: made and kept here; sealed to escrow, and central's receipt verified in this
very run; noted as sent; sent; proved by an association; only then the old key goes. Whatever is not certain is asked of
the meter: the new key is tried, then the old one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

MAX_SENDS = 2
"""How often one run sends the same keys to a meter that then proves to hold the old ones."""


class Stage(StrEnum):
    """How far a change has come, as it is kept on the disk."""

    MADE = "made"
    ESCROWED = "escrowed"
    SENT = "sent"
    PROVEN = "proven"


class Act(StrEnum):
    """What is to be done next."""

    ESCROW = "escrow"
    NOTE_SENT = "note_sent"
    SEND = "send"
    PROVE = "prove"
    ADOPT = "adopt"
    NOTHING = "nothing"


class Told(StrEnum):
    """What came of it."""

    RECEIPT = "receipt"
    NOTED = "noted"
    ACCEPTED = "accepted"
    """The meter answered that it took them."""
    REFUSED = "refused"
    """It answered that it did not."""
    UNKNOWN = "unknown"
    """No answer, or none that says."""
    NEW_PROVED = "new_proved"
    OLD_PROVED = "old_proved"
    PARTLY = "partly"
    """Some of the new keys are proved and adopted; what is left is sent again."""
    NEITHER = "neither"
    ADOPTED = "adopted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A run of one change: `stage` is what the disk says; all else is of this run only.

    `provable`: an association proves these keys (a broadcast key it does not: there the meter's word has to do).
    """

    stage: Stage
    provable: bool = True
    receipt: bool = False
    doubtful: bool = True
    """Whether the meter may hold the new keys: true until it has proved the old ones, once they were sent."""
    sends: int = 0
    proved: bool = False
    given_up: bool = False

    @property
    def act(self) -> Act:
        """What is to be done now."""
        if self.stage is Stage.PROVEN or self.given_up:
            return Act.NOTHING
        if self.proved:
            return Act.ADOPT
        if self.stage is Stage.SENT and self.doubtful and self.provable:
            return Act.PROVE
        if not self.receipt:
            return Act.ESCROW
        if self.sends >= MAX_SENDS:
            return Act.NOTHING
        return Act.SEND if self.stage is Stage.SENT else Act.NOTE_SENT

    def after(self, told: Told) -> Progress:
        """Return the progress after something was told; one that fits no act changes nothing."""
        match told:
            case Told.RECEIPT:
                stage = Stage.ESCROWED if self.stage is Stage.MADE else self.stage
                return replace(self, receipt=True, stage=stage)
            case Told.NOTED:
                return replace(self, stage=Stage.SENT, doubtful=False)
            case Told.ACCEPTED if not self.provable:
                return replace(self, sends=self.sends + 1, proved=True)
            case Told.ACCEPTED | Told.REFUSED | Told.UNKNOWN:
                # Whatever it said: some refuse and take, some take and are not heard.
                return replace(self, sends=self.sends + 1, doubtful=True, given_up=not self.provable)
            case Told.NEW_PROVED:
                return replace(self, proved=True)
            case Told.OLD_PROVED | Told.PARTLY:
                return replace(self, doubtful=False)
            case Told.NEITHER:
                return replace(self, given_up=True)
            case Told.ADOPTED:
                return replace(self, stage=Stage.PROVEN)
