"""The field engineer's commands against real sockets and buses: read, scan, commission, replace."""

from __future__ import annotations

import asyncio
import os
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest

from gateway.central.ledger.ledger import Ledger
from gateway.config.file import load
from mapping.changes import Remove
from mapping.store import DirectoryStore
from protocols.lines.serial import SerialLine
from protocols.session import Auth
from protocols.simulator.neighbourhood.plan import MeterPlan
from tests.support.cli import Cli
from tests.support.modbus.raw_responder import rtu
from tests.support.town import Town
from tests.support.town_meters import address, one

ENERGY = "1-0:1.8.0*255"


def with_keys(town: Town, meter: MeterPlan, *, key: str | None = None) -> list[str]:
    dlms = meter.spec.dlms
    assert dlms is not None
    words = [
        "--client",
        str(dlms.client),
        "--auth",
        dlms.auth.value,
        "--secrets",
        str(town.folder / "town" / "keys"),
    ]
    for option, ref in (
        ("--password-ref", dlms.password_ref),
        ("--encryption-key-ref", key or dlms.encryption_key_ref),
        ("--authentication-key-ref", dlms.authentication_key_ref),
    ):
        words += [option, ref] if ref else []
    return [*words, "--ciphered"] if dlms.ciphered else words


@pytest.fixture
def edge(cli_town: Town) -> Path:
    return cli_town.folder / "edge.toml"


# read


@pytest.mark.parametrize("auth", [Auth.LLS, Auth.HLS2])
def test_dlms_by_name_and_by_address_is_the_same(cli: Cli, cli_town: Town, edge: Path, auth: Auth) -> None:
    meter = one(cli_town, auth=auth)
    named = cli("read", meter.meter, "instantaneous", "--config", edge, "--json").json
    there = cli("read", address(cli_town, meter), "instantaneous", *with_keys(cli_town, meter), "--json").json
    assert set(named[0]["values"]) == set(there[0]["values"]) >= {ENERGY}
    assert named[0]["values"][ENERGY].endswith(" Wh")
    assert "energy import" in cli("read", meter.meter, "instantaneous", "--config", edge).out


def test_read_modbus_by_name_and_by_address(cli: Cli, cli_town: Town, edge: Path) -> None:
    meter = one(cli_town, model="abb-b23")
    words = ("--unit", 1, "--model", "abb-b23", "--json")
    there = cli("read", address(cli_town, meter), "instantaneous", *words).json[0]["values"]
    named = cli("read", meter.meter, "instantaneous", "--config", edge, "--json").json[0]["values"]
    assert set(there) == set(named) >= {ENERGY}


def test_stored_rows_between_two_times(cli: Cli, cli_town: Town, edge: Path) -> None:
    meter = one(cli_town, auth=Auth.HLS2)
    day = datetime.now(UTC).date() - timedelta(days=4)
    span = ("--since", day, "--until", day + timedelta(days=1))
    rows = cli("read", meter.meter, "block_load", *span, "-c", edge, "--json").json
    assert [row["at"] for row in rows] == sorted({row["at"] for row in rows})
    assert 40 <= len(rows) <= 48
    assert all(row["start"] for row in rows)


def test_every_event_is_printed_with_its_name(cli: Cli, cli_town: Town, edge: Path) -> None:
    meter = one(cli_town, auth=Auth.HLS2)
    rows = cli("read", meter.meter, "events", "-c", edge, "--json").json
    assert len({tuple(row["values"]) for row in rows}) > 1, "rows of several logs have differing columns"
    assert all(isinstance(row["event"], int) and row["event_name"] for row in rows)
    printed = cli("read", meter.meter, "events", "-c", edge).out
    assert sum(f"│ {row['event']} " in printed for row in rows) == len(rows)
    assert sum("+0530 │" in line for line in printed.splitlines()) == len(rows)


# refusals


def test_a_wrong_password_and_a_wrong_key(cli: Cli, cli_town: Town) -> None:
    lls, hls = one(cli_town, auth=Auth.LLS), one(cli_town, auth=Auth.HLS2)
    wrong = ("--client", 32, "--auth", "lls", "--secrets", cli_town.folder / "town" / "keys")
    said = cli.refuses(
        "read", address(cli_town, lls), "instantaneous", *wrong, "--password-ref", f"{hls.key}-secret", code=4
    )
    assert "password" in said
    keys = with_keys(cli_town, hls, key=f"{hls.key}-ak")
    assert "key" in cli.refuses("read", address(cli_town, hls), "instantaneous", *keys, code=4)


def test_a_unit_that_is_not_there(cli: Cli, cli_town: Town) -> None:
    where = address(cli_town, one(cli_town, model="abb-b23"))
    said = cli.refuses("read", where, "instantaneous", "--unit", 99, "--model", "abb-b23", code=4)
    assert "unit 99" in said


