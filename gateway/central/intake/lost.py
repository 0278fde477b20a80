"""Watches which journals ended, and gives up what neither their gateways nor central have any more."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import structlog

from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.lost import AT_ONCE
from gateway.contract.messages import Status

MAX_ENDED: Final = 16
"""Journals of a gateway of which is remembered that they ended: a status names 8."""

log = structlog.get_logger("gateway.central.intake")


class LostWatch:
    """Speaks of a gateway's journals once its status told which of them ended; all in the ledger's thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._ended: dict[str, dict[str, int]] = {}
        self._done: dict[str, object] = {}

    def told(self, status: Status) -> None:
        """Hear which journals a gateway had before the one that it has."""
        ended = self._ended.setdefault(status.gateway, {})
        ended.pop(status.journal, None)
        for one in status.former:
            if one.journal != status.journal and (one.journal in ended or len(ended) < MAX_ENDED):
                ended[one.journal] = one.last_seq

    def give_up(self, now: datetime) -> int:
        """Give verdicts on what is lost where anything changed since; return how many."""
        lost = self._ledger.lost.state()
        if lost is None:
            return 0
        given = 0
        allocated = self._ledger.allocations.changed()
        for gateway, ended in self._ended.items():
            state = (lost, allocated, tuple(ended.items()))
            if self._done.get(gateway) == state:
                continue
            ranges = self._ledger.lost.ranges(gateway, ended)
            said = self._ledger.lost.give(gateway, ranges, now)
            if said:
                log.warning("lost_captures_given_up", gateway=gateway, verdicts=len(said))
            given += len(said)
            if len(said) < AT_ONCE:
                self._done[gateway] = state
        return given
