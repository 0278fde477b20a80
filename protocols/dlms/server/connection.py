"""The meter's side of a conversation, sans-IO: APDUs of one client in, APDUs out, over a CosemModel."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from protocols.dlms.apdu import acse, gbt
from protocols.dlms.apdu.access import AccessResponse
from protocols.dlms.apdu.acse import Aarq, InitiateResponse
from protocols.dlms.apdu.conformance import BUILT, BUILT_SHORT_NAMES, Conformance
from protocols.dlms.apdu.diagnostics import DECIPHERING_ERROR
from protocols.dlms.apdu.gbt import BlockTransfer
from protocols.dlms.apdu.services import Apdu, ExceptionResponse, decode_apdu, encode_apdu
from protocols.dlms.apdu.short_names import ReadRequest
from protocols.dlms.security.ciphered_forms import is_ciphered
from protocols.dlms.server.association import AssociationRejected, ServerAssociation, reject
from protocols.dlms.server.model import CosemModel
from protocols.dlms.server.services import (
    IMPOSSIBLE,
    NOT_ALLOWED,
    NOT_SUPPORTED,
    UNKNOWN,
    ServiceRefused,
    Services,
)
from protocols.dlms.server.short_names import ShortNames
from protocols.errors import LocalError, MeterConfigError, MeterProtocolError, SecurityFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Limits of a served meter: octets of an APDU, of an HDLC information field, services offered.

    `window` HDLC frames are in flight at most (1 to 7).

    `gbt_window` blocks of a general block transfer are taken in a row; with `prefer_gbt` long answers go that
    way where both sides can, else in the blocks of their service. `first_block` is the number of a GET's
    first block: 1 by the Green Book, 0 on some meters.
    """

    max_pdu: int = 1024
    max_info: int = 128
    window: int = 1
    conformance: Conformance = BUILT
    gbt_window: int = 4
    prefer_gbt: bool = False
    first_block: int = 1


PDU_TOO_LONG = 4
"""Service error of an exception-response (Green Book 9.5)."""


class SendCounter:
    """Invocation counter of one meter's own APDUs; shared by all its associations, since they share keys."""

    def __init__(self, start: int = 0) -> None:
        self._last = start

    def __call__(self) -> int:
        """Return the next counter."""
        self._last += 1
        return self._last

    def begin_anew(self, last: int = 0) -> None:
        """Go on behind another counter, as a meter does that lost its own: what a cipher must never see."""
        self._last = last

    @property
    def last(self) -> int:
        """The counter that was given last."""
        return self._last