def test_a_bus_that_another_program_uses(cli: Cli) -> None:
    controller, device = os.openpty()
    tty.setraw(device)
    path = os.ttyname(device)

    async def held() -> str:
        line = SerialLine("held", path, baud=9600, parity="N")
        async with line.exclusive():
            said = await asyncio.to_thread(
                cli.refuses,
                "read",
                f"serial://{path}",
                "instantaneous",
                "--unit",
                1,
                "--model",
                "sdm120",
                code=4,
            )
        await line.close()
        return said

    try:
        said = asyncio.run(held())
        assert f"another program uses {path}: stop the edge" in said
        assert "Errno" not in said
    finally:
        os.close(controller)
        os.close(device)


# scan


def test_scan_of_a_modbus_bus(cli: Cli, cli_town: Town, edge: Path) -> None:
    found = cli("scan", "rtu-bus-1", "-c", edge, "--last", 5, "--protocol", "modbus", "--json").json
    there = {m.meter for m in cli_town.plan.meters if m.line == "rtu-bus-1"}
    assert {row["meter"] for row in found} == there
    assert {row["protocol"] for row in found} == {"modbus"}


def test_scan_of_a_dlms_meter_needs_no_key(cli: Cli, cli_town: Town) -> None:
    meter = one(cli_town, auth=Auth.HLS2)
    (found,) = cli("scan", address(cli_town, meter), "--json").json
    assert (found["protocol"], found["meter"]) == ("dlms", meter.meter)


def serial_of(town: Town, line: str) -> str:
    device = next(one.device for one in town.plan.lines if one.name == line)
    return f"serial://{device}?baud=115200&parity=N"


@pytest.mark.parametrize(("line", "protocol"), [("rtu-bus-1", "modbus"), ("hdlc-bus-1", "dlms")])
def test_what_a_scan_writes_is_accepted_by_check(
    cli: Cli, cli_town: Town, tmp_path: Path, line: str, protocol: str
) -> None:
    written = tmp_path / "site.toml"
    bus = serial_of(cli_town, line)
    said = cli("scan", bus, "--last", 5, "--protocol", protocol, "--timeout", "0.05", "--write", written)
    assert "meter-gateway check" in said.err
    assert "115200 8N1" in said.out
    there = {m.meter for m in cli_town.plan.meters if m.line == line}
    assert {one.meter for one in load(written).meters} == there
    cli("check", "--config", written)
    assert "is there already" in cli.refuses("scan", bus, "--write", written, code=2)


def test_wrong_settings_of_a_scan_are_refused(cli: Cli, cli_town: Town) -> None:
    bus = serial_of(cli_town, "rtu-bus-1")
    assert "Did you mean `baud`?" in cli.refuses("scan", bus.replace("baud", "bau"), code=2)
    assert "settings of a meter are options" in cli.refuses("scan", bus.replace("parity", "client"), code=2)
    assert "twice" in cli.refuses("scan", f"{bus}&baud=9600", code=2)
    assert "is no speed" in cli.refuses("scan", bus, "--baud", "9600,fast", code=2)
    assert "N, E, O" in cli.refuses("scan", bus, "--parity", "X", code=2)
    assert "neither dlms nor modbus" in cli.refuses("scan", bus, "--protocol", "modbu", code=2)
    assert "for a serial line" in cli.refuses("scan", "tcp://127.0.0.1:1", "--baud", "9600", code=2)


def test_a_line_is_watched_and_nothing_is_sent(cli: Cli, tmp_path: Path) -> None:
    with pty_pair() as (master, device):
        told = Thread(
            target=say_again, args=(master, rtu(5, 4, 0, 0, 0, 2) + rtu(5, 4, 4, 0x43, 0x67, 0x66, 0x66))
        )
        told.start()
        bus = f"serial://{device}?baud=115200"
        said = cli("watch", bus, "--for", 1, "--model", "sdm120").out
        told.join()
    assert "unit 5" in said
    assert "voltage 231.4 V" in said
    with pty_pair() as (_, device):
        assert "nothing passed" in cli("watch", f"serial://{device}", "--for", "0.2", code=4).out


@contextmanager
def pty_pair() -> Iterator[tuple[int, str]]:
    """The far end of a bus, and the device of the near one."""
    master, slave = os.openpty()
    tty.setraw(slave)
    try:
        yield master, os.ttyname(slave)
    finally:
        os.close(slave)
        os.close(master)


def say_again(master: int, octets: bytes) -> None:
    """Talk on a bus for a while: the listener may come late."""
    for _ in range(30):
        os.write(master, octets)
        time.sleep(0.1)


