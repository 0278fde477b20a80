"""The association that a session talks through: replaced by a new one after a fault, within bounds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from protocols.dlms.apdu.lists import Target
from protocols.dlms.client.association_opener import AssociationOpener
from protocols.dlms.client.exchange import AttributeReader, Exchange
from protocols.dlms.client.line_lease import LineLease
from protocols.dlms.client.list_size import ListSize
from protocols.dlms.data import axdr
from protocols.dlms.data.types import Data
from protocols.errors import (
    AssociationLost,
    LineError,
    MeterProtocolError,
    MeterRefused,
    MeterSilent,
    NotSupported,
    ProtocolError,
    SecurityFailure,
)
from protocols.reading import Obis
from protocols.unused import UnusedCounter

T = TypeVar("T")
IdentityCheck = Callable[[Exchange], Awaitable[None]]
"""Makes sure that the same meter answers in a new association; IdentityMismatch otherwise."""

MAX_RESUMES = 8
"""New associations after faults in one session; a line that fails more often is left to the poller."""
RESUMABLE = (LineError, MeterSilent, MeterProtocolError, AssociationLost)
"""Faults after which a new association may go on: the line, the link, or a meter that restarted."""
PROBE = Target(1, Obis(0, 0, 96, 1, 0))
"""What is read to find out whether a pooled association still stands: the serial."""


class ResumingExchange(AttributeReader):
    """What an `Exchange` does, on the association of the moment.

    Reads are repeated in a new association after a fault: the first time at once, then as long as something
    was answered in between, at most MAX_RESUMES times. SET and ACTION are never repeated; what follows them
    gets a new association where the old one broke.

    `reused` tells that the association comes from the pool of an earlier poll: when it does not stand any
    more, the first read replaces it without counting that as a fault. `check` is run in each new association
    before anything is read in it.
    """

    def __init__(
        self, lease: LineLease, opener: AssociationOpener, exchange: Exchange, *, reused: bool = False
    ) -> None:
        self.check: IdentityCheck | None = None
        self._lease = lease
        self._opener = opener
        self._exchange = exchange
        self._reused = reused
        self._fault: ProtocolError | None = None  # what broke the association of the moment
        self._resumes = 0
        self._answered = True  # since the last new association
        self._refuses_with_exceptions = False
        self._over = False
        self._partial = b""
        self._held: dict[Target, Data | ProtocolError] = {}

    @property
    def list_limit(self) -> int:
        """How many attributes the meter is asked for in one request now; 1 where it takes no lists."""
        return self._exchange.list_limit

    @property
    def lists(self) -> ListSize:
        """How the meter takes lists."""
        return self._exchange.lists

    @property
    def title(self) -> bytes:
        """The meter's system title; empty when it gave none."""
        return self._exchange.title

    @property
    def unused(self) -> UnusedCounter:
        """Counts what came and was not used, by cause."""
        return self._exchange.unused

    @property
    def resumes(self) -> int:
        """How often a new association was opened after a fault."""
        return self._resumes

    @property
    def partial(self) -> bytes:
        """After a read that failed in the middle of its blocks: the beginning of the value's octets."""
        return self._partial

    @property
    def standing(self) -> bool:
        """Say whether the association stands, as far as we know."""
        return not self._over and self._fault is None and self._exchange.standing

    # requests

    async def ask_ahead(self, targets: Sequence[Target]) -> dict[Target, Data | ProtocolError]:
        """Read several attributes and hold the answers: each serves the next read of its attribute, once.

        Returns them. What is written or run meanwhile drops all that is held.
        """
        found = dict(zip(targets, await self.get_many(targets), strict=True))
        self._held |= found
        return found

    def holds(self, target: Target) -> bool:
        """Say whether an answer for this attribute is held."""
        return target in self._held

    def drop_refusal(self, target: Target) -> bool:
        """Forget a held answer that is a refusal; say whether it was one."""
        refused = isinstance(self._held.get(target), ProtocolError)
        if refused:
            del self._held[target]
        return refused

    async def get(self, target: Target) -> Data:
        """Read one attribute; NotSupported when the meter lacks it, MeterRefused for other refusals."""
        held = self._held.pop(target, None)
        if held is None:
            return await super().get(target)
        if isinstance(held, ProtocolError):
            raise held
        return held

    async def get_octets(self, target: Target) -> bytes:
        """Read one attribute as the A-XDR octets that the meter sent; errors as `get`."""
        if target in self._held:
            return axdr.encode(await self.get(target))
        return await self._repeated(lambda x: x.get_octets(target))

    async def get_octets_once(self, target: Target) -> bytes:
        """Read one attribute without repeating it: the caller looks at `partial`, then calls `recover`."""
        if target in self._held:
            self._partial = b""
            return axdr.encode(await self.get(target))
        return await self._once(lambda x: x.get_octets(target))

    async def get_many(self, targets: Sequence[Target]) -> list[Data | ProtocolError]:
        """Read several attributes; what the meter refuses stands as its error in its place."""
        found = {target: self._held.pop(target) for target in targets if target in self._held}
        missing = [target for target in targets if target not in found]
        if missing:
            found |= dict(zip(missing, await self._ask_many(missing), strict=True))
        return [found[target] for target in targets]

    async def _ask_many(self, targets: Sequence[Target]) -> list[Data | ProtocolError]:
        # "service not allowed" among the answers: most meters mean that they restarted meanwhile
        return await self._repeated(
            lambda x: x.get_many(targets, lost_ends=not self._refuses_with_exceptions)
        )

    async def set(self, target: Target, value: Data) -> None:
        """Write one attribute, once; errors as `get`."""
        self._held.clear()
        await self._prove()
        await self._once(lambda x: x.set(target, value))

    async def action(self, target: Target, parameter: Data) -> Data | None:
        """Run one method, once; errors as `get`."""
        self._held.clear()
        await self._prove()
        return await self._once(lambda x: x.action(target, parameter))

    async def set_many(self, targets: Sequence[Target], values: Sequence[Data]) -> list[ProtocolError | None]:
        """Write several attributes in one request, once (see `Exchange.set_many`)."""
        self._held.clear()
        await self._prove()
        return await self._once(lambda x: x.set_many(targets, values))

    async def run_many(
        self, targets: Sequence[Target], parameters: Sequence[Data]
    ) -> list[Data | ProtocolError | None]:
        """Run several methods in one request, once (see `Exchange.run_many`)."""
        self._held.clear()
        await self._prove()
        return await self._once(lambda x: x.run_many(targets, parameters))

    async def _prove(self) -> None:
        """Read something first in a pooled association: what may not be repeated must not meet a dead one."""
        if self._reused:
            with suppress(NotSupported, MeterRefused):
                await self.get_octets(PROBE)

    async def _repeated(self, ask: Callable[[Exchange], Awaitable[T]]) -> T:
        while True:
            try:
                return await self._once(ask)
            except ProtocolError as error:
                await self.recover(error)

    async def _once(self, ask: Callable[[Exchange], Awaitable[T]]) -> T:
        self._partial = b""
        if self._fault is not None:  # of a SET or ACTION before, or of a read that its caller gave up
            await self.recover(self._fault)
        try:
            answer = await ask(self._exchange)
        except ProtocolError as error:
            if isinstance(error, AssociationLost) or not self._exchange.standing:
                self._fault, self._partial = error, self._exchange.partial
            else:  # a refusal is an answer too
                self._note_answer()
            raise
        self._note_answer()
        return answer

    def _note_answer(self) -> None:
        self._answered = True
        self._reused = False  # it has proved that it stands

    # faults

    async def recover(self, error: ProtocolError, *, progress: bool = False) -> None:
        """Open a new association after `error`, or raise it where that is no use.

        `progress` tells that the request which failed brought something all the same. Raises what
        `AssociationOpener.open` does, and IdentityMismatch, when the new association cannot be had.
        """
        if self._fault is not error:
            raise error  # the association stands: this is an answer
        self._answered = self._answered or progress
        if not self._worth_resuming(error):
            if isinstance(error, AssociationLost):
                # it says so in a fresh association as well: this meter refuses single requests with an
                # exception-response "service not allowed", and the association stands after it
                self._refuses_with_exceptions, self._answered, self._fault = True, True, None
            raise error
        if self._reused:  # it died between the polls, which is no fault of the line
            self._reused = False
        else:
            self._resumes += 1
            self._answered = False
        await self._reopen(error)

    def _worth_resuming(self, error: ProtocolError) -> bool:
        # a meter that restarted since the last poll: keys and counters of this association are not its any more
        if self._reused and isinstance(error, SecurityFailure):
            return True
        if isinstance(error, AssociationLost) and self._refuses_with_exceptions:
            return False
        # another program may have used our counter meanwhile; not every meter that refuses it says so
        of_counter = isinstance(error, SecurityFailure) and error.by_meter
        # without an answer in between, the same fault would come again and again
        return (of_counter or isinstance(error, RESUMABLE)) and self._answered and self._resumes < MAX_RESUMES

    async def _reopen(self, after: ProtocolError) -> None:
        try:
            await self.close()
            # the line is given back first, so that one meter with a bad line does not starve the others on it
            await self._lease.renew()
            self._exchange, self._over = await self._opener.open(self._lease, after), False
            if self.check is not None:
                await self.check(self._exchange)
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

    def hand_over(self, put: Callable[[Exchange], bool]) -> None:
        """Offer the standing association to a pool; when `put` takes it, this exchange is over."""
        self._over = put(self._exchange)
