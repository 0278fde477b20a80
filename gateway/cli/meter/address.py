"""The options by which every command finds and opens a meter, the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.options_object import with_options
from protocols.session import DLMS_SETTINGS, Auth, Bounds, DlmsSettings

_USUAL = DlmsSettings()


def _within(setting: str, help_text: str) -> Any:
    """Return an option for a DLMS setting, within the setting's own bounds."""
    limit = DLMS_SETTINGS[setting].limit
    assert isinstance(limit, Bounds)
    return typer.Option(min=limit.low, max=limit.high, help=help_text)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressOptions:
    """How to reach a meter. Options beside `config`, `zone` and the trace count for an address only."""

    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="The gateway's TOML file, for a meter's name.")
    ] = None
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file",
            help="Private TOML file: password or hls_key, encryption_key, authentication_key.",
        ),
    ] = None
    client: Annotated[int, _within("client", "DLMS client address.")] = _USUAL.client
    auth: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(Auth)}; by default as IS 15959 has it."),
    ] = None
    ciphered: Annotated[
        bool | None,
        typer.Option(
            "--ciphered/--no-ciphered",
            help="Cipher; by default when both keys are given.",
            show_default=False,
        ),
    ] = None
    server: Annotated[int, _within("server", "DLMS server (logical device).")] = _USUAL.server
    framing: Annotated[
        str | None,
        typer.Option(help="wrapper or hdlc; by default hdlc on a serial line or with --physical."),
    ] = None
    physical: Annotated[int | None, _within("physical", "HDLC address of the meter on a bus.")] = None
    companion: Annotated[
        str, typer.Option(help="is15959, or generic: what the meter's own object list says.")
    ] = _USUAL.companion
    unit: Annotated[int | None, typer.Option(min=1, max=247, help="Modbus unit id.")] = None
    model: Annotated[str | None, typer.Option(help="Modbus meter model.")] = None
    zone: Annotated[str | None, typer.Option(help="The meter's time zone [Asia/Kolkata].")] = None
    timeout: Annotated[float | None, typer.Option(min=0.1, max=120, help="Wait for an answer, seconds.")] = (
        None
    )
    secrets: Annotated[Path, typer.Option(help="Folder of secrets, in place of a key file.")] = Path("keys")
    password_ref: Annotated[
        str | None, typer.Option(help="Name of the password or HLS key in that folder.")
    ] = None
    encryption_key_ref: Annotated[
        str | None, typer.Option(help="Name of the encryption key in that folder.")
    ] = None
    authentication_key_ref: Annotated[
        str | None, typer.Option(help="Name of the authentication key in that folder.")
    ] = None
    trace: Annotated[
        Path | None,
        typer.Option(help="Write every frame with its time into this file; `decode` reads it."),
    ] = None
    trace_plain: Annotated[
        bool,
        typer.Option("--trace-plain", help="Write passwords into the trace, too, instead of `*`."),
    ] = False


MeterArgument = Annotated[
    str, typer.Argument(help="A meter of the configuration, or an address (tcp://host:port).")
]


def meter_command(function: Callable[..., None]) -> Callable[..., None]:
    """Return the function as a command that has the options of `AddressOptions`, as its parameter `options`."""
    return with_options(function, "options", AddressOptions)