class ServerConnection:
    """One client's association with one meter: an APDU in, APDUs out.

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
        """Forget the association (the link was opened anew or closed); a pre-established one stands."""
        self._association: ServerAssociation | None = None
        self._services: Services | ShortNames | None = None
        self._transfer: BlockTransfer | None = None
        self._gbt_size = self._most = 0
        policy = self._model.associations().get(self._client)
        if policy is not None and policy.pre_established:
            self._establish(self._associate_with(self._client))

    def handle(self, octets: bytes) -> list[bytes]:
        """Answer one APDU: one APDU, or the blocks of a general block transfer."""
        if octets[:1] == bytes((gbt.TAG,)):
            return self._take_block(octets)
        self._transfer = None  # a whole APDU gives up a transfer that was not finished
        return self._send(self._answer(octets))

    def _answer(self, octets: bytes) -> bytes:
        tag = octets[0] if octets else 0
        try:
            if tag == 0x60:
                return self._associate(acse.decode_aarq(octets))
            if tag == 0x62:
                return self._release(acse.decode_release(octets))
            return self._service(octets)
        except ServiceRefused as refusal:
            return encode_apdu(refusal.answer)
        except (MeterProtocolError, MeterConfigError, SecurityFailure):
            return encode_apdu(ExceptionResponse(state=UNKNOWN, service=NOT_SUPPORTED))

    # association

    def _associate_with(self, client: int) -> ServerAssociation:
        policy = self._model.associations().get(client)
        if policy is None:
            raise AssociationRejected(acse.DIAGNOSTIC_FAILURE)
        return ServerAssociation(self._model, client, policy, self._counter, self._random)

    def _associate(self, aarq: Aarq) -> bytes:
        self.reset()
        try:
            association = self._associate_with(self._client)
            association.open(aarq)
        except AssociationRejected as rejected:
            return reject(aarq, rejected.diagnostic)
        self._establish(association)
        return association.answer(aarq, self._granted(association))

    def _release(self, release: acse.Release) -> bytes:
        """End the association; ServiceRefused where a ciphered Initiate inside fails its check: it stands then.

        A plain RLRQ is answered in a ciphered association too, as meters do (Green Book 9.4.2 leaves the user
        information out or in): whoever can send one could cut the line as well. RLRE answers in kind.
        """
        association, inside = self._association, b""
        if association is not None and association.policy.ciphered and release.user_information:
            inside = association.release(release.user_information, self._granted(association))
        self.reset()
        return acse.encode_release(acse.Release(response=True, user_information=inside))

    def _granted(self, association: ServerAssociation) -> InitiateResponse:
        settings = self._settings
        both = association.proposed & self._offered(association)
        vaa = acse.VAA_SHORT_NAMES if association.short_names else acse.VAA_LOGICAL_NAMES
        return InitiateResponse(conformance=both, max_pdu=settings.max_pdu, vaa=vaa)

    def _offered(self, association: ServerAssociation) -> Conformance:
        return BUILT_SHORT_NAMES if association.short_names else self._settings.conformance

    def _establish(self, association: ServerAssociation) -> None:
        self._association = association
        most = self._most = min(association.max_send, self._settings.max_pdu)
        both = association.proposed & self._offered(association)
        self._gbt_size = max(16, most - gbt.OVERHEAD) if both & Conformance.GENERAL_BLOCK_TRANSFER else 0
        whole = self._gbt_size and self._settings.prefer_gbt
        room = gbt.MAX_APDU if whole else most - association.overhead
        if association.short_names:
            self._services = ShortNames(self._model, self._client, room=room)
            return
        self._services = Services(
            self._model, self._client, association.policy, room=room, first_block=self._settings.first_block
        )

    # services

    def _service(self, octets: bytes) -> bytes:
        association = self._association
        if association is None:
            raise ServiceRefused(NOT_ALLOWED, IMPOSSIBLE)
        if not association.policy.ciphered:
            return encode_apdu(self._serve(decode_apdu(octets)))
        if not is_ciphered(octets):
            raise ServiceRefused(NOT_ALLOWED, IMPOSSIBLE)
        try:
            plain, form = association.unprotect(octets)
        except SecurityFailure:
            raise ServiceRefused(NOT_ALLOWED, DECIPHERING_ERROR) from None
        assert self._services is not None
        if not (self._gbt_size and self._settings.prefer_gbt):
            self._services.use_room(self._most - association.overhead)
        return association.protect(encode_apdu(self._serve(decode_apdu(plain))), form)

    def _serve(self, request: Apdu) -> Apdu:
        assert self._association is not None
        assert self._services is not None
        if isinstance(self._services, ShortNames):
            if not isinstance(request, ReadRequest):
                raise ServiceRefused(UNKNOWN, NOT_SUPPORTED)
            return self._services.serve(request)
        if self._association.proved:
            answer = self._services.serve(request)
            room = self._most - self._association.overhead
            if isinstance(answer, AccessResponse) and not self._gbt_size and len(encode_apdu(answer)) > room:
                raise ServiceRefused(UNKNOWN, PDU_TOO_LONG)  # the service has no blocks of its own
            return answer
        answer = self._association.authenticate(request)
        if answer.result:  # a failed proof ends the association: no second guess on the same challenge
            self._association = None
        return answer

    # general block transfer

    def _send(self, octets: bytes) -> list[bytes]:
        of_association = octets[0] in (0x61, 0x63)
        if of_association or not self._gbt_size or len(octets) <= self._gbt_size + gbt.OVERHEAD:
            return [octets]
        if self._transfer is None:
            self._transfer = BlockTransfer(size=self._gbt_size, window=self._settings.gbt_window)
        return [gbt.encode(block) for block in self._transfer.send(octets)]

    def _take_block(self, octets: bytes) -> list[bytes]:
        if not self._gbt_size:
            return [encode_apdu(ExceptionResponse(state=UNKNOWN, service=NOT_SUPPORTED))]
        try:
            block = gbt.decode(octets)
            begins = block.number == 1 and not block.acknowledged and block.data
            if self._transfer is None or begins:  # a client that was cut off begins anew without a word
                self._transfer = BlockTransfer(size=self._gbt_size, window=self._settings.gbt_window)
            step = self._transfer.take(block)
        except (MeterProtocolError, LocalError):
            self._transfer = None
            return [encode_apdu(ExceptionResponse(state=NOT_ALLOWED, service=IMPOSSIBLE))]
        if step.apdu is None:
            return [gbt.encode(block) for block in step.send]
        if step.apdu[:1] == bytes((gbt.TAG,)):  # blocks in blocks would nest without end
            self._transfer = None
            return [encode_apdu(ExceptionResponse(state=NOT_ALLOWED, service=IMPOSSIBLE))]
        return self._send(self._answer(step.apdu))
