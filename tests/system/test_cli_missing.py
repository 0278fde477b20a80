"""The commands about what did not arrive or could not be understood: missing, dead-letters."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.central.intake.batches import MessageStore, ReceivedMessage
from gateway.central.ledger.ledger import Ledger
from gateway.contract.topics import Topics
from gateway.roles.central_files import central_files
from tests.support.blocks import AT, batch_of, block_load, encoded
from tests.support.central.ledgers import alter_values
from tests.support.central.samples import NOW, batch, capture, octets, received
from tests.support.cli import Cli

TOPIC = Topics("kanpur").readings("edge-1", "block_load")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A ledger with a range that was given up, a hole, and two dead letters of which one is good by now."""
    ledger = Ledger(central_files(tmp_path).made().ledger)
    ledger.ingest([received(batch([capture(n) for n in (1, 4, 7)]))])
    ledger.journals.declare_lost("journal-1", 2, 3, "the journal no longer holds them", NOW)
    ledger.letters.put(TOPIC, octets(batch([capture(8)])), "malformed", "$.data: mended since", NOW)
    ledger.letters.put(TOPIC, b"{", "malformed", "$: no JSON", NOW)
    ledger.close()
    return tmp_path


def letters(cli: Cli, data: Path) -> list[int]:
    return [row["id"] for row in cli("dead-letters", "show", "--data", data, "--json").json]


def test_what_is_missing_is_listed_with_its_fate(cli: Cli, data: Path) -> None:
    rows = cli("missing", "--data", data, "--json").json
    assert [(row["gateway"], row["first"], row["last"], row["reason"]) for row in rows] == [
        ("edge-1", 2, 3, "the journal no longer holds them"),
        ("edge-1", 5, 6, "asked for again"),
    ]
    assert [row["lost_at"] is None for row in rows] == [False, True]


def test_a_dead_letter_is_shown_and_redriven_and_dropped(cli: Cli, data: Path) -> None:
    broken, mended = letters(cli, data)
    assert cli("dead-letters", "show", broken, "--data", data, "--json").json["payload"] == "{"
    done = cli("dead-letters", "redrive", mended, "--data", data, "--json").json
    assert done == [{"id": mended, "topic": TOPIC, "outcome": "stored"}]
    assert letters(cli, data) == [broken]
    again = cli("dead-letters", "redrive", "--all", "--data", data, "--json", code=1).json
    assert again[0]["outcome"].startswith("refused again: $")
    assert letters(cli, data) == [broken]
    assert cli("dead-letters", "drop", broken, "--data", data, "--json").json == {"dropped": 1}
    assert "every message could be understood" in cli("dead-letters", "show", "--data", data).out


def test_a_letter_that_is_not_there_is_said(cli: Cli, data: Path) -> None:
    for command in ("show", "redrive", "drop"):
        said = cli.refuses("dead-letters", command, 999, "--data", data, code=2)
        assert "`dead-letters show` lists them" in said
    assert "name the letters" in cli.refuses("dead-letters", "redrive", "--data", data, code=2)


def test_captures_that_were_altered_in_the_ledger_are_listed(cli: Cli, data: Path) -> None:
    """A flipped digit turned 308 Wh into 908 Wh unnoticed."""
    payload = batch_of(encoded(block_load(), block_load(1)))
    ledger = Ledger(central_files(data).ledger)
    topic = Topics("kanpur").readings("edge-1", "block_load")
    handled = MessageStore(ledger, Topics("kanpur")).handle([ReceivedMessage(topic, payload, AT)])
    assert handled.result.stored == 2
    assert "what its edge stamped" in cli("altered", "--data", data).out
    alter_values(ledger, 413, 913)
    ledger.close()
    (row,) = cli("altered", "--data", data, "--json", code=1).json
    assert (row["seq"], row["gateway"]) == (18, "edge-1")
