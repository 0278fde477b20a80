"""The client's side of a conversation, sans-IO: link, association, ciphering, block transfer.

IDLE --open--> LINKING --LinkOpened--> LINKED --associate--> ASSOCIATING --AARE--> READY
ASSOCIATING --AARE asks for HLS--> AUTHENTICATING --pass 4 checked--> READY
READY --request--> WAITING --answer--> READY
READY --release--> RELEASING --RLRE--> LINKED --disconnect--> CLOSING --LinkClosed--> IDLE
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from protocols.dlms import acse, apdu, axdr, security
from protocols.dlms.acse import Aare, Aarq, InitiateRequest, InitiateResponse
from protocols.dlms.apdu import (
    ActionRequest,
    ActionResponse,
    ConfirmedServiceError,
    ExceptionResponse,
    GetBlock,
    GetNext,
    GetRequest,
    GetResponse,
    SetRequest,
    SetResponse,
)
from protocols.dlms.link import ApduReceived, ClientLink, LinkClosed, LinkOpened
from protocols.dlms.outcomes import (
    HINTS,
    Associated,
    Done,
    Event,
    LinkDown,
    LinkUp,
    Refused,
    Released,
    Value,
    error_of,
)
from protocols.dlms.security import Keys
from protocols.dlms.types import octets
from protocols.errors import (
    AssociationRefused,
    LocalError,
    MeterConfigError,
    MeterProtocolError,
    MeterRefused,
    SecurityFailure,
)
from protocols.reading import Obis
from protocols.session import Auth

CHALLENGE_OCTETS = 16
HLS_CLASS = 15
CURRENT_ASSOCIATION = Obis(0, 0, 40, 0, 0)
MAX_VALUE_OCTETS = axdr.MAX_OCTETS
"""Octets that one value may have when its blocks are put together."""

Request = GetRequest | SetRequest | ActionRequest


class State(Enum):
    """Where the conversation stands; the module's head draws the transitions."""

    IDLE = auto()
    LINKING = auto()
    LINKED = auto()
    ASSOCIATING = auto()
    AUTHENTICATING = auto()
    READY = auto()
    WAITING = auto()
    RELEASING = auto()
    CLOSING = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationSettings:
    """How to associate. `secret` is the LLS password or the HLS mechanism 2 key."""

    auth: Auth = Auth.NONE
    ciphered: bool = False
    secret: bytes | None = field(default=None, repr=False)
    keys: Keys | None = None
    system_title: bytes = b"MGW\x00\x00\x00\x00\x01"
    max_pdu: int = 0xFFFF

    def __post_init__(self) -> None:
        if (self.ciphered or self.auth is Auth.HLS_GMAC) and self.keys is None:
            raise MeterConfigError("this association needs an encryption key and an authentication key")
        if self.auth in (Auth.LLS, Auth.HLS2) and not self.secret:
            raise MeterConfigError(f"authentication {self.auth} needs a password or key (password_ref)")
        if len(self.system_title) != security.TITLE_OCTETS:
            raise MeterConfigError(f"a system title has {security.TITLE_OCTETS} octets")


