"""A hostile meter: whatever it answers, a visit ends in bounded steps with an end or an error of the protocol."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms.data.types import Data, Tag, double_long_unsigned, enum, octets
from protocols.dlms.firmware.steps import Activation, Get, Keep, Kept, Look, Note, Now, Phase, Run, VisitEnd
from protocols.dlms.firmware.upgrade import MAX_ROUNDS, upgrade
from protocols.dlms.server.model import AccessDenied
from protocols.errors import MeterBusy, MeterRefused, MeterSilent, ProtocolError
from protocols.reading import Obis
from protocols.simulator.cosem.image import ImageTarget
from protocols.simulator.cosem.objects import Memory
from tests.support.dlms.image_meter import OBJECTS, OLD, PLATE, ZONE, sim_image
from tests.support.dlms.strategies import LEAVES

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
VERSION = Obis(1, 0, 0, 2, 0)
IMAGE = sim_image(3000, hardware={})
MOST = 3_000
DATA = st.recursive(
    LEAVES,
    lambda inner: st.tuples(
        st.sampled_from([Tag.ARRAY, Tag.STRUCTURE]), st.lists(inner, max_size=3).map(tuple)
    ).map(lambda pair: Data(*pair)),
    max_leaves=6,
)
STATUSES = st.integers(0, 9).map(enum)
SIZES = st.sampled_from([0, 1, 100, 1 << 31]).map(double_long_unsigned)
BITS = st.text("01", max_size=40).map(lambda bits: Data(Tag.BIT_STRING, bits))
ANSWERS = st.one_of(DATA, STATUSES, SIZES, BITS, st.just(Data(Tag.BOOLEAN, False)))
ERRORS = st.sampled_from(
    [MeterSilent("x"), MeterBusy("x", reason_code=2), MeterRefused("x", reason_code=250)]
)


@given(phase=st.sampled_from(list(Phase)), data=st.data())
def test_any_answers_come_to_an_end_and_activate_at_most_once(phase: Phase, data: st.DataObject) -> None:
    due = NOW if phase is Phase.COMMITTED else None
    kept = Kept(phase=phase, block_size=100, from_version=OLD, due=due)
    steps = upgrade(IMAGE, Activation(), OBJECTS, plate=PLATE, kept=kept, zone=ZONE)
    told, count = 0, 0
    end: Any = None
    drawn = data.draw(st.lists(st.one_of(ANSWERS, ERRORS), min_size=1, max_size=12))
    try:
        step = next(steps)
        while True:
            count += 1
            assert count < MOST * (MAX_ROUNDS + 1)
            told += isinstance(step, Run) and step.target.index == 4
            answer: Any = drawn[count % len(drawn)]
            if isinstance(step, Get) and step.target.obis == VERSION:
                answer = octets(OLD.encode())
            if isinstance(step, Look):
                step = steps.send(Now(NOW, True))
            elif isinstance(step, Keep | Note):
                step = steps.send(None)
            elif isinstance(answer, ProtocolError):
                step = steps.throw(answer)
            else:
                step = steps.send(answer if isinstance(step, Get) else None)
    except StopIteration as stop:
        end = stop.value
    except ProtocolError:
        end = None
    assert end is None or isinstance(end, VisitEnd)
    assert told <= (phase is not Phase.COMMITTED)


class _Clock:
    def now(self) -> datetime:
        return NOW


@given(calls=st.lists(st.tuples(st.integers(1, 4), st.one_of(st.none(), DATA)), max_size=12))
def test_a_served_image_target_takes_any_parameter(calls: list[tuple[int, Data | None]]) -> None:
    target = ImageTarget("GEN", OLD, _Clock(), Memory(), lambda _: None)
    served = target.served()
    served.write[5](Data(Tag.BOOLEAN, True))
    for method, parameter in calls:
        with suppress(AccessDenied):
            served.methods[method](parameter)
    for read in served.read.values():
        read(None)
    assert target.activations == 0 or target.content.startswith(b"SIMFW")


def test_an_image_that_is_no_image_is_not_verified() -> None:
    target = ImageTarget("GEN", OLD, _Clock(), Memory(), lambda _: None)
    served = target.served()
    with pytest.raises(AccessDenied):
        served.methods[3](None)
