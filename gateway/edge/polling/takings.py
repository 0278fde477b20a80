"""What one visit to a meter took: into the journal as one transaction, while the line talks to the next meter."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.edge.journal.entry import JournalBatch, SeqRange
from gateway.errors import JournalError

MOST_ROWS = 200
"""Rows after which what was read is handed to the journal, though the visit goes on."""
MOST_OCTETS = 1 << 20
"""Octets of rows after which it is."""
MOST_AGE = 5.0
"""Seconds after which it is: what a long visit read first does not wait for its backfill."""

NOTHING = JournalBatch()
News = Callable[[int], None]
Settle = Callable[[int, JournalError | None], None]


class TakesBatches(Protocol):
    """What takings go into: the journal."""

    def submit(self, batches: Sequence[JournalBatch]) -> asyncio.Future[list[SeqRange]]:
        """Make batches durable together, in order; return at once."""


@dataclass(frozen=True, slots=True)
class _Taken:
    batch: JournalBatch
    news: News


class Takings:
    """The batches of one visit, in order; the visit is over with `hand_over`.

    What comes later is handed to the journal only when all before it is durable: so no watermark ever passes rows
    that the journal refused. MOST_ROWS may wait here, and as many in the journal's thread. `captures` counts the new
    ones by profile, once they are durable.

    Where the journal takes something not, what is not durable by then is dropped, and has to be read again. `settle`
    is called at the end, with how many captures were new and that error, None for none.
    """

    def __init__(self, journal: TakesBatches, settle: Settle) -> None:
        self._journal = journal
        self._settle = settle
        self._waiting: list[_Taken] = []
        self._rows = self._octets = 0
        self._since = 0.0
        self._acts: list[Callable[[], object]] = []
        self._handed: asyncio.Future[list[SeqRange]] | None = None
        self._under_way: list[_Taken] = []
        self._error: JournalError | None = None
        self._over = False
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[None] = self._loop.create_future()
        self.captures: Counter[str] = Counter()

    def add(self, batch: JournalBatch, news: News) -> None:
        """Take one more batch; `news` hears how many captures of it were new, when it is durable.

        Where the journal refused what came before, it is dropped.
        """
        if self._error is not None or batch == NOTHING:
            return
        if not self._waiting:
            self._since = self._loop.time()
        self._waiting.append(_Taken(batch, news))
        for block in batch.blocks:
            self._rows += len(block.rows)
            self._octets += sum([len(row.body) for row in block.rows])

    def finally_do(self, act: Callable[[], object]) -> None:
        """Do something at the end, when all of the visit is durable; not at all where the journal refused some."""
        self._acts.append(act)

    async def make_room(self) -> None:
        """Hand over what waits where it is much or old; waits where more is under way. Raises JournalError."""
        if self._is_due():
            if self._handed is not None:
                await asyncio.wait([self._handed])
            self._go_on()
        if self._error is not None:
            raise self._error

    def hand_over(self) -> None:
        """Hand over all that waits: the visit is over. It does not wait, and raises nothing."""
        self._over = True
        self._go_on()

    async def durable(self) -> None:
        """Wait until all of the visit is durable; raises JournalError where the journal refused some of it.

        Before `hand_over` it waits for that, too. A cancel changes nothing.
        """
        await asyncio.wait([self._end])
        if self._error is not None:
            raise self._error

    @property
    def ended(self) -> bool:
        """Whether all of the visit is durable, or refused."""
        return self._end.done()

    def _is_due(self) -> bool:
        return bool(self._waiting) and (
            self._rows >= MOST_ROWS
            or self._octets >= MOST_OCTETS
            or self._loop.time() - self._since >= MOST_AGE
        )

    def _go_on(self) -> None:
        """Hand over what may go now; at the end, say so."""
        if self._handed is not None:
            return  # `_done` goes on
        if self._is_due() or (self._over and self._waiting):
            self._under_way, self._waiting = self._waiting, []
            self._rows = self._octets = 0
            try:
                self._handed = self._journal.submit([taken.batch for taken in self._under_way])
            except JournalError as error:
                self.refuse(error)
            else:
                self._handed.add_done_callback(self._done)
                return
        if self._over and not self._end.done():
            if self._error is None:
                for act in self._acts:
                    act()
            self._end.set_result(None)
            self._settle(self.captures.total(), self._error)

    def _done(self, handed: asyncio.Future[list[SeqRange]]) -> None:
        self._handed = None
        if (error := handed.exception()) is not None:
            # The writer's own error, as it told others too; anything else would be a bug of ours.
            self.refuse(error if isinstance(error, JournalError) else JournalError(repr(error)))
        else:
            for taken, span in zip(self._under_way, handed.result(), strict=True):
                # Fewer where a gap was open already: then one capture too few is told, which only counters show.
                taken.news(max(0, span.count - len(taken.batch.gaps)))
        self._under_way = []
        self._go_on()

    def refuse(self, error: JournalError) -> None:
        """Drop what waits: the journal takes no more of this visit. The first error stands."""
        if self._error is None:
            self._error = error
            self._waiting, self._rows, self._octets = [], 0, 0
