"""What the fuzzer feeds: parsers, the trace reader and both state machines; each takes octets, or refuses them.

A target returns, or raises an error of the hierarchy; anything else is a finding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from random import Random

from protocols.dlms.apdu import acse, gbt, notification
from protocols.dlms.apdu.access import Access, AccessKind, AccessRequest
from protocols.dlms.apdu.lists import GetListRequest, Target
from protocols.dlms.apdu.services import ActionRequest, GetRequest, SetRequest, decode_apdu
from protocols.dlms.apdu.short_names import OBJECT_LIST, ReadRequest, Variable
from protocols.dlms.core.association_settings import AssociationSettings
from protocols.dlms.core.connection import ClientConnection, State
from protocols.dlms.core.name_list import NameList
from protocols.dlms.data import axdr, cosem_time
from protocols.dlms.data.types import octets, text
from protocols.dlms.framing import gateway, wrapper
from protocols.dlms.framing.hdlc import FLAG, FrameDecoder, crc
from protocols.dlms.framing.wrapper import WrapperDecoder
from protocols.dlms.push.framing import PushStream
from protocols.dlms.security import ciphering, general
from protocols.dlms.security.ciphered_forms import AUTHENTICATED_ENCRYPTED, GLO_TAGS
from protocols.dlms.security.general import GeneralKeys
from protocols.dlms.trace.frames import decode_trace
from protocols.errors import ProtocolError
from tests.support.dlms.bench import CLOCK, GENERAL_POLICIES, KEYS, TITLE, Joined, o, suite_keys
from tests.support.dlms.pushes import receiver as push_receiver
from tests.support.fuzz.files import FILES
from tests.support.fuzz.files import seeds_of_files as _seeds_of_files
from tests.support.fuzz.keys import KEYS as KEY_TARGETS
from tests.support.fuzz.keys import seeds_of_keys
from tests.support.fuzz.modbus import MODBUS, seeds_of_modbus
from tests.support.fuzz.mutate import mutated
from tests.support.fuzz.pairs import PAIRS, seeds_of_pairs
from tests.support.fuzz.seeds import (
    Conversation,
    all_frames,
    conversations,
    gateway_frames,
    joined,
    signed_frames,
)

CLIENT = AssociationSettings().system_title
_POLICY = GENERAL_POLICIES["suite-1-agreed-signed"][0]
METER_SIDE = GeneralKeys(keys=suite_keys(1), master=_POLICY.master_key, own=_POLICY.own, peer=_POLICY.peer)
"""What a meter knows that opens general-ciphering of every kind."""


@lru_cache(maxsize=1)
def seeds_of_files() -> dict[str, tuple[bytes, ...]]:
    """Give the seeds of those targets that have some of their own."""
    return {
        **_seeds_of_files(),
        **seeds_of_keys(),
        **seeds_of_pairs(),
        **seeds_of_modbus(),
        "gateway": tuple(frame[8:] for frame in gateway_frames()),
        "general-ciphering": tuple(frame[8:] for frame in signed_frames()),
    }


Target_ = Callable[[bytes], object]
MAX_BUFFERED = 1 << 21
"""Octets that a parser may hold of one stream: two of the largest APDUs."""


def _stream(decoder: FrameDecoder | WrapperDecoder) -> Target_:
    return decoder.receive_data


PARSERS: dict[str, Target_] = {
    "axdr": axdr.decode,
    "apdu": decode_apdu,
    "gateway": gateway.parted,
    "name-list": lambda data: NameList(axdr.decode(data)),
    "aarq": acse.decode_aarq,
    "aare": acse.decode_aare,
    "release": acse.decode_release,
    "initiate-request": acse.decode_initiate_request,
    "initiate-response": acse.decode_initiate_response,
    "gbt": gbt.decode,
    "date-time": cosem_time.decode,
    "ciphered": lambda data: ciphering.unprotect_apdu(KEYS, TITLE, data),
    "general-ciphering": lambda data: general.open_general(
        METER_SIDE, data, originator=CLIENT, recipient=TITLE, required=0
    ),
    "general-signing": lambda data: general.open_signed(METER_SIDE, data, originator=CLIENT, recipient=TITLE),
    "hdlc": lambda data: FrameDecoder().receive_data(data),
    "wrapper": lambda data: WrapperDecoder().receive_data(data),
    "notification": notification.decode,
    "push-stream": lambda data: PushStream().receive(data),
    "push": lambda data: push_receiver().receive(data),
    "trace": decode_trace,
    **FILES,
    **KEY_TARGETS,
    **PAIRS,
    **MODBUS,
    "trace-with-keys": lambda data: decode_trace(data, keys=KEYS, titles=(TITLE,)),
}


def reframed(data: bytes) -> bytes:
    """Give an HDLC frame right check sequences and length again, so that mutations reach what is inside."""
    body = bytearray(data.strip(bytes((FLAG,))))
    if len(body) < 9:
        return data
    length = min(len(body), 0x7FF)
    body = body[:length]
    body[0] = 0xA0 | body[0] & 0x08 | length >> 8
    body[1] = length & 0xFF
    at = 2
    for _ in range(2):
        while at < len(body) - 5 and not body[at] & 1:
            at += 1
        at += 1
    body[at + 1 : at + 3] = crc(bytes(body[: at + 1]))
    body[-2:] = crc(bytes(body[:-2]))
    return bytes((FLAG,)) + bytes(body) + bytes((FLAG,))


def rewrapped(data: bytes) -> bytes:
    """Give a wrapper frame its right length again."""
    body = data[8:]
    return data[:6] + len(body).to_bytes(2, "big") + body if body else data


def whole_again(framing: str, data: bytes) -> bytes:
    """Repair the framing around what was mutated."""
    return reframed(data) if framing == "hdlc" else rewrapped(data)


def recipher(random: Random, apdu_: bytes, title: bytes, counter: int | None = None) -> bytes:
    """Mutate what is inside a ciphered APDU of `title` and cipher it again with the right key.

    `counter` is a new one, else its own stands.
    """
    try:
        opened = ciphering.unprotect_apdu(KEYS, title, apdu_)
    except ProtocolError:
        return apdu_
    plain = mutated(random, opened.plain, all_frames())
    if not plain or plain[0] not in GLO_TAGS:
        return apdu_
    number = opened.counter if counter is None else counter
    return ciphering.protect_apdu(KEYS, title, number, plain, control=AUTHENTICATED_ENCRYPTED)


REQUESTS = (
    GetRequest(target=Target(1, o("0-0:96.1.0"), 2)),
    GetRequest(target=Target(1, o("0-0:96.13.0"), 2)),
    GetListRequest(targets=(Target(1, o("0-0:96.1.0"), 2), Target(1, o("0-0:96.13.0"), 2))),
    SetRequest(target=Target(8, CLOCK, 2), value=octets(bytes(12))),
    SetRequest(target=Target(1, o("0-0:96.13.0"), 2), value=text("z" * 1500)),
    ActionRequest(target=Target(9, o("0-0:10.0.99"), 1), parameter=text("w" * 1500)),
    AccessRequest(
        accesses=(
            Access(AccessKind.GET, Target(1, o("0-0:96.1.0"), 2)),
            Access(AccessKind.ACTION, Target(9, o("0-0:10.0.99"), 1), text("w")),
        )
    ),
)


READS = (
    ReadRequest((Variable(OBJECT_LIST),)),
    ReadRequest((Variable(0x0108),)),
    ReadRequest((Variable(0x0168),)),
    ReadRequest((Variable(0x0108), Variable(0x0168))),
)


class ClientRun:
    """The client's state machine with a real meter behind it, whose answers are mutated now and then."""

    def __init__(self, random: Random, conversation: Conversation) -> None:
        self._random = random
        self._conversation = conversation
        self._others = all_frames()
        self._chance = 0
        self.frames = 0
        self.fed: list[bytes] = []

    def run(self) -> None:
        """Associate, ask and release; every answer may be mutated. Ends in order or in a ProtocolError."""
        talk = joined(self._conversation)
        talk.tamper = self._tamper
        self._chance = self._random.choice((5, 20, 60))
        self.fed.clear()
        try:
            talk.run(talk.client.open())
            talk.client.associate()
            talk.run()
            for _ in range(4):
                if talk.client.state is not State.READY:
                    break
                by_names = READS if talk.client.short_names else REQUESTS
                talk.client.request(self._random.choice(by_names))
                talk.run()
            if talk.client.state is State.READY:
                talk.run(talk.client.release())
        finally:
            self._check(talk.client)

    def _tamper(self, answer: bytes) -> bytes:
        if answer and self._random.randrange(100) < self._chance:
            self.frames += 1
            answer = self._mutated(answer)
        self.fed.append(answer)
        return answer

    def _mutated(self, answer: bytes) -> bytes:
        random, framing = self._random, self._conversation.framing
        if self._conversation.settings.ciphered and framing == "wrapper" and random.randrange(3):
            inner = recipher(random, answer[8:], TITLE, random.randrange(1, 1 << 20))
            return wrapper.encode(1, 48, inner)
        changed = mutated(random, answer, self._others)
        return whole_again(framing, changed) if random.randrange(3) else changed

    @staticmethod
    def _check(client: ClientConnection) -> None:
        assert len(client.partial) <= MAX_BUFFERED, "the client holds more of a value than its bound"