def test_a_line_is_tested_and_advice_is_given(cli: Cli, cli_town: Town, edge: Path) -> None:
    said = cli("line", "test", "rtu-bus-1", "--config", edge, "--count", 2)
    assert "in order" in said.out
    document = cli("line", "test", "rtu-bus-1", "--config", edge, "--count", 1, "--json").json
    assert {one["meter"] for one in document["meters"]} == {
        m.meter for m in cli_town.plan.meters if m.line == "rtu-bus-1"
    }
    assert "Did you mean `rtu-bus-1`?" in cli.refuses("line", "test", "rtu-bus", "--config", edge, code=2)


# commission and replace


def test_another_serial_at_a_known_address_binds_nothing(cli: Cli, cli_town: Town, edge: Path) -> None:
    meter = one(cli_town, model="abb-b23")
    other = cli_town.folder / "other.toml"
    other.write_text(edge.read_text().replace(meter.meter, "ABB:99999999"), encoding="utf-8")
    before = version(cli_town)
    said = cli.refuses(
        "commission",
        "ABB:99999999",
        "--usage-point",
        "UP-0500",
        "--new-usage-point",
        "-c",
        other,
        "--central",
        central(cli_town),
        code=4,
    )
    assert meter.meter in said
    assert "ABB:99999999" in said
    assert version(cli_town) == before


def test_commission_the_meter_in_stock_with_proof(cli: Cli, cli_town: Town, edge: Path) -> None:
    stock = in_stock(cli_town)
    where = ("-c", edge, "--central", central(cli_town))
    said = cli.refuses("commission", stock.meter, "--usage-point", "UP-0700", *where, code=2)
    assert "no usage point `UP-0700`. Did you mean `UP-0" in said
    assert "--new-usage-point" in said
    new = ("--usage-point", "UP-0700", "--new-usage-point")
    cli("allocation", "move", stock.meter, "--to", "where-it-was-before", "--data", central(cli_town))
    proof = cli("commission", stock.meter, *new, *where, "--json").json
    assert (proof["nameplate"], proof["usage_point"]) == (stock.meter, "UP-0700")
    held = in_ledger(cli_town, proof["capture_id"])
    assert held[ENERGY] == proof["energy"].removesuffix(" Wh")
    shown = cli("directory", "show", stock.meter, "--data", central(cli_town), "--json").json
    assert [(row["usage_point"], row["role"]) for row in shown][-1] == ("UP-0700", "consumer")
    again = cli("commission", stock.meter, "--usage-point", "UP-0700", *where)
    assert "central holds the opening reading" in again.out
    *_, before, now = cli("allocation", "show", stock.meter, "--data", central(cli_town), "--json").json
    assert (before["gateway"], now["note"]) == ("where-it-was-before", "field work")
    assert before["until"] == now["since"], (
        "who fits it gives it to the gateway on whose line it answered, once"
    )


def test_replace_with_a_final_that_cannot_be_read_is_null_with_a_reason(
    cli: Cli, cli_town: Town, edge: Path
) -> None:
    fresh = in_stock(cli_town)
    old = one(cli_town, auth=Auth.LLS)
    words = (
        "--usage-point",
        old.usage_point,
        "-c",
        edge,
        "--central",
        central(cli_town),
        "--no-final",
        "no_display",
    )
    done = cli("replace", old.meter, fresh.meter, *words, "--json").json
    assert (done["final"]["energy"], done["nameplate"]) == ("missing: no_display", fresh.meter)
    assert in_ledger(cli_town, done["final"]["capture_id"])[ENERGY] == "missing no_display"
    assert in_ledger(cli_town, done["opening"]["capture_id"])[ENERGY] == done["opening"][
        "energy"
    ].removesuffix(" Wh")
    assert done["final"]["account"] == done["opening"]["account"] == old.account_number
    assert (done["final"]["role"], done["opening"]["role"]) == ("final", "opening")


def in_stock(town: Town) -> MeterPlan:
    """The town's spare meter, taken away from where another test may have fitted it."""
    spare = next(m for m in town.plan.meters if m.role == "stock")
    with DirectoryStore(town.files.directory) as store:
        where = store.snapshot().installations(spare.meter)
    if where and where[-1].role.value == "consumer" and where[-1].valid_to is None:
        free(town, spare.meter)
    return spare


def free(town: Town, meter: str) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    with DirectoryStore(town.files.directory) as store:
        store.apply([Remove(meter, now)], by="test", source="test", at=now)


def central(town: Town) -> Path:
    return town.folder / "central"


def version(town: Town) -> int:
    with DirectoryStore(town.files.directory) as store:
        return store.version


def in_ledger(town: Town, capture_id: str) -> dict[str, str]:
    ledger = Ledger(town.files.ledger, read_only=True)
    try:
        capture = ledger.captures.get(capture_id)
    finally:
        ledger.close()
    assert capture is not None
    told = {v.q: v.value if v.missing is None else f"missing {v.missing}" for v in capture.message.values}
    return {q: text for q, text in told.items() if text is not None}
