"""Whose word counts for a meter: judges entries by the allocations of meters to gateways; pure.

A gateway is believed about the meters allocated to it. One whose meter went to another gateway is still believed
about the time before: what it had read and not delivered is lost to nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.central.ledger.records import Allocation
from gateway.central.ledger.rows import CaptureRow
from gateway.contract.field import visited_gateway
from gateway.contract.messages import rfc3339
from mapping.instants import instant, micros


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an entry is kept but not believed: a stable code, and what is wrong for people."""

    reason: str
    detail: str


NOT_ALLOCATED = "not_allocated"
"""The meter is allocated to another gateway: a later allocation may release the entry."""
WRONG_EPOCH = "wrong_epoch"
"""The entry names an allocation that its gateway never had."""
DISAGREES = "disagrees"
"""What an entry says of itself contradicts itself: its id names another meter, profile or instant."""
CONFLICT = "conflict"
"""The same revision is stored with other values."""
FOREIGN_JOURNAL = "foreign_journal"
"""The journal belongs to another gateway."""
UNREADABLE = "unreadable"
"""This program cannot read the entry, or not store it; a newer one may."""
WRONG_CHECKSUM = "wrong_checksum"
"""The entry is not what its edge stamped: it was altered on the way, or in the edge's journal."""
TOO_MANY_CLAIMS = "too_many_claims"
"""The gateway delivers more meters that nobody knows than one gateway may."""


def judge(history: Sequence[Allocation], gateway: str, at: datetime, epoch: int) -> Refusal | None:
    """Say whether a gateway's word on a meter counts; `history` is the meter's, by rising epoch, never empty.

    `at` is the instant that the entry speaks of, `epoch` what it was stamped with (0: none).
    """
    name = visited_gateway(gateway)
    own = [one for one in history if one.gateway == name]
    current = history[-1]
    if not own:
        return Refusal(NOT_ALLOCATED, f"{current.meter} is allocated to {current.gateway}, not to {name}")
    last = own[-1]
    if last.until is not None and at > last.until:
        return Refusal(
            NOT_ALLOCATED,
            f"{current.meter} was allocated to {name} until {last.until:%Y-%m-%d %H:%M:%SZ}, now to {current.gateway}",
        )
    if epoch and all(one.epoch != epoch for one in own):
        return Refusal(WRONG_EPOCH, f"allocation {epoch} of {current.meter} was never {name}'s")
    return None


def agreement(row: CaptureRow) -> Refusal | None:
    """Check that a capture's id names its own meter, profile and instant."""
    identity, prefix = row.capture_id, f"{row.meter}/{row.profile}/"
    at, _, occurrence = identity.removeprefix(prefix).partition("/")
    if identity.startswith(prefix) and _digits(occurrence) and _is_instant(at, row.at):
        return None
    return Refusal(DISAGREES, f"capture_id {identity!r} does not name {prefix}{rfc3339(instant(row.at))}")


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _is_instant(text: str, at: int) -> bool:
    try:
        return micros(datetime.fromisoformat(text)) == at
    except (ValueError, TypeError):
        return False
