"""Targets about meters' keys: consignment files, sealed texts, and what edges and central say to each other of them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from gateway.central.keys.consignment import read_consignment
from gateway.central.keys.consignment_cipher import open_cms, open_salted
from gateway.contract.central_word import parse_signed, wrap_signed
from gateway.contract.envelope import parse, wrap
from gateway.contract.key_text import GivenKeys, KeyEntry, KeyText, given_keys, key_text, sealing_context
from gateway.contract.messages import KeysEscrowed, KeysReceipt, KeysRequest
from gateway.contract.sealing import (
    digest,
    new_sealing_pair,
    open_sealed,
    public_text,
    recipients,
    seal,
    sealed_octets,
)
from gateway.errors import GatewayError
from protocols.errors import MeterProtocolError
from tests.support.keys import PRIVATE, PUBLIC, cms_recipient

Target_ = Callable[[bytes], object]
NOW = datetime(2026, 6, 1, tzinfo=UTC)
METER, KEY_ID, NONCE = "GEN:1", "1" * 32, "2" * 32
OWN, OWN_PUBLIC = new_sealing_pair()
CONTEXT = sealing_context(METER, KEY_ID)
_EK = "00112233445566778899AABBCCDDEEFF"


def _refused(read: Target_) -> Target_:
    """Return a target whose refusals are those that the fuzzer knows."""

    def target(data: bytes) -> object:
        try:
            return read(data)
        except GatewayError as error:
            raise MeterProtocolError(str(error)) from error

    return target


def _cms(data: bytes) -> bytes:
    certificate, private = cms_recipient()
    return open_cms(data, certificate=certificate, private_key=private, passphrase=None)


def _made_cms() -> bytes:
    builder = pkcs7.PKCS7EnvelopeBuilder().set_data(b"serial,maker,ek\n")
    shown = x509.load_pem_x509_certificate(cms_recipient()[0])
    return builder.add_recipient(shown).encrypt(Encoding.DER, [pkcs7.PKCS7Options.Binary])


def _escrowed(data: bytes) -> None:
    recipients(sealed_octets(parse(data, KeysEscrowed).data.sealed))


def _sealed(data: bytes) -> object:
    return key_text(open_sealed(data, private=OWN, context=CONTEXT))


KEYS: dict[str, Target_] = {
    name: _refused(read)
    for name, read in (
        ("consignment", read_consignment),
        ("consignment-cms", _cms),
        ("consignment-salted", lambda data: open_salted(data, passphrase=b"p", rounds=1)),
        ("keys-escrowed", _escrowed),
        ("keys-receipt", lambda data: parse_signed(data, KeysReceipt, (PUBLIC,))),
        ("keys-request", lambda data: parse(data, KeysRequest)),
        ("keys-sealed", _sealed),
        ("keys-text", key_text),
        ("keys-given", given_keys),
    )
}


def seeds_of_keys() -> dict[str, tuple[bytes, ...]]:
    """Give what each of these targets is fed before it is mutated."""
    entries = (KeyEntry(slot="48/encryption", state="new", octets=_EK.lower()),)
    text = KeyText(gateway="edge-1", meter=METER, key_id=KEY_ID, keys=entries, made_at=NOW)
    plain = text.model_dump_json().encode()
    sealed = seal(plain, to=[OWN_PUBLIC], context=CONTEXT)
    escrowed = KeysEscrowed(
        gateway="edge-1",
        meter=METER,
        key_id=KEY_ID,
        slots=("48/encryption",),
        sealed=base64.b64encode(sealed).decode(),
        nonce=NONCE,
        made_at=NOW,
    )
    receipt = KeysReceipt(
        gateway="edge-1",
        meter=METER,
        key_id=KEY_ID,
        sealed_digest=digest(sealed),
        nonce=NONCE,
        issued_at=NOW,
    )
    request = KeysRequest(
        gateway="edge-1", box_key=public_text(OWN_PUBLIC), kept=(KEY_ID,), nonce=NONCE, at=NOW
    )
    given = GivenKeys(held={METER: entries})
    return {
        "consignment": (
            f"serial,maker,client,ek,lls\n1,GEN,48,{_EK},secret12\n2,GEN,,{_EK},\n".encode(),
            f'<a xmlns="u"><m serial="1" maker="GEN"><EK>{_EK}</EK><LLS>x</LLS></m></a>'.encode(),
        ),
        "consignment-cms": (_made_cms(),),
        "consignment-salted": (b"Salted__" + bytes(8) + bytes(32),),
        "keys-escrowed": (wrap(escrowed, id="i", source="/edge-1", time=NOW),),
        "keys-receipt": (wrap_signed(receipt, key=PRIVATE, id="i", source="/central", time=NOW),),
        "keys-request": (wrap(request, id="i", source="/edge-1", time=NOW),),
        "keys-sealed": (sealed,),
        "keys-text": (plain,),
        "keys-given": (given.model_dump_json().encode(),),
    }
