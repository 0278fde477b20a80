"""The client's side of a conversation, sans-IO: link, association, requests, blocks, and what the meter pushes.

IDLE --open--> LINKING --LinkOpened--> LINKED --associate--> ASSOCIATING --AARE--> READY
ASSOCIATING --AARE asks for HLS--> AUTHENTICATING --pass 4 checked--> READY
READY --request--> WAITING --answer--> READY
READY --release--> RELEASING --RLRE--> LINKED --disconnect--> CLOSING --LinkClosed--> IDLE
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum, auto

from protocols.dlms.apdu import gbt
from protocols.dlms.apdu.access import Access, AccessKind, AccessRequest
from protocols.dlms.apdu.conformance import Conformance
from protocols.dlms.apdu.gbt import BlockTransfer
from protocols.dlms.apdu.lists import ActionListRequest, GetListRequest, SetListRequest, Target
from protocols.dlms.apdu.notification import NEVER_ANSWERS, PLAIN_TAGS
from protocols.dlms.apdu.services import ActionRequest, SetRequest
from protocols.dlms.core.association import ClientAssociation
from protocols.dlms.core.association_cipher import ERROR_TAGS
from protocols.dlms.core.association_settings import AssociationSettings
from protocols.dlms.core.outcomes import (
    Associated,
    Event,
    LinkDown,
    LinkUp,
    Pushed,
    Released,
    RequestRefused,
)
from protocols.dlms.core.transaction import Request, Transaction
from protocols.dlms.data.cursor import leading
from protocols.dlms.framing.link import ApduReceived, ClientLink, LinkClosed, LinkEvent, LinkOpened
from protocols.dlms.security.ciphered_forms import GENERAL_DED, GENERAL_GLO
from protocols.dlms.security.suites import Keys
from protocols.errors import LocalError, MeterProtocolError, MeterRefused
from protocols.unused import Unused, UnusedCounter

_INVOKE = 0xC0
"""Confirmed, high priority; the low four bits number the requests, so that a late answer is told from ours."""


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


_AWAITING = (State.ASSOCIATING, State.AUTHENTICATING, State.WAITING, State.RELEASING)


class ClientConnection:
    """Requests and octets in, octets and events out; no I/O, no clock.

    `next_counter` gives a fresh invocation counter for each ciphered APDU. Errors of the far side are raised
    by `receive_data`: MeterProtocolError, SecurityFailure, AssociationRefused, MeterRefused. After one of
    them, unless it is a `RequestRefused` event, the conversation is over: hang up.
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
        self._association = ClientAssociation(settings, next_counter, random_octets, self.unused)
        self._transaction: Transaction | None = None
        self._transfer: BlockTransfer | None = None
        self._requests = 0

    @property
    def state(self) -> State:
        """Where the conversation stands."""
        return self._state

    @property
    def grants_access(self) -> bool:
        """Say whether both sides do the access service."""
        granted = self._association.granted.conformance & self._settings.conformance
        return bool(granted & Conformance.ACCESS)

    def list_request(self, targets: Sequence[Target]) -> Request:
        """Return one request that reads several attributes: ACCESS where the meter has that and no lists."""
        lists, access = Conformance.MULTIPLE_REFERENCES, Conformance.ACCESS
        granted = self._association.granted.conformance & self._settings.conformance
        if granted & access and not granted & lists:
            return AccessRequest(accesses=tuple(Access(AccessKind.GET, target) for target in targets))
        return GetListRequest(targets=tuple(targets))

    @property
    def short_names(self) -> bool:
        """Say whether attributes are read by short names."""
        return self._settings.short_names

    @property
    def partial(self) -> bytes:
        """The beginning of the value asked for: the octets of its blocks so far."""
        return self._transaction.partial if self._transaction else b""

    @property
    def dedicated_keys(self) -> Keys | None:
        """The dedicated keys of the association, None where it has none."""
        return self._association.dedicated_keys

    @property
    def unused(self) -> UnusedCounter:
        """Counts what came and was not used, by cause."""
        return self._link.unused

    @property
    def link(self) -> ClientLink:
        """The framing below: what it counts and complains of."""
        return self._link

    @property
    def room(self) -> int:
        """Octets that a plain APDU of ours may have so that the meter takes it whole."""
        return self._association.room

    def data_to_send(self) -> bytes:
        """Return and forget what must go out now."""
        return self._link.data_to_send()

    def timed_out(self) -> bool:
        """Note that the reply time is over; True when a safe repetition was queued (see `ClientLink`)."""
        return self._link.timed_out()

    def open(self) -> list[Event]:
        """Connect the link."""
        self._enter(State.LINKING, State.IDLE)
        return self._take(self._link.open())

    def associate(self) -> None:
        """Send AARQ; Associated follows."""
        self._enter(State.ASSOCIATING, State.LINKED)
        self._association = ClientAssociation(self._settings, self._next_counter, self._random, self.unused)
        self._link.send(self._association.request())

    def request(self, request: Request) -> None:
        """Send one request, in blocks when it is long; ValueRead, RequestDone, Outcomes or RequestRefused follows."""
        self._enter(State.WAITING, State.READY)
        self._requests = self._requests % 15 + 1
        room = gbt.MAX_APDU if self._goes_in_general_blocks(request) else self._association.room
        self._transaction = Transaction(request, invoke=_INVOKE | self._requests, room=room)
        self._send(self._transaction.begin())

    def _goes_in_general_blocks(self, request: Request) -> bool:
        """Say whether a long request is sent by general block transfer: where its service has no blocks."""
        service = {
            SetRequest: Conformance.BLOCK_SET,
            SetListRequest: Conformance.BLOCK_SET,
            ActionRequest: Conformance.BLOCK_ACTION,
            ActionListRequest: Conformance.BLOCK_ACTION,
        }.get(type(request), Conformance(0))
        return self._association.offers_gbt and not self._association.granted.conformance & service

    def release(self) -> list[Event]:
        """Send RLRQ; Released follows, at once where the settings leave RLRQ out."""
        self._enter(State.RELEASING, State.READY)
        request = self._association.release()
        if request is None:
            self._state = State.LINKED
            return [Released()]
        self._link.send(request)
        return []

    def disconnect(self) -> list[Event]:
        """Disconnect the link from any state."""
        self._state = State.CLOSING
        return self._take(self._link.close())

    def receive_data(self, data: bytes) -> list[Event]:
        """Take octets and give what they completed; octets may be split anywhere."""
        events = self._take(self._link.receive_data(data))
        if self._state in _AWAITING:
            self._link.expect()
        return events

    def _enter(self, state: State, allowed: State) -> None:
        if self._state is not allowed:
            raise LocalError(f"{state.name} needs {allowed.name}, but the connection is {self._state.name}")
        self._state = state

    def _take(self, link_events: list[LinkEvent]) -> list[Event]:
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
                case ApduReceived(received, unasked, back):
                    events += [Pushed(received, back)] if unasked else self._apdu(received, back)
        return events

    def _apdu(self, received: bytes, back: Callable[[bytes], bytes] | None) -> list[Event]:
        # in any state: a push must not be taken for the answer that is awaited
        if received[0] in NEVER_ANSWERS or self._holds_push(received):
            return [Pushed(received, back)]
        match self._state:
            case State.ASSOCIATING:
                return self._go_on_associating(self._association.take(received))
            case State.AUTHENTICATING if received[0] != gbt.TAG:
                return self._go_on_associating(self._association.take_proof(received))
            case State.WAITING if received[0] != gbt.TAG:
                return self._answer(received)
            case State.WAITING | State.AUTHENTICATING:
                return self._block(received)
            case State.RELEASING:
                self._association.take_release(received)
                self._state = State.LINKED
                return [Released()]
        self.unused[Unused.LATE_ANSWER] += 1
        raise MeterProtocolError(f"an APDU ({received[0]:#04x}) that nothing asked for")

    def _holds_push(self, received: bytes) -> bool:
        """Say whether a general-glo or general-ded APDU is a push; whoever takes pushes checks it for itself."""
        if received[0] not in (GENERAL_GLO, GENERAL_DED):
            return False
        if self._state not in (State.AUTHENTICATING, State.WAITING):  # nothing was asked in a general form
            return True
        return self._association.hides(PLAIN_TAGS, received)

    def _go_on_associating(self, step: bytes | Associated) -> list[Event]:
        if isinstance(step, bytes):
            self._state = State.AUTHENTICATING
            self._link.send(step)
            return []
        self._state = State.READY
        return [step]

    def _answer(self, received: bytes) -> list[Event]:
        assert self._transaction is not None
        plain = self._association.unprotect(received)
        if plain[:1] and plain[0] in ERROR_TAGS:
            error = self._association.error(plain)
            if isinstance(error, MeterRefused):
                self._state = State.READY  # this request only was refused
            raise error
        step = self._take_answer(self._transaction, plain)
        if isinstance(step, bytes):  # the request or its answer goes on in blocks
            self._send(step)
            return []
        self._state = State.READY
        self._transaction = None
        return [step]

    def _take_answer(self, transaction: Transaction, plain: bytes) -> bytes | Event:
        try:
            step = transaction.take(plain)
        finally:
            self.unused[Unused.LATE_ANSWER] += transaction.late
        self.unused[Unused.LEFT_OVER] += bool(transaction.left_over)
        if isinstance(step, RequestRefused):
            return replace(step, left_over=transaction.left_over)
        return step

    def _send(self, plain: bytes) -> None:
        octets = self._association.protect(plain)
        most = self._association.granted.max_pdu or 0xFFFF
        self._transfer = None
        # a meter that has only its own blocks gets a request too long whole: it then says what it makes of it
        if not self._association.offers_gbt or len(octets) <= most:
            self._link.send(octets)
            return
        self._transfer = self._new_transfer()
        for block in self._transfer.send(octets):
            self._link.send(gbt.encode(block))

    def _new_transfer(self) -> BlockTransfer:
        most = self._association.granted.max_pdu or 0xFFFF
        return BlockTransfer(size=max(16, most - gbt.OVERHEAD), window=self._settings.gbt_window)

    def _block(self, received: bytes) -> list[Event]:
        if self._transfer is None:
            self._transfer = self._new_transfer()
        transfer, repeated = self._transfer, self._transfer.repeated
        found, left = leading(received, gbt.decode)
        self.unused[Unused.LEFT_OVER] += bool(left)
        try:
            step = transfer.take(found)
        finally:
            self.unused[Unused.REPEATED_BLOCK] += transfer.repeated - repeated
        for block in step.send:
            self._link.send(gbt.encode(block))
        if step.apdu is None:
            return []
        self._transfer = None
        if step.apdu[:1] == bytes((gbt.TAG,)):
            raise MeterProtocolError("a general block transfer inside another")
        return self._apdu(step.apdu, None)
