"""Who answers when many are asked in quick succession: late answers, collisions, and who must be asked again.

Waiting for each as long as the slowest meter takes would make an empty bus last ten minutes. So everybody is asked
quickly; an answer tells itself whose it is, however late it comes. Octets that are nobody's frame prove that somebody
is there: those who were asked a moment before are asked again with patience.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from protocols.errors import LineClosed, LineTimeout
from protocols.line import Line, LineIO

LATE = 1.5
"""Seconds after which an answer to a quick question is not expected any more."""
PATIENCE = 2.0
"""Seconds that somebody doubtful gets to answer."""
ENDING = 0.25
"""Seconds that an answer gets for its rest when the wait is over and it has begun."""
TRIES = 2
"""Patient questions: who broke his answer twice is two, or stands in noise."""
A_TURN = 16
"""Questions in one turn on the line: others may talk between."""

Key = TypeVar("Key", bound=Hashable)


class Voice(Protocol[Key]):
    """A protocol's way to ask whether somebody is there."""

    def question(self, key: Key) -> bytes:
        """Return the octets that ask the station with this address."""

    def hear(self, octets: bytes) -> Sequence[Key | None]:
        """Return whose sound answers these octets complete; None for octets that are no frame."""

    def silence(self) -> Sequence[Key | None]:
        """Note that nothing more is coming: return None for each beginning that will not be ended."""

    @property
    def begun(self) -> bool:
        """Say whether the last octets are the beginning of a frame."""

    def goodbye(self, key: Key) -> bytes:
        """Return what ends the conversation that the question began, nothing where it began none."""


@dataclass(slots=True)
class SweepLog(Generic[Key]):
    """Who was asked when, who answered, and what is in doubt; pure. `found` has seconds to the answer, None unasked."""

    late: float = LATE
    found: dict[Key, float | None] = field(default_factory=dict)
    collided: set[Key] = field(default_factory=set)
    """Addresses at which more than one answers, or of which nothing but broken frames came."""
    unsound: int = 0
    """How often octets came that are no frame."""
    _asked: dict[Key, float] = field(default_factory=dict)
    _answered: set[Key] = field(default_factory=set)
    _doubtful: dict[Key, None] = field(default_factory=dict)

    def asked(self, key: Key, now: float) -> None:
        """Note a question."""
        self._asked[key] = now
        self._answered.discard(key)

    def heard(self, key: Key | None, now: float) -> bool:
        """Note a sound answer, or None for octets that are no frame; say whether somebody new was found."""
        if key is None:
            self.unsound += 1
            recent = [one for one, at in self._asked.items() if now - at <= self.late]
            self._doubtful |= dict.fromkeys(one for one in recent if one not in self.found)
            return False
        if key in self._answered:
            self.collided.add(key)
        self._answered.add(key)
        if key in self.found:
            return False
        asked = self._asked.get(key)
        self.found[key] = None if asked is None else now - asked
        return True

    def has_answered(self, key: Key | None) -> bool:
        """Say whether the last question to this one was answered."""
        return key in self._answered

    def doubtful(self) -> list[Key]:
        """Return those to ask again with patience, who were near when something unsound came."""
        return [key for key in self._doubtful if key not in self.found]

    def asked_again(self, key: Key, *, broken: bool) -> None:
        """Note the end of a patient question; `broken` when octets came and no sound answer."""
        self._doubtful.pop(key, None)
        if broken and key not in self.found:
            self.collided.add(key)


@dataclass(frozen=True, slots=True)
class Step(Generic[Key]):
    """One turn of a sweep: how many of how many are asked, who was found in it."""

    done: int
    total: int
    found: tuple[Key, ...] = ()


async def sweep(
    line: Line, voice: Voice[Key], keys: Iterable[Key], log: SweepLog[Key], *, wait: float
) -> AsyncIterator[Step[Key]]:
    """Ask all `keys` on a line, `wait` seconds each, then the doubtful ones with patience; raises its errors.

    Yields a step for each turn on the line, which is free meanwhile. `log` has the result, also when the caller stops
    early.
    """
    wanted = list(dict.fromkeys(keys))
    for begin in range(0, len(wanted), A_TURN):
        turn = wanted[begin : begin + A_TURN]
        found: list[Key] = []
        async with line.exclusive() as io:
            asker = _Asker(io, voice, log)
            for key in turn:
                found += await asker.ask(key, wait)
            if begin + A_TURN >= len(wanted):
                found += await asker.listen(log.late)
        yield Step(begin + len(turn), len(wanted), tuple(found))
    for key in log.doubtful():
        async with line.exclusive() as io:
            found = list(await _Asker(io, voice, log).ask_patiently(key))
        yield Step(len(wanted), len(wanted), tuple(found))


class _Asker(Generic[Key]):
    """Questions of one turn."""

    def __init__(self, io: LineIO, voice: Voice[Key], log: SweepLog[Key]) -> None:
        self._io = io
        self._voice = voice
        self._log = log
        self._loop = asyncio.get_running_loop()

    async def ask(self, key: Key, wait: float) -> tuple[Key, ...]:
        """Ask one; return who was found meanwhile."""
        await self._send(self._voice.question(key))
        self._log.asked(key, self._loop.time())
        found = await self.listen(wait, until=key)
        for one in found:
            if goodbye := self._voice.goodbye(one):
                await self._send(goodbye)
                self._log.asked(one, self._loop.time())
                await self.listen(wait, until=one)
        return found

    async def ask_patiently(self, key: Key) -> tuple[Key, ...]:
        """Ask twice, with time for the slowest."""
        found: tuple[Key, ...] = ()
        broken = 0
        for _ in range(TRIES):
            before = self._log.unsound
            found += await self.ask(key, PATIENCE)
            if key in self._log.found:
                break
            broken += self._log.unsound > before
        self._log.asked_again(key, broken=broken == TRIES)
        return found

    async def listen(self, wait: float, until: Key | None = None) -> tuple[Key, ...]:
        """Listen for so long, or until this one has answered; return who was found."""
        found: list[Key] = []
        end = self._loop.time() + wait
        while True:
            left = end - self._loop.time() + (ENDING if self._voice.begun else 0.0)
            if left <= 0:
                break
            try:
                octets = await self._io.receive(left)
            except (LineTimeout, LineClosed) as error:
                if isinstance(error, LineClosed):
                    await self._io.reopen()
                break
            heard = self._note(self._voice.hear(octets))
            found += heard
            if self._log.has_answered(until):
                return tuple(found)
        found += self._note(self._voice.silence())
        return tuple(found)

    def _note(self, heard: Sequence[Key | None]) -> list[Key]:
        now = self._loop.time()
        return [key for key in heard if self._log.heard(key, now) and key is not None]

    async def _send(self, octets: bytes) -> None:
        try:
            await self._io.send(octets)
        except LineClosed:  # a far end that takes one question a connection
            await self._io.reopen()
            await self._io.send(octets)
