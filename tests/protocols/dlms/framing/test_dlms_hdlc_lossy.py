"""Client link and meter bus joined in memory over a line that loses, repeats, damages and delays.

Every request is carried out once and every answer comes once, in order, or the conversation ends with a named
error; a quiet line always brings it to its end.
"""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.services import ActionRequest, GetRequest
from protocols.dlms.core.association_settings import AssociationSettings
from protocols.dlms.core.connection import ClientConnection, State
from protocols.dlms.core.outcomes import Associated, Event, LinkUp, RequestDone, ValueRead
from protocols.dlms.data.types import Data, octets
from protocols.dlms.framing import hdlc
from protocols.dlms.framing.hdlc import MAX_FRAME, MAX_WINDOW, Frame, FrameDecoder
from protocols.dlms.framing.hdlc_link import HdlcClientLink
from protocols.dlms.server.connection import ServerSettings
from protocols.dlms.server.links import HdlcBus, ServedMeter
from protocols.errors import ProtocolError
from protocols.reading import Obis
from tests.support.dlms.bench import POLICIES, SmallMeter, o

ANSWER = Obis(0, 0, 96, 13, 0)
ROUNDS = 4000
"""Turns in which a quiet line must bring any conversation to its end."""


class CountingMeter(SmallMeter):
    """Remembers each action that it carried out, and gives back what it was given."""

    def __init__(self) -> None:
        super().__init__({48: POLICIES["none"][0]})
        self.carried_out: list[bytes] = []

    def action(self, client: int, target: Target, parameter: Data | None) -> Data | None:
        assert parameter is not None
        assert parameter.octets is not None
        self.carried_out.append(parameter.octets)
        return parameter


class Wire:
    """Both directions of one line; `to_meter` and `to_client` hold what is under way."""

    def __init__(self, *, window: int = 1, max_info: int = 128, octets_: int = 0, answer: int = 700) -> None:
        self.meter = CountingMeter()
        self.meter.attributes[str(ANSWER), 2] = octets(bytes(n % 251 for n in range(answer)))
        self.bus = HdlcBus(
            {17: ServedMeter(model=self.meter)}, ServerSettings(window=window, max_info=max_info)
        )
        self.link = HdlcClientLink(
            client=48, server=1, physical=17, window=window, max_info=max_info, address_octets=octets_
        )
        self.client = ClientConnection(self.link, AssociationSettings(), lambda: 0)
        self.to_meter = bytearray()
        self.to_client = bytearray()
        self.events: list[Event] = []
        self.collect(self.client.open())

    def collect(self, events: list[Event]) -> None:
        self.events += events
        if LinkUp() in events:
            self.client.associate()
        self.to_meter += self.client.data_to_send()

    def carry(self, count: int = MAX_FRAME) -> None:
        """Let octets reach the meter, whose answer goes on the wire."""
        data = bytes(self.to_meter[:count])
        del self.to_meter[:count]
        self.to_client += self.bus.receive_data(data)

    def bring(self, count: int = MAX_FRAME) -> None:
        """Let octets reach the client."""
        data = bytes(self.to_client[:count])
        del self.to_client[:count]
        self.collect(self.client.receive_data(data))

    def wait(self) -> bool:
        """Let the reply time pass; False when the client has given up."""
        if not self.to_meter:
            self.bus.quiet()
        if not self.client.timed_out():
            return False
        self.to_meter += self.client.data_to_send()
        return True

    def settle(self) -> bool:
        """Run on a quiet line until nothing is outstanding; False when the client has given up."""
        for _ in range(ROUNDS):
            if self.to_meter:
                self.carry()
            elif self.to_client:
                self.bring()
            elif self.client.state is State.READY:
                return True
            elif not self.wait():
                return False
        raise AssertionError("the conversation hangs")

    def act(self, payload: bytes) -> None:
        self.client.request(ActionRequest(target=Target(70, o("0-0:96.3.10"), 1), parameter=octets(payload)))
        self.to_meter += self.client.data_to_send()

    def ask(self) -> None:
        self.client.request(GetRequest(target=Target(1, ANSWER, 2)))
        self.to_meter += self.client.data_to_send()


