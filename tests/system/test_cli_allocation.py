"""The commands about whose word counts: allocation and quarantine."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.central.ledger.ledger import Ledger
from gateway.roles.central_files import central_files
from tests.support.central.samples import batch, capture, received
from tests.support.cli import Cli


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A ledger in which edge-1 has claimed two meters, and edge-2 has delivered one of them, too."""
    ledger = Ledger(central_files(tmp_path).made().ledger)
    ledger.ingest([received(batch([capture(1), capture(2, meter="GEN:2")]))])
    ledger.ingest([received(batch([capture(1), capture(3)], journal="journal-2", gateway="edge-2"))])
    ledger.close()
    return tmp_path


def test_who_reads_what_is_shown_confirmed_and_moved(cli: Cli, data: Path) -> None:
    rows = cli("allocation", "show", "--data", data, "--json").json
    assert [(row["meter"], row["gateway"], row["origin"]) for row in rows] == [
        ("GEN:1", "edge-1", "claimed"),
        ("GEN:2", "edge-1", "claimed"),
    ]
    assert len(cli("allocation", "confirm", "edge-1", "--data", data, "--json").json) == 2
    assert "no unconfirmed meters" in cli("allocation", "confirm", "edge-1", "--data", data).out
    moved = cli(
        "allocation", "move", "GEN:1", "--to", "edge-2", "--note", "rewired", "--data", data, "--json"
    )
    assert [(row["meter"], row["gateway"], row["epoch"]) for row in moved.json] == [("GEN:1", "edge-2", 2)]
    first, second = cli("allocation", "show", "GEN:1", "--data", data, "--json").json
    assert (first["gateway"], first["until"]) == ("edge-1", second["since"])
    assert (second["origin"], second["note"]) == ("given", "rewired")
    assert second["by"]
    assert "edge-2 was never heard" in moved.err
    all_of_it = cli("allocation", "move", "--from", "edge-1", "--to", "edge-3", "--data", data, "--json").json
    assert [(row["meter"], row["gateway"]) for row in all_of_it] == [("GEN:2", "edge-3")]


def test_the_journals_of_a_box_that_died_are_given_up(cli: Cli, data: Path) -> None:
    told = cli("allocation", "replace-box", "edge-1", "--data", data, "--json").json
    assert (told["journals retired"], told["meters"], told["counters kept"]) == (1, 2, 0)
    ledger = Ledger(central_files(data).ledger)
    ledger.ingest([received(batch([capture(4)]))])
    assert {group.reason for group in ledger.quarantine.groups() if group.gateway == "edge-1"} == {
        "foreign_journal"
    }
    assert ledger.counts().captures == 2
    ledger.close()


def test_quarantine_is_shown_and_thrown_away_by_name(cli: Cli, data: Path) -> None:
    (row,) = cli("quarantine", "show", "--data", data, "--json").json
    assert (row["gateway"], row["meter"], row["reason"], row["entries"]) == (
        "edge-2",
        "GEN:1",
        "not_allocated",
        2,
    )
    assert cli("quarantine", "discard", "edge-2", "--meter", "GEN:9", "--data", data, "--json").json == {
        "discarded": 0
    }
    assert cli("quarantine", "discard", "edge-2", "--data", data, "--json").json == {"discarded": 2}
    assert "quarantine is empty" in cli("quarantine", "show", "--data", data).out


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("move --to edge-2", "name the meters, or the gateway"),
        ("move GEN:1 --to edge-2 --from edge-1", "and not both"),
        ("move --from edge-9 --to edge-2", "edge-9 has no meters"),
        ("move GEN:1 gen-7 --to edge-2", "`gen-7` is not a meter"),
        ("replace-box edge-9", "no journal of edge-9 is in use"),
        ("move GEN:1 --to edge-2 --since 2199-01-01", "in the future"),
    ],
)
def test_wrong_use_says_what_is_right(cli: Cli, data: Path, given: str, words: str) -> None:
    assert words in cli.refuses("allocation", *given.split(), "--data", data, code=2)


@pytest.mark.parametrize(
    ("given", "words"),
    [("GEN:99", "no gateway reads GEN:99"), ("--gateway edge-9", "edge-9 has no meters")],
)
def test_what_nobody_has_is_said_by_its_name(cli: Cli, data: Path, given: str, words: str) -> None:
    assert words in cli("allocation", "show", *given.split(), "--data", data).out


def test_a_gateway_that_cannot_be_is_refused(cli: Cli, data: Path) -> None:
    assert (
        "cannot name a gateway"
        in cli("allocation", "move", "GEN:1", "--to", "edge/2", "--data", data, code=3).err
    )


def test_a_folder_without_a_ledger_is_said(cli: Cli, tmp_path: Path) -> None:
    assert "there is no ledger" in cli.refuses("allocation", "show", "--data", tmp_path / "none", code=2)
