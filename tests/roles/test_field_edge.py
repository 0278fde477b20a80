"""A running edge serves commands on the bus that it polls, and follows its file without disturbing other lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.cli.meter.access import find_meter, open_meter
from gateway.cli.meter.address import AddressOptions
from gateway.config.field import FieldSection
from gateway.config.file import load
from gateway.edge.polling.health import PollState
from gateway.roles.central_files import make_directory_keys
from gateway.roles.edge import LINE_STUCK, EdgeRole, edge_role
from gateway.roles.reach import way_to
from protocols.clock import SystemClock
from protocols.errors import LineClosed
from protocols.modbus.belief.memories import remembered
from protocols.reading import ProfileName
from protocols.simulator.modbus.meter import ModbusMeter
from protocols.simulator.modbus.server import serve_rtu
from tests.support.modbus.simulated import StillMeter, pty
from tests.support.waiting import until

HEAD = """
[gateway]
name = "edge-1"
data = "{folder}"
[mqtt]
port = 1
[time]
trust = "host"
[directory]
verify_key_ref = "directory-verify"
"""
BUS = """
[[lines]]
name = "{name}"
kind = "serial"
device = "{device}"
baud = 115200
"""
METER = """
[[meters]]
meter = "EAS:1000000{unit}"
line = "{line}"
[meters.modbus]
unit = {unit}
model = "sdm120"
framing = "rtu"
"""


def bus(name: str, device: str, *units: int) -> str:
    return BUS.format(name=name, device=device) + "".join(METER.format(unit=u, line=name) for u in units)


@asynccontextmanager
async def meters_on(*units: int) -> AsyncIterator[str]:
    """A pty bus with simulated meters; gives its device."""
    async with pty() as (master, device):
        server = await serve_rtu(
            [ModbusMeter(StillMeter("EAS", f"1000000{u}"), "sdm120", u, SystemClock()) for u in units],
            master,
        )
        yield device
        await server.close()


@asynccontextmanager
async def edge_of(path: Path) -> AsyncIterator[EdgeRole]:
    """A running edge of a file, which nobody delivers for."""
    make_directory_keys(path.parent / "keys")
    async with edge_role(load(path), SystemClock(), path) as edge:
        running = asyncio.create_task(edge.run())
        try:
            yield edge
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def ok(edge: EdgeRole, unit: int) -> bool:
    name = f"EAS:1000000{unit}"
    return name in edge.poller.meters and edge.poller.meter(name).state is PollState.OK


async def test_a_command_reads_a_meter_of_the_bus_that_the_edge_polls(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    async with meters_on(1, 2) as device:
        path.write_text(HEAD.format(folder=tmp_path) + bus("bus-1", device, 1, 2))
        async with edge_of(path) as edge:
            await until(lambda: ok(edge, 1) and ok(edge, 2))
            for meter in ("EAS:10000001", f"serial://{device}"):
                access = find_meter(meter, AddressOptions(config=path, unit=1, model="sdm120"))
                async with open_meter(access) as session:
                    rows = [row async for row in session.read(ProfileName.INSTANTANEOUS)]
                assert len(rows) == 1
            await until(lambda: edge.field.statistics().released == 2)
            assert edge.poller.line("bus-1").error is None
            for unit in (1, 2):  # somebody was at the bus: who is there is asked at the next visit
                memory = remembered(edge.known, f"EAS:1000000{unit}")
                assert memory is not None
                assert memory.shaken
            await edge.poller.poll_meter("EAS:10000002")
            memory = remembered(edge.known, "EAS:10000002")
            assert memory is not None
            assert not memory.shaken
            assert edge.field.statistics().connected <= 2
    assert not (tmp_path / "edge" / "field.sock").exists()


async def test_another_speed_is_given_back_after_the_turn(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    async with meters_on(1) as device:
        path.write_text(HEAD.format(folder=tmp_path) + bus("bus-1", device, 1))
        async with edge_of(path) as edge:
            await until(lambda: ok(edge, 1))
            config = load(path)
            slow = config.lines[0].model_copy(update={"baud": 9600})
            line = way_to(config, slow).line("scan")
            async with line.exclusive() as io:
                await io.send(b"\x01\x04\x00\x00\x00\x02\x71\xcb")
                assert await io.receive(5)
            await line.close()
            before = edge.poller.statistics().polls
            report = await edge.poller.poll_meter("EAS:10000001")
            assert report.ok
            assert edge.poller.statistics().polls > before


async def test_an_edge_that_stops_ends_a_turn_and_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    async with meters_on(1) as device:
        path.write_text(HEAD.format(folder=tmp_path) + bus("bus-1", device, 1))
        async with edge_of(path) as edge:
            await until(lambda: ok(edge, 1))
            line = way_to(load(path), load(path).lines[0]).line("read")
            held = line.exclusive()
            io = await held.__aenter__()
        with pytest.raises(LineClosed, match="the edge stop"):
            await io.receive(5)
        await held.__aexit__(None, None, None)
        await line.close()


async def test_a_reload_adds_removes_and_changes_and_disturbs_no_other_line(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    head = HEAD.format(folder=tmp_path)
    async with meters_on(1) as one, meters_on(2, 3) as two, meters_on(4) as three:
        path.write_text(head + bus("bus-1", one, 1) + bus("bus-2", two, 2))
        async with edge_of(path) as edge:
            await until(lambda: ok(edge, 1) and ok(edge, 2))
            config = load(path)
            line = way_to(config, config.lines[0]).line("read EAS:10000001")
            async with line.exclusive() as io:  # a conversation on bus-1 goes on all the time
                path.write_text(
                    head + bus("bus-1", one, 1) + bus("bus-2", two, 2, 3) + bus("bus-3", three, 4)
                )
                told = await edge.reloading.reload("test")
                assert told.done
                assert told.lines == (
                    "line bus-3: new",
                    "EAS:10000003: new on line bus-2, read at once",
                    "EAS:10000004: new on line bus-3, read at once",
                )
                await until(lambda: ok(edge, 3) and ok(edge, 4))
                path.write_text(head + bus("bus-1", one, 1) + bus("bus-2", two, 3))
                told = await edge.reloading.reload("test")
                assert told.lines == ("line bus-3: gone", "EAS:10000002: gone", "EAS:10000004: gone")
                assert set(edge.poller.meters) == {"EAS:10000001", "EAS:10000003"}
                assert set(edge.lines) == {"bus-1", "bus-2"}
                await io.send(b"\x01\x04\x00\x00\x00\x02\x71\xcb")
                assert await io.receive(5)
            await line.close()
            assert edge.lines["bus-1"].statistics().connects == 1
            assert edge.reloading.done == 2


async def test_a_file_with_a_mistake_changes_nothing_and_is_told(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    head = HEAD.format(folder=tmp_path)
    async with meters_on(1) as device:
        good = head + bus("bus-1", device, 1)
        path.write_text(good)
        async with edge_of(path) as edge:
            path.write_text(good.replace('model = "sdm120"', 'modell = "sdm120"'))
            told = await edge.reloading.reload("test")
            assert not told.done
            assert f"{path}:" in told.lines[0]
            assert any("unknown key" in line for line in told.lines)
            (alarm,) = [one for one in edge.status().alarms if one.code == "reload_refused"]
            assert "model" in alarm.text
            assert set(edge.poller.meters) == {"EAS:10000001"}
            path.write_text(good)
            assert (await edge.reloading.reload("test")).lines == ("nothing changed",)
            assert not [one for one in edge.status().alarms if one.code == "reload_refused"]


async def test_a_line_that_cannot_be_made_is_a_mistake_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    head = HEAD.format(folder=tmp_path)
    async with meters_on(1) as device:
        path.write_text(head + bus("bus-1", device, 1))
        async with edge_of(path) as edge:
            traced = bus("bus-2", "/dev/none").replace("baud", f'trace = "{tmp_path}/none/trace"\nbaud')
            path.write_text(head + bus("bus-1", device) + traced)
            told = await edge.reloading.reload("test")
            assert not told.done
            assert "none/trace cannot be written" in told.lines[0]
            assert set(edge.poller.meters) == {"EAS:10000001"}, "its meter was to go"
            assert set(edge.lines) == {"bus-1"}


async def test_a_line_that_is_renamed_is_met_under_its_new_name(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    head = HEAD.format(folder=tmp_path)
    async with meters_on(1, 2) as device:
        path.write_text(head + bus("bus-1", device, 1))
        async with edge_of(path) as edge:
            await until(lambda: ok(edge, 1))
            path.write_text(head + bus("bus-9", device, 1, 2))
            told = await edge.reloading.reload("test")
            assert set(told.lines) == {
                "line bus-9: new",
                "line bus-1: gone",
                "EAS:10000001: changed",
                "EAS:10000002: new on line bus-9, read at once",
            }
            await until(lambda: ok(edge, 1) and ok(edge, 2))
            assert edge.poller.line("bus-9").error is None, "the port was free when it was opened"


async def test_what_takes_a_restart_is_named(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    head = HEAD.format(folder=tmp_path)
    async with meters_on(1, 2) as device:
        path.write_text(head + bus("bus-1", device, 1))
        async with edge_of(path) as edge:
            changed = head.replace("port = 1", "port = 2") + "[schedule]\nspread = 60\n"
            path.write_text(changed + bus("bus-1", device, 1, 2))
            told = await edge.reloading.reload("test")
            assert told.lines == (
                "EAS:10000002: new on line bus-1, read at once",
                "needs a restart: [mqtt] is as at the start until then",
                "needs a restart: [schedule] is as at the start until then",
            )
            again = await edge.reloading.reload("test")
            assert again.lines == told.lines[1:], "it is named until the restart"


async def test_a_line_that_leads_elsewhere_is_met_there(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    head = HEAD.format(folder=tmp_path)
    async with meters_on(1) as one, meters_on(1) as two:
        path.write_text(head + bus("bus-1", one, 1))
        async with edge_of(path) as edge:
            await until(lambda: ok(edge, 1))
            before = edge.lines["bus-1"]
            path.write_text(head + bus("bus-1", two, 1))
            told = await edge.reloading.reload("test")
            assert told.lines == ("line bus-1: changed",)
            assert edge.lines["bus-1"] is not before
            assert not before.statistics().open
            await until(lambda: ok(edge, 1))


OWN = 'extends = "sdm120"\nname = "mine"\ntitle = "Mine"\n'


async def test_a_model_of_one_s_own_comes_with_a_reload_and_a_broken_one_does_not(tmp_path: Path) -> None:
    path, models = tmp_path / "edge.toml", tmp_path / "models"
    models.mkdir()
    head = HEAD.format(folder=tmp_path)
    async with meters_on(1, 2) as device:
        path.write_text(head + bus("bus-1", device, 1))
        async with edge_of(path) as edge:
            await until(lambda: ok(edge, 1))
            polls = edge.poller.statistics().polls
            (models / "mine.toml").write_text(OWN)
            added = METER.format(unit=2, line="bus-1").replace('"sdm120"', '"mine"')
            path.write_text(head + f'[modbus]\nmodels = "{models}"\n' + bus("bus-1", device, 1) + added)
            told = await edge.reloading.reload("test")
            assert told.lines == ("EAS:10000002: new on line bus-1, read at once",), "nothing else is touched"
            await until(lambda: ok(edge, 2))
            assert edge.poller.statistics().polls == polls + 1
            (models / "mine.toml").write_text(OWN.replace("title", "titel"))
            told = await edge.reloading.reload("test")
            assert not told.done
            assert any("mine.toml" in line and "titel" in line for line in told.lines), told.lines
            assert (await edge.poller.poll_meter("EAS:10000002")).ok, "it goes on with the model that it had"
            (models / "mine.toml").write_text(OWN.replace("Mine", "Mine, mended"))
            told = await edge.reloading.reload("test")
            assert told.lines == ("EAS:10000002: changed",)
            await until(lambda: ok(edge, 2))
            assert (await edge.reloading.reload("test")).lines == ("nothing changed",)


def test_a_turn_is_over_before_its_line_counts_as_stuck() -> None:
    """A command may listen to a silent line for all of its turn: systemd must not start the edge anew for that."""
    (most,) = [
        limit.le for limit in FieldSection.model_fields["turn_seconds"].metadata if hasattr(limit, "le")
    ]
    assert most < LINE_STUCK
