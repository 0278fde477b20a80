"""A counter that begins anew is known by the meter's clock, and no recorded push is ever taken twice."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from protocols.dlms.data.types import Data, Tag
from protocols.dlms.push.freshness import NEVER, NOTHING, PushMark, judged, wall_seconds
from protocols.dlms.push.receiver import PushReceiver
from protocols.dlms.push.senders import CounterRestarts, PushPeer
from protocols.dlms.security import suites
from tests.support.dlms.pushes import ALERT_SETUP, BITS, METER, Memory, Ring, ciphered, plain_push

MINUTE = 60
WEAK = replace(METER, required=0x20)


def clock_of(minute: int) -> bytes:
    """A wall clock so many minutes after midnight of a day in June, as octets."""
    day, rest = divmod(minute, 1440)
    return bytes((0x07, 0xEA, 6, 1 + day, 0xFF, rest // 60, rest % 60, 0, 0xFF, 0x80, 0, 0))


def push(counter: int, minute: int | None, control: int = 0x30) -> bytes:
    clock = b"" if minute is None else clock_of(minute)
    word = Data(Tag.BIT_STRING, BITS)
    plain = plain_push(word, setup=ALERT_SETUP, clock=clock) if clock else plain_push(word, setup=ALERT_SETUP)
    return ciphered(plain, counter, control=control)


def taker(peer: PushPeer = METER) -> PushReceiver:
    return PushReceiver(Ring(peer), Memory())


def test_after_a_power_cut_small_counters_are_taken_where_the_clock_is_later() -> None:
    one = taker()
    assert one.receive(push(500, 10)) is not None
    assert one.receive(push(0, 20)) is not None
    assert one.receive(push(1, 30)) is not None
    counts = one.statistics()
    assert (counts.accepted, counts.restarted, counts.replayed) == (3, 1, 0)
    for old in (push(500, 10), push(0, 20), push(1, 30), push(501, 9), push(400, 5)):
        assert one.receive(old) is None
    assert one.statistics().replayed == 5


def test_a_clock_that_was_set_back_a_little_shuts_nobody_out_while_the_counter_rises() -> None:
    one = taker()
    assert one.receive(push(5, 100)) is not None
    assert one.receive(push(6, 40)) is not None
    assert one.receive(push(2, 90)) is None  # not later than everything before: no evidence
    assert one.receive(push(2, 101)) is not None


@pytest.mark.parametrize(
    ("peer", "control", "taken"),
    [
        (METER, 0x30, True),
        (replace(METER, restarts=CounterRestarts.NEVER), 0x30, False),
        (WEAK, 0x20, False),
        (replace(WEAK, restarts=CounterRestarts.BELIEVED), 0x20, True),
    ],
)
def test_who_is_believed_that_a_counter_began_anew(peer: PushPeer, control: int, taken: bool) -> None:
    one = taker(peer)
    assert one.receive(push(7, 10, control)) is not None
    assert (one.receive(push(0, 20, control)) is not None) is taken


def test_a_make_whose_counter_stays_at_0_is_taken_by_its_clock_alone() -> None:
    one = taker(replace(WEAK, restarts=CounterRestarts.BELIEVED))
    for minute in (10, 20, 30):
        assert one.receive(push(0, minute, 0x20)) is not None
        assert one.receive(push(0, minute, 0x20)) is None
    assert one.statistics().accepted == 3


def test_without_a_clock_there_is_no_evidence_and_no_way_around_the_floor() -> None:
    begun = PushMark(counter=0, clock=50, floor=40, peak=90)
    assert judged(begun, 60, NEVER, evidence=True) is None
    assert judged(begun, 91, NEVER, evidence=True) == PushMark(counter=91, clock=50, floor=40, peak=91)
    unknown = PushMark(counter=7)  # a file from before clocks were kept
    assert judged(unknown, 0, 100, evidence=True) is None
    assert judged(unknown, 8, 100, evidence=True) == PushMark(counter=8, clock=100, peak=8)


def test_a_meter_that_is_shut_out_is_named_until_one_of_its_pushes_is_taken() -> None:
    one = taker()
    assert one.receive(push(500, 100)) is not None
    for counter in (0, 1, 2):  # it began anew, and its clock was set back
        assert one.receive(push(counter, 50 + counter)) is None
    assert one.statistics().replays == {METER.name: 3}
    assert one.receive(push(3, 101)) is not None
    assert one.statistics().replays == {}
    assert one.statistics().replayed == 3


def test_a_wall_clock_in_seconds_or_none() -> None:
    assert wall_seconds(clock_of(61)) - wall_seconds(clock_of(1)) == 3600
    for broken in (b"", bytes(12), clock_of(1)[:5] + b"\xff" * 7, b"\xff" * 12):
        assert wall_seconds(broken) == NEVER


def test_under_dedicated_keys_a_new_association_begins_a_new_count() -> None:
    first = suites.Keys(encryption=b"d" * 16, authentication=bytes(range(16, 32)))
    second = replace(first, encryption=b"e" * 16)
    memory, ring = Memory(), Ring(METER, dedicated=first)
    one = PushReceiver(ring, memory)

    def under(keys: suites.Keys, counter: int) -> bytes:
        return b"\xdc" + push_under(keys, counter)[1:]

    assert one.receive(under(first, 4)) is not None
    assert one.receive(under(first, 4)) is None
    ring.dedicated = second
    assert one.receive(under(first, 5)) is None
    assert one.receive(under(second, 1)) is not None
    ring.dedicated = None
    assert one.receive(under(second, 2)) is None
    counts = one.statistics()
    assert (counts.accepted, counts.replayed, counts.wrong_key, counts.dedicated_key) == (2, 1, 1, 1)
    assert memory.marks == {}


def push_under(keys: suites.Keys, counter: int) -> bytes:
    return ciphered(plain_push(Data(Tag.BIT_STRING, BITS), setup=ALERT_SETUP), counter, keys)


# The attacker hears everything, may keep anything from us, and plays any of it as often and as late as he likes.


@dataclass
class SimpleMeter:
    """A meter that loses its counter in a power cut, and whose clock is set now and then."""

    counter: int = 0
    minute: int = 1000
    sent: list[tuple[int, int]] = field(default_factory=list)

    def push(self) -> tuple[int, int]:
        self.sent.append((self.counter, self.minute))
        self.counter += 1
        return self.sent[-1]


class Attacked(RuleBasedStateMachine):
    """No push of the meter is taken twice, whatever is played; what it says with a later clock is taken at last."""

    @initialize()
    def begin(self) -> None:
        self.meter = SimpleMeter()
        self.mark = NOTHING
        self.taken: list[int] = []
        self.highest = NEVER

    def play(self, number: int) -> bool:
        counter, minute = self.meter.sent[number]
        after = judged(self.mark, counter, minute, evidence=True)
        if after is None:
            return False
        self.mark = after
        self.taken.append(number)
        self.highest = max(self.highest, minute)
        return True

    @rule(minutes=st.integers(0, 30), heard=st.booleans())
    def push(self, minutes: int, heard: bool) -> None:
        self.meter.minute += minutes
        _, minute = self.meter.push()
        if heard:
            later = self.highest != NEVER and minute > self.highest
            assert self.play(len(self.meter.sent) - 1) or not later

    @rule()
    def power_cut(self) -> None:
        self.meter.counter = 0

    @rule(minutes=st.integers(-300, 300))
    def set_clock(self, minutes: int) -> None:
        self.meter.minute = max(0, self.meter.minute + minutes)

    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        if self.meter.sent:
            self.play(data.draw(st.integers(0, len(self.meter.sent) - 1)))
        assert len(self.taken) == len(set(self.taken)), "a push was taken twice"

    @rule()
    def replay_all(self) -> None:
        for number in range(len(self.meter.sent)):
            self.play(number)
        assert len(self.taken) == len(set(self.taken)), "a push was taken twice"


TestAttacked = Attacked.TestCase
TestAttacked.settings = settings(max_examples=120, stateful_step_count=40)