class ClientConnection:
    """Requests and octets in, octets and events out; no I/O, no clock.

    `next_counter` gives a fresh invocation counter for each ciphered APDU. Errors of the far side are raised
    by `receive_data`: MeterProtocolError, SecurityFailure, AssociationRefused, MeterRefused. After one of
    them, unless it is a `Refused` event, the conversation is over: hang up.
    """

    def __init__(
        self,
        link: ClientLink,
        settings: AssociationSettings,
        next_counter: Callable[[], int],
        random_octets: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._link = link
        self._settings = settings
        self._next_counter = next_counter
        self._random = random_octets
        self._state = State.IDLE
        self._challenge = b""
        self._meter_title = b""
        self._last_counter = -1
        self._granted = InitiateResponse(conformance=0, max_pdu=0)
        self._request: Request | None = None
        self._blocks = bytearray()
        self._block: int | None = None

    @property
    def state(self) -> State:
        """Where the conversation stands."""
        return self._state

    @property
    def noise(self) -> int:
        """Octets received that were no frame for us."""
        return self._link.noise

    def data_to_send(self) -> bytes:
        """Give and forget what must go out now."""
        return self._link.data_to_send()

    def open(self) -> list[Event]:
        """Connect the link."""
        self._enter(State.LINKING, State.IDLE)
        return self._take(self._link.open())

    def associate(self) -> None:
        """Send AARQ; Associated follows."""
        self._enter(State.ASSOCIATING, State.LINKED)
        settings = self._settings
        needs_title = settings.ciphered or settings.auth is Auth.HLS_GMAC
        initiate = acse.encode_initiate_request(InitiateRequest(max_pdu=settings.max_pdu))
        hls = settings.auth in acse.HLS
        self._challenge = self._random(CHALLENGE_OCTETS) if hls else b""
        self._last_counter = -1
        aarq = Aarq(
            context=acse.CONTEXT_CIPHERED if settings.ciphered else acse.CONTEXT_PLAIN,
            system_title=settings.system_title if needs_title else b"",
            mechanism=acse.MECHANISMS[settings.auth],
            secret=self._challenge if hls else settings.secret if settings.auth is Auth.LLS else None,
            user_information=self._protect(initiate),
        )
        self._link.send(acse.encode_aarq(aarq))

    def request(self, request: Request) -> None:
        """Send one request; Value, Done or Refused follows."""
        self._enter(State.WAITING, State.READY)
        self._request = request
        self._blocks.clear()
        self._block = None
        self._send(request)

    def release(self) -> None:
        """Send RLRQ; Released follows."""
        self._enter(State.RELEASING, State.READY)
        self._link.send(acse.encode_release(acse.Release()))

    def disconnect(self) -> list[Event]:
        """Disconnect the link from any state."""
        self._state = State.CLOSING
        return self._take(self._link.close())

    def receive_data(self, data: bytes) -> list[Event]:
        """Take octets and give what they completed; octets may be split anywhere."""
        return self._take(self._link.receive_data(data))

    def _enter(self, state: State, allowed: State) -> None:
        if self._state is not allowed:
            raise LocalError(f"{state.name} needs {allowed.name}, but the connection is {self._state.name}")
        self._state = state

    def _take(self, link_events: list[LinkOpened | LinkClosed | ApduReceived]) -> list[Event]:
        events: list[Event] = []
        for event in link_events:
            match event:
                case LinkOpened():
                    self._enter(State.LINKED, State.LINKING)
                    events.append(LinkUp())
                case LinkClosed():
                    if self._state is not State.CLOSING:
                        raise MeterProtocolError("the meter dropped the link (disconnected mode)")
                    self._state = State.IDLE
                    events.append(LinkDown())
                case ApduReceived(received):
                    events += self._apdu(received)
        return events

    def _apdu(self, received: bytes) -> list[Event]:
        match self._state:
            case State.ASSOCIATING:
                return self._associated(received)
            case State.AUTHENTICATING | State.WAITING:
                return self._answer(apdu.decode(self._unprotect(received)))
            case State.RELEASING:
                acse.decode_release(received)
                self._state = State.LINKED
                return [Released()]
        raise MeterProtocolError(f"an APDU ({received[0]:#04x}) that nothing asked for")

    # ciphering

    def _protect(self, plain: bytes) -> bytes:
        if not self._settings.ciphered:
            return plain
        assert self._settings.keys is not None
        title = self._settings.system_title
        return security.protect_apdu(self._settings.keys, title, self._next_counter(), plain)

    def _unprotect(self, received: bytes) -> bytes:
        """Open an answer; a plain one is let through only when it is an error."""
        if not self._settings.ciphered or received[0] in (0xD8, 0x0E):
            return received
        assert self._settings.keys is not None
        if not self._meter_title:
            raise SecurityFailure("the meter gave no system title (A4 in AARE), which ciphering needs")
        opened = security.unprotect_apdu(self._settings.keys, self._meter_title, received)
        if opened.counter <= self._last_counter:
            raise SecurityFailure(
                f"the meter's invocation counter {opened.counter} does not rise (last {self._last_counter})"
            )
        self._last_counter = opened.counter
        return opened.plain

    def _send(self, request: apdu.Apdu) -> None:
        self._link.send(self._protect(apdu.encode(request)))

    # association

    def _associated(self, received: bytes) -> list[Event]:
        if received[0] in (0xD8, 0x0E):
            error = error_of(apdu.decode(received))
            if isinstance(error, MeterRefused):
                raise AssociationRefused(f"association refused: {error}{self._hint()}")
            raise error
        aare = acse.decode_aare(received)
        if aare.result != acse.ACCEPTED:
            hint = self._hint() if aare.diagnostic in (11, 12, 13) else ""
            raise AssociationRefused(f"association refused: {aare.reason()}{hint}")
        self._meter_title = aare.system_title
        if self._meter_title == self._settings.system_title:
            raise SecurityFailure("the meter answers with our own system title")
        plain = self._unprotect(aare.user_information)
        if plain[:1] == b"\x0e":
            raise AssociationRefused(f"association refused: {error_of(apdu.decode(plain))}")
        self._granted = acse.decode_initiate_response(plain)
        if self._settings.auth not in acse.HLS:
            self._state = State.READY
            return [self._standing()]
        self._prove(aare)
        return []

    def _hint(self) -> str:
        return HINTS.get(self._settings.auth, "")

    def _standing(self) -> Associated:
        granted = self._granted
        return Associated(
            system_title=self._meter_title, max_pdu=granted.max_pdu, conformance=granted.conformance
        )

    def _prove(self, aare: Aare) -> None:
        """Pass 3 of HLS: answer the meter's challenge."""
        challenge = aare.challenge or b""
        if not 8 <= len(challenge) <= 64:
            raise MeterProtocolError(f"an HLS challenge of {len(challenge)} octets; 8 to 64 are allowed")
        if challenge == self._challenge:
            raise SecurityFailure("the meter sent our own challenge back")
        self._state = State.AUTHENTICATING
        parameter = octets(self._response_to(challenge))
        self._send(ActionRequest(class_id=HLS_CLASS, obis=CURRENT_ASSOCIATION, method=1, parameter=parameter))

    def _response_to(self, challenge: bytes) -> bytes:
        settings = self._settings
        if settings.auth is Auth.HLS2:
            return security.hls2_response(settings.secret or b"", challenge)
        assert settings.keys is not None
        return security.gmac_response(settings.keys, settings.system_title, self._next_counter(), challenge)

    def _proved(self, response: ActionResponse) -> list[Event]:
        """Pass 4 of HLS: the meter must know the key too."""
        if response.result != 0:
            raise AssociationRefused(
                f"association refused: the meter does not accept our HLS answer "
                f"({apdu.result_name(response.result)}; wrong HLS key?)"
            )
        answer = response.data.octets if response.data is not None else None
        if answer is None:
            raise SecurityFailure("the meter did not answer our challenge")
        self._check_answer(answer)
        self._state = State.READY
        return [self._standing()]

    def _check_answer(self, answer: bytes) -> None:
        settings = self._settings
        if settings.auth is Auth.HLS2:
            if not security.same(answer, security.hls2_response(settings.secret or b"", self._challenge)):
                raise SecurityFailure(
                    "the meter's answer to our challenge is wrong: it does not know the key"
                )
            return
        assert settings.keys is not None
        security.check_gmac(settings.keys, self._meter_title, answer, self._challenge)

    # services

    def _answer(self, answer: apdu.Apdu) -> list[Event]:
        request = self._request
        match answer:
            case ExceptionResponse() | ConfirmedServiceError():
                error = error_of(answer)
                if isinstance(error, MeterRefused) and self._state is State.AUTHENTICATING:
                    raise AssociationRefused(f"association refused: {error}{self._hint()}")
                if isinstance(error, MeterRefused):
                    self._state = State.READY  # this request only was refused
                raise error
            case ActionResponse() if self._state is State.AUTHENTICATING:
                return self._proved(answer)
            case _ if self._state is State.AUTHENTICATING:
                pass
            case GetResponse() if isinstance(request, GetRequest) and self._block is None:
                if answer.data is not None:
                    return self._finish(Value(answer.data))
                return self._finish(Refused(answer.error or 0))
            case GetResponse(error=int() as code) if isinstance(request, GetRequest):
                return self._finish(Refused(code))
            case GetBlock() if isinstance(request, GetRequest):
                return self._take_block(answer)
            case SetResponse() if isinstance(request, SetRequest):
                return self._finish(Refused(answer.result) if answer.result else Done())
            case ActionResponse() if isinstance(request, ActionRequest):
                return self._finish(Refused(answer.result) if answer.result else Done(answer.data))
        raise MeterProtocolError(f"{type(answer).__name__} does not answer what was asked")

    def _finish(self, event: Event) -> list[Event]:
        self._request = None
        self._state = State.READY
        return [event]

    def _take_block(self, block: GetBlock) -> list[Event]:
        if block.error is not None:
            return self._finish(Refused(block.error))
        # the first number is 1 by the Green Book, 0 on some meters
        expected = (0, 1) if self._block is None else (self._block + 1,)
        if block.number not in expected:
            raise MeterProtocolError(f"block {block.number} came, {expected[-1]} was expected")
        if not block.raw and not block.last:
            raise MeterProtocolError(f"block {block.number} is empty and not the last")
        self._block = block.number
        self._blocks += block.raw
        if len(self._blocks) > MAX_VALUE_OCTETS:
            raise MeterProtocolError(f"a value of more than {MAX_VALUE_OCTETS} octets")
        if not block.last:
            self._send(GetNext(block=block.number))
            return []
        return self._finish(Value(axdr.decode(bytes(self._blocks))))
