"""Conversations that the fuzzer starts from: recorded from client core and server core joined in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random

from protocols.dlms.apdu import gbt, notification
from protocols.dlms.apdu.access import Access, AccessKind, AccessRequest
from protocols.dlms.apdu.conformance import BUILT, Conformance
from protocols.dlms.apdu.gbt import GeneralBlock
from protocols.dlms.apdu.lists import GetListRequest, SetListRequest, Target
from protocols.dlms.apdu.notification import DataNotification
from protocols.dlms.apdu.selection import EntrySelection, RangeSelection
from protocols.dlms.apdu.services import ActionRequest, SetRequest
from protocols.dlms.apdu.short_names import OBJECT_LIST, ReadRequest, Variable
from protocols.dlms.core.association_settings import AssociationSettings
from protocols.dlms.data import cosem_time
from protocols.dlms.data.types import octets, structure, text
from protocols.dlms.framing import mbus, wrapper
from protocols.dlms.server.connection import ServerSettings
from protocols.dlms.server.model import AssociationPolicy
from protocols.session import Auth, KeyInfo
from tests.support.dlms.bench import (
    CLOCK,
    ECHO,
    GENERAL_POLICIES,
    LONG_TEXT,
    POLICIES,
    START,
    Joined,
    SmallMeter,
    o,
    of_suite,
)
from tests.support.dlms.named_meter import named_meter
from tests.support.dlms.pushes import ALERT, CASES, FRAMED, ciphered, octets_of

WAYS = ("none", "lls", "hls2", "gmac", "wrapped", "agreed", "short-names")
CHALLENGES = 20261125
"""Seed of both sides' challenges, so that a recorded proof is right again when it is played."""
ASSOCIATIONS = POLICIES | {
    "wrapped": of_suite(1, Auth.HLS_GMAC, key_info=KeyInfo.WRAPPED),
    "agreed": of_suite(1, Auth.HLS_GMAC, key_info=KeyInfo.AGREED_STATIC),
    "short-names": (
        POLICIES["lls-ciphered"][0],
        replace(POLICIES["lls-ciphered"][1], short_names=True),
    ),
}
"""None with signatures: they differ each time, and a run must be made again by its seed."""
FRAMINGS = {"wrapper": WAYS, "hdlc": WAYS, "gateway": ("none", "gmac")}
"""Each with the ways that are spoken in it; "gateway" is the wrapper with the prefix of a meter behind one."""
OWN_BLOCKS = Conformance.BLOCK_SET | Conformance.BLOCK_ACTION


@dataclass(frozen=True, slots=True)
class Conversation:
    """What each side sent, in turn; `policy` and `settings` make both sides again."""

    name: str
    framing: str
    policy: AssociationPolicy
    settings: AssociationSettings
    limits: ServerSettings
    to_server: tuple[bytes, ...]
    to_client: tuple[bytes, ...]


@lru_cache(maxsize=1)
def conversations() -> tuple[Conversation, ...]:
    """Record one of each framing and association, with and without general block transfer."""
    return tuple(
        _recorded(way, framing, general)
        for framing, ways in FRAMINGS.items()
        for way in ways
        for general in (False, True)
    )


def joined(conversation: Conversation) -> Joined:
    """Make both sides of a conversation, not yet associated."""
    return Joined(
        _meter(conversation.policy),
        conversation.settings,
        framing=conversation.framing,
        limits=conversation.limits,
        random_octets=Random(CHALLENGES).randbytes,
    )


def _meter(policy: AssociationPolicy) -> SmallMeter:
    meter = named_meter(policy)
    meter.attributes["0-0:96.13.0*255", 2] = LONG_TEXT
    meter.writable = {("0-0:96.13.0*255", 2)}
    return meter


def _recorded(way: str, framing: str, general: bool) -> Conversation:
    policy, settings = ASSOCIATIONS[way]
    limits = ServerSettings(
        max_pdu=560, prefer_gbt=general, conformance=BUILT & ~OWN_BLOCKS if general else BUILT
    )
    name = f"{framing}-{way}{'-gbt' if general else ''}"
    whole = Conversation(name, framing, policy, settings, limits, (), ())
    talk = joined(whole)
    _speak(talk)
    return Conversation(name, framing, policy, settings, limits, tuple(talk.to_server), tuple(talk.to_client))


