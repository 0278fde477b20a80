"""The golden scenarios: the reference consumer, and one written from the text alone, end with the ledger told."""

from __future__ import annotations

import contextlib
import json
import random
from dataclasses import replace
from typing import Any

import pytest

from gateway.contract.batches import parse_batch
from gateway.contract.consumer_rule import ConsumerState
from gateway.contract.envelope import parse, parse_change
from gateway.contract.messages import TimeVerdict, rfc3339
from gateway.contract.scenario import Row, Teller, document, expected
from gateway.contract.stories import NEW, OLD, part
from gateway.errors import ContractError
from mapping.directory import AttributionRole
from tests.support.contract_schemas import FOLDER, validate
from tests.support.text_consumer import TextConsumer

SCENARIOS = {path.stem: json.loads(path.read_bytes()) for path in sorted(FOLDER.glob("scenarios/*.json"))}
ANY_ORDER = [name for name, scenario in SCENARIOS.items() if scenario["any_order"]]
Json = dict[str, Any]


class Reference:
    """The reference consumer, its state written as a scenario's ledger."""

    def __init__(self) -> None:
        self.state = ConsumerState()

    def take(self, message: Json) -> None:
        payload = json.dumps(message).encode()
        if "time.judged" in message["type"]:
            self.state.apply_verdict(parse(payload, TimeVerdict).data)
        elif "blocks" not in message["data"]:
            self.state.apply_change(parse_change(payload).data)
        else:
            with contextlib.suppress(ContractError):  # a wrong checksum: what is refused is missing
                self.state.apply(parse_batch(payload).data)

    def ledger(self) -> Json:
        found: Json = {"captures": [self._entry(one) for one in sorted(self.state.captures)]}
        holes = {
            journal: [list(span) for span in seqs.holes()] for journal, seqs in self.state.journals.items()
        }
        if any(holes.values()):
            found["missing"] = {journal: spans for journal, spans in holes.items() if spans}
        if self.state.conflicts:
            found["set_aside"] = {journal: sorted(seqs) for journal, seqs in self.state.conflicts.items()}
        return found

    def _entry(self, capture_id: str) -> Json:
        capture = self.state.dated(capture_id)
        resolved = self.state.attribution(capture_id)
        accounts = [
            one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in resolved.accounts
        ]
        entry = {
            "capture_id": capture_id,
            "value_rev": capture.value_rev,
            "epoch": capture.epoch or None,
            "at": rfc3339(capture.at),
            "start": None if capture.start is None else rfc3339(capture.start),
            "values": [value.value for value in capture.values],
            "accounts": accounts,
            "reason": resolved.reason,
        }
        return {name: value for name, value in entry.items() if value is not None}


CONSUMERS: list[type[Reference] | type[TextConsumer]] = [Reference, TextConsumer]


def feed(consumer: Reference | TextConsumer, messages: list[Json]) -> None:
    for message in messages:
        consumer.take(message["payload"])


@pytest.mark.parametrize("made", CONSUMERS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_each_step_gives_the_ledger_that_is_told(
    name: str, made: type[Reference] | type[TextConsumer]
) -> None:
    consumer = made()
    for step in SCENARIOS[name]["steps"]:
        feed(consumer, step["messages"])
        assert consumer.ledger() == step["ledger"], step["said"]


@pytest.mark.parametrize("made", CONSUMERS)
@pytest.mark.parametrize("name", ANY_ORDER)
def test_any_order_and_repetition_give_the_last_ledger(
    name: str, made: type[Reference] | type[TextConsumer]
) -> None:
    steps = SCENARIOS[name]["steps"]
    messages = [message for step in steps for message in step["messages"]]
    for seed in range(20):
        consumer = made()
        feed(consumer, random.Random(seed).sample(messages * 2, 2 * len(messages)))
        assert consumer.ledger() == steps[-1]["ledger"]


@pytest.mark.parametrize("name", SCENARIOS)
def test_messages_of_scenarios_are_as_the_contract_says(name: str) -> None:
    for step in SCENARIOS[name]["steps"]:
        for message in step["messages"]:
            assert message["topic"].startswith("kanpur/v2/")
            validate(json.dumps(message["payload"]).encode())


def test_the_consumer_of_the_text_imports_nothing_of_the_product() -> None:
    source = (FOLDER.parent.parent / "tests" / "support" / "text_consumer.py").read_text()
    assert not [
        line for line in source.splitlines() if "import" in line and ("gateway" in line or "mapping" in line)
    ]


def test_a_partial_without_a_span_is_nobodys_guess() -> None:
    """What version 1 wrote: both hold what no message covers, and both consumers say so."""
    both = tuple(replace(one, role=AttributionRole.PARTIAL) for one in (OLD, NEW))
    story = Teller("version-1", "An entry of version 1")
    across = Row(seq=1, end="10:30", value="412", accounts=both)
    story.readings(across)
    story.ledger("As it was stamped.", expected(across, *both))
    story.changed(2, "10:20", None, NEW, OLD)
    story.ledger("One piece is known.", expected(across, *both, part(OLD, "10:20", "10:30")))
    for made in CONSUMERS:
        consumer = made()
        for step in document(story.told())["steps"]:
            feed(consumer, step["messages"])
            assert consumer.ledger() == step["ledger"]
