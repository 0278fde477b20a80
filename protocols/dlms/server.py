"""The meter's side of a conversation, sans-IO: associations, access and block transfer over a CosemModel."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from protocols.dlms import acse, apdu, axdr, security
from protocols.dlms.acse import Aare, Aarq, InitiateResponse
from protocols.dlms.apdu import (
    ActionRequest,
    ActionResponse,
    ExceptionResponse,
    GetBlock,
    GetNext,
    GetRequest,
    GetResponse,
    SetRequest,
    SetResponse,
)
from protocols.dlms.apdu_lists import GetListRequest, GetListResponse, Outcome, Target, encode_outcomes
from protocols.dlms.model import OTHER_REASON, READ_WRITE_DENIED, AccessDenied, AssociationPolicy, CosemModel
from protocols.dlms.security import Keys
from protocols.dlms.types import Data, Tag, octets
from protocols.errors import MeterConfigError, MeterProtocolError, SecurityFailure
from protocols.session import Auth

CHALLENGE_OCTETS = 16
MIN_CHALLENGE, MAX_CHALLENGE = 8, 64
SERVER_CONFORMANCE = 0x00121D
"""As the client, and GET of several attributes."""
BLOCK_OVERHEAD = 12
CIPHER_OVERHEAD = 21
NOT_ALLOWED, UNKNOWN = 1, 2
IMPOSSIBLE, NOT_SUPPORTED = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Limits of a served meter: octets of an APDU, octets of an HDLC information field."""

    max_pdu: int = 1024
    max_info: int = 128


class SendCounter:
    """Invocation counter of one meter's own APDUs; shared by all its associations, since they share keys."""

    def __init__(self, start: int = 0) -> None:
        self._last = start

    def __call__(self) -> int:
        """Give the next counter."""
        self._last += 1
        return self._last


class _State(Enum):
    IDLE = auto()
    CHALLENGED = auto()
    ASSOCIATED = auto()


