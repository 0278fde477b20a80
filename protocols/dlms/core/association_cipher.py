"""What an association agrees about ciphering: APDUs of ours protected, answers opened and judged; sans-IO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from protocols.dlms.core.association_settings import AssociationSettings
from protocols.dlms.data.cursor import leading
from protocols.dlms.security import ciphering, general, suites
from protocols.dlms.security.ciphered_forms import Form, is_ciphered
from protocols.dlms.security.ciphering import KeySet
from protocols.dlms.security.curves import PeerKey, PublicKey
from protocols.dlms.security.general import TRANSACTION_OCTETS, GeneralKeys
from protocols.dlms.security.general_forms import GENERAL_SIGNING, Header
from protocols.dlms.security.suites import Keys
from protocols.errors import MeterProtocolError, SecurityFailure
from protocols.session import KeyInfo
from protocols.unused import Unused, UnusedCounter

T = TypeVar("T")

ERROR_TAGS = (0xD8, 0x0E)
"""exception-response and confirmed-service-error: errors may come in clear where all else is ciphered."""


class AssociationCipher:
    """The ciphering of one association, from its AARQ on.

    `meter_title` and `signer` (the meter's signing key) are noted as the meter shows them. `own_counter` is the
    invocation counter that was used last, `dedicated` the key of this association alone, None without.
    """

    def __init__(
        self,
        settings: AssociationSettings,
        next_counter: Callable[[], int],
        random_octets: Callable[[int], bytes],
        unused: UnusedCounter,
    ) -> None:
        self._settings = settings
        self._next_counter = next_counter
        self._random = random_octets
        self._unused = unused
        key_octets = suites.SUITE_KEY_OCTETS[settings.suite]
        self.dedicated = random_octets(key_octets) if settings.dedicated_key else None
        self._keys = self._key_set()
        self._control = suites.CONTROLS[settings.protection]
        self._form = Form.GENERAL_GLO if settings.general else Form.GLO
        self._last_counters = {True: -1, False: -1}  # of the meter, by whether the dedicated key was used
        self._transaction = b""
        self.own_counter = 0
        self.signer: PublicKey | None = None
        self.meter_title = b""

    def _key_set(self) -> KeySet | None:
        keys = self._settings.keys
        if keys is None:
            return None
        if self.dedicated is None:
            return KeySet(keys=keys)
        own = replace(keys, encryption=self.dedicated)
        return KeySet(keys=keys, dedicated=own)

    @property
    def dedicated_keys(self) -> Keys | None:
        """The dedicated keys that this association agrees, None without."""
        return None if self._keys is None else self._keys.dedicated

    def stands(self) -> None:
        """Use the dedicated key from the first request on; AARQ and HLS proof go under the global one."""
        if self.dedicated is not None:
            self._form = Form.GENERAL_DED if self._settings.general else Form.DED

    def leading(self, octets_: bytes, decode: Callable[[bytes], T]) -> T:
        """Return what `decode` reads at the beginning; octets left over behind it are counted, and hide nothing."""
        found, left = leading(octets_, decode)
        self._unused[Unused.LEFT_OVER] += bool(left)
        return found

    def protect(self, plain: bytes, *, form: Form | None = None, control: int = 0) -> bytes:
        """Cipher an APDU as agreed, or stronger where `control` says so."""
        if not self._settings.ciphered:
            return plain
        assert self._keys is not None
        settings = self._settings
        self.own_counter = self._next_counter()
        if form is None and (settings.signed or settings.key_info is not None):
            return self._protect_generally(plain, control)
        form = form or self._form
        return ciphering.protect_apdu(
            self._keys.of(form),
            self._settings.system_title,
            self.own_counter,
            plain,
            control=self._control | control,
            form=form,
        )

    @property
    def _general(self) -> GeneralKeys:
        """The keys of the settings, with the signing key that the meter showed."""
        known = self._settings.general_keys
        if self.signer is None:
            return known
        return replace(known, peer=replace(known.peer, signing=PeerKey(self.signer)))

    def _protect_generally(self, plain: bytes, control: int) -> bytes:
        """Sign and cipher in the general forms; our counter is the transaction, so that no id comes twice."""
        settings = self._settings
        self._transaction = self.own_counter.to_bytes(TRANSACTION_OCTETS, "big")
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
                self.own_counter,
                plain,
                control=self._control | control,
                form=Form.GENERAL_DED if self._form.dedicated else Form.GENERAL_GLO,
            )
        return general.protect_general(
            self._general,
            settings.key_info,
            header,
            self.own_counter,
            plain,
            control=self._control | control,
            random_octets=self._random,
        )

    def _open_generally(self, received: bytes) -> bytes:
        """Open general-ciphering that answers our last request: its transaction must be that of the request.

        A key of one APDU has no counter that could rise: only the transaction tells an answer from one of before.
        """
        settings = self._settings
        opened = self.leading(
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
            opened = self.leading(
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
