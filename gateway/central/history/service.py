"""Answers consumers that joined late: a page for each request, one consumer after the other, at a pace."""

from __future__ import annotations

import asyncio
from itertools import groupby
from operator import itemgetter
from time import monotonic
from typing import Final

import structlog

from gateway.central.directory.messages import SOURCE
from gateway.central.directory.publishing import Publisher, send_all
from gateway.central.history.pages import HistoryPages
from gateway.central.ledger.database import LedgerError
from gateway.contract.envelope import parse, wrap
from gateway.contract.messages import HistoryAnswer, HistoryRequest
from gateway.contract.topics import TopicKind, Topics
from gateway.errors import NOT_TAKEN, ConfigError, ContractError
from gateway.threads import in_thread
from mapping.errors import DirectoryFault
from protocols.session import Clock

MAX_CONSUMERS: Final = 100
"""Consumers whose requests wait; beyond that they ask again."""
LEAST_REST: Final = 0.05
"""Least seconds between two pages; it rests at least as long as the last page took, so that intake goes on."""
UNREADABLE: Final = "unreadable"
"""Named as the request of an answer to something that was none."""

log = structlog.get_logger("gateway.central.history")


class HistoryService:
    """Takes requests and answers them; one a consumer waits, the last counts. What is lost is asked for again."""

    def __init__(
        self, pages: HistoryPages, topics: Topics, clock: Clock, *, rest: float = LEAST_REST
    ) -> None:
        self._pages = pages
        self._topics = topics
        self._clock = clock
        self._rest = rest
        self._waiting: dict[str, HistoryRequest | HistoryAnswer] = {}
        self._woken = asyncio.Event()
        self.pages_sent = 0

    def filter(self) -> str:
        """Return what is subscribed to."""
        return self._topics.filter(TopicKind.HISTORY_REQUEST)

    def requested(self, topic: str, payload: bytes) -> bool:
        """Note a request; False when the topic is none of requests."""
        try:
            name = self._topics.parse(topic)
        except ContractError:
            return False
        if name.kind is not TopicKind.HISTORY_REQUEST or name.consumer is None:
            return False
        if len(self._waiting) >= MAX_CONSUMERS and name.consumer not in self._waiting:
            log.warning("history_not_taken", consumer=name.consumer, waiting=MAX_CONSUMERS)
            return True
        wanted: HistoryRequest | HistoryAnswer
        try:
            wanted = parse(payload, HistoryRequest).data
            if wanted.consumer != name.consumer:
                raise ContractError(
                    f"the topic is {name.consumer}'s, and the request names {wanted.consumer}"
                )
        except ContractError as error:
            wanted = HistoryAnswer(consumer=name.consumer, request=UNREADABLE, refused=str(error)[:500])
        self._waiting[name.consumer] = wanted
        self._woken.set()
        return True

    async def serve(self, publisher: Publisher) -> None:
        """Answer until the connection ends (PeerError) or it is cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._waiting:
                consumer = next(iter(self._waiting))
                began = monotonic()
                try:
                    await self._answer(publisher, self._waiting.pop(consumer))
                except (LedgerError, DirectoryFault) as error:  # it asks again
                    log.error("history_failed", consumer=consumer, error=str(error))
                except NOT_TAKEN as error:  # its topics are closed to us: the others are answered
                    log.warning("history_refused", consumer=consumer, error=str(error))
                await asyncio.sleep(max(self._rest, monotonic() - began))

    async def _answer(self, publisher: Publisher, wanted: HistoryRequest | HistoryAnswer) -> None:
        answer = wanted if isinstance(wanted, HistoryAnswer) else await self._send_page(publisher, wanted)
        now = self._clock.now()
        identity = f"history/{answer.consumer}/{answer.request}/{int(now.timestamp() * 1_000_000)}"
        payload = wrap(answer, id=identity, source=SOURCE, time=now)
        await send_all(publisher, self._topics.history_answer(answer.consumer), [payload])
        self.pages_sent += 1

    async def _send_page(self, publisher: Publisher, request: HistoryRequest) -> HistoryAnswer:
        try:
            messages, answer = await in_thread(self._pages.page, request)
        except (ContractError, ConfigError) as error:
            log.warning("history_request_refused", consumer=request.consumer, error=str(error))
            return HistoryAnswer(consumer=request.consumer, request=request.request, refused=str(error)[:500])
        for topic, some in groupby(messages, key=itemgetter(0)):
            await send_all(publisher, topic, [payload for _, payload in some])
        return answer