class ServerRun:
    """The served meter's state machine, fed a conversation with mutated requests."""

    def __init__(self, random: Random, conversation: Conversation) -> None:
        self._random = random
        self._conversation = conversation
        self._others = all_frames()
        self.frames = 0
        self.fed: list[bytes] = []

    def run(self) -> None:
        """Feed the client's side of the conversation, mutated now and then."""
        random, conversation = self._random, self._conversation
        talk: Joined = joined(conversation)
        chance = random.choice((5, 20, 60))
        self.fed.clear()
        for request in conversation.to_server:
            if random.randrange(100) < chance:
                self.frames += 1
                request = self._mutated(request)
            self.fed.append(request)
            talk.server.receive_data(request)

    def _mutated(self, request: bytes) -> bytes:
        random, conversation = self._random, self._conversation
        if conversation.settings.ciphered and conversation.framing == "wrapper" and random.randrange(3):
            inner = recipher(random, request[8:], conversation.settings.system_title)
            if inner != request[8:]:
                return wrapper.encode(48, 1, inner)
        changed = mutated(random, request, self._others)
        return whole_again(conversation.framing, changed) if random.randrange(3) else changed


Machine = ClientRun | ServerRun
MACHINES: dict[str, type[ClientRun] | type[ServerRun]] = {"ClientRun": ClientRun, "ServerRun": ServerRun}


def machine_of(name: str, seed: int, talk: str) -> Machine:
    """Make a machine's run again from what a finding says of it."""
    conversation = next(one for one in conversations() if one.name == talk)
    return MACHINES[name](Random(seed), conversation)


__all__ = [
    "MACHINES",
    "PARSERS",
    "all_frames",
    "conversations",
    "machine_of",
    "seeds_of_files",
    "whole_again",
]
