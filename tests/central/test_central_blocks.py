"""Batches of version 2 at central: stored as they came, repeats told across versions, wrong checksums kept aside."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.central.audit import Recorded, audit
from gateway.central.intake.batches import HandledMessages, MessageStore, ReceivedMessage
from gateway.central.ledger.ledger import Ledger
from gateway.central.ledger.records import StoredCapture
from gateway.contract.batches import parse_batch
from gateway.contract.blocks import EVENTS_TYPE, assemble_gaps, from_version_1
from gateway.contract.capture_body import cut_captures
from gateway.contract.topics import Topics
from mapping.directory import Unattributed
from protocols.reading import MeterTime, Number
from tests.support.blocks import (
    AT,
    ENERGY,
    EVERY_KIND,
    SENDER,
    batch_of,
    block_load,
    encoded,
    strangers_checksum,
)
from tests.support.central.ledgers import alter_values
from tests.support.contract_golden import GOLDEN_1

TOPICS = Topics("test")
READINGS = TOPICS.readings("edge-1", "block_load")
NOW = AT + timedelta(days=2)
DAY = [block_load(number) for number in range(4)]


def send(ledger: Ledger, payload: bytes, topic: str = READINGS) -> HandledMessages:
    return MessageStore(ledger, TOPICS).handle([ReceivedMessage(topic, payload, NOW)])


def messages(ledger: Ledger) -> list[Any]:
    return [one.message for one in ledger.captures.between()]


def test_captures_of_blocks_are_stored_and_read_back_whole(ledger: Ledger) -> None:
    odd = block_load(9, values=EVERY_KIND, occurrence=2, meter_time=MeterTime(wall="24/11", trusted=False))
    payload = batch_of(
        encoded(*DAY, epoch=0),
        encoded(odd, holders=None, reason=Unattributed.NO_ACCOUNT, clock='{"drift":"2.5"}'),
    )
    handled = send(ledger, payload)
    assert (handled.result.stored, handled.result.quarantined, handled.set_aside) == (5, 0, 0)
    assert messages(ledger) == list(parse_batch(payload).data.captures)
    stored = ledger.captures.between()
    assert all(one.is_sound() for one in stored)
    assert (stored[0].directory_generation, stored[0].directory_version) == ("3.9f2c01ab", 7)
    assert handled.journals["j-1"].holes == ((1, 16),)


def test_of_many_that_come_at_once_those_are_stored_that_are_new(ledger: Ledger) -> None:
    """More than one statement takes, of one moment: what was there, the newer revision of one, and what is new."""
    first = [block_load(number) for number in range(0, 60, 2)]
    assert send(ledger, batch_of(encoded(*first))).result.stored == 30
    changed = block_load(10, values=((ENERGY, Number(9, 0, "Wh")), *block_load(10).values[1:]))
    again = batch_of(encoded(*(block_load(number) for number in range(60) if number != 10)), first=100)
    done = send(ledger, again).result
    assert (done.stored, done.repeated, done.revised) == (30, 29, 0)
    payload = batch_of(encoded(changed), first=200)
    revised = payload.replace(b'"}]}]', b'","value_rev":2}]}]')
    assert revised != payload
    done = send(ledger, revised).result
    assert (done.stored, done.repeated, done.revised) == (0, 0, 1)
    held = ledger.captures.between()
    assert [one.at for one in held] == [block_load(number).at for number in range(60)]
    assert [one.message.values[0].value for one in held][9:12] == ["421", "9", "423"]


def test_layouts_and_holders_are_kept_once(ledger: Ledger) -> None:
    send(ledger, batch_of(encoded(*DAY)))
    send(ledger, batch_of(encoded(block_load(7)), first=30))
    with ledger.database.reading("counting") as connection:
        counts = [
            connection.exec_driver_sql(f"select count(*) from {name}").scalar()
            for name in ("layouts", "holder_lists")
        ]
    assert counts == [1, 1]
    assert len(messages(ledger)) == 5


def test_members_of_newer_senders_are_kept(ledger: Ledger) -> None:
    told = json.loads(batch_of(encoded(block_load())))
    block = told["data"]["blocks"][0]
    row = block["captures"][0]
    row["season"] = {"name": "Kharif"}
    row["checksum"] = strangers_checksum(block, row)
    assert send(ledger, json.dumps(told).encode()).result.stored == 1
    (one,) = ledger.captures.between()
    assert json.loads(one.body)["season"] == {"name": "Kharif"}
    assert one.is_sound()


def test_a_repeat_is_a_repeat_and_another_value_under_one_revision_is_kept_aside(ledger: Ledger) -> None:
    payload = batch_of(encoded(*DAY))
    assert send(ledger, payload).result.stored == 4
    assert send(ledger, payload).result.repeated == 4
    other = block_load(0, values=((ENERGY, Number(999, 0, "Wh")), block_load().values[1]))
    handled = send(ledger, batch_of(encoded(other), first=40))
    assert (handled.result.quarantined, handled.result.revised) == (1, 0)


@pytest.mark.parametrize("name", sorted(n for n in GOLDEN_1 if n.startswith("readings")))
def test_what_was_stored_in_version_1_comes_again_in_version_2_as_a_repeat(ledger: Ledger, name: str) -> None:
    payload = GOLDEN_1[name]
    profile = parse_batch(payload).data.captures[0].profile
    old = send(ledger, payload, Topics("test", 1).readings("edge-1", profile))
    count = len(cut_captures(payload))
    assert old.result.stored == count
    blocks = [from_version_1(body) for _, body, _ in cut_captures(payload)]
    new = send(ledger, batch_of(*blocks, first=40), TOPICS.readings("edge-1", profile))
    assert (new.result.repeated, new.result.quarantined, new.set_aside) == (count, 0, 0)


def test_a_flipped_digit_is_kept_aside_by_name_and_its_neighbours_are_stored(ledger: Ledger) -> None:
    """308 Wh became 908 Wh unnoticed."""
    sound = batch_of(encoded(*DAY), first=1)
    handled = send(ledger, sound.replace(b'"413"', b'"913"'))
    assert (handled.result.stored, handled.result.quarantined) == (3, 1)
    (entry,) = ledger.quarantine.entries("edge-1")
    assert (entry.seq, entry.meter, entry.reason) == (2, "GEN:1", "wrong_checksum")
    assert "checksum" in entry.detail
    assert handled.journals["j-1"].holes == ((2, 2),), "asked for again"
    again = send(ledger, sound)
    assert (again.result.stored, again.result.repeated) == (1, 3)
    assert again.journals["j-1"].contiguous == 4
    assert ledger.quarantine.entries("edge-1") == []


def test_an_entry_that_stays_wrong_is_in_quarantine_and_never_lost(ledger: Ledger) -> None:
    spoilt = batch_of(encoded(*DAY), first=1).replace(b'"413"', b'"913"')
    for _ in range(3):
        handled = send(ledger, spoilt)
    assert handled.journals["j-1"].contiguous == 4, "the count goes on"
    assert ledger.journals.missing() == []
    assert len(ledger.quarantine.entries("edge-1")) == 1


def test_what_waits_in_quarantine_can_be_taken_again_alone(ledger: Ledger) -> None:
    told = json.loads(batch_of(encoded(*DAY), first=1))
    told["data"]["blocks"][0]["captures"][1]["trusted"] = "perhaps"
    spoilt = json.dumps(told).encode()
    assert send(ledger, spoilt).result.quarantined == 1
    (entry,) = ledger.quarantine.entries("edge-1")
    alone = json.loads(entry.payload)
    del alone["data"]["blocks"][0]["captures"][0]["trusted"]
    assert send(ledger, json.dumps(alone).encode(), entry.topic).result.stored == 1
    assert len(messages(ledger)) == 4
    other = json.loads(json.dumps(told))
    other["data"]["blocks"][0]["captures"] = other["data"]["blocks"][0]["captures"][1:2]
    other["data"]["blocks"][0]["seq"] = 2
    assert send(ledger, json.dumps(other).encode()).result.quarantined == 1
    assert ledger.quarantine.entries("edge-1")[0].payload == entry.payload, "the same, whatever came with it"


def test_a_batch_on_the_wrong_topic_is_set_aside(ledger: Ledger) -> None:
    payload = batch_of(encoded(block_load()))
    assert send(ledger, payload, TOPICS.readings("edge-1", "daily")).set_aside == 1
    assert send(ledger, payload, TOPICS.readings("edge-2", "block_load")).set_aside == 1
    assert send(ledger, payload, TOPICS.events("edge-1")).set_aside == 1
    assert send(ledger, batch_of(encoded(block_load()), type=EVENTS_TYPE)).set_aside == 1
    assert messages(ledger) == []


def test_gaps_of_version_2_are_stored_and_a_wrong_one_is_kept_aside(ledger: Ledger) -> None:
    gap = {
        "gap_id": "GEN:1/block_load/a",
        "meter": "GEN:1",
        "profile": "block_load",
        "after": "2026-11-23T12:00:00Z",
        "until": "2026-11-23T13:30:00Z",
        "state": "open",
        "reason": "a_new_reason",
        "noticed_at": "2026-11-23T13:30:00Z",
    }
    bodies = [gap, {**gap, "gap_id": "b", "state": "closed"}]
    entries = [(seq, json.dumps(one).encode()) for seq, one in enumerate(bodies, start=1)]
    handled = send(ledger, assemble_gaps(entries, SENDER, time="2026-11-24T00:00:00Z"), TOPICS.gaps("edge-1"))
    assert (handled.result.gaps, handled.result.quarantined) == (1, 1)
    assert [one.reason for one in ledger.gaps.all()] == ["a_new_reason"]


def test_an_altered_row_of_the_ledger_is_noticed(ledger: Ledger) -> None:
    send(ledger, batch_of(encoded(*DAY)))
    alter_values(ledger, 413, 913)
    unsound = [one for one in ledger.captures.between() if not one.is_sound()]
    assert [one.at for one in unsound] == [DAY[1].at]
    assert isinstance(unsound[0], StoredCapture)


def test_the_audit_reads_captures_of_version_2(ledger_file: Ledger, tmp_path: Path) -> None:
    send(ledger_file, batch_of(encoded(*DAY)))

    def owners(_meter: str, _start: object, _at: object) -> frozenset[str]:
        return frozenset({"0012345678"})

    memory = [
        Recorded(
            meter="GEN:1",
            profile="block_load",
            at=one.at,
            start=one.start,
            values={str(q): v.text() for q, v in one.values if isinstance(v, Number)},
        )
        for one in DAY
    ]
    result = audit(tmp_path / "ledger.db", memory, owners, owners)
    assert result.clean, str(result)
    assert result.stored == 4
    altered = replace(memory[0], values={str(ENERGY): "413"})
    assert audit(tmp_path / "ledger.db", [altered, *memory[1:]], owners, owners).altered == 1
