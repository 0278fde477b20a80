"""Pushes as a meter sends them, whole and framed, and a receiver that knows one meter."""

from __future__ import annotations

import re
from collections.abc import Sequence

from protocols.dlms.apdu import notification
from protocols.dlms.apdu.notification import DataNotification
from protocols.dlms.companion import PushGrammar
from protocols.dlms.data.types import Data, Tag, octets, structure
from protocols.dlms.framing import hdlc, wrapper
from protocols.dlms.framing.hdlc import Address, Frame
from protocols.dlms.push.framing import PushStream
from protocols.dlms.push.freshness import NOTHING, PushMark
from protocols.dlms.push.receiver import PushReceiver
from protocols.dlms.push.senders import PushPeer
from protocols.dlms.security import suites
from protocols.dlms.security.ciphering import KeySet
from protocols.dlms.security.suites import Keys
from protocols.errors import MeterProtocolError
from protocols.reading import Obis
from tests.support.paths import ROOT

TITLE = b"GEN\x00\x00\x00\x04\xd2"

KEYS = Keys(encryption=bytes(range(16)), authentication=bytes(range(16, 32)))

OTHER_KEYS = Keys(encryption=bytes(16), authentication=bytes(range(16, 32)))

CLOCK = bytes.fromhex("07EA0601FF0E0F00FF014AFF")

SETUP = Obis(0, 0, 25, 9, 0)

ALERT_SETUP = Obis(0, 4, 25, 9, 0)

BITS = "".join("1" if i in (84, 85) else "0" for i in range(128))

METER = PushPeer(name="GEN:1234", title=TITLE, devices=frozenset({"1234", "GEN1234", "GEN:1234"}))


CASES = ROOT / "tests" / "protocols" / "dlms" / "push" / "cases"
"""Octets of pushes from the field, one file each with its source."""


def octets_of(name: str) -> bytes:
    """Return the octets of a case from the field."""
    lines = (CASES / f"{name}.txt").read_text("utf-8").splitlines()
    return bytes.fromhex("".join(line for line in lines if not line.startswith("#")))


def case(name: str) -> tuple[bytes, KeySet | None]:
    """Return octets and keys of a case from the field."""
    lines = (CASES / f"{name}.txt").read_text("utf-8").splitlines()
    found = {m[1]: bytes.fromhex(m[2]) for line in lines if (m := re.match(r"# (\w+_key): (\w+)", line))}
    keys = None
    if "encryption_key" in found:
        authentication = found.get("authentication_key", bytes(16))
        keys = KeySet(keys=Keys(encryption=found["encryption_key"], authentication=authentication))
    return octets_of(name), keys


class Ring:
    def __init__(self, *peers: PushPeer, keys: Keys | None = KEYS, dedicated: Keys | None = None) -> None:
        self.peers = peers
        self.keys = keys
        self.dedicated = dedicated
        self.others: tuple[Keys, ...] = ()

    def peer_of_title(self, system_title: bytes) -> PushPeer | None:
        return next((p for p in self.peers if p.title == system_title), None)

    def peer_of_device(self, device: str) -> PushPeer | None:
        return next((p for p in self.peers if device in p.devices), None)

    def keys_for(self, system_title: bytes) -> Keys | None:
        return self.keys

    def other_keys(self, system_title: bytes) -> Sequence[Keys]:
        return self.others

    def dedicated_keys(self, system_title: bytes) -> Keys | None:
        return self.dedicated

    def grammars(self) -> Sequence[PushGrammar]:
        return tuple({id(peer.forms): peer.forms for peer in self.peers}.values())


class Memory:
    def __init__(self) -> None:
        self.marks: dict[str, PushMark] = {}

    def mark(self, sender: str) -> PushMark:
        return self.marks.get(sender, NOTHING)

    def note(self, sender: str, mark: PushMark) -> None:
        self.marks[sender] = mark


def plain_push(
    *payload: Data, device: bytes = b"GEN1234", setup: Obis = SETUP, clock: bytes = CLOCK
) -> bytes:
    body = structure(octets(device), octets(setup.to_bytes()), octets(clock), *payload)
    return notification.encode(DataNotification(body=body, invoke=0x40000001))


def ciphered(
    plain: bytes, counter: int = 1, keys: Keys = KEYS, title: bytes = TITLE, control: int = 0x30
) -> bytes:
    body = suites.protect(keys, title, counter, plain, control=control)
    return (
        b"\xdb"
        + bytes((len(title),))
        + title
        + (b"" if len(body) < 128 else b"\x81")
        + bytes((len(body),))
        + body
    )


ALERT = plain_push(Data(Tag.BIT_STRING, BITS), setup=ALERT_SETUP)


def apdus_of(data: bytes, stream: PushStream | None = None) -> list[bytes]:
    """Return the APDUs that octets complete; MeterProtocolError where the stream is followed no further."""
    stream = stream or PushStream()
    found = stream.receive(data)
    if stream.broken:
        raise MeterProtocolError(stream.broken)
    return [apdu.octets for apdu in found]


def datagram(data: bytes) -> list[bytes]:
    """Return the APDUs of one datagram; MeterProtocolError where anything in it is wrong."""
    stream = PushStream()
    found = stream.datagram(data)
    if stream.broken:
        raise MeterProtocolError(stream.broken)
    return [apdu.octets for apdu in found]


def receiver(*peers: PushPeer, keys: Keys | None = KEYS) -> PushReceiver:
    return PushReceiver(Ring(*(peers or (METER,)), keys=keys), Memory())


def ui(apdu: bytes, *, segmented: bool = False, llc: bytes = hdlc.LLC_RESPONSE) -> bytes:
    frame = Frame(
        destination=Address(64), source=Address(1, 17), control=0x13, info=llc + apdu, segmented=segmented
    )
    return frame.encode()


FRAMED = [
    wrapper.encode(1, 64, ALERT),
    ui(ALERT),
    ui(ALERT[:40], segmented=True) + ui(ALERT[40:], llc=b""),
    ui(ALERT, llc=hdlc.LLC_RESPONSE * 2),
]
