"""Commands beside a real edge on the buses that it polls: each takes its turn, one that is killed leaves no trace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from protocols.simulator.neighbourhood.plan import MeterPlan
from tests.support.cli import Cli, command_line
from tests.support.town import Program, Town
from tests.support.waiting import wait_until

AT_ONCE = 4
"""Command lines that ask at once; the edge's own tests have fifty."""


@pytest.fixture(scope="module")
def town(cli_town: Town) -> Iterator[Town]:
    """The town with its edge, which polls its buses."""
    cli_town.edge.start()
    try:
        wait_until(lambda: (cli_town.folder / "edge" / "edge" / "field.sock").exists(), cli_town.edge.tail)
        yield cli_town
    finally:
        assert cli_town.edge.stop() == 0, cli_town.edge.tail()


def turns(town: Town) -> list[dict[str, object]]:
    """The turns of commands that ended, as the edge's log tells them."""
    log = town.edge.log
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return [json.loads(line) for line in lines if '"event": "field_turn"' in line]


def on(town: Town, line: str) -> list[MeterPlan]:
    return [meter for meter in town.plan.meters if meter.line == line]


@pytest.mark.parametrize("bus", ["hdlc-bus-1", "rtu-bus-1"])
def test_a_meter_on_a_bus_is_read_beside_the_edge(cli: Cli, town: Town, bus: str) -> None:
    meter = on(town, bus)[0]
    rows = cli("read", meter.meter, "instantaneous", "--config", town.folder / "edge.toml", "--json").json
    assert rows[0]["values"]["1-0:1.8.0*255"]
    wait_until(lambda: any(turn["purpose"] == f"read {meter.meter}" for turn in turns(town)), town.edge.tail)


def test_several_commands_at_once_are_all_served(town: Town, tmp_path: Path) -> None:
    meters = on(town, "hdlc-bus-1")[:2]

    def read(n: int) -> int:
        with command_line(tmp_path / str(n)) as cli:
            meter = meters[n % len(meters)].meter
            return len(cli("read", meter, "instantaneous", "-c", town.folder / "edge.toml", "--json").json)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert list(pool.map(read, range(AT_ONCE))) == [1] * AT_ONCE


def test_a_command_that_is_killed_in_the_middle_leaves_the_bus_to_the_edge(
    cli: Cli, town: Town, tmp_path: Path
) -> None:
    """The meter is told goodbye for it, and neither the edge nor the next command meets a meter that is engaged."""
    meter, trace = on(town, "hdlc-bus-1")[0].meter, tmp_path / "trace"
    config = town.folder / "edge.toml"
    words = ["read", meter, "block_load", "--config", str(config), "--trace", str(trace)]
    command = Program("killed", words, tmp_path)
    command.start()
    wait_until(lambda: trace.exists() and trace.stat().st_size > 2_000, command.tail)
    command.kill()
    wait_until(lambda: any(turn["ended"] == "died" for turn in turns(town)), town.edge.tail)
    assert cli("read", meter, "instantaneous", "--config", config, "--json").json
    failed = [
        line for line in town.edge.log.read_text().splitlines() if "poll_failed" in line and meter in line
    ]
    assert failed == []


def test_a_clock_s_turn_is_recorded_with_who_had_it(cli: Cli, town: Town) -> None:
    meter = on(town, "hdlc-bus-1")[0].meter
    cli("clock", meter, "--config", town.folder / "edge.toml", "--set", "--yes", "--trust-host")
    record = town.folder / "edge" / "acts.jsonl"

    def lines() -> list[dict[str, str]]:
        rows = record.read_text().splitlines() if record.exists() else []
        return [found for row in rows if (found := json.loads(row))["act"].startswith(f"clock {meter}")]

    wait_until(lambda: len(lines()) == 2, town.edge.tail)
    begun, ended = lines()
    assert begun["outcome"] == "begun"
    assert ended["outcome"].startswith("released after")
    assert {line["meter"] for line in (begun, ended)} == {meter}
    assert "uid" in begun["by"]


def test_a_modbus_meter_is_ordered_and_recharged_beside_the_edge(cli: Cli, town: Town) -> None:
    """On a bus that the edge polls: proved by what the meter shows, recorded by the command and by the edge."""
    meter = next(
        m for m in on(town, "rtu-bus-1") if m.spec.modbus is not None and m.spec.modbus.model == "sdm320y-sim"
    )
    sure = ("--yes", "--meter-serial", meter.serial, "--config", town.folder / "edge.toml", "--json")
    for to in ("disconnected", "connected"):
        done = cli("relay", meter.meter, "--to", to, "--trust-host", *sure).json
        assert (done["outcome"], done["changes"][0]["after"]) == ("done, and read back", to)
    assert cli("program", meter.meter, "recharge", "20", *sure).json["outcome"] == "done, and read back"
    record = town.folder / "edge" / "acts.jsonl"

    def acts() -> list[tuple[str, str]]:
        rows = [json.loads(row) for row in record.read_text().splitlines()] if record.exists() else []
        return [(row["act"], row["outcome"].partition(" ")[0]) for row in rows if row["meter"] == meter.meter]

    assert acts().count(("relay", "done")) == 2
    assert acts().count(("recharge", "done")) == 1
    wait_until(lambda: any(outcome == "released" for _, outcome in acts()), town.edge.tail)


def test_a_span_is_read_again_by_the_edge(cli: Cli, town: Town) -> None:
    config = town.folder / "edge.toml"
    dlms, modbus = on(town, "hdlc-bus-1")[0].meter, on(town, "rtu-bus-1")[0].meter
    now = datetime.now(UTC)
    span = ("--from", (now - timedelta(hours=6)).isoformat(), "--to", now.isoformat())
    said = cli("backfill", dlms, *span, "--profile", "block_load", "--config", config).out
    assert f"block_load of {dlms}: " in said
    assert "that it keeps" in cli.refuses(
        "backfill", dlms, *span, "--profile", "instantaneous", "-c", config, code=2
    )
    assert "for nothing that it keeps" in cli.refuses("backfill", modbus, *span, "--config", config, code=2)
    assert "Did you mean" in cli.refuses("backfill", dlms[:-1], *span, "--config", config, code=2)
    backwards = ("--from", span[3], "--to", span[1])
    assert "not before" in cli.refuses("backfill", dlms, *backwards, "--config", config, code=2)
