"""One request of the client and its answer, whole or in the blocks of its service (Green Book 9.4.6); sans-IO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from protocols.dlms.apdu.access import INVOKE_MASK, AccessRequest, AccessResponse
from protocols.dlms.apdu.lists import (
    ActionBlock,
    ActionListRequest,
    ActionListResponse,
    ActionNext,
    BlockAck,
    GetListRequest,
    GetListResponse,
    Outcome,
    RequestBlock,
    SetListRequest,
    SetListResponse,
    Target,
    decode_action_outcomes,
    decode_outcomes,
    encode_values,
)
from protocols.dlms.apdu.services import (
    ActionRequest,
    ActionResponse,
    Apdu,
    GetBlock,
    GetNext,
    GetRequest,
    GetResponse,
    SetRequest,
    SetResponse,
    decode_apdu,
    encode_apdu,
)
from protocols.dlms.apdu.short_names import (
    NextBlock,
    ReadBlock,
    ReadRequest,
    ReadResponse,
    decode_results,
)
from protocols.dlms.core.outcomes import Event, Outcomes, RequestDone, RequestRefused, ValueRead
from protocols.dlms.data import axdr
from protocols.dlms.data.cursor import MAX_OCTETS, leading
from protocols.errors import MeterProtocolError

T = TypeVar("T")

MAX_VALUE_OCTETS = MAX_OCTETS
"""Octets that one value may have when its blocks are put together."""
BLOCK_OVERHEAD = 12
"""Octets of a block beside its data and its targets."""

Request = (
    AccessRequest
    | ReadRequest
    | GetRequest
    | SetRequest
    | ActionRequest
    | GetListRequest
    | SetListRequest
    | ActionListRequest
)


_NEVER_IN_BLOCKS = GetRequest | GetListRequest | ReadRequest | AccessRequest
"""Requests whose service has no blocks to the meter."""


class Transaction:
    """Plain APDUs out and in until the event that ends the request."""

    def __init__(self, request: Request, *, invoke: int, room: int) -> None:
        """Take the request, the whole invoke-id octet, and the octets that the meter takes in one APDU."""
        self._request = _numbered(request, invoke)
        self._invoke = invoke
        self._room = room
        self._blocks = bytearray()
        self._block: int | None = None
        self._pieces: list[bytes] = []
        self._sent = 0
        self.left_over = b""
        """Octets behind an answer that was used all the same."""
        self.late = False
        """Whether an answer to something else came."""

    @property
    def partial(self) -> bytes:
        """The beginning of the value: the octets of its blocks so far."""
        return bytes(self._blocks)

    def begin(self) -> bytes:
        """Return the first APDU: the request, or its first block when it is too long."""
        whole = encode_apdu(self._request)
        if len(whole) <= self._room or isinstance(
            self._request, GetRequest | GetListRequest | ReadRequest | AccessRequest
        ):
            return whole
        targets, raw = _split(self._request)
        first_overhead = BLOCK_OVERHEAD + len(whole) - len(raw)
        first = max(1, self._room - first_overhead)
        size = max(1, self._room - BLOCK_OVERHEAD)
        self._pieces = [raw[:first], *(raw[i : i + size] for i in range(first, len(raw), size))]
        return self._next_piece(targets)

    def take(self, plain: bytes) -> bytes | Event:
        """Take an answer; return the next APDU to send, or the event that ends the request.

        Raises MeterProtocolError for an answer to something else, or out of order.
        """
        # most answers by far: not decoded here, as a block load of 3 kB would be decoded twice
        if plain[:2] == b"\xc4\x01" and isinstance(self._request, GetRequest) and self._block is None:
            return self._value(plain)
        answer = self._leading(plain, decode_apdu)
        invoke = getattr(answer, "invoke", self._invoke)
        if (invoke ^ self._invoke) & 0x0F:
            raise self._wrong_invoke_id(invoke)
        return self._answer(answer)

    def _leading(self, octets: bytes, decode: Callable[[bytes], T]) -> T:
        found, left = leading(octets, decode)
        self.left_over = octets[len(octets) - left :] or self.left_over
        return found

    def _wrong_invoke_id(self, found: int) -> MeterProtocolError:
        self.late = True
        wanted = self._invoke & 0x0F
        return MeterProtocolError(
            f"an answer with invoke id {found & 0x0F}, {wanted} was asked: a late or repeated answer?"
        )

    def _value(self, plain: bytes) -> Event:
        """Take the ordinary answer to a GET; its value is decoded by whoever wants it."""
        if len(plain) < 5:
            raise MeterProtocolError(f"a get-response of {len(plain)} octets")
        if (plain[2] ^ self._invoke) & 0x0F:
            raise self._wrong_invoke_id(plain[2])
        if plain[3] == 0:
            return ValueRead(plain[4:])
        response = self._leading(plain, decode_apdu)
        assert isinstance(response, GetResponse)
        return RequestRefused(response.error or 0)

    def _answer(self, answer: Apdu) -> bytes | Event:
        request = self._request
        match answer:
            case GetBlock() if isinstance(request, GetRequest | GetListRequest):
                return self._get_block(answer)
            case GetResponse(error=int() as code) if isinstance(request, GetRequest | GetListRequest):
                return RequestRefused(code)
            case ReadResponse() if isinstance(request, ReadRequest):
                return self._read(request, answer)
            case AccessResponse() if isinstance(request, AccessRequest):
                return self._accessed(request, answer)
            case GetListResponse() if isinstance(request, GetListRequest):
                return self._outcomes(answer.outcomes)
            case BlockAck() if self._pieces or answer.results:
                return self._acknowledged(answer)
            case SetResponse() if isinstance(request, SetRequest | SetListRequest):
                return RequestRefused(answer.result) if answer.result else RequestDone()
            case SetListResponse() if isinstance(request, SetListRequest):
                return self._outcomes(tuple(Outcome(result) for result in answer.results))
            case ActionResponse() if isinstance(request, ActionRequest):
                return RequestRefused(answer.result) if answer.result else RequestDone(answer.data)
            case ActionResponse(result=int() as code) if isinstance(request, ActionListRequest) and code:
                return RequestRefused(code)
            case ActionListResponse() if isinstance(request, ActionListRequest):
                return self._outcomes(answer.outcomes)
            case ActionBlock() if isinstance(request, ActionRequest | ActionListRequest):
                return self._action_block(answer)
        raise MeterProtocolError(f"{type(answer).__name__} does not answer what was asked")

    def _accessed(self, request: AccessRequest, answer: AccessResponse) -> Event:
        """Take the results of an ACCESS: of each kind in the order asked for, and of the same targets if repeated."""
        asked = tuple((one.kind, one.target) for one in request.accesses)
        if answer.kinds != tuple(kind for kind, _ in asked):
            raise MeterProtocolError(
                f"results of {len(answer.kinds)} accesses, not of the {len(asked)} asked for"
            )
        if answer.repeated and answer.repeated != asked:
            raise MeterProtocolError("the meter repeats other accesses than were asked for")
        if (answer.invoke ^ request.invoke) & INVOKE_MASK:
            raise self._wrong_invoke_id(answer.invoke & 0xFF)
        return self._outcomes(answer.outcomes)

    def _read(self, request: ReadRequest, answer: ReadResponse) -> bytes | Event:
        """Take an answer by short names: a result for each variable, or a block of the list of them."""
        match answer.results:
            case (ReadBlock() as block,):
                self._join(block.number, block.raw, last=block.last)
                if not block.last:
                    return encode_apdu(ReadRequest((NextBlock(block.number),)))
                results = self._leading(bytes(self._blocks), decode_results)
            case _:
                results = tuple(one for one in answer.results if isinstance(one, Outcome))
        if len(results) != len(request.variables):
            raise MeterProtocolError(f"{len(results)} results for {len(request.variables)} short names")
        if len(results) > 1:
            return Outcomes(results)
        (one,) = results
        return RequestRefused(one.result) if one.data is None else ValueRead.of(one.data)

    def _outcomes(self, outcomes: tuple[Outcome, ...]) -> Outcomes:
        wanted = len(_targets(self._request))
        if len(outcomes) != wanted:
            raise MeterProtocolError(f"{len(outcomes)} results for {wanted} attributes or methods")
        return Outcomes(outcomes)

    # answers in blocks

    def _join(self, number: int, raw: bytes, *, last: bool) -> None:
        # the first number is 1 by the Green Book, 0 on some meters
        expected = (0, 1) if self._block is None else (self._block + 1,)
        if number not in expected:
            raise MeterProtocolError(f"block {number} came, {expected[-1]} was expected")
        if not raw and not last:
            raise MeterProtocolError(f"block {number} is empty and not the last")
        self._block = number
        self._blocks += raw
        if len(self._blocks) > MAX_VALUE_OCTETS:
            raise MeterProtocolError(f"a value of more than {MAX_VALUE_OCTETS} octets")

    def _get_block(self, block: GetBlock) -> bytes | Event:
        if block.error is not None:
            return RequestRefused(block.error)
        self._join(block.number, block.raw, last=block.last)
        if not block.last:
            return encode_apdu(GetNext(block=block.number, invoke=self._invoke))
        whole = bytes(self._blocks)
        if isinstance(self._request, GetListRequest):
            return self._outcomes(self._leading(whole, decode_outcomes))
        return ValueRead(whole)

    def _action_block(self, block: ActionBlock) -> bytes | Event:
        self._join(block.number, block.raw, last=block.last)
        if not block.last:
            return encode_apdu(ActionNext(block=block.number, invoke=self._invoke))
        listed = isinstance(self._request, ActionListRequest)
        outcomes = self._leading(bytes(self._blocks), partial(decode_action_outcomes, listed=listed))
        if listed:
            return self._outcomes(outcomes)
        (one,) = outcomes
        return RequestRefused(one.result) if one.result else RequestDone(one.data)

    # requests in blocks

    def _next_piece(self, targets: tuple[Target, ...] = ()) -> bytes:
        raw = self._pieces.pop(0)
        self._sent += 1
        return encode_apdu(
            RequestBlock(
                action=isinstance(self._request, ActionRequest | ActionListRequest),
                last=not self._pieces,
                number=self._sent,
                raw=raw,
                targets=targets,
                listed=isinstance(self._request, SetListRequest | ActionListRequest),
                invoke=self._invoke,
            )
        )

    def _acknowledged(self, ack: BlockAck) -> bytes | Event:
        if ack.number != self._sent:
            raise MeterProtocolError(f"block {ack.number} is acknowledged, {self._sent} was sent")
        if ack.results:
            if ack.listed and isinstance(self._request, SetListRequest):
                return self._outcomes(tuple(Outcome(result) for result in ack.results))
            return RequestRefused(ack.results[0]) if ack.results[0] else RequestDone()
        return self._next_piece()


def _numbered(request: Request, invoke: int) -> Request:
    """Give a request its invoke id with its flags; READ has none, ACCESS a long one."""
    match request:
        case ReadRequest():
            return request
        case AccessRequest():
            return replace(request, invoke=(invoke & 0xC0) << 24 | invoke & 0x0F)
    return replace(request, invoke=invoke)


def _targets(request: Request) -> tuple[Target, ...]:
    match request:
        case ReadRequest():
            return ()
        case AccessRequest():
            return tuple(one.target for one in request.accesses)
        case GetListRequest() | SetListRequest() | ActionListRequest():
            return request.targets
        case _:
            return (request.target,)


def _split(request: Request) -> tuple[tuple[Target, ...], bytes]:
    """Part a SET or ACTION into its targets and the octets that go in blocks."""
    match request:
        case SetRequest():
            raw = axdr.encode(request.value)
        case SetListRequest():
            raw = encode_values(request.values)
        case ActionRequest() if request.parameter is not None:
            raw = axdr.encode(request.parameter)
        case ActionListRequest():
            raw = encode_values(request.parameters)
        case _:
            raw = b""
    return _targets(request), raw
