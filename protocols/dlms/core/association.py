"""The client's association (Green Book 9.3, 9.4), sans-IO: AARQ, AARE and HLS proof, and its release."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from protocols.dlms.apdu import acse
from protocols.dlms.apdu.acse import Aare, Aarq, InitiateRequest, InitiateResponse
from protocols.dlms.apdu.conformance import BUILT_SHORT_NAMES, Conformance
from protocols.dlms.apdu.diagnostics import action_result_name
from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.services import ActionRequest, ActionResponse, decode_apdu, encode_apdu
from protocols.dlms.core import refusal_hints
from protocols.dlms.core.association_cipher import ERROR_TAGS, AssociationCipher
from protocols.dlms.core.association_settings import AssociationSettings
from protocols.dlms.core.outcomes import Associated, error_of
from protocols.dlms.data.types import octets
from protocols.dlms.security import certificates, hls
from protocols.dlms.security.ciphered_forms import (
    AUTHENTICATED_ENCRYPTED,
    Form,
    is_ciphered,
)
from protocols.dlms.security.key_use import KeyUse
from protocols.dlms.security.suites import Keys
from protocols.errors import (
    AssociationRefused,
    InvocationCounterRefused,
    MeterError,
    MeterProtocolError,
    MeterRefused,
    SecurityFailure,
)
from protocols.session import Auth, ReleaseMode
from protocols.unused import UnusedCounter

HLS_CLASS = 15
REPLY_TO_HLS = 1


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
        self._settings = settings
        self._next_counter = next_counter
        self._random = random_octets
        self._challenge = self._meter_challenge = b""
        self._cipher = AssociationCipher(
            settings, next_counter, random_octets, UnusedCounter() if unused is None else unused
        )
        self.granted = InitiateResponse(conformance=0, max_pdu=0)

    @property
    def dedicated_keys(self) -> Keys | None:
        """The dedicated keys that this association agrees, None without."""
        return self._cipher.dedicated_keys

    @property
    def meter_title(self) -> bytes:
        """The meter's system title; empty before it is known."""
        return self._cipher.meter_title

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
            dedicated_key=self._cipher.dedicated,
        )
        plain = acse.encode_initiate_request(request)
        if not settings.ciphered:
            return plain
        # a key inside is always enciphered, also where authentication alone is agreed (Green Book 9.2.4)
        control = 0 if self._cipher.dedicated is None else AUTHENTICATED_ENCRYPTED
        return self._cipher.protect(plain, form=Form.GLO, control=control)

    def take(self, received: bytes) -> bytes | Associated:
        """Take the AARE: the association stands, or the APDU of HLS pass 3 is to be sent.

        Raises AssociationRefused, SecurityFailure, MeterProtocolError.
        """
        if received[0] in ERROR_TAGS:  # some meters refuse an AARQ with an exception-response
            raise self._refusal(received)
        settings = self._settings
        aare = self._cipher.leading(received, acse.decode_aare)
        if aare.result != acse.ACCEPTED:
            hint = refusal_hints.refused(settings.auth, settings.ciphered, aare.source, aare.diagnostic)
            raise AssociationRefused(f"association rejected: {aare.reason()}{hint}")
        self._cipher.meter_title = aare.system_title
        # two with one title and one key would share nonces, and one could be made to answer for the other
        if settings.needs_title and self.meter_title == settings.system_title:
            raise SecurityFailure("the meter answers with our own system title")
        if settings.auth is Auth.HLS_ECDSA:
            self._take_certificate(aare.certificate)
        plain = self._cipher.unprotect(aare.user_information, associating=True)
        if plain[:1] == b"\x0e":  # accepted, they say, and a confirmed-service-error inside
            raise AssociationRefused(
                f"association rejected: {error_of(self._cipher.leading(plain, decode_apdu))}"
            )
        self.granted = self._cipher.leading(plain, acse.decode_initiate_response)
        if self._settings.auth in hls.HLS:
            return self.protect(encode_apdu(self._third_pass(aare)))
        return self._associated()

    def _take_certificate(self, shown: bytes) -> None:
        """Find the meter's signing key: what is set, else the certificate that it shows, if an anchor vouches."""
        settings = self._settings
        if settings.peer.signing is not None:
            self._cipher.signer = settings.peer.signing.of(self.meter_title)
            return
        assert settings.trust is not None
        if not shown:
            raise SecurityFailure("the meter shows no certificate of its signing key: see meter_signing_ref")
        certificate = certificates.received(shown)
        self._cipher.signer = settings.trust.check(certificate, KeyUse.SIGNING, self.meter_title).key

    def take_proof(self, received: bytes) -> Associated:
        """Take the answer to pass 3: the meter must know the secret too; errors as `take`."""
        plain = self.unprotect(received)
        if plain[0] in ERROR_TAGS:
            raise self._refusal(plain)
        answer = self._cipher.leading(plain, decode_apdu)
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
        error = error_of(self._cipher.leading(plain, decode_apdu))
        if isinstance(error, InvocationCounterRefused):
            return InvocationCounterRefused(
                meter_counter=error.meter_counter, own_counter=self._cipher.own_counter
            )
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
        answer = self._cipher.leading(received, acse.decode_release)
        if not answer.response:
            raise MeterProtocolError("a release request does not answer ours")
        if self._settings.ciphered and is_ciphered(answer.user_information):
            self._cipher.unprotect(answer.user_information, associating=True)

    # ciphering

    def protect(self, plain: bytes) -> bytes:
        """Cipher an APDU as agreed."""
        return self._cipher.protect(plain)

    def unprotect(self, received: bytes) -> bytes:
        """Open an answer; see `AssociationCipher`."""
        return self._cipher.unprotect(received)

    def hides(self, tags: tuple[int, ...], received: bytes) -> bool:
        """Say whether an APDU in a general form holds one of `tags`; see `AssociationCipher`."""
        return self._cipher.hides(tags, received)

    # proof

    def _associated(self) -> Associated:
        self._cipher.stands()
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
            peer=self._cipher.signer,
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
