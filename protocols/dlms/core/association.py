"""The client's association (Green Book 9.3, 9.4): AARQ to proof, and the ciphering that it agrees; sans-IO."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from protocols.dlms.apdu import acse
from protocols.dlms.apdu.acse import Aare, Aarq, InitiateRequest, InitiateResponse
from protocols.dlms.apdu.conformance import BUILT, BUILT_SHORT_NAMES, Conformance
from protocols.dlms.apdu.diagnostics import action_result_name
from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.services import ActionRequest, ActionResponse, decode_apdu, encode_apdu
from protocols.dlms.core import refusal_hints
from protocols.dlms.core.outcomes import Associated, error_of
from protocols.dlms.data.cursor import leading
from protocols.dlms.data.types import octets
from protocols.dlms.security import certificates, ciphering, general, hls, suites
from protocols.dlms.security.certificates import TrustAnchors
from protocols.dlms.security.ciphered_forms import (
    AUTHENTICATED_ENCRYPTED,
    CIPHER_OVERHEAD,
    Form,
    is_ciphered,
)
from protocols.dlms.security.ciphering import KeySet
from protocols.dlms.security.curves import NO_KEYS, NO_PEER, OwnKeys, PeerKey, PeerKeys, PublicKey
from protocols.dlms.security.general import TRANSACTION_OCTETS, GeneralKeys
from protocols.dlms.security.general_forms import (
    GENERAL_OVERHEAD,
    GENERAL_SIGNING,
    SIGNING_OVERHEAD,
    Header,
)
from protocols.dlms.security.key_use import KeyUse
from protocols.dlms.security.suites import Keys
from protocols.errors import (
    AssociationRefused,
    InvocationCounterRefused,
    MeterConfigError,
    MeterError,
    MeterProtocolError,
    MeterRefused,
    SecurityFailure,
)
from protocols.reading import Obis
from protocols.session import Auth, KeyInfo, Protection, ReleaseMode
from protocols.unused import Unused, UnusedCounter

T = TypeVar("T")

HLS_CLASS = 15
CURRENT_ASSOCIATION = Obis(0, 0, 40, 0, 0)
REPLY_TO_HLS = 1
ERROR_TAGS = (0xD8, 0x0E)
"""exception-response and confirmed-service-error: errors may come in clear where all else is ciphered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationSettings:
    """How to associate. `secret` is the LLS password or the HLS secret, `keys` say the security suite.

    `own` are our private keys, `peer` the meter's public ones; `trust` checks a certificate that the meter shows.

    `gbt_window` blocks of a general block transfer are taken in a row. See `DlmsSettings` for the rest.
    """

    auth: Auth = Auth.NONE
    ciphered: bool = False
    protection: Protection = Protection.AUTHENTICATED_ENCRYPTED
    dedicated_key: bool = False
    general: bool = False
    accept_plain: bool = False
    secret: bytes | None = field(default=None, repr=False)
    keys: Keys | None = None
    own: OwnKeys = NO_KEYS
    peer: PeerKeys = NO_PEER
    trust: TrustAnchors | None = None
    master: bytes | None = field(default=None, repr=False)
    key_info: KeyInfo | None = None
    signed: bool = False
    system_title: bytes = b"MGW\x00\x00\x00\x00\x01"
    max_pdu: int = 0xFFFF
    conformance: Conformance = BUILT
    short_names: bool = False
    gbt_window: int = 1
    hls_object: Obis = CURRENT_ASSOCIATION
    release: ReleaseMode = ReleaseMode.PLAIN

    def __post_init__(self) -> None:
        if (self.ciphered or self.auth is Auth.HLS_GMAC) and self.keys is None:
            raise MeterConfigError("this association needs an encryption key and an authentication key")
        if self.auth.needs_secret and not self.secret:
            raise MeterConfigError(f"authentication {self.auth} needs a password or key (password_ref)")
        if len(self.system_title) != suites.TITLE_OCTETS:
            raise MeterConfigError(f"a system title has {suites.TITLE_OCTETS} octets")
        if self.dedicated_key and not self.ciphered:
            raise MeterConfigError("a dedicated key needs ciphering")
        if (self.signed or self.key_info is not None) and not self.ciphered:
            raise MeterConfigError("key_info and signed need ciphering")
        if self.signed or self.key_info is not None:
            shown = self.auth is Auth.HLS_ECDSA and self.trust is not None
            self.general_keys.check(self.key_info, signed=self.signed, signer_shown=shown)
        if self.short_names and self.auth in hls.HLS:
            raise MeterConfigError(
                f"{self.auth} by short names is not supported: none or lls, ciphered or not"
            )
        if self.auth is Auth.HLS_ECDSA:
            if self.own.signing is None:
                raise MeterConfigError("HLS-ECDSA needs our signing key (signing_key_ref)")
            if self.peer.signing is None and self.trust is None:
                raise MeterConfigError(
                    "HLS-ECDSA needs the meter's signing key (meter_signing_ref) or an anchor (trust_anchor_ref)"
                )

    @property
    def needs_title(self) -> bool:
        """Say whether the meter must know our system title."""
        return self.ciphered or self.auth in hls.WITH_TITLE

    @property
    def context(self) -> int:
        """The application context."""
        logical = acse.CONTEXT_CIPHERED if self.ciphered else acse.CONTEXT_PLAIN
        return acse.SHORT_NAMES[logical] if self.short_names else logical

    @property
    def general_keys(self) -> GeneralKeys:
        """What the keys of general-ciphering and general-signing come from."""
        assert self.keys is not None
        return GeneralKeys(keys=self.keys, master=self.master, own=self.own, peer=self.peer)

    @property
    def overhead(self) -> int:
        """Octets that ciphering and signing add at the most."""
        signing = SIGNING_OVERHEAD if self.signed else 0
        ciphering_ = GENERAL_OVERHEAD if self.key_info is not None else CIPHER_OVERHEAD
        return signing + ciphering_ if self.ciphered else 0

    @property
    def suite(self) -> int:
        """The security suite."""
        return 0 if self.keys is None else self.keys.suite


