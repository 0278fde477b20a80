"""Faults in the conversation: stands before a served association and tampers with its APDUs, plain or ciphered.

It holds the same keys as the meter, so it opens what is ciphered, changes it and closes it again under the same
counter; what was there before the change never leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from protocols.dlms.apdu import acse, gbt
from protocols.dlms.apdu.acse import Aare, Aarq
from protocols.dlms.apdu.lists import GetListRequest, GetListResponse, Outcome, Target
from protocols.dlms.apdu.services import (
    RESPONSES,
    ActionRequest,
    ActionResponse,
    Apdu,
    ConfirmedServiceError,
    ExceptionResponse,
    GetNext,
    GetRequest,
    GetResponse,
    SetRequest,
    SetResponse,
    decode_apdu,
    encode_apdu,
)
from protocols.dlms.data.cursor import Cursor, encode_length
from protocols.dlms.security import ciphering
from protocols.dlms.security.ciphered_forms import GENERAL_DED, GENERAL_GLO, Form, form_of, is_ciphered
from protocols.dlms.security.ciphering import KeySet, OpenedApdu
from protocols.dlms.security.suites import Keys
from protocols.dlms.server.links import ServedAssociation
from protocols.dlms.server.model import OBJECT_UNDEFINED, TEMPORARY_FAILURE, AccessDenied, CosemModel
from protocols.errors import LineClosed, MeterProtocolError, ProtocolError
from protocols.reading import Obis
from protocols.simulator.faults.kinds import FaultKind
from protocols.simulator.faults.script import FaultPlayer

CURRENT_ASSOCIATION = Obis(0, 0, 40, 0, 0)
HLS_REPLY = (15, 1)
"""Class and method of passes 3 and 4."""
_LLC = bytes.fromhex("E6E700")
_TITLE_FIELD, _INFORMATION_FIELD = 0xA4, 0xBE
_LEFT_OVER = bytes.fromhex("021143")
_HUGE = b"\x84\xff\xff\xff\xff"


@dataclass(frozen=True, slots=True)
class _Sealed:
    """A ciphered APDU that was opened, and how to close another in its stead."""

    opened: OpenedApdu
    keys: KeySet

    @property
    def plain(self) -> bytes:
        return self.opened.plain

    def close(self, plain: bytes) -> bytes:
        opened = self.opened
        return ciphering.protect_apdu(
            self.keys.of(opened.form),
            opened.title,
            opened.counter,
            plain,
            control=opened.control,
            form=opened.form,
        )


class FaultyConversation:
    """A `ServedAssociation` with faults.

    `inner` is the served association, `counter` the meter's own counter; `note_association` is called at each AARQ.
    """

    def __init__(
        self,
        inner: ServedAssociation,
        model: CosemModel,
        client: int,
        player: FaultPlayer,
        counter: Callable[[], int],
        note_association: Callable[[], None],
    ) -> None:
        self._inner = inner
        self._note_association = note_association
        self._model = model
        self._client = client
        self._player = player
        self._counter = counter
        self._keys: KeySet | None = None
        self._client_title = b""

    def handle(self, octets: bytes) -> list[bytes]:
        """Answer one APDU, by nothing when no answer comes. LineClosed when the meter reboots."""
        self._player.turn()
        if octets[:1] == bytes((gbt.TAG,)):
            return self._inner.handle(octets)
        answer = self._handle(octets)
        return [answer] if isinstance(answer, bytes) and answer else list(answer or ())

    def _handle(self, octets_: bytes) -> bytes | list[bytes]:
        tag = octets_[0] if octets_ else 0
        if tag == 0x60:
            return self._associate(octets_)
        if tag == 0x62:
            return self._release(octets_)
        sealed = self._open(octets_, self._client_title)
        request = _decoded(sealed.plain if sealed else octets_)
        if request is None:
            return self._inner.handle(octets_)
        answer = self._instead(request, octets_, sealed is not None)
        if answer is not None:
            return answer
        changed = request
        if isinstance(request, ActionRequest) and self._player.standing(FaultKind.HLS_ELSEWHERE):
            changed = self._moved(request)
        if changed is not request:
            plain = encode_apdu(changed)
            octets_ = sealed.close(plain) if sealed else plain
        answers = self._inner.handle(octets_)
        if isinstance(request, ActionRequest | SetRequest) and not _is_hls(request):
            if self._player.fires(FaultKind.ACTION_UNANSWERED, _object_of(request)):
                return b""
            if self._player.fires(FaultKind.ACTION_CUT, _object_of(request)):
                raise LineClosed("the simulated meter has lost its supply")
        return self._answer(request, answers[0]) if len(answers) == 1 else answers

    # association and release

    def _associate(self, octets_: bytes) -> bytes | list[bytes]:
        self._note_association()
        if self._player.fires(FaultKind.AARE_ERROR):
            return encode_apdu(ConfirmedServiceError(service=1, error=6, value=1))
        for kind in (FaultKind.REFUSED_BARE, FaultKind.REFUSED_BAD):
            if self._player.fires(kind):
                return _refusal(kind)
        policy = self._model.associations().get(self._client)
        self._keys = None
        if policy and policy.encryption_key and policy.authentication_key:
            keys = Keys(
                encryption=policy.encryption_key,
                authentication=policy.authentication_key,
                suite=policy.suite,
            )
            self._keys = KeySet(keys=keys)
        try:
            self._take_dedicated(acse.decode_aarq(octets_))
        except MeterProtocolError:
            return self._inner.handle(octets_)
        answers = self._inner.handle(octets_)
        return self._aare(answers[0]) if len(answers) == 1 else answers

    def _take_dedicated(self, aarq: Aarq) -> None:
        """Note the client's title, and its dedicated key where it sends one."""
        self._client_title = aarq.system_title
        sealed = self._open(aarq.user_information, self._client_title)
        key = acse.decode_initiate_request(sealed.plain).dedicated_key if sealed else None
        if key is not None and self._keys is not None:
            self._keys = replace(self._keys, dedicated=replace(self._keys.keys, encryption=key))

    def _aare(self, octets_: bytes) -> bytes:
        player = self._player
        if octets_[:1] != b"\x61":
            return octets_
        if fault := player.standing(FaultKind.AARE_CONFORMANCE):
            octets_ = self._with_conformance(octets_, fault.amount)
        if player.standing(FaultKind.AARE_MECHANISM):
            octets_ = octets_.replace(bytes.fromhex("890760"), bytes.fromhex("890785"), 1)
        if player.standing(FaultKind.AARE_ORDER):
            octets_ = _title_late(octets_)
        return _LLC + octets_ if player.standing(FaultKind.LLC_TWICE) else octets_

    def _with_conformance(self, octets_: bytes, conformance: int) -> bytes:
        aare = acse.decode_aare(octets_)
        if aare.result != acse.ACCEPTED:
            return octets_
        sealed = self._open(aare.user_information, self._model.system_title)
        initiate = acse.decode_initiate_response(sealed.plain if sealed else aare.user_information)
        plain = acse.encode_initiate_response(replace(initiate, conformance=conformance & 0xFFFFFF))
        return acse.encode_aare(replace(aare, user_information=sealed.close(plain) if sealed else plain))

    def _release(self, octets_: bytes) -> bytes | list[bytes]:
        if self._player.fires(FaultKind.RELEASE_SILENT):
            return b""
        if self._player.fires(FaultKind.RELEASE_REFUSED):
            return encode_apdu(ExceptionResponse(state=2, service=2))
        return self._inner.handle(octets_)

    # services

    def _instead(self, request: Apdu, octets_: bytes, ciphered: bool) -> bytes | None:
        """Return what comes instead of an answer, or None when nothing does."""
        player = self._player
        if isinstance(request, GetListRequest):
            return self._instead_of_list(request, ciphered)
        name = _object_of(request)
        whole = isinstance(request, GetRequest) and (request.target.class_id, request.target.index) == (7, 2)
        if player.fires(FaultKind.SILENT, name) or (
            whole
            and isinstance(request, GetRequest)
            and request.target.selection is None
            and player.fires(FaultKind.ENDLESS, name)
        ):
            return b""
        if isinstance(request, SetRequest) and (fault := player.fires(FaultKind.WRITE_UNANSWERED, name)):
            if fault.amount:
                self._inner.handle(octets_)
            return b""
        if isinstance(request, GetNext) and player.fires(FaultKind.REBOOT):
            raise LineClosed("the simulated meter reboots")
        if player.standing(FaultKind.DEDICATED_ONLY) and self._wrong_key(octets_):
            return encode_apdu(ConfirmedServiceError(service=6, error=0, value=6))
        if ciphered and player.fires(FaultKind.PLAIN_EXCEPTION, name):
            return encode_apdu(ExceptionResponse(state=2, service=2))
        if ciphered and player.fires(FaultKind.PLAIN_ERROR, name):
            return encode_apdu(ConfirmedServiceError(service=5, error=5, value=2))
        if not isinstance(request, GetNext) and _invoked(request) and player.fires(FaultKind.BUSY, name):
            return self._close(encode_apdu(_busy(request)), ciphered)
        return None

    def _instead_of_list(self, request: GetListRequest, ciphered: bool) -> bytes | None:
        """Treat a list by what goes wrong with each of its objects; one of them is enough to be silent or busy."""
        names = [str(target.obis) for target in request.targets]
        if any(self._player.fires(FaultKind.SILENT, name) for name in names):
            return b""
        busy = [self._player.fires(FaultKind.BUSY, name) is not None for name in names]
        if not any(busy):
            return None
        outcomes = tuple(
            Outcome(TEMPORARY_FAILURE) if one else self._outcome(target)
            for one, target in zip(busy, request.targets, strict=True)
        )
        return self._close(encode_apdu(GetListResponse(outcomes=outcomes, invoke=request.invoke)), ciphered)

    def _outcome(self, target: Target) -> Outcome:
        try:
            return Outcome(0, self._model.get(self._client, target))
        except AccessDenied as denied:
            return Outcome(denied.code)

    def _wrong_key(self, octets_: bytes) -> bool:
        form = form_of(octets_)
        dedicated = self._keys is not None and self._keys.dedicated is not None
        return dedicated and form is not None and not form.dedicated

    def _moved(self, request: ActionRequest) -> ActionRequest:
        """Serve HLS at 0.0.40.0.x of the association only: the current one's name leads nowhere."""
        target = request.target
        if (target.class_id, target.index) != (15, 1):
            return request
        nowhere = target.obis == CURRENT_ASSOCIATION
        moved = replace(target, obis=Obis(0, 0, 40, 0, 255) if nowhere else CURRENT_ASSOCIATION)
        return replace(request, target=moved)

    def _answer(self, request: Apdu, octets_: bytes) -> bytes:
        player = self._player
        sealed = self._open(octets_, self._model.system_title)
        plain = sealed.plain if sealed else octets_
        if isinstance(request, GetRequest) and plain[:1] == b"\xc4":
            if fault := player.fires(FaultKind.HOSTILE_LENGTH, str(request.target.obis)):
                tag = b"\x09" if fault.amount else b"\x01"
                plain = plain[:1] + b"\x01" + plain[2:3] + b"\x00" + tag + _HUGE
            elif sealed and player.fires(FaultKind.PLAIN_DATA, str(request.target.obis)):
                return plain
        if (
            plain[:1]
            and plain[0] in RESPONSES
            and (fault := player.fires(FaultKind.LEFT_OVER, _object_of(request)))
        ):
            plain += (_LEFT_OVER * (fault.amount // len(_LEFT_OVER) + 1))[: fault.amount]
        if sealed is None:
            return plain
        closed = octets_ if plain == sealed.plain else sealed.close(plain)
        if player.standing(FaultKind.EMPTY_TITLE) and not sealed.opened.form.general:
            general = GENERAL_DED if sealed.opened.form.dedicated else GENERAL_GLO
            closed = bytes((general, 0)) + closed[1:]
        if player.fires(FaultKind.WRONG_TAG):
            closed = closed[:-1] + bytes((closed[-1] ^ 1,))
        return closed

    # ciphering

    def _open(self, octets_: bytes, title: bytes) -> _Sealed | None:
        if self._keys is None or not is_ciphered(octets_):
            return None
        try:
            opened = ciphering.unprotect_apdu(self._keys, title, octets_, required=0)
        except ProtocolError:
            return None  # not for these keys: the meter will say so
        return _Sealed(opened, self._keys)

    def _close(self, plain: bytes, ciphered: bool) -> bytes:
        if not ciphered or self._keys is None:
            return plain
        dedicated = self._keys.dedicated is not None
        keys = self._keys.dedicated or self._keys.keys
        form = Form.DED if dedicated else Form.GLO
        return ciphering.protect_apdu(keys, self._model.system_title, self._counter(), plain, form=form)


def _decoded(octets_: bytes) -> Apdu | None:
    try:
        return decode_apdu(octets_)
    except MeterProtocolError:
        return None


def _object_of(request: Apdu) -> str:
    match request:
        case GetRequest(target=target) | SetRequest(target=target) | ActionRequest(target=target):
            return str(target.obis)
    return ""


def _is_hls(request: Apdu) -> bool:
    """Tell the exchange of passes 3 and 4, which belongs to the association."""
    return isinstance(request, ActionRequest) and (request.target.class_id, request.target.index) == HLS_REPLY


def _invoked(request: Apdu) -> bool:
    """Tell the services that may be busy; the HLS exchange is none of them."""
    return isinstance(request, GetRequest | SetRequest | ActionRequest) and not _is_hls(request)


def _busy(request: Apdu) -> Apdu:
    match request:
        case SetRequest(invoke=invoke):
            return SetResponse(invoke=invoke, result=TEMPORARY_FAILURE)
        case ActionRequest(invoke=invoke):
            return ActionResponse(invoke=invoke, result=TEMPORARY_FAILURE)
        case GetRequest(invoke=invoke):
            return GetResponse(invoke=invoke, error=TEMPORARY_FAILURE)
    return GetResponse(error=OBJECT_UNDEFINED)


def _refusal(kind: FaultKind) -> bytes:
    bare = acse.encode_aare(Aare(result=acse.REJECTED, diagnostic=acse.DIAGNOSTIC_FAILURE))
    if kind is FaultKind.REFUSED_BARE:
        return bare
    body = bare[2:] + bytes.fromhex("BE03047F01")  # an inner length beyond its field
    return bytes((0x61, len(body))) + body


def _title_late(octets_: bytes) -> bytes:
    """Move the system title behind every field but the user information."""
    outer = Cursor(octets_)
    outer.u8()
    body = Cursor(outer.take(outer.length()))
    fields: list[tuple[int, bytes]] = []
    while body.left:
        tag = body.u8()
        fields.append((tag, body.take(body.length())))
    late = {_TITLE_FIELD: 1, _INFORMATION_FIELD: 2}
    fields.sort(key=lambda field: late.get(field[0], 0))
    whole = b"".join(bytes((tag,)) + encode_length(len(content)) + content for tag, content in fields)
    return b"\x61" + encode_length(len(whole)) + whole
