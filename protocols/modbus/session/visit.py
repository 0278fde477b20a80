"""What a visit reads, in one plan: values of all profiles that are due, each register once on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from protocols.errors import ProtocolError
from protocols.modbus.planning.plan import RegisterSpan
from protocols.modbus.session.reader import RegisterReader, Words
from protocols.session import Clock


@dataclass(frozen=True, slots=True)
class ReadAt:
    """Words of spans, and between which instants they were read; `trusted` says whether the clock could be believed."""

    words: Words
    begun: datetime
    ended: datetime
    trusted: bool


class VisitReader:
    """Reads the parts of a visit together when the first of them is wanted; what is read again is read alone.

    `parts` are the spans of each by its name (profiles, identity). A fault in the middle costs only the parts that are
    not whole by then.
    """

    def __init__(
        self, reader: RegisterReader, clock: Clock, parts: Mapping[str, Sequence[RegisterSpan]]
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._waiting = {name: frozenset(spans) for name, spans in parts.items()}
        self._read: ReadAt | None = None
        self._error: ProtocolError | None = None

    async def take(self, name: str, spans: Sequence[RegisterSpan]) -> ReadAt:
        """Return the words of a part's spans; raises what `RegisterReader.words` raises."""
        wanted = frozenset(spans)
        if self._waiting.pop(name, None) != wanted:  # it was taken before, or is another than was told
            got: Words = {}
            begun, trusted = self._clock.now(), self._clock.disciplined()
            await self._reader.words(wanted, got)
            return ReadAt(got, begun, self._clock.now(), trusted)
        if self._read is None:
            self._read = await self._together(wanted)
        held = self._read
        if self._error is not None and not wanted <= held.words.keys():
            raise self._error
        return ReadAt({span: held.words[span] for span in wanted}, held.begun, held.ended, held.trusted)

    async def _together(self, wanted: frozenset[RegisterSpan]) -> ReadAt:
        got: Words = {}
        begun, trusted = self._clock.now(), self._clock.disciplined()
        try:
            await self._reader.words(wanted.union(*self._waiting.values()), got)
        except ProtocolError as error:
            self._error = error
        return ReadAt(got, begun, self._clock.now(), trusted)
