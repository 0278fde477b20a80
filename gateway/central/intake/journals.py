"""What central knows of each edge's journal, and what it owes or wants because of it; sans-IO."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gateway.central.ledger.records import JournalState
from gateway.contract.central_word import CENTRAL
from gateway.contract.messages import Ack, ReplayRequest, Status, StatusVersion1
from gateway.contract.messages.generation import NO_GENERATION, Generation
from gateway.contract.replay import ReplayPlanner
from gateway.contract.topics import TopicVersion


@dataclass(slots=True)
class _WatchedJournal:
    """Stored state, last number acknowledged (-1: none), and what the edge announced that it holds.

    `ended`: its edge goes on under another uuid and gives nothing of this one any more.
    `heard_before`: the edge was acknowledged by this ledger or its forerunner, so that 0 tells it something.
    `version` is that of the contract that it speaks, `generation` the highest in which its entries came.
    """

    gateway: str
    state: JournalState
    acked: int = -1
    announced: int = 0
    oldest: int = 0
    ended: bool = False
    heard_before: bool = False
    version: TopicVersion = 2
    generation: Generation = NO_GENERATION


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardJournal:
    """What a message says of its journal: the version of the contract, and the generation of its entries."""

    journal: str
    gateway: str
    version: TopicVersion
    generation: Generation = NO_GENERATION


class JournalWatch:
    """Says which acknowledgements and replay requests are due; `now` is monotonic, in seconds.

    `lost_after`: seconds that a hole stands, after its edge said that it no longer holds those entries,
    before they count as lost: their octets may still be on the way.
    """

    def __init__(self, planner: ReplayPlanner, *, lost_after: float) -> None:
        self._planner = planner
        self._lost_after = lost_after
        self._journals: dict[str, _WatchedJournal] = {}
        self._only_told: dict[str, str] = {}

    def stored(self, state: JournalState, now: float) -> None:
        """Note what the ledger holds of a journal."""
        known = self._journals.get(state.journal)
        if known is None:
            known = self._journals[state.journal] = _WatchedJournal(state.gateway, state)
        if state.repeated > known.state.repeated:
            # The edge sent again what we have: perhaps it missed our acknowledgement.
            known.acked = -1
        known.gateway = state.gateway or known.gateway
        known.state = replace(state, gateway=known.gateway)
        self._plan(known, now)

    def announced(self, status: Status | StatusVersion1, now: float) -> None:
        """Note what an edge says that its journal holds: entries that never came at all are holes too."""
        known = self._journals[status.journal]
        known.gateway = status.gateway
        self._forget_only_told(status.gateway, status.journal)
        # The backlog was not sent yet: its end is no hole.
        known.announced = max(known.announced, status.last_seq - status.backlog)
        known.heard_before = isinstance(status, Status) and status.acknowledged is not None
        known.oldest = max(known.oldest, status.first_seq)
        known.ended = False
        self._end(status)
        if status.online:
            # It has just come back and may have missed what we said while it was away.
            known.acked = -1
        self._plan(known, now)

    def _end(self, status: Status | StatusVersion1) -> None:
        """Note which journals this one succeeds: what is missing of them comes by its numbers, or never."""
        for one in status.former if isinstance(status, Status) else ():
            known = self._journals.get(one.journal)
            if known is not None and known.gateway == status.gateway and one.journal != status.journal:
                known.ended = True

    def _forget_only_told(self, gateway: str, journal: str) -> None:
        """Forget the journal of which this gateway told before, if nothing of it ever came: it has another now."""
        before = self._only_told.get(gateway)
        self._only_told[gateway] = journal
        if before not in (None, journal) and before in self._journals:
            state = self._journals[before].state
            if not state.highest:
                del self._journals[before]
                self._planner.note(before, 0, (), 0.0)

    def _plan(self, known: _WatchedJournal, now: float) -> None:
        state = known.state
        holes = list(state.holes)
        if known.announced > state.highest:
            holes.append((state.highest + 1, known.announced))
        self._planner.note(state.journal, state.contiguous, tuple(holes), now)

    def heard(self, said: HeardJournal) -> None:
        """Note how a journal's edge speaks: it is answered in the same version, by the same generation.

        Another gateway that names the journal is not heard: its edge would be led astray by our signature.
        """
        known = self._journals.get(said.journal)
        if known is None or known.gateway != said.gateway:
            return
        if known.version != said.version:
            known.version, known.acked = said.version, -1
        if known.generation.is_before(said.generation):
            known.generation = said.generation

    def version_of(self, name: str) -> TopicVersion:
        """Return the version of the contract that a journal's edge speaks; the newest for one that was forgotten."""
        known = self._journals.get(name)
        return 2 if known is None else known.version

    def owe_all(self) -> None:
        """Owe every acknowledgement anew: what was said before may not have arrived, or holds no longer."""
        for journal in self._journals.values():
            journal.acked = -1

    def acks_due(self) -> Iterator[tuple[str, Ack]]:
        """Yield the acknowledgements to send, each with its gateway and by what is stored when it is its turn."""
        for name, journal in list(self._journals.items()):
            stored = journal.state.contiguous
            if stored != journal.acked and (stored or journal.heard_before):
                # Not the generation of a status: it may tell of a run whose entries are still on the way.
                came_in = None if journal.generation == NO_GENERATION else journal.generation
                yield (
                    journal.gateway,
                    Ack(journal=name, generation=came_in, seq=stored, consumer=CENTRAL),
                )

    def acknowledged(self, ack: Ack) -> None:
        """Note that an acknowledgement was sent; the journal may have been forgotten meanwhile."""
        if (known := self._journals.get(ack.journal)) is not None:
            known.acked = ack.seq

    def replays_due(self, now: float) -> list[tuple[str, ReplayRequest]]:
        """Return the requests to send, each with its gateway."""
        return [(self._journals[one.journal].gateway, one) for one in self._planner.due(now)]

    def lost(self, name: str, now: float) -> tuple[int, int] | None:
        """Return the entries that the edge no longer holds and that did not come for long, if there are any."""
        journal, since = self._journals.get(name), self._planner.open_since(name)
        if journal is None:
            return None
        first, last = journal.state.contiguous + 1, journal.oldest - 1
        if journal.ended:
            last = max(journal.state.highest, journal.announced)
        if since is None or last < first or now - since < self._lost_after:
            return None
        return first, last
