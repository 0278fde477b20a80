"""Changes of keys and secrets are shown as acts; of what they carry, how much and never what."""

from __future__ import annotations

import pytest

from protocols.dlms import decode_trace
from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.services import ActionRequest, GetRequest, SetRequest, encode_apdu
from protocols.dlms.data.types import array, enum, octets, structure
from protocols.reading import Obis

KEY = bytes.fromhex("00112233445566778899aabbccddeeff")
ASSOCIATION, SETUP = Obis(0, 0, 40, 0, 3), Obis(0, 0, 43, 0, 3)


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (SetRequest(target=Target(15, ASSOCIATION, 7), value=octets(KEY)), "association LN: secret"),
        (ActionRequest(target=Target(15, ASSOCIATION, 2), parameter=octets(KEY)), "change_HLS_secret"),
        (
            ActionRequest(target=Target(64, SETUP, 2), parameter=array(structure(enum(0), octets(KEY)))),
            "security setup: key_transfer",
        ),
    ],
    ids=("password", "hls", "keys"),
)
def test_a_new_key_or_secret_is_not_shown(request_: SetRequest | ActionRequest, named: str) -> None:
    text = str(decode_trace(encode_apdu(request_)))
    assert named in text
    assert "16 octets, not shown" in text
    assert KEY[:6].hex(" ") not in text
    assert KEY[:6].hex() not in text.lower()


def test_what_comes_after_it_is_shown_again() -> None:
    hidden = encode_apdu(ActionRequest(target=Target(15, ASSOCIATION, 2), parameter=octets(KEY)))
    other = encode_apdu(SetRequest(target=Target(1, Obis(0, 0, 96, 13, 0), 2), value=octets(b"hello")))
    assert "not shown" not in str(decode_trace(other))
    assert "hello" in str(decode_trace(hidden + other))
    assert "not shown" not in str(decode_trace(encode_apdu(GetRequest(target=Target(1, SETUP, 2)))))