def _speak(talk: Joined) -> None:
    talk.associate()
    if talk.client.short_names:
        _speak_by_short_names(talk)
        return
    talk.get(1, "0-0:96.1.0*255")
    talk.get(1, "0-0:9.9.9*255")
    talk.get(1, "0-0:96.13.0*255")
    low, high = (cosem_time.encode(START.replace(hour=h)) for h in (19, 23))
    talk.get(7, "1-0:99.1.0*255", 2, RangeSelection(CLOCK, 2, low, high))
    client = talk.client
    note = Target(1, o("0-0:96.13.0"), 2)
    rows = Target(7, o("1-0:99.1.0"), 2, EntrySelection(1, 4))
    for request in (
        GetListRequest(targets=(Target(1, o("0-0:96.1.0"), 2), rows)),
        SetRequest(target=Target(8, CLOCK, 2), value=octets(cosem_time.encode(START))),
        SetRequest(target=Target(1, note.obis, 2), value=text("z" * 1500)),
        SetListRequest(targets=(note,), values=(text("short"),)),
        ActionRequest(target=Target(9, o(ECHO[0][:-4]), 1), parameter=text("w" * 1500)),
        AccessRequest(accesses=(Access(AccessKind.GET, rows), Access(AccessKind.SET, note, text("short")))),
    ):
        client.request(request)
        talk.run()
    talk.run(client.release())
    talk.run(client.disconnect())


def _speak_by_short_names(talk: Joined) -> None:
    names = (Variable(OBJECT_LIST), Variable(0x0108), Variable(0x0168), Variable(0x0008))
    for variables in (*((one,) for one in names), names, (Variable(0x02E8, EntrySelection(1, 4)),)):
        talk.client.request(ReadRequest(variables))
        talk.run()
    talk.run(talk.client.release())
    talk.run(talk.client.disconnect())


@lru_cache(maxsize=1)
def signed_frames() -> tuple[bytes, ...]:
    """Give the frames of a conversation whose requests are agreed on, ciphered and signed: seeds of parsers alone."""
    policy, settings = GENERAL_POLICIES["suite-1-agreed-signed"]
    talk = Joined(_meter(policy), settings)
    talk.associate()
    talk.get(1, "0-0:96.1.0*255")
    return tuple(frame for frame in (*talk.to_server, *talk.to_client) if frame)


def gateway_frames() -> tuple[bytes, ...]:
    """Give the frames of the conversations with a meter behind a gateway."""
    spoken = (c for c in conversations() if c.framing == "gateway")
    return tuple(frame for c in spoken for frame in (*c.to_server, *c.to_client) if frame)


def pushed_frames() -> tuple[bytes, ...]:
    """Give pushes in every framing: also in segments of M-Bus, in blocks, and as meters of the field send them."""
    plain = notification.encode(DataNotification(body=structure(*(octets(bytes(40)) for _ in range(20)))))
    blocks = tuple(
        wrapper.encode(1, 64, gbt.encode(GeneralBlock(data=piece, number=n, acknowledged=0, last=n == 3)))
        for n, piece in enumerate((plain[:300], plain[300:600], plain[600:]), start=1)
    )
    field = tuple(octets_of(path.stem) for path in sorted(CASES.glob("*.txt")))
    return (*FRAMED, mbus.encode(ALERT), mbus.encode(plain), b"".join(blocks), *blocks, *field)


def all_frames() -> tuple[bytes, ...]:
    """Give every frame of every conversation, and pushes in every framing."""
    spoken = tuple(
        frame for c in conversations() for frames in (c.to_server, c.to_client) for frame in frames if frame
    )
    return (*spoken, ALERT, ciphered(ALERT), *FRAMED, *pushed_frames())


def auth_of(conversation: Conversation) -> Auth:
    """Give the mechanism of a conversation."""
    return conversation.settings.auth
