"""What edges prove of the ledger's past: they show the last acknowledgement that central signed for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from gateway.central.ledger.identity import SetBack
from gateway.central.ledger.ledger import Ledger
from gateway.contract.central_word import read_signed
from gateway.contract.messages import Ack, Status
from gateway.errors import ContractError

log = structlog.get_logger("gateway.central.intake")


@dataclass(slots=True)
class _Shown:
    proof: str
    ack: Ack | None


class Witnesses:
    """Begins a new generation of the ledger when an edge was acknowledged more than the ledger now shows.

    Only what central itself signed counts (`keys` verify it), so that no edge can make it begin anew by a claim.
    """

    def __init__(self, ledger: Ledger, keys: Sequence[bytes]) -> None:
        self._ledger = ledger
        self._keys = tuple(keys)
        self._shown: dict[str, _Shown] = {}

    def look(self, status: Status) -> SetBack | None:
        """Compare what a status proves with the ledger; return the set-back that it shows, None for none."""
        ack = self._proven(status)
        if ack is not None and ack.directory is not None and self._ledger.directory_seen.shown(ack.directory):
            log.error("directory_behind", gateway=status.gateway, shown=str(ack.directory))
        if ack is None or ack.ledger is None or ack.ledger_generation is None:
            return None
        why = self._contradicts(ack)
        if why is None:
            return None
        found = self._ledger.identity.begin_anew(ack.ledger_generation, f"{status.gateway} shows that {why}")
        log.error("ledger_set_back", gateway=status.gateway, why=found.why, generation=found.generation)
        return found

    def _proven(self, status: Status) -> Ack | None:
        if status.acknowledged is None:
            return None
        shown = self._shown.get(status.gateway)
        if shown is None or shown.proof != status.acknowledged:
            shown = self._shown[status.gateway] = _Shown(status.acknowledged, self._read(status))
        return shown.ack

    def _read(self, status: Status) -> Ack | None:
        try:
            return read_signed(status.acknowledged or "", Ack, self._keys)
        except ContractError as error:
            log.warning("proof_refused", gateway=status.gateway, error=str(error))
            return None

    def _contradicts(self, ack: Ack) -> str | None:
        identity = self._ledger.identity
        ours, theirs = identity.generation, ack.ledger_generation
        assert theirs is not None
        if theirs.is_before(ours):
            return None  # of an earlier life: what was lost since is being asked for
        if ack.ledger != identity.uuid:
            return f"it was acknowledged by another ledger, {ack.ledger}"
        if theirs.is_twin_of(ours):
            return f"generation {theirs} lives beside ours, {ours}: one of the two ledgers is a copy"
        if ours.is_before(theirs):
            return f"the ledger had come to generation {theirs}"
        held = self._ledger.journals.state(ack.journal).contiguous
        if ack.seq > held:
            return f"{ack.seq} entries of journal {ack.journal} were acknowledged, and {held} are here"
        return None
