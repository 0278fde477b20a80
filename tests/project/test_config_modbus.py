"""Modbus meters of a configuration: models of a user's folder, profiles, framings, units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.cli.meter.access import find_meter
from gateway.cli.meter.address import AddressOptions
from gateway.config.file import Config, load
from gateway.config.mistakes import ConfigMistakes
from gateway.roles.timekeeping import time_warnings
from protocols.errors import MeterConfigError
from protocols.meters.address import parse_address
from protocols.modbus.format.library import load_model

HEAD = """
[gateway]
name = "edge-1"
data = "/var/lib/x"

[[lines]]
name = "bus"
kind = "serial"
device = "/dev/ttyUSB0"
trusted = true

[[lines]]
name = "site"
kind = "tcp"
host = "10.0.0.1"
port = 502
"""
METER = """
[[meters]]
meter = "EAS:1000000{number}"
line = "{line}"
profiles = {profiles}
[meters.modbus]
unit = {unit}
model = "{model}"
"""
OWN = 'extends = "sdm120"\nname = "mine"\ntitle = "Mine"\n'


def meter(
    number: int = 1,
    line: str = "bus",
    unit: int = 1,
    model: str = "sdm120",
    profiles: str = '["instantaneous"]',
) -> str:
    return METER.format(number=number, line=line, unit=unit, model=model, profiles=profiles)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "models"
    made.mkdir()
    (made / "mine.toml").write_text(OWN, encoding="utf-8")
    return made


def read(folder: Path, *meters: str, models: bool = True, head: str = HEAD) -> Config:
    path = folder.parent / "gateway.toml"
    section = f'\n[modbus]\nmodels = "{folder}"\n' if models else ""
    path.write_text(head + "".join(meters) + section, encoding="utf-8")
    return load(path)


def mistakes(folder: Path, *meters: str) -> list[tuple[str, str, str | None]]:
    with pytest.raises(ConfigMistakes) as caught:
        read(folder, *meters)
    return [(one.field, one.problem, one.nearest) for one in caught.value.mistakes]


def test_framing_follows_from_the_line_and_the_folder_goes_to_the_driver(folder: Path) -> None:
    config = read(folder, meter(model="mine"), meter(2, "site"))
    first, second = (config.spec(m, "edge-1").modbus for m in config.meters)
    assert first is not None
    assert second is not None
    assert (first.framing, first.models, first.trusted) == ("rtu", folder, True)
    assert (second.framing, second.trusted) == ("tcp", False)
    assert load_model(first.model, first.models).title == "Mine"


@pytest.mark.parametrize(
    ("text", "field", "words", "nearest"),
    [
        (meter(model="sdm12"), "meters[0].modbus.model", "no meter model `sdm12`; known: abb-b23", "sdm120"),
        (meter(model="mina"), "meters[0].modbus.model", "no meter model `mina`", "mine"),
        (meter(profiles='["billing"]'), "meters[0].profiles", "the model `sdm120` has no billing", None),
        (meter() + 'framing = "tcp"\n', "meters[0].modbus.framing", 'leave it out, or say "rtu"', None),
        (meter(unit=0), "meters[0].modbus.unit", "unit 0 is none of a bus: 1 to 247", None),
        (meter(line="site") + 'framing = "ascii"\n', "meters[0].modbus.framing", 'or say "tcp"', None),
        (
            meter() + meter(2),
            "meters[1].modbus.unit",
            "meters[0] (EAS:10000001) has unit 1 on this line",
            None,
        ),
    ],
)
def test_what_does_not_fit_is_told_where_it_stands(
    folder: Path, text: str, field: str, words: str, nearest: str | None
) -> None:
    (one,) = mistakes(folder, text)
    assert one[0] == field
    assert words in one[1]
    assert one[2] == nearest


MANNERS: dict[str, Any] = {
    "late_answer_max": 20.0,
    "answer_unit": 255,
    "own_transactions": True,
    "one_request": True,
}


def test_manners_of_a_gateway_are_settings_of_file_url_and_command_alike(folder: Path) -> None:
    table = "".join(f"{name} = {str(value).lower()}\n" for name, value in MANNERS.items())
    config = read(folder, meter(line="site", unit=255) + table)
    section = config.meters[0].modbus
    assert section is not None
    query = "&".join(f"{name}={str(value).lower()}" for name, value in MANNERS.items())
    _, spec = parse_address(f"modbus+tcp://10.0.0.1?unit=255&model=sdm120&{query}")
    options = AddressOptions(unit=255, model="sdm120", **MANNERS)
    command = find_meter("tcp://10.0.0.1:502", options).spec.modbus
    of_file = config.spec(config.meters[0], "edge").modbus
    for settings in (spec.modbus, command, of_file):
        assert settings is not None
        assert {name: getattr(settings, name) for name in MANNERS} == MANNERS
        assert settings.unit == 255


def test_modbus_goes_over_udp_and_ascii_over_seven_bits(folder: Path) -> None:
    line, spec = parse_address("modbus+udp://10.0.0.9?unit=1&model=sdm120")
    assert (line.kind, line.port) == ("udp", 502)
    assert spec.modbus is not None
    assert spec.modbus.framing == "tcp"
    line, spec = parse_address(
        "modbus+serial:///dev/ttyS1?unit=1&model=sdm120&framing=ascii&data_bits=7&parity=E&rs485=true"
    )
    assert (line.data_bits, line.rs485) == (7, True)
    assert spec.modbus is not None
    assert spec.modbus.framing == "ascii"
    wired = HEAD.replace("trusted = true", 'data_bits = 7\nrs485 = true\nparity = "E"')
    config = read(folder, meter() + 'framing = "ascii"\n', head=wired)
    assert (config.lines[0].data_bits, config.lines[0].rs485) == (7, True)


@pytest.mark.parametrize(
    "query", ["unit=0&framing=rtu", "unit=248&framing=ascii", "unit=1&late_answer_max=999"]
)
def test_settings_outside_their_limits_are_refused(query: str) -> None:
    with pytest.raises(MeterConfigError, match="is allowed"):
        parse_address(f"modbus+tcp://10.0.0.1?model=sdm120&{query}")


def test_two_lines_of_one_port_are_one_bus(folder: Path) -> None:
    again = '\n[[lines]]\nname = "again"\nkind = "rtu-over-tcp"\nhost = "10.0.0.1"\nport = 502\n'
    (one,) = mistakes(folder, again, meter(1, "site"), meter(2, "again"))
    assert "on line `site`, which leads to the same place, too" in one[1]


def test_a_unit_may_be_on_two_lines(folder: Path) -> None:
    assert len(read(folder, meter(), meter(2, "site")).meters) == 2


def test_a_users_model_with_mistakes_is_told_with_its_file(folder: Path) -> None:
    (folder / "mine.toml").write_text(OWN + "max_reed = 3\n", encoding="utf-8")
    (one,) = mistakes(folder, meter(model="mine"))
    assert f"{folder / 'mine.toml'}:4: max_reed: unknown key" in one[1]


def test_a_broken_model_that_no_meter_has_stops_nothing(folder: Path) -> None:
    (folder / "other.toml").write_text("nonsense", encoding="utf-8")
    assert len(read(folder, meter(model="mine")).meters) == 1


def test_a_changed_model_counts_when_the_configuration_is_read_again(folder: Path) -> None:
    read(folder, meter(model="mine"))
    (folder / "mine.toml").write_text(OWN.replace('"Mine"', '"Changed"'), encoding="utf-8")
    assert load_model("mine", folder).title == "Mine"
    read(folder, meter(model="mine"))
    assert load_model("mine", folder).title == "Changed"


def test_a_folder_that_is_not_there_is_a_mistake(folder: Path) -> None:
    (folder / "mine.toml").unlink()
    folder.rmdir()
    (one,) = mistakes(folder, meter())
    assert one[0] == "modbus.models"
    assert "there is no folder" in one[1]


def test_a_meter_whose_model_has_a_clock_may_speak_of_ours(folder: Path) -> None:
    quorum = "[time]\nquorum = 3\n"
    meters = [meter(n, unit=n, model="mine") for n in (1, 2, 3)]
    assert any("0 are configured" in one for one in time_warnings(read(folder, quorum, *meters)))
    clock = (
        '[[registers]]\nquantity = "0-0:1.0.0"\nprofiles = []\nfunction = 3\naddress = 8\ntype = "time_bcd"\n'
    )
    (folder / "mine.toml").write_text(f"{OWN}align = 1\n{clock}", encoding="utf-8")
    assert not any("are configured" in one for one in time_warnings(read(folder, quorum, *meters)))