class LossyLine(RuleBasedStateMachine):
    """Random faults between random requests; the meter's diary and the client's answers are compared."""

    def __init__(self) -> None:
        super().__init__()
        self.over = False
        self.asked: deque[bytes | None] = deque()
        self.actions: list[bytes] = []
        self.answers: list[bytes] = []

    @initialize(
        window=st.integers(1, MAX_WINDOW),
        max_info=st.sampled_from([32, 64, 128, 500]),
        octets_=st.sampled_from([0, 2, 4]),
        answer=st.sampled_from([5, 120, 900]),
        early=st.booleans(),
    )
    def connect(self, window: int, max_info: int, octets_: int, answer: int, early: bool) -> None:
        self.wire = Wire(window=window, max_info=max_info, octets_=octets_, answer=answer)
        self.expected = self.wire.meter.attributes[str(ANSWER), 2].octets
        if not early:  # else the faults meet the association too
            assert self.wire.settle()

    def _guarded(self, step: str, count: int = MAX_FRAME) -> None:
        """Only errors of the hierarchy may end a conversation."""
        if self.over:
            return
        try:
            getattr(self.wire, step)(*(() if step == "wait" else (count,)))
        except ProtocolError:
            self.over = True
        self._check()

    def _check(self) -> None:
        for event in self.wire.events:
            if isinstance(event, RequestDone | ValueRead):
                wanted = self.asked.popleft()
                assert event.data is not None
                assert event.data.octets == (self.expected if wanted is None else wanted)
        self.wire.events.clear()
        done = self.wire.meter.carried_out
        assert done == self.actions[: len(done)]
        assert len(self.actions) - len(done) <= 1

    @rule(count=st.sampled_from([1, 3, 20, 150, MAX_FRAME]))
    def carry(self, count: int) -> None:
        self._guarded("carry", count)

    @rule(count=st.sampled_from([1, 3, 20, 150, MAX_FRAME]))
    def bring(self, count: int) -> None:
        self._guarded("bring", count)

    @rule(rounds=st.integers(1, 30))
    def go_on(self, rounds: int) -> None:
        for _ in range(rounds):
            self._guarded("carry")
            self._guarded("bring")

    @precondition(lambda self: not self.over and self.wire.client.state is State.READY)
    @rule(size=st.sampled_from([1, 100, 300]))
    def act(self, size: int) -> None:
        payload = bytes((len(self.actions) % 256,)) * size
        self.actions.append(payload)
        self.asked.append(payload)
        self.wire.act(payload)

    @precondition(lambda self: not self.over and self.wire.client.state is State.READY)
    @rule()
    def ask(self) -> None:
        self.asked.append(None)
        self.wire.ask()

    @rule(to_meter=st.booleans(), at=st.integers(0, 300), count=st.sampled_from([1, 9, 40, 3000]))
    def lose(self, to_meter: bool, at: int, count: int) -> None:
        wire = self.wire.to_meter if to_meter else self.wire.to_client
        del wire[at : at + count]

    @rule(to_meter=st.booleans(), at=st.integers(0, 600), bit=st.integers(0, 7))
    def damage(self, to_meter: bool, at: int, bit: int) -> None:
        wire = self.wire.to_meter if to_meter else self.wire.to_client
        if at < len(wire):
            wire[at] ^= 1 << bit

    @rule(to_meter=st.booleans(), noise=st.sampled_from([b"\x00", b"\x7e", b"\x7e\xa0", b"\xff\x7e\x00"]))
    def crackle(self, to_meter: bool, noise: bytes) -> None:
        wire = self.wire.to_meter if to_meter else self.wire.to_client
        wire += noise

    @rule(to_meter=st.booleans())
    def repeat(self, to_meter: bool) -> None:
        """A frame comes twice, as over a retransmitting radio module."""
        wire = self.wire.to_meter if to_meter else self.wire.to_client
        frames = [f for f in FrameDecoder().receive_data(bytes(wire)) if isinstance(f, Frame)]
        if frames and len(wire) < 20 * MAX_FRAME:
            wire[:0] = frames[0].encode()

    @rule()
    def time_passes(self) -> None:
        """Perhaps too early: the answer is still under way."""
        self._guarded("wait")

    @invariant()
    def memory_is_bounded(self) -> None:
        if hasattr(self, "wire"):
            assert self.wire.link._decoder.pending <= MAX_FRAME + 2
            assert self.wire.bus._decoder.pending <= MAX_FRAME + 2
            stations = [s.channel for s in self.wire.bus._stations.values()]
            assert all(len(c._unacknowledged) <= MAX_WINDOW for c in (self.wire.link._channel, *stations))

    def teardown(self) -> None:
        """On a quiet line the conversation comes to its end."""
        if not hasattr(self, "wire") or self.over:
            return
        try:
            finished = self.wire.settle()
        except ProtocolError:
            self.over = True
            finished = False
        self._check()
        if finished:
            assert not self.asked
            assert self.wire.meter.carried_out == self.actions


LossyLine.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestLossyLine = LossyLine.TestCase


def associated(**options: int) -> Wire:
    wire = Wire(**options)
    assert wire.settle()
    assert isinstance(wire.events[-1], Associated)
    wire.events.clear()
    return wire


@pytest.mark.parametrize("window", [1, 2, 7])
@pytest.mark.parametrize("lost", range(12))
def test_any_one_lost_frame_is_recovered(window: int, lost: int) -> None:
    """The frame with this number, counted over both directions, never arrives."""
    wire = associated(window=window, max_info=64)
    wire.act(b"x" * 200)
    seen = 0
    for _ in range(ROUNDS):
        for line in (wire.to_meter, wire.to_client):
            frames = [f.encode() for f in FrameDecoder().receive_data(bytes(line)) if isinstance(f, Frame)]
            kept = [f for n, f in enumerate(frames, seen) if n != lost]
            seen += len(frames)
            line[:] = b"".join(kept)
            wire.carry()
            wire.bring()
        if wire.client.state is State.READY:
            break
        if not wire.to_meter and not wire.to_client:
            assert wire.wait()
    assert wire.meter.carried_out == [b"x" * 200]
    assert wire.events == [RequestDone(octets(b"x" * 200))]


def test_a_repeated_request_never_doubles_an_action() -> None:
    """The answer and the polls are lost: the request goes out again and is answered, not carried out, twice."""
    wire = associated()
    wire.act(b"once")
    request = bytes(wire.to_meter)
    wire.carry()
    wire.to_client.clear()  # the answer is lost
    assert wire.wait()
    (poll,) = FrameDecoder().receive_data(bytes(wire.to_meter))
    assert isinstance(poll, Frame)
    assert poll.kind == hdlc.RR
    wire.to_meter.clear()  # the poll too
    assert wire.wait()
    assert bytes(wire.to_meter) == request
    wire.carry()
    wire.bring()
    assert wire.events == [RequestDone(octets(b"once"))]
    assert wire.meter.carried_out == [b"once"]


def test_silence_is_given_up_after_bounded_repetitions() -> None:
    wire = associated()
    wire.act(b"anybody there?")
    wire.to_meter.clear()
    asked = 0
    while wire.wait():
        asked += 1
        wire.to_meter.clear()
    assert asked == 2
    assert not wire.wait()