class ClientAssociation:
    """One association from AARQ to release: what to send, what to make of the answers.

    `next_counter` gives a fresh invocation counter for each ciphered APDU, `random_octets` challenges and
    dedicated keys. `unused` counts octets left over behind answers, which hide nothing.
    """

    def __init__(
        self,
        settings: AssociationSettings,
        next_counter: Callable[[], int],
        random_octets: Callable[[int], bytes] = secrets.token_bytes,
        unused: UnusedCounter | None = None,
    ) -> None:
        self._unused = UnusedCounter() if unused is None else unused
        self._settings = settings
        self._next_counter = next_counter
        self._random = random_octets
        self._challenge = self._meter_challenge = b""
        key_octets = suites.SUITE_KEY_OCTETS[settings.suite]
        self._dedicated = random_octets(key_octets) if settings.dedicated_key else None
        self._keys = self._key_set()
        self._control = suites.CONTROLS[settings.protection]
        self._form = Form.GENERAL_GLO if settings.general else Form.GLO
        self._last_counters = {True: -1, False: -1}  # of the meter, by whether the dedicated key was used
        self._own_counter = 0
        self._signer: PublicKey | None = None
        self._transaction = b""
        self.meter_title = b""
        self.granted = InitiateResponse(conformance=0, max_pdu=0)

    def _key_set(self) -> KeySet | None:
        keys = self._settings.keys
        if keys is None:
            return None
        if self._dedicated is None:
            return KeySet(keys=keys)
        dedicated = replace(keys, encryption=self._dedicated)
        return KeySet(keys=keys, dedicated=dedicated)

    @property
    def dedicated_keys(self) -> Keys | None:
        """The dedicated keys that this association agrees, None without."""
        return None if self._keys is None else self._keys.dedicated

    @property
    def room(self) -> int:
        """Octets that a plain APDU of ours may have so that the meter takes it whole."""
        most = self.granted.max_pdu or 0xFFFF
        return max(32, most - self._settings.overhead)

    @property
    def offers_gbt(self) -> bool:
        """Say whether both sides do general block transfer."""
        return bool(
            self.granted.conformance & self._settings.conformance & Conformance.GENERAL_BLOCK_TRANSFER
        )

    def request(self) -> bytes:
        """Return the AARQ."""
        settings = self._settings
        is_hls = settings.auth in hls.HLS
        self._challenge = self._random(hls.challenge_octets(settings.auth)) if is_hls else b""
        mechanism = None if settings.auth is Auth.NONE else hls.MECHANISMS[settings.auth]
        return acse.encode_aarq(
            Aarq(
                context=settings.context,
                system_title=settings.system_title if settings.needs_title else b"",
                mechanism=mechanism,
                secret=self._challenge if is_hls else settings.secret if settings.auth is Auth.LLS else None,
                certificate=settings.own.certificate if settings.auth is Auth.HLS_ECDSA else b"",
                user_information=self._initiate(),
            )
        )

    def _initiate(self) -> bytes:
        settings = self._settings
        request = InitiateRequest(
            conformance=BUILT_SHORT_NAMES if settings.short_names else settings.conformance,
            max_pdu=settings.max_pdu,
            dedicated_key=self._dedicated,
        )
        plain = acse.encode_initiate_request(request)
        if not settings.ciphered:
            return plain
        # a key inside is always enciphered, also where authentication alone is agreed (Green Book 9.2.4)
        control = 0 if self._dedicated is None else AUTHENTICATED_ENCRYPTED
        return self.protect(plain, form=Form.GLO, control=control)

    def take(self, received: bytes) -> bytes | Associated:
        """Take the AARE: the association stands, or the APDU of HLS pass 3 is to be sent.

        Raises AssociationRefused, SecurityFailure, MeterProtocolError.
        """
        if received[0] in ERROR_TAGS:  # some meters refuse an AARQ with an exception-response
            raise self._refusal(received)
        settings = self._settings
        aare = self._leading(received, acse.decode_aare)
        if aare.result != acse.ACCEPTED:
            hint = refusal_hints.refused(settings.auth, settings.ciphered, aare.source, aare.diagnostic)
            raise AssociationRefused(f"association rejected: {aare.reason()}{hint}")
        self.meter_title = aare.system_title
        # two with one title and one key would share nonces, and one could be made to answer for the other
        if settings.needs_title and self.meter_title == settings.system_title:
            raise SecurityFailure("the meter answers with our own system title")
        if settings.auth is Auth.HLS_ECDSA:
            self._take_certificate(aare.certificate)
        plain = self.unprotect(aare.user_information, associating=True)
        if plain[:1] == b"\x0e":  # accepted, they say, and a confirmed-service-error inside
            raise AssociationRefused(f"association rejected: {error_of(self._leading(plain, decode_apdu))}")
        self.granted = self._leading(plain, acse.decode_initiate_response)
        if self._settings.auth in hls.HLS:
            return self.protect(encode_apdu(self._third_pass(aare)))
        return self._associated()

    def _take_certificate(self, shown: bytes) -> None:
        """Find the meter's signing key: what is set, else the certificate that it shows, if an anchor vouches."""
        settings = self._settings
        if settings.peer.signing is not None:
            self._signer = settings.peer.signing.of(self.meter_title)
            return
        assert settings.trust is not None
        if not shown:
            raise SecurityFailure("the meter shows no certificate of its signing key: see meter_signing_ref")
        certificate = certificates.received(shown)
        self._signer = settings.trust.check(certificate, KeyUse.SIGNING, self.meter_title).key

    def take_proof(self, received: bytes) -> Associated:
        """Take the answer to pass 3: the meter must know the secret too; errors as `take`."""
        plain = self.unprotect(received)
        if plain[0] in ERROR_TAGS:
            raise self._refusal(plain)
        answer = self._leading(plain, decode_apdu)
        if not isinstance(answer, ActionResponse):
            raise MeterProtocolError(f"{type(answer).__name__} does not answer the HLS proof")
        if answer.result != 0:
            raise AssociationRefused(
                f"association rejected: the meter does not accept our HLS answer "
                f"({action_result_name(answer.result)}){refusal_hints.unproved(self._settings.auth)}"
            )
        proof = answer.data.octets if answer.data is not None else None
        if proof is None:
            raise SecurityFailure("the meter did not answer our challenge")
        meter, own = self._parties()
        hls.check(self._credentials(), proof, prover=meter, verifier=own)
        return self._associated()

    def error(self, plain: bytes) -> MeterError:
        """Return the error that an error APDU stands for."""
        error = error_of(self._leading(plain, decode_apdu))
        if isinstance(error, InvocationCounterRefused):
            return InvocationCounterRefused(meter_counter=error.meter_counter, own_counter=self._own_counter)
        return error

    def _refusal(self, plain: bytes) -> MeterError:
        """Return the error of a step that was refused: a plain refusal is one of the association."""
        error = self.error(plain)
        if isinstance(error, MeterRefused):
            hint = refusal_hints.refused(
                self._settings.auth, self._settings.ciphered, refusal_hints.USER, refusal_hints.FAILURE
            )
            return AssociationRefused(f"association rejected: {error}{hint}")
        return error

    def release(self) -> bytes | None:
        """Return the RLRQ, or None when the link's end is enough."""
        mode = self._settings.release
        if mode is ReleaseMode.NONE:
            return None
        protected = mode is ReleaseMode.PROTECTED and self._settings.ciphered
        return acse.encode_release(acse.Release(user_information=self._initiate() if protected else b""))

    def take_release(self, received: bytes) -> None:
        """Take the RLRE; what is ciphered in it is checked, as nobody else may end the association for us.

        An error instead is one too: a meter that knows no release has let go all the same.
        """
        if received[0] in ERROR_TAGS:
            return
        answer = self._leading(received, acse.decode_release)
        if not answer.response:
            raise MeterProtocolError("a release request does not answer ours")
        if self._settings.ciphered and is_ciphered(answer.user_information):
            self.unprotect(answer.user_information, associating=True)

    def _leading(self, octets_: bytes, decode: Callable[[bytes], T]) -> T:
        found, left = leading(octets_, decode)
        self._unused[Unused.LEFT_OVER] += bool(left)
        return found

    # ciphering

    def protect(self, plain: bytes, *, form: Form | None = None, control: int = 0) -> bytes:
        """Cipher an APDU as agreed, or stronger where `control` says so."""
        if not self._settings.ciphered:
            return plain
        assert self._keys is not None
        settings = self._settings
        self._own_counter = self._next_counter()
        if form is None and (settings.signed or settings.key_info is not None):
            return self._protect_generally(plain, control)
        form = form or self._form
        return ciphering.protect_apdu(
            self._keys.of(form),
            self._settings.system_title,
            self._own_counter,
            plain,
            control=self._control | control,
            form=form,
        )

    @property
    def _general(self) -> GeneralKeys:
        """The keys of the settings, with the signing key that the meter showed."""
        known = self._settings.general_keys
        if self._signer is None:
            return known
        return replace(known, peer=replace(known.peer, signing=PeerKey(self._signer)))

    def _protect_generally(self, plain: bytes, control: int) -> bytes:
        """Sign and cipher in the general forms; our counter is the transaction, so that no id comes twice."""
        settings = self._settings
        self._transaction = self._own_counter.to_bytes(TRANSACTION_OCTETS, "big")
        header = Header(
            transaction=self._transaction, originator=settings.system_title, recipient=self.meter_title
        )
        if settings.signed:
            plain = general.sign_general(self._general, header, plain)
        if settings.key_info is None:
            assert self._keys is not None
            return ciphering.protect_apdu(
                self._keys.of(self._form),
                settings.system_title,
                self._own_counter,
                plain,
                control=self._control | control,
                form=Form.GENERAL_DED if self._form.dedicated else Form.GENERAL_GLO,
            )
        return general.protect_general(
            self._general,
            settings.key_info,
            header,
            self._own_counter,
            plain,
            control=self._control | control,
            random_octets=self._random,
        )

    def _open_generally(self, received: bytes) -> bytes:
        """Open general-ciphering that answers our last request: its transaction must be that of the request.

        A key of one APDU has no counter that could rise: only the transaction tells an answer from one of before.
        """
        settings = self._settings
        opened = self._leading(
            received,
            lambda octets_: general.open_general(
                self._general,
                octets_,
                originator=self.meter_title,
                recipient=settings.system_title,
                required=self._control,
            ),
        )
        if opened.kind is not settings.key_info:
            raise SecurityFailure(f"the answer's key is {opened.kind}, {settings.key_info} was agreed")
        self._check_transaction(opened.header)
        if opened.kind is KeyInfo.IDENTIFIED:
            self._check_counter(opened.counter, dedicated=False)
        return opened.plain

    def _check_transaction(self, header: Header) -> None:
        if header.transaction != self._transaction:
            raise SecurityFailure(
                f"transaction {header.transaction.hex()} is answered, {self._transaction.hex()} was asked: a replay?"
            )

    def _open_signed(self, plain: bytes) -> bytes:
        """Return what a signed answer holds; an error may come without a signature, since the meter knew nobody."""
        settings = self._settings
        if plain[:1] != bytes((GENERAL_SIGNING,)):
            if plain[:1] and plain[0] in ERROR_TAGS:
                return plain
            raise SecurityFailure("an answer without a signature, which was agreed: see signed")
        found = general.open_signed(
            self._general, plain, originator=self.meter_title, recipient=settings.system_title
        )
        self._check_transaction(found.header)
        return found.content

    def unprotect(self, received: bytes, *, associating: bool = False) -> bytes:
        """Open an answer; a plain one is let through only when it is an error, or where that is configured.

        `associating` tells the Initiate of AARE and RLRE, which is never signed and has the global key.
        """
        ciphered = is_ciphered(received)
        if not self._settings.ciphered:
            if ciphered:
                raise SecurityFailure("a ciphered answer, and no ciphering was agreed")
            return received
        if (received and received[0] in ERROR_TAGS) or (self._settings.accept_plain and not ciphered):
            return received
        assert self._keys is not None
        if ciphered and not self.meter_title:
            raise SecurityFailure("the meter gave no system title (A4 in AARE), which ciphering needs")
        if not associating and self._settings.key_info is not None:
            plain = self._open_generally(received)
        else:
            keys, title = self._keys, self.meter_title
            opened = self._leading(
                received,
                lambda octets_: ciphering.unprotect_apdu(keys, title, octets_, required=self._control),
            )
            self._check_counter(opened.counter, dedicated=opened.form.dedicated)
            plain = opened.plain
        return self._open_signed(plain) if self._settings.signed and not associating else plain

    def _check_counter(self, counter: int, *, dedicated: bool) -> None:
        last = self._last_counters[dedicated]
        if counter <= last:
            raise SecurityFailure(
                f"the meter's invocation counter {counter} does not rise (last {last}): a replay?"
            )
        self._last_counters[dedicated] = counter

    def hides(self, tags: tuple[int, ...], received: bytes) -> bool:
        """Say whether an APDU in a general form holds one of `tags`; its counter is not ours to judge."""
        if not self._settings.ciphered or self._keys is None or not self.meter_title:
            return True  # it answers nothing that was agreed
        try:
            opened = ciphering.unprotect_apdu(self._keys, self.meter_title, received, required=0)
        except (MeterProtocolError, SecurityFailure):
            return False
        return opened.plain[0] in tags

    # proof

    def _associated(self) -> Associated:
        # the dedicated key holds from the first request on; AARQ and HLS proof go under the global one
        if self._dedicated is not None:
            self._form = Form.GENERAL_DED if self._settings.general else Form.DED
        granted = self.granted
        return Associated(
            system_title=self.meter_title, max_pdu=granted.max_pdu, conformance=granted.conformance
        )

    def _credentials(self) -> hls.Credentials:
        settings = self._settings
        return hls.Credentials(
            auth=settings.auth,
            secret=settings.secret or b"",
            keys=settings.keys,
            own=settings.own.signing,
            peer=self._signer,
        )

    def _parties(self) -> tuple[hls.Party, hls.Party]:
        meter = hls.Party(title=self.meter_title, challenge=self._meter_challenge)
        return meter, hls.Party(title=self._settings.system_title, challenge=self._challenge)

    def _third_pass(self, aare: Aare) -> ActionRequest:
        """Answer the meter's challenge."""
        if (challenge := aare.challenge) is None:
            raise SecurityFailure("the meter sent no challenge: HLS was agreed, and is not left out")
        if not hls.MIN_CHALLENGE <= len(challenge) <= hls.MAX_CHALLENGE:
            raise MeterProtocolError(f"an HLS challenge of {len(challenge)} octets; 8 to 64 are allowed")
        if hls.reflects(self._settings.auth, self._challenge, challenge):
            raise SecurityFailure("the meter sent our own challenge back")
        self._meter_challenge = challenge
        meter, own = self._parties()
        counter = self._next_counter() if self._settings.auth is Auth.HLS_GMAC else 0
        answer = hls.prove(self._credentials(), prover=own, verifier=meter, counter=counter)
        return ActionRequest(
            target=Target(HLS_CLASS, self._settings.hls_object, REPLY_TO_HLS), parameter=octets(answer)
        )