class ServerConnection:
    """One client's association with one meter: APDUs in, APDUs out.

    A client that breaks the protocol gets an exception-response or a refusal, never an exception here.
    """

    def __init__(
        self,
        model: CosemModel,
        client: int,
        settings: ServerSettings,
        counter: Callable[[], int],
        random_octets: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._model = model
        self._client = client
        self._settings = settings
        self._counter = counter
        self._random = random_octets
        self.reset()

    def reset(self) -> None:
        """Forget the association (the link was opened anew or closed)."""
        self._state = _State.IDLE
        self._policy: AssociationPolicy | None = None
        self._keys: Keys | None = None
        self._client_title = b""
        self._client_challenge = b""
        self._challenge = b""
        self._opening_counter = 0
        self._max_send = self._settings.max_pdu
        self._blocks: bytes | None = None
        self._block = 0

    def handle(self, octets_: bytes) -> bytes:
        """Answer one APDU."""
        tag = octets_[0] if octets_ else 0
        try:
            if tag == 0x60:
                return self._associate(acse.decode_aarq(octets_))
            if tag == 0x62:
                self.reset()
                return acse.encode_release(acse.Release(response=True))
            return self._service(octets_)
        except _Refusal as refusal:
            return apdu.encode(refusal.answer)
        except (MeterProtocolError, MeterConfigError):
            return apdu.encode(ExceptionResponse(state=UNKNOWN, service=NOT_SUPPORTED))

    # association

    def _associate(self, aarq: Aarq) -> bytes:
        self.reset()
        policy = self._model.associations().get(self._client)
        diagnostic = acse.DIAGNOSTIC_FAILURE if policy is None else _mismatch(policy, aarq)
        if policy is None or diagnostic:
            return self._reject(aarq, diagnostic or acse.DIAGNOSTIC_FAILURE)
        self._policy, self._client_title = policy, aarq.system_title
        self._keys = _keys_of(policy)
        try:
            request = acse.decode_initiate_request(self._open_initiate(aarq.user_information))
        except SecurityFailure:
            return self._reject(aarq, acse.DIAGNOSTIC_FAILURE)
        self._max_send = min(request.max_pdu or 0xFFFF, self._settings.max_pdu)
        if policy.auth in acse.HLS:
            self._client_challenge = aarq.secret or b""
            self._challenge = self._random(CHALLENGE_OCTETS)
        self._state = _State.CHALLENGED if policy.auth in acse.HLS else _State.ASSOCIATED
        return self._accept(aarq, policy, request.conformance & SERVER_CONFORMANCE)

    def _open_initiate(self, information: bytes) -> bytes:
        if self._policy is None or not self._policy.ciphered:
            return information
        return self._open(information)

    def _accept(self, aarq: Aarq, policy: AssociationPolicy, conformance: int) -> bytes:
        initiate = acse.encode_initiate_response(
            InitiateResponse(conformance=conformance, max_pdu=self._settings.max_pdu)
        )
        hls = policy.auth in acse.HLS
        needs_title = policy.ciphered or policy.auth is Auth.HLS_GMAC
        aare = Aare(
            context=aarq.context,
            diagnostic=acse.DIAGNOSTIC_AUTHENTICATION_REQUIRED if hls else acse.DIAGNOSTIC_NONE,
            system_title=self._model.system_title if needs_title else b"",
            mechanism=acse.MECHANISMS[policy.auth] if hls else None,
            challenge=self._challenge if hls else None,
            user_information=self._close(initiate) if policy.ciphered else initiate,
        )
        return acse.encode_aare(aare)

    def _reject(self, aarq: Aarq, diagnostic: int) -> bytes:
        self.reset()
        error = bytes((0x0E, 0x01, 0x06, 0x01))
        refusal = Aare(
            context=aarq.context, result=acse.REJECTED, diagnostic=diagnostic, user_information=error
        )
        return acse.encode_aare(refusal)

    # ciphering

    def _open(self, octets_: bytes) -> bytes:
        """Check tag and counter; a used counter is refused by exception-response, as the Green Book asks."""
        assert self._keys is not None
        opened = security.unprotect_apdu(self._keys, self._client_title, octets_)
        last = self._model.frame_counter(self._client)
        if opened.counter <= last:
            raise _Refusal(
                ExceptionResponse(state=NOT_ALLOWED, service=apdu.INVOCATION_COUNTER_ERROR, counter=last)
            )
        if self._state is _State.IDLE:
            self._opening_counter = opened.counter
        self._model.note_frame_counter(self._client, opened.counter)
        return opened.plain

    def _close(self, plain: bytes) -> bytes:
        assert self._keys is not None
        return security.protect_apdu(self._keys, self._model.system_title, self._counter(), plain)

    # services

    def _service(self, octets_: bytes) -> bytes:
        policy = self._policy
        if policy is None or self._state is _State.IDLE:
            raise _Refusal(ExceptionResponse(state=NOT_ALLOWED, service=IMPOSSIBLE))
        if not policy.ciphered:
            return apdu.encode(self._serve(apdu.decode(octets_), policy))
        if not security.is_ciphered(octets_):
            raise _Refusal(ExceptionResponse(state=NOT_ALLOWED, service=IMPOSSIBLE))
        try:
            plain = self._open(octets_)
        except SecurityFailure:
            refusal = ExceptionResponse(state=NOT_ALLOWED, service=apdu.DECIPHERING_ERROR)
            raise _Refusal(refusal) from None
        return self._close(apdu.encode(self._serve(apdu.decode(plain), policy)))

    def _serve(self, request: apdu.Apdu, policy: AssociationPolicy) -> apdu.Apdu:
        if self._state is _State.CHALLENGED:
            return self._authenticate(request, policy)
        try:
            match request:
                case GetRequest():
                    return self._get(request)
                case GetListRequest():
                    return self._get_list(request)
                case GetNext():
                    return self._next_block(request)
                case SetRequest():
                    return self._set(request, policy)
                case ActionRequest():
                    return self._action(request, policy)
        except AccessDenied as denied:
            return _denied(request, denied.code)
        raise _Refusal(ExceptionResponse(state=UNKNOWN, service=NOT_SUPPORTED))

    def _get(self, request: GetRequest) -> GetResponse | GetBlock:
        self._blocks = None
        value = self._model.get(
            self._client, request.class_id, request.obis, request.attribute, request.selection
        )
        encoded = axdr.encode(value)
        if len(encoded) <= self._room():
            return GetResponse(invoke=request.invoke, data=value)
        self._blocks, self._block = encoded, 0
        return self._send_block(request.invoke)

    def _get_list(self, request: GetListRequest) -> GetListResponse | GetBlock:
        self._blocks = None
        outcomes: list[Outcome] = []
        octets_left = axdr.MAX_OCTETS
        for target in request.targets:
            outcome = self._outcome(target)
            octets_left -= len(encode_outcomes((outcome,)))
            if octets_left < 0:  # a short request must not make an answer without a bound
                raise AccessDenied(OTHER_REASON)
            outcomes.append(outcome)
        encoded = encode_outcomes(tuple(outcomes))
        if len(encoded) <= self._room():
            return GetListResponse(invoke=request.invoke, outcomes=tuple(outcomes))
        self._blocks, self._block = encoded, 0
        return self._send_block(request.invoke)

    def _outcome(self, target: Target) -> Outcome:
        try:
            value = self._model.get(
                self._client, target.class_id, target.obis, target.index, target.selection
            )
        except AccessDenied as denied:
            return Outcome(denied.code)
        return Outcome(0, value)

    def _next_block(self, request: GetNext) -> GetBlock:
        if self._blocks is None or request.block != self._block:
            self._blocks = None
            return GetBlock(invoke=request.invoke, last=True, number=request.block, error=19)
        return self._send_block(request.invoke)

    def _send_block(self, invoke: int) -> GetBlock:
        blocks = self._blocks or b""
        room = self._room()
        raw, self._blocks = blocks[:room], blocks[room:]
        self._block += 1
        return GetBlock(invoke=invoke, last=not self._blocks, number=self._block, raw=raw)

    def _room(self) -> int:
        ciphered = self._policy is not None and self._policy.ciphered
        return max(16, self._max_send - BLOCK_OVERHEAD - (CIPHER_OVERHEAD if ciphered else 0))

    def _set(self, request: SetRequest, policy: AssociationPolicy) -> SetResponse:
        if not policy.may_write:
            raise AccessDenied(READ_WRITE_DENIED)
        self._model.set(self._client, request.class_id, request.obis, request.attribute, request.value)
        return SetResponse(invoke=request.invoke, result=0)

    def _action(self, request: ActionRequest, policy: AssociationPolicy) -> ActionResponse:
        if not policy.may_write:
            raise AccessDenied(READ_WRITE_DENIED)
        parameter = request.parameter
        data = self._model.action(self._client, request.class_id, request.obis, request.method, parameter)
        return ActionResponse(invoke=request.invoke, result=0, data=data)

    # HLS passes 3 and 4

    def _authenticate(self, request: apdu.Apdu, policy: AssociationPolicy) -> ActionResponse:
        match request:
            case ActionRequest(
                class_id=15, method=1, parameter=Data(Tag.OCTET_STRING, bytes() as answer), invoke=invoke
            ):
                pass
            case _:
                raise _Refusal(ExceptionResponse(state=NOT_ALLOWED, service=IMPOSSIBLE))
        try:
            proof = self._prove(answer, policy)
        except SecurityFailure:
            self._state = _State.IDLE
            return ActionResponse(invoke=invoke, result=READ_WRITE_DENIED)
        self._state = _State.ASSOCIATED
        return ActionResponse(invoke=invoke, result=0, data=octets(proof))

    def _prove(self, answer: bytes, policy: AssociationPolicy) -> bytes:
        """Check the client's answer to our challenge and answer its own."""
        if policy.auth is Auth.HLS2:
            secret = policy.secret or b""
            if not security.same(answer, security.hls2_response(secret, self._challenge)):
                raise SecurityFailure("wrong answer to the challenge")
            return security.hls2_response(secret, self._client_challenge)
        assert self._keys is not None
        counter = security.check_gmac(self._keys, self._client_title, answer, self._challenge)
        last = self._model.frame_counter(self._client)
        # the answer is computed before the APDU around it, so its counter lies between AARQ's and that one
        floor = self._opening_counter if policy.ciphered else last
        if counter <= floor or (policy.ciphered and counter == last):
            raise SecurityFailure("invocation counter used before")
        self._model.note_frame_counter(self._client, max(counter, last))
        title = self._model.system_title
        return security.gmac_response(self._keys, title, self._counter(), self._client_challenge)


class _Refusal(Exception):
    """Carries the error APDU to the top of `handle`."""

    def __init__(self, answer: ExceptionResponse) -> None:
        super().__init__(str(answer))
        self.answer = answer


def _mismatch(policy: AssociationPolicy, aarq: Aarq) -> int:
    """Compare a request with the policy: 0 when it fits, else the diagnostic."""
    if aarq.context != (acse.CONTEXT_CIPHERED if policy.ciphered else acse.CONTEXT_PLAIN):
        return acse.DIAGNOSTIC_CONTEXT
    if (aarq.mechanism or None) != acse.MECHANISMS[policy.auth]:  # 0 is "lowest level", the same as no name
        return acse.DIAGNOSTIC_MECHANISM_REQUIRED
    needs_title = policy.ciphered or policy.auth is Auth.HLS_GMAC
    if needs_title and len(aarq.system_title) != security.TITLE_OCTETS:
        return 3
    secret = aarq.secret or b""
    if policy.auth is Auth.LLS and not security.same(secret, policy.secret or b""):
        return acse.DIAGNOSTIC_FAILURE
    if policy.auth in acse.HLS and not MIN_CHALLENGE <= len(secret) <= MAX_CHALLENGE:
        return acse.DIAGNOSTIC_FAILURE
    return 0


def _keys_of(policy: AssociationPolicy) -> Keys | None:
    if policy.encryption_key is None or policy.authentication_key is None:
        if policy.ciphered or policy.auth is Auth.HLS_GMAC:
            raise MeterConfigError("the served association needs both keys")
        return None
    return Keys(encryption=policy.encryption_key, authentication=policy.authentication_key)


def _denied(request: apdu.Apdu, code: int) -> apdu.Apdu:
    match request:
        case SetRequest():
            return SetResponse(invoke=request.invoke, result=code)
        case ActionRequest():
            return ActionResponse(invoke=request.invoke, result=code)
        case GetRequest() | GetNext() | GetListRequest():
            return GetResponse(invoke=request.invoke, error=code)
    return ExceptionResponse(state=UNKNOWN, service=NOT_SUPPORTED)
