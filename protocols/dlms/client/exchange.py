"""The asyncio shell of `ClientConnection`: sends, waits with deadlines, knows when a line must be dropped."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

from protocols.dlms.apdu.access import Access, AccessRequest
from protocols.dlms.apdu.lists import ActionListRequest, Outcome, SetListRequest, Target
from protocols.dlms.apdu.services import ActionRequest, GetRequest, SetRequest, encode_apdu
from protocols.dlms.apdu.short_names import ReadRequest
from protocols.dlms.client.list_size import ListSize
from protocols.dlms.core.connection import ClientConnection, State
from protocols.dlms.core.name_list import WHOLE_LIST, NameList
from protocols.dlms.core.outcomes import (
    Associated,
    Event,
    LinkDown,
    LinkUp,
    Outcomes,
    Pushed,
    Released,
    RequestDone,
    RequestRefused,
    ValueRead,
    object_refusal,
    service_refusal,
)
from protocols.dlms.core.transaction import Request
from protocols.dlms.data import axdr
from protocols.dlms.data.cursor import leading
from protocols.dlms.data.types import Data
from protocols.errors import (
    AssociationLost,
    AssociationRefused,
    InvocationCounterRefused,
    LineTimeout,
    MeterBusy,
    MeterProtocolError,
    MeterRefused,
    MeterSilent,
    NotSupported,
    ProtocolError,
    SecurityFailure,
)
from protocols.line import LineIO, OnPush
from protocols.unused import Unused, UnusedCounter

T = TypeVar("T")

CLOSE_TIMEOUT = 1.0
"""Seconds that release and disconnect may take, each time they are sent: they are courtesy."""
MAX_SHOWN = 8
"""Octets left over behind a refusal that its message shows."""
BUSY_PAUSE = 0.1
"""Seconds before a meter that is busy is polled again."""
REPEAT_SILENCE = 0.05
"""Seconds of silence wanted before a repetition: a late answer must not collide with it on a bus."""
REQUEST_LIMIT = 600.0
"""Seconds that one request may take with all its blocks: a meter that dribbles must not hold the line."""
HDLC_QUIET = 0.5
"""Seconds that an HDLC bus rests after an exchange that was cut short; flags and addresses do the rest."""


class AttributeReader(ABC):
    """What reads attributes as octets, and therefore as values."""

    @abstractmethod
    async def get_octets(self, target: Target) -> bytes:
        """Read one attribute as the A-XDR octets that the meter sent; errors as `get`."""

    @property
    @abstractmethod
    def unused(self) -> UnusedCounter:
        """Counts what came and was not used, by cause."""

    async def get(self, target: Target) -> Data:
        """Read one attribute; NotSupported when the meter lacks it, MeterRefused for other refusals."""
        return self.leading(await self.get_octets(target), axdr.decode)

    def leading(self, octets: bytes, decode: Callable[[bytes], T]) -> T:
        """Decode an answer; octets left over behind it are counted and hide nothing."""
        value, left = leading(octets, decode)
        self.unused[Unused.LEFT_OVER] += bool(left)
        return value


class Exchange(AttributeReader):
    """One association on a line that we hold: requests in, answers or errors out.

    `timeout` is the time for an answer, or for the next frame of one. HDLC asks again after it (at most
    `hdlc_link.MAX_RETRIES` times without progress), so silence is named after three times as long, two at
    the opening of the link; the wrapper never asks again. `limit` is the time for a request with all its
    blocks.

    `bus` says that others may share the line (HDLC). `lists` says how many attributes are asked for in one request.
    `on_push` is given each notification that the meter sends unasked. `title` is the meter's system title,
    empty when it gave none.
    """

    def __init__(
        self,
        io: LineIO,
        connection: ClientConnection,
        *,
        timeout: float,
        bus: bool,
        lists: ListSize | None = None,
        on_push: OnPush | None = None,
        limit: float = REQUEST_LIMIT,
    ) -> None:
        self.title = b""
        self._io = io
        self._connection = connection
        self._timeout = timeout
        self._bus = bus
        self._lists = lists or ListSize(1)
        self._granted = 0
        self._on_push = on_push
        self._limit = limit
        self._clean = True
        self._names: NameList | None = None

    @property
    def unused(self) -> UnusedCounter:
        """Counts what came and was not used, by cause."""
        return self._connection.unused

    @property
    def clean(self) -> bool:
        """False when an exchange was cut short: what comes next on the line may belong to it."""
        return self._clean

    @property
    def standing(self) -> bool:
        """Say whether the association stands, as far as we know, and takes a request."""
        return self._clean and self._connection.state is State.READY

    @property
    def lists(self) -> ListSize:
        """How the meter takes lists."""
        return self._lists

    @property
    def list_limit(self) -> int:
        """How many attributes go into one request of this association; under short names one."""
        return 1 if self._names is not None else self._lists.limit(self._granted)

    def use(self, io: LineIO) -> None:
        """Go on over a line that was given back meanwhile and is held again."""
        self._io = io

    async def associate(self) -> None:
        """Open the link and associate.

        Raises AssociationRefused, SecurityFailure, MeterSilent, MeterProtocolError, LineError.
        """
        await self._run(self._connection.open, LinkUp)
        event = await self._run(self._connection.associate, Associated)
        assert isinstance(event, Associated)
        self.title, self._granted = event.system_title, event.conformance
        if self._connection.short_names:
            listed = await self._request(ReadRequest((WHOLE_LIST,)), "read of the list of short names")
            self._names = NameList(axdr.decode(_octets_of(listed)))

    @property
    def partial(self) -> bytes:
        """After a read that failed in the middle of its blocks: the beginning of the value's octets."""
        return self._connection.partial

    async def get_octets(self, target: Target) -> bytes:
        """Read one attribute as the A-XDR octets that the meter sent; errors as `get`."""
        request: Request = GetRequest(target=target)
        if self._names is not None:
            if self._names.asks_for_objects(target):
                return axdr.encode(self._names.as_object_list())
            request = ReadRequest((self._names.variable(target),))
        return _octets_of(await self._request(request, f"read of {target}"))

    async def get_many(
        self, targets: Sequence[Target], *, lost_ends: bool = False
    ) -> list[Data | ProtocolError]:
        """Read several attributes, as many in one request as the meter is known to take.

        What the meter refuses stands as its error (NotSupported, MeterRefused) in its place; with `lost_ends`
        AssociationLost is raised, and nothing more is asked. A meter that does not know lists is asked one by one from
        then on.
        """
        found: list[Data | ProtocolError] = []
        while len(found) < len(targets):
            part = self._part(targets[len(found) :])
            if len(part) > 1:
                found += await self._get_list(part)
            else:
                found += [await self._get_one(target) for target in part]
            if lost_ends and found and isinstance(lost := found[-1], AssociationLost):
                raise lost
        return found

    def _part(self, targets: Sequence[Target]) -> Sequence[Target]:
        """Return the first targets that go into one request: as the meter takes lists, within its largest APDU."""
        part = targets[: self.list_limit]
        if not self._lists.ranges:  # one with a selection goes alone
            chosen = [number for number, target in enumerate(part) if target.selection is not None]
            part = part[: max(1, chosen[0])] if chosen else part
        while len(part) > 1 and len(encode_apdu(self._connection.list_request(part))) > self._connection.room:
            part = part[: len(part) // 2]
        return part

    async def _get_list(self, targets: Sequence[Target]) -> list[Data | ProtocolError]:
        """Read a list; nothing where the meter refuses it as a whole, and smaller ones or none are to be tried."""
        learned, ranges = self._lists.learned, any(target.selection for target in targets)
        try:
            outcomes = await self._list(self._connection.list_request(targets), "read of a list")
        except MeterBusy as error:
            return [error] * len(targets)
        except AssociationLost:  # or it refuses lists so: one attribute tells
            self._lists.refused(1)
            one = await self._get_one(targets[0])
            if isinstance(one, AssociationLost):
                self._lists.learned = learned
            return [one]
        except MeterRefused:  # NotSupported means one object, this means the service
            self._lists.refused(len(targets), ranges=ranges)
            return []
        except InvocationCounterRefused:  # it says nothing about lists
            raise
        except ProtocolError as error:
            undeciphered = isinstance(error, SecurityFailure) and error.by_meter
            self._lists.failed(ranges=ranges, deciphered=not undeciphered)
            raise
        self._lists.worked()
        return [
            object_refusal(one.result, f"read of {target}") if one.data is None else one.data
            for target, one in zip(targets, outcomes, strict=True)
        ]

    async def access(self, accesses: Sequence[Access]) -> list[Data | ProtocolError | None]:
        """Read, write and run in one request, in this order: what each gave (None: nothing), or its error.

        Raises NotSupported where the meter does not grant the access service, MeterRefused where it refuses the
        whole; what was done before a fault of the line is not known then, and nothing is repeated.
        """
        if not self._connection.grants_access:
            raise NotSupported("the meter does not grant the access service")
        outcomes = await self._list(AccessRequest(accesses=tuple(accesses)), "accesses of a list")
        return [
            object_refusal(one.result, f"{asked.kind.name.lower()} of {asked.target}")
            if one.result
            else one.data
            for asked, one in zip(accesses, outcomes, strict=True)
        ]

    async def _list(self, request: Request, what: str) -> tuple[Outcome, ...]:
        event = await self._run(lambda: self._connection.request(request), (Outcomes, RequestRefused))
        if isinstance(event, RequestRefused):
            raise service_refusal(event.code, what)
        assert isinstance(event, Outcomes)
        return event.outcomes

    async def _get_one(self, target: Target) -> Data | ProtocolError:
        try:
            return await self.get(target)
        except (NotSupported, MeterRefused) as error:
            return error

    async def set(self, target: Target, value: Data) -> None:
        """Write one attribute; errors as `get`, and NotSupported where objects have short names."""
        self._check_may_write()
        request = SetRequest(target=target, value=value)
        await self._request(request, f"write of {target}")

    async def set_many(self, targets: Sequence[Target], values: Sequence[Data]) -> list[ProtocolError | None]:
        """Write several attributes in one request; None, or the error, for each.

        Raises MeterRefused where the meter refuses the list as a whole: nothing was written then.
        """
        self._check_may_write()
        request = SetListRequest(targets=tuple(targets), values=tuple(values))
        outcomes = await self._list(request, "write of a list")
        return [
            object_refusal(one.result, f"write of {target}") if one.result else None
            for target, one in zip(targets, outcomes, strict=True)
        ]

    async def run_many(
        self, targets: Sequence[Target], parameters: Sequence[Data]
    ) -> list[Data | ProtocolError | None]:
        """Run several methods in one request: what each returned (None: nothing), or its error; else as `set_many`.

        A method without a parameter is given null-data.
        """
        self._check_may_write()
        request = ActionListRequest(targets=tuple(targets), parameters=tuple(parameters))
        outcomes = await self._list(request, "methods of a list")
        return [
            object_refusal(one.result, f"method {target.index} of {target.obis}") if one.result else one.data
            for target, one in zip(targets, outcomes, strict=True)
        ]

    def _check_may_write(self) -> None:
        if self._names is not None:
            raise NotSupported("nothing is written or run by short names: see reference")

    async def action(self, target: Target, parameter: Data) -> Data | None:
        """Run one method; errors as `set`."""
        self._check_may_write()
        request = ActionRequest(target=target, parameter=parameter)
        event = await self._request(request, f"method {target.index} of {target.obis}")
        return event.data if isinstance(event, RequestDone) else None

    async def close(self) -> None:
        """Release and disconnect as far as the meter goes along; never raises a ProtocolError.

        After an exchange that was cut short TCP is hung up instead, and an HDLC bus rests for a moment.
        """
        try:
            if self._clean:
                async with asyncio.timeout(2 * CLOSE_TIMEOUT):
                    await self._release_and_disconnect()
        except (ProtocolError, TimeoutError):
            self._clean = False
        finally:  # cancelled in the middle of a goodbye, its answer is still to come
            if not self._clean:
                await self._abandon()

    async def _abandon(self) -> None:
        if self._bus:
            # hanging up a serial port silences nobody, and the others on the bus have done nothing wrong
            self._io.hold_quiet(HDLC_QUIET)
        else:
            await self._io.hang_up()

    async def _release_and_disconnect(self) -> None:
        wait = min(self._timeout, CLOSE_TIMEOUT)
        if self._connection.state is State.READY:
            await self._run(self._connection.release, Released, wait)
        if self._connection.state is not State.IDLE:
            await self._run(self._connection.disconnect, LinkDown, wait)

    async def _request(self, request: Request, what: str) -> Event:
        event = await self._run(
            lambda: self._connection.request(request), (ValueRead, RequestDone, RequestRefused)
        )
        if isinstance(event, RequestRefused):
            raise object_refusal(event.code, what, _remark(event.left_over))
        return event

    async def _run(
        self,
        begin: Callable[[], list[Event] | None],
        wanted: type | tuple[type, ...],
        timeout: float | None = None,
    ) -> Event:
        """Begin a step and pump octets until a wanted event; the line is unclean when that is cut short."""
        events = begin() or []
        self._clean = False  # also for a task that is cancelled: nothing below runs then
        try:
            async with asyncio.timeout(self._limit):
                event = await self._pump(events, wanted, self._timeout if timeout is None else timeout)
        except TimeoutError as error:  # every block came in time, and they come for ever
            raise MeterProtocolError(f"one request took more than {self._limit:g} s") from error
        except MeterRefused:  # an exception-response to one request: the association stands
            self._clean = self._connection.state is State.READY
            raise
        except (AssociationRefused, InvocationCounterRefused):  # a whole answer: nothing more will come
            self._clean = self._connection.state in (State.ASSOCIATING, State.AUTHENTICATING)
            raise
        self._clean = True
        return event

    async def _pump(self, events: list[Event], wanted: type | tuple[type, ...], timeout: float) -> Event:
        now = asyncio.get_running_loop().time
        link = self._connection.link
        deadline, progress = now() + timeout, link.progress
        while True:
            # a meter may push between our request and its answer
            for event in events:
                if isinstance(event, Pushed):
                    self._take_push(event)
            if (found := next((e for e in events if isinstance(e, wanted)), None)) is not None:
                return found
            if data := self._connection.data_to_send():
                if busy := link.busy:  # RNR: it lives, and is asked again at leisure
                    await asyncio.sleep(BUSY_PAUSE)
                await self._io.send(data)
                if not busy:  # each window and block has its own time; patience with a busy meter ends
                    deadline = now() + timeout
            elif progress != link.progress:
                deadline = now() + timeout  # a window of long frames may take longer than one answer
            progress = link.progress
            try:
                if (left := deadline - now()) <= 0:  # octets kept coming that complete nothing
                    raise LineTimeout("no whole answer in time")
                events = self._connection.receive_data(await self._io.receive(left))
            except LineTimeout as error:
                if not self._connection.timed_out():  # HDLC knows what may be sent again; the wrapper nothing
                    raise self._silence() from error
                await self._io.drain(REPEAT_SILENCE)
                events = []

    def _take_push(self, pushed: Pushed) -> None:
        if self._on_push is not None:
            self._on_push(pushed.apdu, pushed.back)
        else:
            self.unused[Unused.UNHEARD_PUSH] += 1

    def _silence(self) -> ProtocolError:
        link = self._connection.link
        if link.noise:  # somebody answers: another framing, baud rate or address than is set
            why = f" ({link.complaint})" if link.complaint else ""
            return MeterProtocolError(f"{link.noise} octets came that are no answer of this meter{why}")
        return MeterSilent(f"no answer within {self._timeout:g} s")


def _octets_of(event: Event) -> bytes:
    if isinstance(event, ValueRead):
        return event.octets
    raise MeterProtocolError("a read without a value")


def _remark(left_over: bytes) -> str:
    """Tell of octets behind a refusal, the first of them; they may be all that the maker says of it."""
    if not left_over:
        return ""
    shown = left_over[:MAX_SHOWN].hex(" ") + (" …" if len(left_over) > MAX_SHOWN else "")
    return f" (and {len(left_over)} octets left over behind the result: {shown})"
