"""Makes one page of what a consumer asks for; what it was given before is in the place that it names. Blocks."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

import structlog

from gateway.central.directory.messages import SOURCE, allocation_identity, allocation_message, standing_told
from gateway.central.history.blocks import batches
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import StoredCapture
from gateway.contract.envelope import wrap
from gateway.contract.messages import HistoryAnswer, HistoryRequest, JournalStored, rfc3339
from gateway.contract.messages.generation import DirectoryVersion, Generation
from gateway.contract.topics import Topics
from gateway.errors import ContractError
from mapping.snapshot import DirectorySnapshot
from protocols.reading import ProfileName
from protocols.session import Clock

CAPTURES: Final = 2_000
"""Captures of one page, about: some 2 MiB."""
STATEMENTS: Final = 1_000
"""Messages of one page after which no further meter is begun."""
METERS: Final = 200
"""Meters whose rows of the directory are fetched together."""
JOURNALS: Final = 500
"""Journals of one answer."""
VERDICTS: Final = 2_000
"""Verdicts of one meter that are told, the newest: of an older one nothing hangs any more but by a fault."""

log = structlog.get_logger("gateway.central.history")


class Place(NamedTuple):
    """Where a page begins: at a meter, and within it with what is not after `until` (None: with all)."""

    meter: str
    until: datetime | None = None

    @classmethod
    def read(cls, text: str) -> Place:
        """Read what `text` wrote; ContractError when it is something else."""
        try:
            meter, said = json.loads(text)
            until = None if said is None else datetime.fromisoformat(said)
        except (ValueError, TypeError, RecursionError) as error:
            raise ContractError("`after` is not that of an answer") from error
        if not isinstance(meter, str) or (until is not None and until.tzinfo is None):
            raise ContractError("`after` is not that of an answer")
        return cls(meter, until)

    @property
    def text(self) -> str:
        """As a consumer carries it, without knowing what it says."""
        return json.dumps([self.meter, self.until and rfc3339(self.until)], ensure_ascii=False)


@dataclass(slots=True)
class Page:
    """Messages by topic, their ids, and where the next page begins (None: nowhere)."""

    messages: list[tuple[str, bytes]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    after: str | None = None
    journals: tuple[JournalStored, ...] = ()

    def put(self, topic: str, identity: str, payload: bytes) -> None:
        """Add a message."""
        self.messages.append((topic, payload))
        self.ids.append(identity)


class HistoryPages:
    """Pages from ledger and directory. Nothing is remembered of a consumer: it says itself where it is.

    `present` gives the directory and the generation that it stands in; a page has `captures` captures, about.
    Methods raise LedgerError and DirectoryFault.
    """

    def __init__(
        self,
        ledger: Ledger,
        present: Callable[[], tuple[DirectorySnapshot, Generation]],
        topics: Topics,
        clock: Clock,
        *,
        captures: int = CAPTURES,
    ) -> None:
        self._most = captures
        self._ledger = ledger
        self._present = present
        self._topics = topics
        self._clock = clock
        self._meters: list[str] | None = None

    def page(self, request: HistoryRequest) -> tuple[list[tuple[str, bytes]], HistoryAnswer]:
        """Return the messages of a page by topic, and the answer that follows them; ContractError for a bad request."""
        page = self._journals(request) if request.what == "journals" else self._walk(request)
        answer = HistoryAnswer(
            consumer=request.consumer,
            request=request.request,
            messages=tuple(page.ids),
            journals=page.journals,
            after=page.after,
        )
        return page.messages, answer

    def _journals(self, request: HistoryRequest) -> Page:
        begin = "" if request.after is None else Place.read(request.after).meter
        known = sorted(self._ledger.journals.all(), key=lambda one: one.journal)
        some = [one for one in known if one.journal >= begin]
        page = Page(
            journals=tuple(
                JournalStored(journal=one.journal, gateway=one.gateway, seq=one.contiguous)
                for one in some[:JOURNALS]
            )
        )
        if len(some) > JOURNALS:
            page.after = Place(some[JOURNALS].journal).text
        return page

    def _walk(self, request: HistoryRequest) -> Page:
        snapshot, generation = self._present()
        state = DirectoryVersion(generation, snapshot.version)
        page, now = Page(), self._clock.now()
        place = None if request.after is None else Place.read(request.after)
        meters = self._all_meters(snapshot, place) if not request.meters else sorted(set(request.meters))
        begin = 0 if place is None else bisect_left(meters, place.meter)
        captures: list[StoredCapture] = []
        for number in range(begin, len(meters)):
            if (number - begin) % METERS == 0:
                snapshot.expect(meters[number : number + METERS])
            meter = meters[number]
            if len(page.ids) >= STATEMENTS or len(captures) >= self._most:
                page.after = Place(meter).text
                break
            within = place.until if place is not None and place.meter == meter else None
            if within is None:
                self._tell(page, request, meter, snapshot, generation, now)
            if request.what == "attributions":
                continue
            upper = min((at for at in (within, request.until) if at is not None), default=None)
            some, further = self._captures(meter, request.since, upper, self._most - len(captures))
            captures += some
            if further is not None:
                page.after = Place(meter, further).text
                break
        else:
            if not request.meters:
                self._meters = None
        self._put(page, request, captures, snapshot, state, now)
        return page

    def _all_meters(self, snapshot: DirectorySnapshot, place: Place | None) -> list[str]:
        """Return all meters by name; listed when somebody begins, since of a city that takes a while."""
        if self._meters is None or place is None:
            self._meters = sorted({*snapshot.meters(), *self._ledger.captures.meters()})
        return self._meters

    def _tell(
        self,
        page: Page,
        request: HistoryRequest,
        meter: str,
        snapshot: DirectorySnapshot,
        generation: Generation,
        now: datetime,
    ) -> None:
        """Put all that must be known of a meter: who reads it, whose it is over all time, and on its times."""
        own = self._topics.history(request.consumer)
        for one in self._ledger.allocations.history(meter):
            page.put(own.attributions(), allocation_identity(one), allocation_message(one, now))
        for identity, payload in standing_told(meter, snapshot, now, generation=generation):
            page.put(own.attributions(), identity, payload)
        verdicts = self._ledger.times.of(meter, VERDICTS)
        if len(verdicts) == VERDICTS:
            log.warning("history_verdicts_cut", meter=meter, told=VERDICTS)
        for verdict in verdicts:
            payload = wrap(verdict, id=verdict.verdict_id, source=SOURCE, time=verdict.at)
            page.put(own.verdicts(), verdict.verdict_id, payload)

    def _captures(
        self, meter: str, since: datetime | None, upper: datetime | None, room: int
    ) -> tuple[list[StoredCapture], datetime | None]:
        """Return the newest captures of a meter up to `upper`, and from where to go on towards the older ones.

        Those of the instant from which it goes on come again: there may be more of it than was looked at.
        """
        limit = max(room, 1)
        while True:
            found = self._ledger.captures.between(meter, None, since, upper, limit=limit)
            if len(found) < limit:
                return found, None
            oldest = min(one.at for one in found)
            if oldest != (upper or max(one.at for one in found)):
                return found, oldest
            limit *= 2  # more captures of one instant than a page holds

    def _put(
        self,
        page: Page,
        request: HistoryRequest,
        captures: Sequence[StoredCapture],
        snapshot: DirectorySnapshot,
        state: DirectoryVersion,
        now: datetime,
    ) -> None:
        own = self._topics.history(request.consumer)
        for one in batches(captures, snapshot, state, request=request.request, at=now):
            is_event = one.profile == ProfileName.EVENTS
            topic = own.events(one.gateway) if is_event else own.readings(one.gateway, one.profile)
            page.put(topic, one.id, one.payload)
