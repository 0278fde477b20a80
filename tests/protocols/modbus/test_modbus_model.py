"""Models as data: what the shipped ones say, and what a broken one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocols.errors import MeterConfigError
from protocols.modbus.format.library import ModelMistakes, load_model, model_names, parse_model
from protocols.reading import Quantity, RelayState
from tests.support.modbus.model_dump import dump_all

GOLDEN = Path(__file__).with_name("golden_models.txt")

GOOD = """
name = "test"
title = "Test meter"
manufacturer = "TST"
source = "nowhere"
max_read = 10
align = 2

[[registers]]
quantity = "0-0:96.1.0*255"
profiles = ["nameplate"]
function = 3
address = 0x10
type = "u32"

[[registers]]
quantity = "1-0:12.7.0*255"
profiles = ["instantaneous"]
function = 4
address = 0
type = "f32"
resolution = -1
unit = "V"
"""


def test_shipped_models_are_as_reviewed() -> None:
    """A change of a model shows as a change of its dump, which a reviewer compares with the vendor's sheet."""
    assert dump_all() == GOLDEN.read_text(encoding="utf-8")


def test_only_the_simulated_model_has_invented_registers() -> None:
    for name in model_names():
        invented = [r for r in load_model(name).registers if r.basis == "simulated"]
        assert bool(invented) == name.endswith("-sim")


def test_a_good_model_is_read() -> None:
    model = parse_model(GOOD, where="test.toml")
    assert model.of_quantity("1-0:12.7.0").unit == "V"
    with pytest.raises(KeyError):
        model.of_quantity("1-0:99.7.0")
    assert Quantity.of(model.registers[1].quantity) == Quantity.of("1-0:12.7.0*255")


def register(number: int, **lines: str) -> str:
    """GOOD with lines of its n-th register replaced, added, or removed (empty)."""
    head, *registers = GOOD.split("[[registers]]")
    kept = [line for line in registers[number].splitlines() if line.split(" = ")[0] not in lines]
    registers[number] = "\n".join(
        [*kept, *(f"{key} = {value}" for key, value in lines.items() if value), "\n"]
    )
    return "[[registers]]".join([head, *registers])


BROKEN = {
    "x.toml:24: registers[1].colour (1-0:12.7.0*255): unknown key; allowed here: address, as_": register(
        1, colour='"red"'
    ),
    "x.toml:1: speed: unknown key; allowed here: absent, align, byte_order, extends, fingerpr": "speed = 3\n"
    + GOOD,
    "x.toml: title: required and not there": GOOD.replace('title = "Test meter"', ""),
    "x.toml:23: registers[1].address (1-0:12.7.0*255): Input should be less than or equal to ": register(
        1, address="70000"
    ),
    "x.toml:16: registers[1] (1-0:12.7.0*255): 2 registers from 65535 pass the last address 6": register(
        1, address="65535"
    ),
    "x.toml:23: registers[1].function (1-0:12.7.0*255): Input should be 1, 2, 3, 4, 17 or 43": register(
        1, function="6"
    ),
    "x.toml:16: registers[1] (1-0:12.7.0*255): type f32 needs `resolution` (the power of ten ": register(
        1, resolution=""
    ),
    "x.toml:16: registers[0].resolution (0-0:96.1.0*255): type u32 takes no `resolution`; it is exact": register(
        0, resolution="-1"
    ),
    "x.toml:9: registers[0] (0-0:96.1.0*255): type text needs `count`": register(0, type='"text"'),
    "x.toml:16: registers[0].count (0-0:96.1.0*255): type u32 takes no `count`": register(0, count="2"),
    "x.toml:9: registers[0] (0-0:96.1.0*255): a sentinel is an unsigned pattern of 32 bits": register(
        0, sentinel="[0x1FFFFFFFF]"
    ),
    "x.toml:23: registers[1].quantity (1-0:12.7): not an OBIS code: '1-0:12.7' (write A-B:C.D.E*F, for": register(
        1, quantity='"1-0:12.7"'
    ),
    "x.toml:16: registers[1] (1-0:12.7.0*255): profile daily is not read from registers: use ": register(
        1, profiles='["daily"]'
    ),
    "x.toml:23: registers[1].quantity (0-0:96.1.0): registers[0] already gives this quantity": register(
        1, quantity='"0-0:96.1.0"'
    ),
    "x.toml:23: registers[1].address (1-0:12.7.0*255): address and size must be multiples of ": register(
        1, address="1"
    ),
    "x.toml:21: registers[1].type (0-0:96.1.1): 12 registers exceed max_read = 10": register(
        1, quantity='"0-0:96.1.1"', type='"text"', resolution="", unit="", count="12"
    ),
    "x.toml:9: registers: no register gives 0-0:96.1.0*255, which the model needs; where the ": register(
        0, quantity='"0-0:96.1.9"'
    ),
    "x.toml:25: probe[0].quantity: no register gives 1-0:14.7.0, which the model needs": GOOD
    + '[[probe]]\nquantity = "1-0:14.7.0"\nlow = 45\nhigh = 65\n',
    "x.toml:24: relay.quantity: no register gives 0-0:96.3.10*255, which the model needs": GOOD
    + "[relay]\nclosed = [1]\nopen = [0]\n",
    "x.toml:1: extends: there is no other model 'nobody'": 'extends = "nobody"\n' + GOOD,
    "x.toml:4: manufacturer: `test` is not three capital letters, as the maker's FLAG": GOOD.replace(
        "TST", "test"
    ),
    "x.toml: (file): not TOML: Expected '=' after a key in a key/value pair (at line 1, colum": "this is no TOML",
}
"""Models with one mistake each, by how their message begins."""


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_model_is_told_exactly_what_is_wrong(message: str) -> None:
    with pytest.raises(MeterConfigError) as caught:
        parse_model(BROKEN[message], where="x.toml")
    assert str(caught.value).startswith(message)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ModelMistakes) as caught:
        parse_model(register(1, function="6", colour="1"), where="x.toml")
    assert [(one.line, one.field) for one in caught.value.mistakes] == [
        (23, "registers[1].function (1-0:12.7.0*255)"),
        (24, "registers[1].colour (1-0:12.7.0*255)"),
    ]


def test_a_wrong_name_is_told_the_nearest() -> None:
    with pytest.raises(ModelMistakes) as caught:
        parse_model(register(1, adress="0"), where="x.toml")
    assert caught.value.mistakes[0].nearest == "address"
    with pytest.raises(ModelMistakes) as caught:
        parse_model('extends = "sdm12"\nname = "mine"\n', where="x.toml")
    assert caught.value.mistakes[0].nearest == "sdm120"


def test_extending_adds_registers_and_replaces_the_rest() -> None:
    model = parse_model('extends = "sdm120"\nname = "mine"\nmax_read = 40\n', where="mine.toml")
    assert model.max_read == 40
    assert model.registers == load_model("sdm120").registers
    with pytest.raises(MeterConfigError, match="there is no other model 'sdm120'"):
        parse_model('extends = "sdm120"\n', where="sdm120.toml")


def test_relay_words_are_named() -> None:
    relay = load_model("sdm320y-sim").relay
    assert relay is not None
    assert [relay.state(raw) for raw in (1, 0, 0xFF00)] == [
        RelayState.CLOSED,
        RelayState.OPEN,
        RelayState.UNKNOWN,
    ]
