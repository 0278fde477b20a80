"""Models as data: what the shipped ones say, and what a broken one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocols.errors import MeterConfigError
from protocols.modbus.model import load_model, model_names, parse_model
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
    "model x.toml: registers[1].colour: this key is not known": register(1, colour='"red"'),
    "model x.toml: speed: this key is not known": "speed = 3\n" + GOOD,
    "model x.toml: title: Field required": GOOD.replace('title = "Test meter"', ""),
    "model x.toml: registers[1].address: Input should be less than or equal to 65535": register(
        1, address="70000"
    ),
    "model x.toml: registers[1]: 2 registers from 65535 pass the last address 65535": register(
        1, address="65535"
    ),
    "model x.toml: registers[1].function: Input should be 3 or 4": register(1, function="6"),
    "model x.toml: registers[1]: type f32 needs `resolution` (the power of ten that the meter shows)": register(
        1, resolution=""
    ),
    "model x.toml: registers[0]: type u32 takes no `resolution`; it is exact": register(0, resolution="-1"),
    "model x.toml: registers[0]: type text needs `count`": register(0, type='"text"'),
    "model x.toml: registers[0]: type u32 takes no `count`": register(0, count="2"),
    "model x.toml: registers[0]: a sentinel is an unsigned pattern of 32 bits": register(
        0, sentinel="[0x1FFFFFFFF]"
    ),
    "model x.toml: registers[1]: not an OBIS code: '1-0:12.7' (write A-B:C.D.E*F, for example 1-0:1.8.0*255)": (
        register(1, quantity='"1-0:12.7"')
    ),
    "model x.toml: registers[1]: profile daily is not read from registers: use instantaneous, prepayment, "
    "nameplate": register(1, profiles='["daily"]'),
    "model x.toml: registers[1] (0-0:96.1.0): registers[0] already gives this quantity": register(
        1, quantity='"0-0:96.1.0"'
    ),
    "model x.toml: registers[1] (1-0:12.7.0*255): address and size must be multiples of align = 2": register(
        1, address="1"
    ),
    "model x.toml: registers[1] (1-0:12.7.0*255): 12 registers exceed max_read = 10": register(
        1, type='"bcd"', resolution="", count="12"
    ),
    "model x.toml: no register gives 0-0:96.1.0*255, which the model needs": register(
        0, quantity='"0-0:96.1.9"'
    ),
    "model x.toml: no register gives 1-0:14.7.0, which the model needs": GOOD
    + '[[probe]]\nquantity = "1-0:14.7.0"\nlow = 45\nhigh = 65\n',
    "model x.toml: no register gives 0-0:96.3.10*255, which the model needs": GOOD
    + "[relay]\nclosed = [1]\nopen = [0]\n",
    "model x.toml: extends: there is no other model 'nobody'": 'extends = "nobody"\n' + GOOD,
    "model x.toml: manufacturer: String should match pattern '^[A-Z]{3}$'": GOOD.replace("TST", "test"),
    "model x.toml: Expected '=' after a key in a key/value pair (at line 1, column 6)": "this is no TOML",
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_model_is_told_exactly_what_is_wrong(message: str) -> None:
    with pytest.raises(MeterConfigError) as caught:
        parse_model(BROKEN[message], where="x.toml")
    assert str(caught.value) == message


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(MeterConfigError) as caught:
        parse_model(register(1, function="6", colour="1"), where="x.toml")
    assert str(caught.value) == (
        "model x.toml: registers[1].function: Input should be 3 or 4; "
        "registers[1].colour: this key is not known"
    )


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
