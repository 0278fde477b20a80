"""Central's signed time: what an answer proves, what it does not, and the exchange over a real broker."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.central.intake.service import Central
from gateway.central.intake.time_answers import TimeAnswers
from gateway.central.ledger.ledger import Ledger
from gateway.contract.envelope import TIME_TYPE, parse, wrap
from gateway.contract.messages import Signed, TimeAnswer, TimeRequest
from gateway.contract.signing import DIRECTORY_TYP, TIME_TYP, sign
from gateway.contract.topics import Topics
from gateway.edge.journal.journal import Journal
from gateway.edge.sinks.time_requests import MAX_ROUND_TRIP, TimeRequests
from gateway.errors import ContractError
from gateway.timekeeping.clock import EvidenceClock
from gateway.timekeeping.evidence import ClockState
from tests.support.check_sink import running
from tests.support.edge.mqtt_edge import NOW, Edge, settings
from tests.support.fakes import HandClock
from tests.support.keys import OTHER_PRIVATE, PRIVATE, PUBLIC
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import until

ROOT = "test"


class EdgeMachine(HandClock):
    """The machine of an edge: `ran` is its steady clock."""

    def __init__(self, slow: float = 0.0) -> None:
        super().__init__(NOW - timedelta(seconds=slow))
        self.ran = 100.0

    def judged(self) -> EvidenceClock:
        return EvidenceClock(clock=self, steady=lambda: self.ran, boot="b", sources=[])


def asking(clock: EvidenceClock) -> TimeRequests:
    return TimeRequests("edge-1", root=ROOT, keys=[PUBLIC], clock=clock, host="edge-host")


def answers(at: HandClock | None = None, host: str = "central-host") -> TimeAnswers:
    return TimeAnswers(root=ROOT, key=PRIVATE, clock=at or HandClock(NOW), host=host)


def signed(request: TimeRequest, *, key: bytes = PRIVATE, typ: str = TIME_TYP, **changed: object) -> bytes:
    told = {
        "gateway": request.gateway,
        "nonce": request.nonce,
        "at": NOW.isoformat(),
        "host": "central-host",
        "trusted": True,
        "error": "0.1",
    } | changed
    jws = sign(json.dumps(told).encode(), key=key, typ=typ)
    return wrap(Signed(jws=jws), id="t", source="/central", time=NOW, type=TIME_TYPE)


def test_an_answer_to_our_question_tells_that_we_are_slow() -> None:
    machine = EdgeMachine(slow=1500)
    clock = machine.judged()
    requests = asking(clock)
    question = parse(requests.question(), TimeRequest).data
    machine.ran += 2
    machine.at += timedelta(seconds=2)
    requests.take(answers().answer(question))
    found = clock.judgement()
    assert found.state is ClockState.WRONG
    assert found.offset == pytest.approx(1499)
    assert found.error == pytest.approx(2.0)  # one second of the way, one that central may be off


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"key": OTHER_PRIVATE}, "not trusted"),
        ({"typ": DIRECTORY_TYP}, "belongs"),
        ({"gateway": "edge-2"}, "not for us"),
        ({"nonce": "0" * 32}, "question that waits"),
        ({"at": "yesterday"}, r"\$.at"),
    ],
)
def test_an_answer_that_proves_nothing_is_refused(changed: dict[str, object], why: str) -> None:
    clock = EdgeMachine().judged()
    requests = asking(clock)
    question = parse(requests.question(), TimeRequest).data
    with pytest.raises(ContractError, match=why):
        requests.take(signed(question, **changed))  # type: ignore[arg-type]
    assert clock.judgement().state is ClockState.UNPROVEN


@pytest.mark.parametrize("changed", [{"host": "edge-host"}, {"trusted": False}])
def test_our_own_clock_and_a_doubtful_central_are_no_evidence(changed: dict[str, object]) -> None:
    clock = EdgeMachine().judged()
    requests = asking(clock)
    requests.take(signed(parse(requests.question(), TimeRequest).data, **changed))  # type: ignore[arg-type]
    assert clock.judgement().state is ClockState.UNPROVEN


def test_an_answer_is_heard_once_and_only_in_time() -> None:
    machine = EdgeMachine()
    clock = machine.judged()
    requests = asking(clock)
    question = parse(requests.question(), TimeRequest).data
    machine.ran += MAX_ROUND_TRIP + 1
    with pytest.raises(ContractError, match="too old"):
        requests.take(signed(question))
    question = parse(requests.question(), TimeRequest).data
    requests.take(signed(question))
    with pytest.raises(ContractError, match="question that waits"):
        requests.take(signed(question))  # played again


def test_central_says_whether_it_knows_the_time_itself() -> None:
    question = TimeRequest(gateway="edge-1", nonce="a" * 32)
    payload = answers(HandClock(NOW, good=False)).answer(question)
    jws = parse(payload, Signed).data.jws
    assert b'"trusted":false' in _payload(jws)
    assert TimeAnswer.model_validate_json(_payload(jws)).at == NOW


def _payload(jws: str) -> bytes:
    middle = jws.split(".")[1]
    return base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4))


def test_questions_under_another_name_and_rubbish_are_none() -> None:
    central, topics = answers(), Topics(ROOT)
    question = TimeRequest(gateway="edge-2", nonce="a" * 32)
    payload = wrap(question, id="q", source="/gateways/edge-2", time=NOW)
    assert not central.requested(topics.time_request("edge-1"), payload)
    assert not central.requested(topics.time_request("edge-1"), b"\xff")
    assert not central.requested(topics.status("edge-2"), payload)
    assert central.requested(topics.time_request("edge-2"), payload)


async def test_edge_and_central_agree_on_the_time_over_a_broker(
    broker: Mosquitto, journal: Journal, tmp_path: Path
) -> None:
    machine = EdgeMachine(slow=1500)
    clock = machine.judged()
    edge = Edge(broker, journal, tmp_path / "edge", time=asking_of(broker, clock))
    mqtt = settings(broker, "central")
    ledger = Ledger(tmp_path / "ledger.db")
    times = TimeAnswers(root=mqtt.root, key=PRIVATE, clock=HandClock(NOW), host="central-host")
    central = Central(settings=mqtt, ledger=ledger, signing_key=PRIVATE, clock=HandClock(NOW), times=times)
    task = asyncio.create_task(central.run())
    try:
        await until(lambda: central.statistics().connected)
        async with running(edge.sink, journal):
            await until(lambda: clock.judgement().state is ClockState.WRONG)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        ledger.close()
    assert times.answered == 1
    assert edge.link.statistics().refused == 0


def asking_of(broker: Mosquitto, clock: EvidenceClock) -> TimeRequests:
    root = settings(broker, "x").root
    return TimeRequests("edge-1", root=root, keys=[PUBLIC], clock=clock, host="edge-host")
