"""What a served meter answers to GET, SET and ACTION, whole, in lists and in blocks; plain APDUs, sans-IO."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.dlms.apdu.access import Access, AccessKind, AccessRequest, AccessResponse
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
    decode_values,
    encode_action_outcomes,
    encode_outcomes,
)
from protocols.dlms.apdu.services import (
    ActionRequest,
    ActionResponse,
    Apdu,
    ExceptionResponse,
    GetBlock,
    GetNext,
    GetRequest,
    GetResponse,
    SetRequest,
    SetResponse,
)
from protocols.dlms.data import axdr
from protocols.dlms.data.cursor import MAX_OCTETS
from protocols.dlms.data.types import NULL, Data
from protocols.dlms.server.model import (
    OTHER_REASON,
    READ_WRITE_DENIED,
    AccessDenied,
    AssociationPolicy,
    CosemModel,
)
from protocols.errors import MeterProtocolError

BLOCK_OVERHEAD = 12
MIN_ROOM = 16
NO_LONG_GET, LONG_ABORTED, BLOCK_NUMBER_INVALID = 16, 17, 19
NOT_ALLOWED, UNKNOWN = 1, 2
IMPOSSIBLE, NOT_SUPPORTED = 1, 2


class ServiceRefused(Exception):
    """A request that draws an error APDU instead of a response."""

    def __init__(self, state: int, service: int, counter: int | None = None) -> None:
        self.answer = ExceptionResponse(state=state, service=service, counter=counter)
        super().__init__(str(self.answer))


@dataclass(slots=True)
class _AnswerInBlocks:
    """An encoded answer that goes out in blocks."""

    octets: bytes
    action: bool
    number: int
    sent: int = 0


@dataclass(slots=True)
class _RequestInBlocks:
    """A request that comes in blocks."""

    first: RequestBlock
    octets: bytearray
    number: int


class Services:
    """One association's services on a model. `room` is the octets that a plain answer may have."""

    def __init__(
        self, model: CosemModel, client: int, policy: AssociationPolicy, *, room: int, first_block: int = 1
    ) -> None:
        self._model = model
        self._client = client
        self._policy = policy
        self._room = max(MIN_ROOM, room - BLOCK_OVERHEAD)
        self._first_block = first_block
        self._answer_in_blocks: _AnswerInBlocks | None = None
        self._request_in_blocks: _RequestInBlocks | None = None

    def use_room(self, room: int) -> None:
        """Let plain answers have so many octets from now on: what protects them differs from request to request."""
        self._room = max(MIN_ROOM, room - BLOCK_OVERHEAD)

    def serve(self, request: Apdu) -> Apdu:
        """Answer a request; ServiceRefused for what is no request."""
        if not isinstance(request, GetNext | ActionNext):
            self._answer_in_blocks = None
        if not isinstance(request, RequestBlock):
            self._request_in_blocks = None
        try:
            return self._dispatch(request)
        except AccessDenied as denied:
            return _denied(request, denied.code)

    def _dispatch(self, request: Apdu) -> Apdu:
        match request:
            case GetRequest():
                return self._get(request)
            case GetListRequest():
                return self._get_list(request)
            case GetNext():
                return self._next_block(request.block, request.invoke, action=False)
            case ActionNext():
                return self._next_block(request.block, request.invoke, action=True)
            case SetRequest():
                return SetResponse(invoke=request.invoke, result=self._set(request.target, request.value))
            case SetListRequest():
                results = self._set_all(request.targets, request.values)
                return SetListResponse(invoke=request.invoke, results=results)
            case ActionRequest():
                outcome = self._action(request.target, request.parameter)
                return self._action_answer((outcome,), request.invoke, listed=False)
            case ActionListRequest():
                outcomes = self._run_all(request.targets, request.parameters)
                return self._action_answer(outcomes, request.invoke, listed=True)
            case RequestBlock():
                return self._take_block(request)
            case AccessRequest():
                return self._access(request)
        raise ServiceRefused(UNKNOWN, NOT_SUPPORTED)

    # reading

    def _get(self, request: GetRequest) -> GetResponse | GetBlock:
        value = self._read(request.target)
        encoded = axdr.encode(value)
        if len(encoded) <= self._room:
            return GetResponse(invoke=request.invoke, data=value)
        return self._begin_blocks(encoded, request.invoke)

    def _get_list(self, request: GetListRequest) -> GetListResponse | GetBlock:
        outcomes: list[Outcome] = []
        octets_left = MAX_OCTETS
        for target in request.targets:
            outcome = self._outcome(target)
            octets_left -= len(encode_outcomes((outcome,)))
            if octets_left < 0:  # a short request must not make an answer without a bound
                raise AccessDenied(OTHER_REASON)
            outcomes.append(outcome)
        encoded = encode_outcomes(tuple(outcomes))
        if len(encoded) <= self._room:
            return GetListResponse(invoke=request.invoke, outcomes=tuple(outcomes))
        return self._begin_blocks(encoded, request.invoke)

    def _read(self, target: Target) -> Data:
        return self._model.get(self._client, target)

    def _outcome(self, target: Target) -> Outcome:
        try:
            return Outcome(0, self._read(target))
        except AccessDenied as denied:
            return Outcome(denied.code)

    def _access(self, request: AccessRequest) -> AccessResponse:
        """Answer an ACCESS: each in turn, whether the one before it worked or not; its values are bounded together."""
        outcomes: list[Outcome] = []
        octets_left = MAX_OCTETS
        for one in request.accesses:
            outcome = self._access_one(one) if octets_left > 0 else Outcome(OTHER_REASON)
            octets_left -= 3 if outcome.data is None else 2 + len(axdr.encode(outcome.data))
            outcomes.append(outcome)
        return AccessResponse(
            kinds=tuple(one.kind for one in request.accesses),
            outcomes=tuple(outcomes),
            invoke=request.invoke,
        )

    def _access_one(self, one: Access) -> Outcome:
        match one.kind:
            case AccessKind.GET:
                return self._outcome(one.target)
            case AccessKind.SET:
                return Outcome(self._set(one.target, one.value))
        return self._action(one.target, None if one.value == NULL else one.value)

    # answers in blocks

    def _begin_blocks(self, encoded: bytes, invoke: int) -> GetBlock:
        self._answer_in_blocks = _AnswerInBlocks(encoded, action=False, number=self._first_block - 1)
        block = self._send_block(invoke)
        assert isinstance(block, GetBlock)
        return block

    def _next_block(self, number: int, invoke: int, *, action: bool) -> Apdu:
        sending = self._answer_in_blocks
        if sending is not None and sending.action is action and number == sending.number:
            return self._send_block(invoke)
        self._answer_in_blocks = None
        if action:
            return ActionResponse(invoke=invoke, result=NO_LONG_GET)
        code = NO_LONG_GET if sending is None else BLOCK_NUMBER_INVALID
        return GetBlock(invoke=invoke, last=True, number=number, error=code)

    def _send_block(self, invoke: int) -> GetBlock | ActionBlock:
        sending = self._answer_in_blocks
        assert sending is not None
        raw = sending.octets[sending.sent : sending.sent + self._room]
        sending.sent += len(raw)
        sending.number += 1
        last = sending.sent >= len(sending.octets)
        if last:
            self._answer_in_blocks = None
        kind = ActionBlock if sending.action else GetBlock
        return kind(invoke=invoke, last=last, number=sending.number, raw=raw)

    def _action_answer(self, outcomes: tuple[Outcome, ...], invoke: int, *, listed: bool) -> Apdu:
        encoded = encode_action_outcomes(outcomes, listed=listed)
        if len(encoded) > self._room:
            self._answer_in_blocks = _AnswerInBlocks(encoded, action=True, number=0)
            return self._send_block(invoke)
        if listed:
            return ActionListResponse(invoke=invoke, outcomes=outcomes)
        (one,) = outcomes
        return ActionResponse(invoke=invoke, result=one.result, data=one.data)

    # writing and methods

    def _set(self, target: Target, value: Data) -> int:
        if not self._policy.may_write:
            return READ_WRITE_DENIED
        if target.selection is not None:
            return OTHER_REASON
        try:
            self._model.set(self._client, target, value)
        except AccessDenied as denied:
            return denied.code
        return 0

    def _set_all(self, targets: tuple[Target, ...], values: tuple[Data, ...]) -> tuple[int, ...]:
        return tuple(self._set(target, value) for target, value in zip(targets, values, strict=True))

    def _action(self, target: Target, parameter: Data | None) -> Outcome:
        if not self._policy.may_write:
            return Outcome(READ_WRITE_DENIED)
        try:
            answer = self._model.action(self._client, target, parameter)
        except AccessDenied as denied:
            return Outcome(denied.code)
        return Outcome(0, answer)

    def _run_all(self, targets: tuple[Target, ...], parameters: tuple[Data, ...]) -> tuple[Outcome, ...]:
        return tuple(
            self._action(target, None if parameter == NULL else parameter)
            for target, parameter in zip(targets, parameters, strict=True)
        )

    # requests in blocks

    def _take_block(self, block: RequestBlock) -> Apdu:
        if block.targets:
            self._request_in_blocks = _RequestInBlocks(block, bytearray(), 0)
        incoming = self._request_in_blocks
        wrong = (
            incoming is None
            or incoming.first.action is not block.action
            or block.number != incoming.number + 1
        )
        if incoming is None or wrong or len(incoming.octets) + len(block.raw) > MAX_OCTETS:
            self._request_in_blocks = None
            code = LONG_ABORTED if block.targets or incoming is None else BLOCK_NUMBER_INVALID
            return _block_refused(block, code)
        incoming.octets += block.raw
        incoming.number = block.number
        if not block.last:
            return BlockAck(action=block.action, invoke=block.invoke, number=block.number)
        self._request_in_blocks = None
        try:
            return self._carry_out(incoming, block)
        except MeterProtocolError:
            return _block_refused(block, LONG_ABORTED)

    def _carry_out(self, incoming: _RequestInBlocks, last: RequestBlock) -> Apdu:
        """Do what the blocks ask for, now that all are here."""
        first, raw = incoming.first, bytes(incoming.octets)
        values = decode_values(raw) if first.listed else (axdr.decode(raw),)
        if len(values) != len(first.targets):
            return _block_refused(last, LONG_ABORTED)
        if first.action:
            outcomes = self._run_all(first.targets, values)
            return self._action_answer(outcomes, last.invoke, listed=first.listed)
        results = self._set_all(first.targets, values)
        return BlockAck(
            action=False, invoke=last.invoke, number=last.number, results=results, listed=first.listed
        )


def _block_refused(block: RequestBlock, code: int) -> Apdu:
    if block.action:
        return ActionResponse(invoke=block.invoke, result=code)
    return SetResponse(invoke=block.invoke, result=code)


def _denied(request: Apdu, code: int) -> Apdu:
    """Answer a request that the model refused as a whole."""
    if isinstance(request, GetRequest | GetListRequest):
        return GetResponse(invoke=request.invoke, error=code)
    raise ServiceRefused(UNKNOWN, NOT_SUPPORTED)
