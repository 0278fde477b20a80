"""Asks central for what was before a consumer joined: page after page, each until all of it has come; sans-IO."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from gateway.contract.messages import HistoryAnswer, HistoryRequest, JournalStored
from gateway.errors import PeerRefusedData

AGAIN: Final = 10.0
"""Seconds without an answer after which a page is asked for again."""


class HistoryWalk:
    """What a consumer asks next, by what has come. First how far central has each journal, then the readings.

    `request` is to be sent at the beginning, after each answer until `done`, and again after AGAIN seconds of silence.
    """

    def __init__(
        self,
        consumer: str,
        *,
        meters: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> None:
        self._readings = HistoryRequest(
            consumer=consumer,
            request="listen-readings",
            what="readings",
            meters=tuple(meters),
            since=since,
            until=until,
        )
        self.request = HistoryRequest(consumer=consumer, request="listen-journals", what="journals")
        self.done = False
        self.pages = 0
        self._heard: set[str] = set()

    def heard(self, identity: str) -> None:
        """Note that a message came, by its id."""
        self._heard.add(identity)

    def answered(self, answer: HistoryAnswer) -> Sequence[JournalStored]:
        """Take an answer; return the journals that it tells. PeerRefusedData where central refused the request.

        One to another request than the present one does nothing; after one whose messages have not all come the
        same page is asked for again.
        """
        if answer.refused is not None:
            raise PeerRefusedData(f"central refused the request: {answer.refused}")
        if answer.request != self.request.request or not self._heard.issuperset(answer.messages):
            return ()
        self._heard.clear()
        self.pages += 1
        if answer.after is not None:
            self.request = self.request.model_copy(update={"after": answer.after})
        elif self.request.what == "journals":
            self.request = self._readings
        else:
            self.done = True
        return answer.journals
