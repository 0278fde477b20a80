"""The reader that checks the others' and our ciphering is no use if it finds nothing: it must object."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidTag

from tests.support.interop import wire
from tests.support.interop.wire import Seen

EK = bytes.fromhex("000102030405060708090A0B0C0D0E0F")
AK = bytes.fromhex("D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF")
# get-request of the clock, as jDLMS' and dlms-cosem's tests have it
PLAIN = bytes.fromhex("C0010000080000010000FF0200")
CIPHERED = bytes.fromhex("C81E3001234567411312FF935A47566827C467BC7D825C3BE4A77C3FCC056B6B")
ENCRYPTED = bytes.fromhex("C8122001234567411312FF935A47566827C467BC")
SERVICE = b"\xc0\x01\xc1"


def _read(apdu: bytes, *, framing: str = "wrapper", authentication: bytes = AK) -> list[Seen]:
    secrets = wire.Secrets(
        encryption=EK, authentication=authentication, titles={"client": bytes.fromhex("4D4D4D0000BC614E")}
    )
    frame = bytes.fromhex("0001003000010000")[:6] + len(apdu).to_bytes(2, "big") + apdu
    return wire.read([("client", frame[:5].hex()), ("client", frame[5:].hex())], framing, secrets)


def test_published_requests_are_opened() -> None:
    assert _read(CIPHERED) == [
        Seen(sender="client", plain=PLAIN, form="glo", control=0x30, counter=0x01234567)
    ]
    assert _read(ENCRYPTED)[0].plain == PLAIN


@pytest.mark.parametrize("at", [4, 7, len(CIPHERED) - 1])
def test_a_changed_octet_is_found(at: int) -> None:
    changed = bytearray(CIPHERED)
    changed[at] ^= 1
    with pytest.raises(InvalidTag):
        _read(bytes(changed))


def test_another_authentication_key_is_found() -> None:
    with pytest.raises(InvalidTag):
        _read(CIPHERED, authentication=EK)


def test_segments_of_a_frame_and_general_blocks_are_joined() -> None:
    info = b"\xe6\xe6\x00" + PLAIN
    recorded = [("client", _frame(info[:7], 0xA8)), ("client", _frame(info[7:], 0xA0))]
    secrets = wire.Secrets(encryption=EK, authentication=AK, titles={"client": b""})
    assert wire.read(recorded, "hdlc", secrets) == [Seen(sender="client", plain=PLAIN)]
    blocks = [b"\xe0\x01\x00\x01\x00\x00\x05" + PLAIN[:5], b"\xe0\x81\x00\x02\x00\x01\x08" + PLAIN[5:]]
    recorded = [("client", (b"\0\1\0\x30\0\1\0" + bytes((len(one),)) + one).hex()) for one in blocks]
    assert wire.read(recorded, "wrapper", secrets) == [Seen(sender="client", plain=PLAIN, blocks=2)]


def _frame(info: bytes, kind: int) -> str:
    body = b"\x03\x61\x10" + b"\0\0" + info + b"\0\0"  # check sequences are not looked at
    return (bytes((0x7E, kind, len(body) + 2)) + body + b"\x7e").hex()


def _ciphered(counter: int, *, control: int = 0x30, form: str = "glo") -> Seen:
    return Seen(sender="client", plain=SERVICE, form=form, control=control, counter=counter)


@pytest.mark.parametrize(
    ("seen", "wrong"),
    [
        ([_ciphered(5), _ciphered(5)], "counter 5 after 5"),
        ([_ciphered(5), _ciphered(9, form="ded"), _ciphered(4)], "counter 4 after 5"),
        ([_ciphered(5, control=0x20)], "security control 0x20"),
        ([_ciphered(5), Seen(sender="client", plain=SERVICE)], "in clear"),
    ],
)
def test_what_is_wrong_is_said(seen: list[Seen], wrong: str) -> None:
    assert any(wrong in one for one in wire.problems(seen, control=0x30))


def test_each_key_has_a_counter_of_its_own() -> None:
    seen = [_ciphered(5), _ciphered(1, form="ded"), _ciphered(6), _ciphered(2, form="general-ded")]
    assert wire.problems(seen, control=0x30) == []
