"""Commands beside a running edge: listen, outbox, replay, explain, unattributed, readings as known before."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.config.file import load
from gateway.edge.journal.journal import Journal
from mapping.changes import Name
from mapping.directory import NumberKind
from mapping.store import DirectoryStore
from protocols.clock import SystemClock
from protocols.session import Auth
from tests.support.cli import Cli
from tests.support.town import Program, Town
from tests.support.waiting import PATIENCE, wait_until


@pytest.fixture(scope="module")
def town(cli_town: Town, cli: Cli) -> Iterator[Town]:
    """The town with its edge: every meter has been read once and central holds it."""
    cli_town.edge.start()
    try:
        wait_until(
            lambda: all(held(cli, cli_town, m.meter) for m in cli_town.plan.meters), "every meter was read"
        )
        yield cli_town
    finally:
        assert cli_town.edge.stop() == 0, cli_town.edge.tail()


def held(cli: Cli, town: Town, meter: str) -> bool:
    answer = cli("explain", meter, "--data", data(town), "--json").json
    return any(d["acknowledged"] and d["capture"]["gateway"] == "edge-1" for d in answer["deliveries"])


def data(town: Town) -> Path:
    return town.folder / "central"


def dlms(town: Town) -> tuple[str, str]:
    """A consumer's meter that nobody moved, with its account."""
    meter = next(
        m
        for m in town.plan.consumers
        if m.spec.dlms is not None and m.spec.dlms.auth is Auth.HLS2 and m.meter != town.moved.meter
    )
    assert meter.account_number is not None
    return meter.meter, meter.account_number


def span() -> tuple[str, ...]:
    now = datetime.now(UTC)
    return "--since", (now - timedelta(days=2)).isoformat(), "--until", (now + timedelta(hours=1)).isoformat()


def test_explain_a_meter_an_account_and_a_capture(cli: Cli, town: Town) -> None:
    meter, account = dlms(town)
    for what in (meter, account):
        printed = cli("explain", what, "--data", data(town)).out
        assert account in printed
        assert "directory.csv row" in printed
        assert "{" not in printed, "a dump of dataclasses is no explanation"
        assert "datetime" not in printed
    answer = cli("explain", meter, "--data", data(town), "--json").json
    capture = answer["deliveries"][0]["capture"]
    one = cli("explain", capture["capture_id"], "--data", data(town))
    assert sum(capture["profile"] in line for line in one.out.splitlines()) == 2, one.out
    assert " yes " in one.out
    said = cli.refuses("explain", "GEN:00000000", "--data", data(town), code=2)
    assert "no capture, no meter and no account" in said


def test_unattributed_hides_what_is_nobodys(cli: Cli, town: Town) -> None:
    feeder = next(m.meter for m in town.plan.meters if m.role == "feeder")
    assert feeder not in cli("unattributed", "--data", data(town)).out
    rows = cli("unattributed", "--data", data(town), "--all", "--json").json
    assert {r["reason"] for r in rows if r["meter"] == feeder} == {"not_a_consumer"}
    assert not [
        r for r in cli("unattributed", "--data", data(town), "--json").json if r["reason"] == "not_a_consumer"
    ]


def test_readings_as_known_now_and_before(cli: Cli, town: Town) -> None:
    _, account = dlms(town)
    rows = cli("readings", account, *span(), "--data", data(town), "--json").json
    assert {row["account"] for row in rows} == {account}
    assert "block_load" in {row["profile"] for row in rows}
    printed = cli("readings", account, *span(), "--data", data(town)).out
    assert " Wh" in printed
    assert "{" not in printed
    before = datetime.now(UTC)
    wait_until(lambda: datetime.now(UTC) > before, "the clock moves on")
    with DirectoryStore(town.files.directory) as store:
        owner = store.snapshot().account_by_number(NumberKind.ACCOUNT, account)
        assert owner is not None
        rename(store, owner, "9000000099")
    try:
        now = cli("readings", "9000000099", *span(), "--data", data(town), "--json").json
        known = ("--known-at", before.isoformat())
        then = cli("readings", "9000000099", *span(), *known, "--data", data(town), "--json").json
    finally:
        with DirectoryStore(town.files.directory) as store:
            rename(store, owner, account)
    assert {row["account"] for row in now} == {"9000000099"}
    assert {row["account"] for row in then} == {account}
    assert len(now) >= len(then) == len(rows)


def rename(store: DirectoryStore, owner: str, number: str) -> None:
    store.apply([Name(owner, NumberKind.ACCOUNT, number)], by="test", source="test", at=datetime.now(UTC))


async def test_outbox_names_a_delivery_that_never_began(cli: Cli, tmp_path: Path) -> None:
    edge = tmp_path / "edge.toml"
    edge.write_text(f'[gateway]\nname = "edge-1"\ndata = "{tmp_path / "data"}"\n', encoding="utf-8")
    folder = load(edge).edge_folder
    folder.mkdir(parents=True)
    await (await Journal.open(folder / "journal.db", clock=SystemClock())).close()
    assert cli("outbox", "-c", edge, "--json").json["waiting_for_mqtt"] == 0


def test_outbox_and_replay(cli: Cli, town: Town) -> None:
    edge = town.folder / "edge.toml"
    wait_until(lambda: cli("outbox", "-c", edge, "--json").json["waiting_for_mqtt"] == 0, "all is delivered")
    seen = cli("outbox", "-c", edge, "--json").json
    assert seen["last_seq"] > 100
    assert "waiting for mqtt" in cli("outbox", "-c", edge).out
    assert "no dead letters" in cli("outbox", "-c", edge, "--dead").out
    last = seen["last_seq"]
    assert "holds" in cli.refuses("replay", last, last + 5, "-c", edge, code=2)
    with listening(town) as heard:
        assert "asked edge-1" in cli("replay", last - 3, last, "-c", edge).out
        wait_until(lambda: "reading " in heard.tail(), "what was asked for comes again")


class listening:
    """`meter-gateway listen` as a process; it ends well on SIGINT."""

    def __init__(self, town: Town) -> None:
        self.program = Program(
            "listen", ["listen", "--config", str(town.folder / "central.toml")], town.folder
        )

    def __enter__(self) -> Program:
        self.program.start()
        wait_until(lambda: self.program.tail() != "", "listen says something")
        return self.program

    def __exit__(self, *_: object) -> None:
        process = self.program._process
        assert process is not None
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0, self.program.tail()
        assert "Traceback" not in self.program.tail()
