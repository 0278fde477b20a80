"""The association that a session talks through: replaced by a new one after a fault, within bounds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.selection import EntrySelection, RangeSelection
from protocols.dlms.client.association_opener import AssociationOpener, OpenAssociation
from protocols.dlms.client.exchange import Exchange, Reads
from protocols.dlms.client.line_lease import LineLease
from protocols.dlms.data.types import Data
from protocols.errors import (
    AssociationLost,
    InvocationCounterRefused,
    LineError,
    MeterProtocolError,
    MeterRefused,
    MeterSilent,
    NotSupported,
    ProtocolError,
    SecurityFailure,
)
from protocols.reading import Obis

T = TypeVar("T")
Check = Callable[[OpenAssociation], Awaitable[None]]
"""Makes sure that the same meter answers in a new association; IdentityMismatch otherwise."""

MAX_RESUMES = 8
"""Times that one conversation is opened anew; a line that fails more often is left to the poller."""
RESUMABLE = (LineError, MeterSilent, MeterProtocolError, AssociationLost, InvocationCounterRefused)
"""Faults after which a new association may go on: the line, the link, or a meter that restarted."""
PROBE = (1, Obis(0, 0, 96, 1, 0))
"""What is read to find out whether a kept association still stands: the serial."""


class ResumingExchange(Reads):
    """What an `Exchange` does, on the association of the moment.

    Reads are repeated in a new association after a fault: the first time at once, then as long as something
    was answered in between, at most MAX_RESUMES times. SET and ACTION are never repeated; what follows them
    gets a new association where the old one broke.

    `reused` tells that the association was kept from an earlier poll: when it does not stand any more, the
    first read replaces it without counting that as a fault.
    """

    def __init__(
        self, lease: LineLease, opener: AssociationOpener, opened: OpenAssociation, *, reused: bool = False
    ) -> None:
        self._lease = lease
        self._opener = opener
        self._exchange = opened.exchange
        self._title = opened.title
        self._check: Check | None = None
        self._reused = reused
        self._fault: ProtocolError | None = None
        self._resumes = 0
        self._answered = True
        self._refuses = False  # "service not allowed" is this meter's way to refuse one request
        self._over = False
        self._partial = b""

    @property
    def title(self) -> bytes:
        """The meter's system title; empty when it gave none."""
        return self._title

    @property
    def resumes(self) -> int:
        """How often the conversation was opened anew after a fault."""
        return self._resumes

    @property
    def partial(self) -> bytes:
        """After a read that failed in the middle of its blocks: the beginning of the value's octets."""
        return self._partial

    @property
    def standing(self) -> bool:
        """Say whether the association stands, as far as we know."""
        return not self._over and self._fault is None and self._exchange.standing

    def check_with(self, check: Check) -> None:
        """Let each new association be checked before anything is read in it."""
        self._check = check

    # requests

    async def get_octets(
        self,
        class_id: int,
        obis: Obis,
        attribute: int = 2,
        selection: RangeSelection | EntrySelection | None = None,
    ) -> bytes:
        """Read one attribute as the A-XDR octets that the meter sent; errors as `get`."""
        return await self._repeated(lambda x: x.get_octets(class_id, obis, attribute, selection))

    async def get_once(
        self,
        class_id: int,
        obis: Obis,
        attribute: int = 2,
        selection: RangeSelection | EntrySelection | None = None,
    ) -> bytes:
        """Do the same without repeating it: the caller looks at `partial`, then calls `recover`."""
        return await self._once(lambda x: x.get_octets(class_id, obis, attribute, selection))

    async def get_many(self, targets: Sequence[Target]) -> list[Data | ProtocolError]:
        """Read several attributes; what the meter refuses stands as its error in its place."""

        async def ask(exchange: Exchange) -> list[Data | ProtocolError]:
            found = await exchange.get_many(targets)
            lost = next((one for one in found if isinstance(one, AssociationLost)), None)
            if lost is not None and not self._refuses:
                raise lost
            return found

        return await self._repeated(ask)

    async def set(self, class_id: int, obis: Obis, attribute: int, value: Data) -> None:
        """Write one attribute, once; errors as `get`."""
        await self._prove()
        await self._once(lambda x: x.set(class_id, obis, attribute, value))

    async def action(self, class_id: int, obis: Obis, method: int, parameter: Data) -> Data | None:
        """Run one method, once; errors as `get`."""
        await self._prove()
        return await self._once(lambda x: x.action(class_id, obis, method, parameter))

    async def set_many(self, targets: Sequence[Target], values: Sequence[Data]) -> list[ProtocolError | None]:
        """Write several attributes in one request, once (see `Exchange.set_many`)."""
        await self._prove()
        return await self._once(lambda x: x.set_many(targets, values))

    async def run_many(
        self, targets: Sequence[Target], parameters: Sequence[Data]
    ) -> list[Data | ProtocolError | None]:
        """Run several methods in one request, once (see `Exchange.run_many`)."""
        await self._prove()
        return await self._once(lambda x: x.run_many(targets, parameters))

    async def _prove(self) -> None:
        """Read something first in a kept association: what may not be repeated must not meet a stale one."""
        if self._reused:
            with suppress(NotSupported, MeterRefused):
                await self.get_octets(*PROBE)

    async def _repeated(self, ask: Callable[[Exchange], Awaitable[T]]) -> T:
        while True:
            try:
                return await self._once(ask)
            except ProtocolError as error:
                if self._fault is not error:
                    raise
                await self.recover(error)

    async def _once(self, ask: Callable[[Exchange], Awaitable[T]]) -> T:
        self._partial = b""
        if self._fault is not None:
            await self.recover(self._fault)
        try:
            answer = await ask(self._exchange)
        except ProtocolError as error:
            if isinstance(error, AssociationLost) or not self._exchange.standing:
                self._fault, self._partial = error, self._exchange.partial
            else:
                self._note_answer()
            raise
        self._note_answer()
        return answer

    def _note_answer(self) -> None:
        self._answered = True
        self._reused = False

    # faults

    async def recover(self, error: ProtocolError, *, progress: bool = False) -> None:
        """Open the conversation anew after `error`, or raise it where that is no use.

        `progress` tells that the request which failed brought something all the same.
        """
        if self._fault is not error:
            raise error  # the association stands: this is an answer
        self._answered = self._answered or progress
        if not self._worth(error):
            if isinstance(error, AssociationLost):
                self._refuses, self._answered, self._fault = True, True, None
            raise error
        if self._reused:
            self._reused = False
        else:
            self._resumes += 1
            self._answered = False
        await self._reopen()

    def _worth(self, error: ProtocolError) -> bool:
        if self._reused and isinstance(error, SecurityFailure):
            return True
        if isinstance(error, AssociationLost) and self._refuses:
            return False
        return isinstance(error, RESUMABLE) and self._answered and self._resumes < MAX_RESUMES

    async def _reopen(self) -> None:
        try:
            await self.close()
            await self._lease.renew()
            opened = await self._opener.open(self._lease)
            self._exchange, self._over = opened.exchange, False
            if self._check is not None:
                await self._check(opened)
        except ProtocolError as error:
            self._fault, self._answered = error, False
            raise
        self._fault = None

    # the end

    async def close(self) -> None:
        """End the association as far as the meter goes along; idempotent."""
        if not self._over:
            self._over = True
            await self._exchange.close()

    def let_go(self, keep: Callable[[OpenAssociation], bool]) -> None:
        """Offer the standing association to whoever keeps it; taken, this conversation is over."""
        self._over = keep(OpenAssociation(exchange=self._exchange, title=self._title))
