"""The options by which every command finds and opens a meter, the same everywhere.

Those of DLMS are made of `DLMS_SETTINGS`: a new setting of a meter is an option at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.options_object import with_options
from protocols.session import DLMS_SETTINGS, MODBUS_SETTINGS, Bounds, DlmsSettings, SettingType

NO_OPTION: Mapping[str, str] = MappingProxyType({"keep_open": "a command ends its association with itself"})
"""Settings that are no option, and why."""
_SHOWN = ("client", "server", "companion")
"""Settings whose default is shown; the others follow from address, keys and IS 15959, or are seldom given."""
_USUAL = DlmsSettings()


def _option(name: str, setting: SettingType) -> tuple[str, Any, Any]:
    """Return a DLMS setting as an option: its name, annotated type and default (None: not given)."""
    flag, kind = name.replace("_", "-"), setting.plain
    extra: dict[str, Any] = {}
    names = [f"--{flag}"]
    if kind is bool:
        names = [f"--{flag}/--no-{flag}"]
        extra = {"show_default": False}
    elif isinstance(setting.limit, Bounds):
        # typer has no bound that is itself left out: a tenth is the least of what must be more than nothing
        extra = {"min": setting.limit.low or (0.1 if setting.limit.above else 0), "max": setting.limit.high}
    elif kind is not int:
        kind = str
    default = getattr(_USUAL, name) if name in _SHOWN else None
    option = typer.Option(*names, help=setting.about, **extra)
    return name, Annotated[kind | None, option], field(default=default)


_DLMS_OPTIONS = [_option(name, kind) for name, kind in DLMS_SETTINGS.items() if name not in NO_OPTION]
MODBUS_MANNERS = ("late_answer_max", "answer_unit", "own_transactions", "one_request")
"""Settings of Modbus that are options by their names; the other ones stand below."""
_MODBUS_OPTIONS = [_option(name, MODBUS_SETTINGS[name]) for name in MODBUS_MANNERS]


@dataclass(frozen=True, slots=True, kw_only=True)
class _CommonOptions:
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="The gateway's TOML file: for a meter's name, or beside its edge."
        ),
    ] = None
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file",
            help="Private TOML file: password or hls_key, encryption_key, authentication_key.",
        ),
    ] = None
    secrets: Annotated[Path, typer.Option(help="Folder of secrets, in place of a key file.")] = Path("keys")
    identity: Annotated[
        str | None, typer.Option(help="The meter that must answer, GEN:12345678; by default any.")
    ] = None
    unit: Annotated[int | None, typer.Option(min=0, max=255, help="Modbus unit id.")] = None
    model: Annotated[str | None, typer.Option(help="Modbus meter model.")] = None
    worst_latency: Annotated[
        float | None, typer.Option(min=0, max=60, help="Modbus: how late an answer may come, seconds.")
    ] = None
    zone: Annotated[str | None, typer.Option(help="The meter's time zone [Asia/Kolkata].")] = None
    baud: Annotated[int | None, typer.Option(min=300, max=921600, help="Serial: speed [9600].")] = None
    parity: Annotated[str | None, typer.Option(help="Serial: N, E or O [N].")] = None
    stop_bits: Annotated[int | None, typer.Option(min=1, max=2, help="Serial: 1 or 2 [1].")] = None
    data_bits: Annotated[int | None, typer.Option(min=7, max=8, help="Serial: 7 or 8 [8].")] = None
    rs485: Annotated[
        bool | None,
        typer.Option("--rs485/--no-rs485", help="Serial: the driver switches.", show_default=False),
    ] = None
    mode_e_address: Annotated[
        str | None, typer.Option(help="Optical probe: the device address of the mode E opening.")
    ] = None
    trace: Annotated[
        Path | None,
        typer.Option(help="Write every frame with its time into this file; `decode` reads it."),
    ] = None
    trace_plain: Annotated[
        bool,
        typer.Option("--trace-plain", help="Write passwords into the trace, too, instead of `*`."),
    ] = False


if TYPE_CHECKING:

    class AddressOptions(_CommonOptions):
        """How to reach a meter; the settings of DLMS are attributes by their names."""

        def __getattr__(self, name: str) -> Any: ...

else:
    AddressOptions = make_dataclass(
        "AddressOptions",
        [*_DLMS_OPTIONS, *_MODBUS_OPTIONS],
        bases=(_CommonOptions,),
        frozen=True,
        slots=True,
        kw_only=True,
    )
    AddressOptions.__doc__ = (
        "How to reach a meter. Options beside `config`, `zone` and the trace count for an address only."
    )

MeterArgument = Annotated[
    str, typer.Argument(help="A meter of the configuration, or an address (tcp://host:port).")
]


def meter_command(function: Callable[..., None]) -> Callable[..., None]:
    """Return the function as a command that has the options of `AddressOptions`, as its parameter `options`."""
    return with_options(function, "options", AddressOptions)
