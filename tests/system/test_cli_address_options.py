"""All that a meter in the configuration can say, an address on the command line can say, too."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from gateway.cli.meter.access import MeterAccess, find_meter
from gateway.cli.meter.address import NO_OPTION, AddressOptions, MeterArgument, meter_command
from gateway.config.meters import MeterSection
from gateway.errors import UsageError
from protocols.errors import MeterConfigError
from protocols.session import DLMS_SETTINGS, Bounds, Choices, DlmsSettings, SettingType

AT = "tcp://127.0.0.1:4059"
TEXTS = {
    "counter_object": "0-0:43.1.9*255",
    "hls_object": "0-0:40.0.3*255",
    "system_title": "4D475700000000AA",
}
"""Values of settings that are texts of some form; a name where there is none."""
NEEDED = {
    "password_ref": "hls",
    "encryption_key_ref": "ek",
    "authentication_key_ref": "ak",
    "client": "48",
    "ciphered": "true",
}
"""What most of the others need beside them."""
NEEDED_BY = {"gateway_network": {"gateway_address": "meter-1"}}
"""What one setting needs beside it."""


def access(*words: str) -> MeterAccess:
    """Give an address and options, as a user types them, to a command."""
    found: list[MeterAccess] = []

    def command(meter: MeterArgument, options: AddressOptions) -> None:
        found.append(find_meter(meter, options))

    app = typer.Typer()
    app.command()(meter_command(command))
    outcome = CliRunner().invoke(app, [AT, *words])
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    assert outcome.exit_code == 0, outcome.output
    return found[0]


def another(name: str, kind: SettingType) -> str:
    """Return a value of a setting that is allowed and not its default, as text."""
    usual = getattr(DlmsSettings(), name)
    match kind.limit:
        case Bounds(low=low, high=high):
            candidates = (kind.plain(value) for value in (low + 17, high - 1, low + 1))
            return str(next(v for v in candidates if v in kind.limit and v != usual))
        case Choices() as choices:
            return str(next(c for c in choices if c != usual))
    if issubclass(kind.plain, StrEnum):
        return str([*kind.plain][1])
    return TEXTS.get(name, "a-name")


@pytest.mark.parametrize("name", [n for n in DLMS_SETTINGS if n not in NO_OPTION])
def test_each_setting_of_the_configuration_is_an_option_of_the_same_meaning(name: str) -> None:
    kind = DLMS_SETTINGS[name]
    said = {**NEEDED, **NEEDED_BY.get(name, {}), name: "true" if kind.plain is bool else another(name, kind)}
    words = [word for n, value in said.items() for word in _option(n, value)]
    typed = {n: _toml(n, value) for n, value in said.items()}
    section = MeterSection.model_validate({"meter": "GEN:1", "line": "a", "dlms": typed})
    assert section.dlms is not None
    by_option = access(*words).spec.dlms
    assert getattr(by_option, name) == getattr(section.dlms, name)
    assert getattr(by_option, name) != getattr(DlmsSettings(), name)
    assert kind.about, f"{name} has no help"


def test_no_setting_is_left_out_without_a_reason() -> None:
    assert set(NO_OPTION) < set(DLMS_SETTINGS)
    assert all(NO_OPTION.values())


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--protection", "none"), "--protection: `none` is not one of"),
        (("--address-octets", "3"), "--address-octets: `3` is not one of 0, 1, 2, 4"),
        (("--system-title", "4D47"), "--system-title: `4D47` is not 16 hex digits"),
        (("--baud", "9600"), "--baud is for a serial line"),
        (("--key-file", "none.toml", "--password-ref", "hls"), "cannot be read"),
    ],
)
def test_wrong_options_say_what_is_allowed(words: tuple[str, ...], text: str) -> None:
    with pytest.raises((UsageError, MeterConfigError), match=re.escape(text)):
        access(*words)


def test_the_line_and_the_identity_are_options_too() -> None:
    options = AddressOptions(baud=19200, parity="E", stop_bits=2, identity="GEN:12345678")
    found = find_meter("serial:///dev/ttyUSB7", options)
    line = found.way.section
    assert (line.baud, line.parity, line.stop_bits) == (19200, "E", 2)
    assert found.spec.meter == "GEN:12345678"
    with pytest.raises(UsageError, match="--parity"):
        find_meter("serial:///dev/ttyUSB7", AddressOptions(parity="X"))


def test_two_folders_of_secrets_are_two_clients() -> None:
    found = [access("--secrets", folder).spec.dlms for folder in ("one", "two")]
    assert len({dlms.system_title for dlms in found if dlms is not None}) == 2


def _option(name: str, value: str) -> tuple[str, ...]:
    flag = f"--{name.replace('_', '-')}"
    return (flag,) if value == "true" else (flag, value)


def _toml(name: str, value: str) -> Any:
    """Return a value as the configuration's file has it."""
    kind = DLMS_SETTINGS[name].plain
    if kind is bool:
        return value == "true"
    return kind(value) if kind in (int, float) else value
