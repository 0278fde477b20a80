"""Client core and server core over a line that splits, loses, repeats and reorders, in random time.

Whatever association, framing and block transfer: each answer is the right one, or the conversation ends with a
named error or in silence; never a hang, never another value.
"""

from __future__ import annotations

from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols.dlms.apdu.lists import GetListRequest, Outcome, Target
from protocols.dlms.apdu.services import GetRequest, SetRequest
from protocols.dlms.core.connection import State
from protocols.dlms.core.outcomes import (
    Event,
    LinkUp,
    Outcomes,
    Pushed,
    Released,
    RequestDone,
    RequestRefused,
    ValueRead,
)
from protocols.dlms.core.transaction import Request
from protocols.dlms.data.types import octets, text
from protocols.dlms.server.links import HdlcBus
from protocols.errors import ProtocolError
from tests.support.dlms.bench import LONG_TEXT, Joined, o
from tests.support.fuzz.seeds import Conversation, conversations, joined

NOTE = o("0-0:96.13.0")
NEW = text("n" * 1300)
SCRIPT: tuple[tuple[Request, Event], ...] = (
    (GetRequest(target=Target(1, o("0-0:96.1.0"), 2)), ValueRead.of(octets(b"00000007"))),
    (GetRequest(target=Target(1, NOTE, 2)), ValueRead.of(LONG_TEXT)),
    (GetRequest(target=Target(1, o("0-0:9.9.9"), 2)), RequestRefused(4)),
    (
        GetListRequest(targets=(Target(1, o("0-0:96.1.0"), 2), Target(1, o("0-0:9.9.9"), 2))),
        Outcomes((Outcome(0, octets(b"00000007")), Outcome(4))),
    ),
    (SetRequest(target=Target(1, NOTE, 2), value=NEW), RequestDone()),
    (GetRequest(target=Target(1, NOTE, 2)), ValueRead.of(NEW)),
)
STEPS = 6000
"""Deliveries and waits in which any of these conversations must have ended."""


class Line:
    """Both directions of a line.

    TCP keeps octets in order and may cut them anywhere, a datagram line may lose, repeat and reorder messages;
    a bus may also damage octets.
    """

    def __init__(self, talk: Joined, random: Random, *, faults: int, datagrams: bool) -> None:
        self.talk = talk
        self.random = random
        self.faults = faults
        self.datagrams = datagrams
        self.bus = isinstance(talk.server, HdlcBus)
        self.to_server: list[bytes] = []
        self.to_client: list[bytes] = []

    def send(self) -> None:
        if data := self.talk.client.data_to_send():
            self._put(self.to_server, data)

    def step(self) -> list[Event]:
        """Deliver one piece, or let the reply time pass; [] too when the client has nothing more to wait for."""
        ways = [way for way in (self.to_server, self.to_client) if way]
        if not ways:
            return self._wait()
        way = self.random.choice(ways)
        data = way.pop(0)
        if way is self.to_server:
            if answer := self.talk.server.receive_data(data):
                self._put(self.to_client, answer)
            return []
        events: list[Event] = []
        for piece in self._cut(data):
            events += self.talk.client.receive_data(piece)
        return events

    def _wait(self) -> list[Event]:
        if isinstance(self.talk.server, HdlcBus):
            self.talk.server.quiet()
        if not self.talk.client.timed_out():
            raise Silent
        return []

    def _put(self, way: list[bytes], data: bytes) -> None:
        if self.random.randrange(100) >= self.faults or not (self.bus or self.datagrams):
            way.append(data)
            return
        match self.random.randrange(4):
            case 0:
                pass  # lost
            case 1:
                way += [data, data]
            case 2:
                way.insert(0, data)
            case 3 if self.bus:
                damaged = bytearray(data)
                damaged[self.random.randrange(len(damaged))] ^= 1 << self.random.randrange(8)
                way.append(bytes(damaged))
            case _:
                way.append(data)

    def _cut(self, data: bytes) -> list[bytes]:
        if self.datagrams or not self.random.randrange(3):
            return [data]
        at = self.random.randrange(len(data) + 1)
        return [data[:at], data[at:]]


class Silent(Exception):
    """The meter does not answer any more, or refuses to go on."""


def converse(line: Line) -> int:
    """Run the script; gives how many answers came, each of them checked."""
    client = line.talk.client
    done, steps = 0, 0
    events = client.open()
    waiting: Event | None = None
    while steps < STEPS:
        for event in events:
            if isinstance(event, LinkUp):
                client.associate()
            elif isinstance(event, Released):
                return done
            elif isinstance(event, RequestRefused) and event != waiting and line.datagrams:
                raise Silent  # a repeated GET-NEXT draws "data block number invalid": a named end
            elif waiting is not None and not isinstance(event, Pushed):
                assert event == waiting, f"answer {done} is another one"
                done, waiting = done + 1, None
        if client.state is State.READY:
            if done == len(SCRIPT):
                events = client.release()
                line.send()
                steps += 1
                continue
            request, waiting = SCRIPT[done]
            client.request(request)
        line.send()
        events = line.step()
        line.send()
        steps += 1
    raise AssertionError("the conversation hangs")


def run(conversation: Conversation, random: Random, *, faults: int, datagrams: bool = False) -> int:
    line = Line(joined(conversation), random, faults=faults, datagrams=datagrams)
    try:
        return converse(line)
    except (ProtocolError, Silent):
        return -1


BY_LOGICAL_NAMES = [one for one in conversations() if not one.settings.short_names]
ANY = st.sampled_from(BY_LOGICAL_NAMES)
SEEDS = st.integers(0, 2**32).map(Random)
LONG = settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])


@LONG
@given(ANY, SEEDS)
def test_a_good_line_in_any_pieces_gives_every_answer(conversation: Conversation, random: Random) -> None:
    assert run(conversation, random, faults=0) == len(SCRIPT)


@LONG
@given(ANY, SEEDS, st.sampled_from([3, 15, 50]))
def test_a_bad_line_gives_right_answers_or_an_end(
    conversation: Conversation, random: Random, faults: int
) -> None:
    run(conversation, random, faults=faults, datagrams=conversation.framing == "wrapper")


def test_a_bus_with_few_faults_mostly_comes_through() -> None:
    buses = [c for c in BY_LOGICAL_NAMES if c.framing == "hdlc"]
    ends = [run(buses[n % len(buses)], Random(n), faults=2) for n in range(40)]
    assert ends.count(len(SCRIPT)) >= 30
