"""A served meter's association with one client: policy, proof and ciphering (Green Book 9.3, 9.4); sans-IO."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from protocols.dlms.apdu import acse
from protocols.dlms.apdu.acse import Aare, Aarq, InitiateRequest, InitiateResponse
from protocols.dlms.apdu.diagnostics import DECIPHERING_ERROR, INVOCATION_COUNTER_ERROR
from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.services import ActionRequest, ActionResponse, Apdu
from protocols.dlms.data.types import Data, Tag, octets
from protocols.dlms.security import ciphering, general, hls, suites
from protocols.dlms.security.ciphered_forms import CIPHER_OVERHEAD, GENERAL_CIPHERING, Form
from protocols.dlms.security.ciphering import KeySet
from protocols.dlms.security.general import GeneralKeys
from protocols.dlms.security.general_forms import (
    GENERAL_OVERHEAD,
    GENERAL_SIGNING,
    SIGNING_OVERHEAD,
    Header,
)
from protocols.dlms.security.suites import Keys
from protocols.dlms.server.model import READ_WRITE_DENIED, AssociationPolicy, CosemModel
from protocols.dlms.server.services import IMPOSSIBLE, NOT_ALLOWED, ServiceRefused
from protocols.errors import MeterConfigError, MeterProtocolError, SecurityFailure
from protocols.session import Auth, KeyInfo

INITIATE_ERROR = bytes((0x0E, 0x01, 0x06, 0x01))


class AssociationRejected(Exception):
    """The AARQ does not fit the policy; `diagnostic` is the AARE's."""

    def __init__(self, diagnostic: int) -> None:
        super().__init__(f"diagnostic {diagnostic}")
        self.diagnostic = diagnostic


@dataclass(frozen=True, slots=True)
class _Asked:
    """How the last request was protected, beside its form: the answer is protected likewise (Green Book 9.2.7.3)."""

    kind: KeyInfo | None = None
    signed: bool = False
    transaction: bytes = b""


