"""Reads recorded octets without our stack: frames to APDUs, ciphered APDUs opened and their tags checked.

This is on purpose a second implementation, on `cryptography` alone: a fault in ours must not hide itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

AUTHENTICATED, ENCRYPTED = 0x10, 0x20
AARQ, AARE, RELEASES = 0x60, 0x61, (0x62, 0x63)
_GLO = {0x21, 0x28, *range(0xC8, 0xD0)}
_DED = {*range(0xD0, 0xD8)}
_GENERAL = {0xDB: "general-glo", 0xDC: "general-ded"}
_CIPHERED_CONTEXT = bytes.fromhex("60857405080103")
_LLC = (b"\xe6\xe6\x00", b"\xe6\xe7\x00")

Recorded = list[tuple[str, str]]
"""Who sent (client or meter), and the octets in hexadecimal, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Keys of the association; `titles` by sender."""

    encryption: bytes = field(repr=False)
    authentication: bytes = field(repr=False)
    titles: dict[str, bytes]
    suite: int = 0
    dedicated: dict[int, bytes] = field(default_factory=dict, repr=False)
    """Filled while reading: the keys that initiate requests bring, by the association's number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One APDU: `form` and `control` say how it was ciphered, "" and 0 that it was not."""

    sender: str
    plain: bytes
    form: str = ""
    control: int = 0
    counter: int = 0
    blocks: int = 0


def read(recorded: Recorded, framing: str, secrets: Secrets) -> list[Seen]:
    """Give all APDUs of both sides, the ciphered Initiates in AARQ, AARE and releases as well.

    Raises cryptography's InvalidTag for a wrong tag, AssertionError for octets that make no sense.
    """
    seen: list[Seen] = []
    for sender in ("client", "meter"):
        stream = b"".join(bytes.fromhex(octets) for who, octets in recorded if who == sender)
        apdus = _hdlc(stream) if framing == "hdlc" else _wrapper(stream)
        association = 0
        for apdu, blocks in _joined(apdus):
            association += apdu[0] in (AARQ, AARE)
            seen += _opened(sender, apdu, blocks, association, secrets)
    return seen


def _wrapper(stream: bytes) -> Iterator[bytes]:
    while stream:
        assert stream[:2] == b"\x00\x01"
        end = 8 + int.from_bytes(stream[6:8], "big")
        assert len(stream) >= end
        yield stream[8:end]
        stream = stream[end:]


def _hdlc(stream: bytes) -> Iterator[bytes]:
    whole = b""
    while stream.strip(b"\x7e"):
        while stream[1] == 0x7E:
            stream = stream[1:]
        assert stream[0] == 0x7E
        assert stream[1] & 0xF0 == 0xA0
        end = 1 + (stream[1] & 7) * 256 + stream[2]
        frame, segmented = stream[1:end], bool(stream[1] & 8)
        at = 2
        for _ in range(2):  # the addresses end with an odd octet
            while not frame[at] & 1:
                at += 1
            at += 1
        control = frame[at]
        if not control & 1:
            whole += frame[at + 3 : -2]
            if not segmented:
                assert whole[:3] in _LLC
                yield whole[3:]
                whole = b""
        stream = stream[end:]


def _joined(apdus: Iterator[bytes]) -> Iterator[tuple[bytes, int]]:
    """Put general block transfer together: each APDU with the number of its blocks."""
    parts = b""
    count = 0
    for apdu in apdus:
        if apdu[0] != 0xE0:
            yield apdu, 0
            continue
        data, rest = _length(apdu[6:])
        assert len(rest) == data
        parts += rest
        count += bool(rest)
        if apdu[1] & 0x80 and parts:
            yield parts, count
            parts, count = b"", 0


def _length(octets: bytes) -> tuple[int, bytes]:
    if octets[0] < 0x80:
        return octets[0], octets[1:]
    width = octets[0] & 0x7F
    return int.from_bytes(octets[1 : 1 + width], "big"), octets[1 + width :]


def _opened(sender: str, apdu: bytes, blocks: int, association: int, secrets: Secrets) -> Iterator[Seen]:
    tag = apdu[0]
    if tag in (AARQ, AARE, *RELEASES):
        yield Seen(sender=sender, plain=apdu)
        user = _user_information(apdu)
        if user and user[0] in _GLO:
            yield from _opened(sender, user, 0, association, secrets)
        return
    key, form, title = secrets.encryption, "", secrets.titles[sender]
    rest = apdu[1:]
    if tag in _GENERAL:
        form = _GENERAL[tag]
        size, rest = _length(rest)
        assert rest[:size] in (b"", title)
        rest = rest[size:]
    elif tag in _GLO or tag in _DED:
        form = "ded" if tag in _DED else "glo"
    if not form:
        yield Seen(sender=sender, plain=apdu, blocks=blocks)
        return
    if form.endswith("ded"):
        key = secrets.dedicated[association]
    size, body = _length(rest)
    assert size == len(body)
    plain = _decipher(key, secrets.authentication, title, body, secrets.suite)
    if plain[:3] in (b"\x01\x01\x10", b"\x01\x01\x20"):
        secrets.dedicated[association] = plain[3 : 3 + plain[2]]
    counter = int.from_bytes(body[1:5], "big")
    yield Seen(sender=sender, plain=plain, form=form, control=body[0], counter=counter, blocks=blocks)


def _decipher(key: bytes, authentication: bytes, title: bytes, body: bytes, suite: int) -> bytes:
    control, nonce, text = body[0], title + body[1:5], body[5:]
    assert control & 0xCF == suite, "the suite that was agreed, with a unicast key"
    if not control & AUTHENTICATED:
        counter_mode = Cipher(algorithms.AES(key), modes.CTR(nonce + b"\0\0\0\2")).decryptor()
        return counter_mode.update(text)
    text, tag = text[:-12], text[-12:]
    opener = Cipher(algorithms.AES(key), modes.GCM(nonce, tag, 12)).decryptor()
    opener.authenticate_additional_data(bytes((control,)) + authentication)
    if control & ENCRYPTED:
        return opener.update(text) + opener.finalize()
    opener.authenticate_additional_data(text)
    opener.finalize()
    return text


def _user_information(apdu: bytes) -> bytes:
    _, body = _length(apdu[1:])
    while body:
        name = body[0]
        size, body = _length(body[1:])
        if name == 0xBE:
            return body[2:size]
        body = body[size:]
    return b""


def problems(seen: list[Seen], *, control: int) -> list[str]:
    """Say what is wrong with the ciphering of a conversation in which `control` was agreed."""
    wrong = []
    last: dict[tuple[str, bool], int] = {}
    ciphered = True
    for one in seen:
        if not one.form:
            if one.plain[0] in (AARQ, AARE):  # a public association beside may be plain
                ciphered = _CIPHERED_CONTEXT in one.plain
            if ciphered and one.plain[0] in range(0xC0, 0xC8):
                wrong.append(f"{one.sender} sent {one.plain[:3].hex()} in clear")
            continue
        if one.control != control:
            wrong.append(f"{one.sender} used security control {one.control:#x}")
        key = one.sender, one.form.endswith("ded")
        if one.counter <= last.get(key, -1):
            wrong.append(f"{one.sender} used counter {one.counter} after {last[key]}")
        last[key] = one.counter
    return wrong
