"""Whether this machine knows the time: what is written into a directory or ledger is dated by it."""

from __future__ import annotations

from gateway.timekeeping.clock import EvidenceClock


def knows_the_time() -> bool:
    """Say whether this machine's own sources (kernel, timesyncd, chrony) vouch for its clock."""
    return EvidenceClock().disciplined()