class ServerAssociation:
    """What the meter knows of one client once its AARQ came, or for ever where it is pre-established."""

    def __init__(
        self,
        model: CosemModel,
        client: int,
        policy: AssociationPolicy,
        counter: Callable[[], int],
        random_octets: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._model = model
        self._client = client
        self.policy = policy
        self._counter = counter
        self._random = random_octets
        self._keys = _keys_of(policy)
        self._client_title = b""
        self._client_challenge = b""
        self._challenge = b""
        self._opening_counter: int | None = None
        self._dedicated_counter = -1
        self._form = Form.GLO
        self._context = acse.CONTEXT_PLAIN
        self._asked = _Asked()
        self._last_transaction = b""
        self._proposed = InitiateRequest()
        self.proved = policy.auth not in hls.HLS

    @property
    def short_names(self) -> bool:
        """Say whether the client names attributes by short names."""
        return self._context in acse.SHORT_NAMES.values()

    @property
    def max_send(self) -> int:
        """Octets that the client takes in one APDU."""
        return self._proposed.max_pdu or 0xFFFF

    @property
    def overhead(self) -> int:
        """Octets that ciphering adds to the answer to what was asked last."""
        if not self.policy.ciphered:
            return 0
        signing = SIGNING_OVERHEAD if self._asked.signed else 0
        return signing + (GENERAL_OVERHEAD if self._asked.kind is not None else CIPHER_OVERHEAD)

    @property
    def proposed(self) -> int:
        """The client's conformance block."""
        return self._proposed.conformance

    # AARQ and AARE

    def open(self, aarq: Aarq) -> None:
        """Take the AARQ; AssociationRejected when it does not fit, ServiceRefused for a used counter."""
        if diagnostic := _mismatch(self.policy, aarq):
            raise AssociationRejected(diagnostic)
        self._client_title = aarq.system_title
        self._context = aarq.context
        try:
            ciphered, initiate = self.policy.ciphered, aarq.user_information
            self._proposed = acse.decode_initiate_request(
                self.unprotect(initiate)[0] if ciphered else initiate
            )
            self._take_dedicated(self._proposed.dedicated_key)
        except (SecurityFailure, MeterConfigError) as error:
            raise AssociationRejected(acse.DIAGNOSTIC_FAILURE) from error
        if not self.proved:
            self._client_challenge = aarq.secret or b""
            self._challenge = self._random(hls.challenge_octets(self.policy.auth))

    def answer(self, aarq: Aarq, granted: InitiateResponse) -> bytes:
        """Return the AARE that accepts."""
        initiate = acse.encode_initiate_response(granted)
        needs_title = self.policy.ciphered or self.policy.auth in hls.WITH_TITLE
        wants_proof = not self.proved
        aare = Aare(
            context=aarq.context,
            diagnostic=(acse.DIAGNOSTIC_AUTHENTICATION_REQUIRED if wants_proof else acse.DIAGNOSTIC_NONE),
            system_title=self._model.system_title if needs_title else b"",
            mechanism=hls.MECHANISMS[self.policy.auth] if wants_proof else None,
            challenge=self._challenge if wants_proof else None,
            certificate=self.policy.own.certificate if self.policy.auth is Auth.HLS_ECDSA else b"",
            user_information=self.protect(initiate, Form.GLO) if self.policy.ciphered else initiate,
        )
        return acse.encode_aare(aare)

    def release(self, information: bytes, granted: InitiateResponse) -> bytes:
        """Check the Initiate inside an RLRQ; returns the one for RLRE. ServiceRefused when it is not the client's."""
        try:
            plain, form = self.unprotect(information)
            acse.decode_initiate_request(plain)
        except (SecurityFailure, MeterProtocolError):
            raise ServiceRefused(NOT_ALLOWED, DECIPHERING_ERROR) from None
        return self.protect(acse.encode_initiate_response(granted), form)

    def _take_dedicated(self, key: bytes | None) -> None:
        if key is None or self._keys is None:
            return
        self._keys = replace(self._keys, dedicated=replace(self._keys.keys, encryption=key))

    # ciphering

    def unprotect(self, received: bytes) -> tuple[bytes, Form]:
        """Open an APDU; a used counter is a ServiceRefused, as the Green Book asks; SecurityFailure otherwise."""
        self._asked = _Asked()
        plain, form = self._deciphered(received)
        if plain[:1] == bytes((GENERAL_SIGNING,)):
            found = general.open_signed(
                self._general, plain, originator=self._client_title, recipient=self._model.system_title
            )
            self._asked = replace(self._asked, signed=True, transaction=found.header.transaction)
            plain = found.content
        return plain, form

    @property
    def _general(self) -> GeneralKeys:
        assert self._keys is not None
        policy = self.policy
        return GeneralKeys(keys=self._keys.keys, master=policy.master_key, own=policy.own, peer=policy.peer)

    def _open_generally(self, received: bytes) -> tuple[bytes, Form]:
        """Open general-ciphering; keys of one APDU have no counter, so that their transactions must rise."""
        opened = general.open_general(
            self._general,
            received,
            originator=self._client_title,
            recipient=self._model.system_title,
            required=suites.CONTROLS[self.policy.protection],
        )
        if opened.kind is KeyInfo.IDENTIFIED:
            self._take_counter(opened.counter)
        elif opened.header.transaction <= self._last_transaction:
            raise SecurityFailure("a transaction that was here before")
        self._last_transaction = max(self._last_transaction, opened.header.transaction)
        self._asked = _Asked(kind=opened.kind, transaction=opened.header.transaction)
        return opened.plain, Form.CIPHERING

    def _deciphered(self, received: bytes) -> tuple[bytes, Form]:
        assert self._keys is not None
        if received[:1] == bytes((GENERAL_CIPHERING,)):
            return self._open_generally(received)
        required = suites.CONTROLS[self.policy.protection]
        opened = ciphering.unprotect_apdu(self._keys, self._client_title, received, required=required)
        self._client_title = self._client_title or opened.title
        if opened.form.dedicated:  # a key of this association alone, whose counter began with it
            if opened.counter <= self._dedicated_counter:
                raise ServiceRefused(NOT_ALLOWED, INVOCATION_COUNTER_ERROR, self._dedicated_counter)
            self._dedicated_counter = opened.counter
            return opened.plain, opened.form
        self._take_counter(opened.counter)
        return opened.plain, opened.form

    def _take_counter(self, counter: int) -> None:
        """Note a counter under the global key, which outlives associations: the model keeps it, over restarts too.

        It is compared after the tag was checked, or anybody could push it up.
        """
        last = self._model.frame_counter(self._client)
        if counter <= last:
            raise ServiceRefused(NOT_ALLOWED, INVOCATION_COUNTER_ERROR, last)
        if self._opening_counter is None:
            self._opening_counter = counter
        self._model.note_frame_counter(self._client, counter)

    def protect(self, plain: bytes, form: Form) -> bytes:
        """Cipher an answer in the form of its request, and sign it where that was signed."""
        assert self._keys is not None
        asked = self._asked
        header = Header(
            transaction=asked.transaction, originator=self._model.system_title, recipient=self._client_title
        )
        if asked.signed:
            plain = general.sign_general(self._general, header, plain)
        if form is Form.CIPHERING:
            assert asked.kind is not None
            control = suites.CONTROLS[self.policy.protection]
            return general.protect_general(
                self._general,
                asked.kind,
                header,
                self._counter(),
                plain,
                control=control,
                random_octets=self._random,
            )
        return ciphering.protect_apdu(
            self._keys.of(form),
            self._model.system_title,
            self._counter(),
            plain,
            control=suites.CONTROLS[self.policy.protection],
            form=form,
        )

    # HLS passes 3 and 4

    def authenticate(self, request: Apdu) -> ActionResponse:
        """Check the client's proof and return the meter's; ServiceRefused for any other request before that."""
        match request:
            case ActionRequest(
                target=Target(class_id=15, index=1),
                parameter=Data(Tag.OCTET_STRING, bytes() as answer),
                invoke=invoke,
            ):
                pass
            case _:
                raise ServiceRefused(NOT_ALLOWED, IMPOSSIBLE)
        try:
            proof = self._prove(answer)
        except (SecurityFailure, MeterProtocolError, MeterConfigError):
            # One answer for every cause: which check failed would help whoever guesses.
            return ActionResponse(invoke=invoke, result=READ_WRITE_DENIED)
        self.proved = True
        return ActionResponse(invoke=invoke, result=0, data=octets(proof))

    def _prove(self, answer: bytes) -> bytes:
        policy = self.policy
        client = hls.Party(title=self._client_title, challenge=self._client_challenge)
        meter = hls.Party(title=self._model.system_title, challenge=self._challenge)
        signer = policy.peer.signing
        credentials = hls.Credentials(
            auth=policy.auth,
            secret=policy.secret or b"",
            keys=self._keys.keys if self._keys else None,
            own=policy.own.signing,
            peer=None if signer is None else signer.of(self._client_title),
        )
        counter = hls.check(credentials, answer, prover=client, verifier=meter)
        if policy.auth is Auth.HLS_GMAC:
            self._check_proof_counter(counter)
        own = self._counter() if policy.auth is Auth.HLS_GMAC else 0
        return hls.prove(credentials, prover=meter, verifier=client, counter=own)

    def _check_proof_counter(self, counter: int) -> None:
        """Refuse a counter used before; a proof is made before the APDU around it, so it may lie below that."""
        last = self._model.frame_counter(self._client)
        floor = last
        if self.policy.ciphered and self._opening_counter is not None:
            floor = self._opening_counter
        if counter <= floor or (self.policy.ciphered and counter == last):
            raise SecurityFailure("invocation counter used before")
        self._model.note_frame_counter(self._client, max(counter, last))


def reject(aarq: Aarq, diagnostic: int) -> bytes:
    """Return the AARE that refuses."""
    refusal = Aare(
        context=aarq.context,
        result=acse.REJECTED,
        diagnostic=diagnostic,
        user_information=INITIATE_ERROR,
    )
    return acse.encode_aare(refusal)


def _mismatch(policy: AssociationPolicy, aarq: Aarq) -> int:
    """Return 0 when a request fits the policy, else the diagnostic."""
    context = acse.CONTEXT_CIPHERED if policy.ciphered else acse.CONTEXT_PLAIN
    by_short_names = aarq.context == acse.SHORT_NAMES[context] and policy.auth not in hls.HLS
    if aarq.context != context and not by_short_names:
        return acse.DIAGNOSTIC_CONTEXT
    if (aarq.mechanism or 0) != hls.MECHANISMS[policy.auth]:  # 0 is "lowest level", the same as no name
        return acse.DIAGNOSTIC_MECHANISM_REQUIRED
    needs_title = policy.ciphered or policy.auth in hls.WITH_TITLE
    if needs_title and len(aarq.system_title) != suites.TITLE_OCTETS:
        return acse.DIAGNOSTIC_TITLE
    secret = aarq.secret or b""
    if policy.auth is Auth.LLS and not hls.same(secret, policy.secret or b""):
        return acse.DIAGNOSTIC_FAILURE
    if policy.auth in hls.HLS and not hls.MIN_CHALLENGE <= len(secret) <= hls.MAX_CHALLENGE:
        return acse.DIAGNOSTIC_FAILURE
    return 0


def _keys_of(policy: AssociationPolicy) -> KeySet | None:
    if policy.encryption_key is None or policy.authentication_key is None:
        if policy.ciphered or policy.auth is Auth.HLS_GMAC:
            raise MeterConfigError("the served association needs both keys")
        return None
    keys = Keys(
        encryption=policy.encryption_key, authentication=policy.authentication_key, suite=policy.suite
    )
    return KeySet(keys=keys)
